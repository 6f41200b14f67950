// The variants of kv_write; the table in kv_write.cc lists them.
#pragma once

#include "ops/kv_write/kv_write.h"

namespace llamita {

void kv_write_reference(const KvWriteArgs& args, Context& context);
void kv_write_cuda(const KvWriteArgs& args, Context& context);

}  // namespace llamita
