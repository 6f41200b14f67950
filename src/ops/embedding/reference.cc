// One row a token, decoded straight into the output. One thread: the n-th negative id takes the n-th input
// row, and a row costs about a microsecond.
#include <cstring>

#include "ops/embedding/variants.h"

namespace llamita {

void embedding_reference(const EmbeddingArgs& args, Context& context) {
  const int64_t T = args.token_ids.dim(0), C = args.table->cols;
  const int64_t inputs = args.input_rows.defined() ? args.input_rows.dim(0) : 0;
  const int32_t* ids = args.token_ids.ptr<int32_t>();
  const Arena::Scope scope(context.arena());
  float* position_row = nullptr;
  if (args.position_table != nullptr) {
    position_row = context.arena().take(DType::f32, {C}).ptr<float>();
  }
  int64_t next_input = 0;
  for (int64_t t = 0; t < T; ++t) {
    float* out = args.out.ptr<float>() + t * args.out.stride(0);
    if (ids[t] >= 0) {
      quant::unpack_row(*args.table, ids[t], out);
    } else {
      LLAMITA_CHECK(next_input < inputs, "embedding: more negative token ids than the ", inputs,
                    " input rows");
      const float* row = args.input_rows.ptr<float>() + next_input++ * args.input_rows.stride(0);
      std::memcpy(out, row, static_cast<size_t>(C) * sizeof(float));
    }
    if (position_row == nullptr) continue;
    quant::unpack_row(*args.position_table, args.positions.ptr<int32_t>()[t], position_row);
    for (int64_t c = 0; c < C; ++c) out[c] += position_row[c];
  }
}

}  // namespace llamita
