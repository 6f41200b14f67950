// Where the time of one step goes: each kind of op, predicted from what it must at least read, write and
// multiply, beside what it took.
#pragma once

#include <string>
#include <vector>

#include "ops/context.h"

namespace llamita::cli {

// Bytes and floating-point operations a second that predictions divide by.
struct TraceRoofs {
  double bytes_per_second = 0;
  double flops_per_second = 0;
};

// A table with a row for each op and variant, in order of time taken, and one for all.
std::string trace_table(const std::vector<OpRecord>& records, const TraceRoofs& roofs);

}  // namespace llamita::cli
