// One row a token, decoded straight into the output: some microseconds each, which the threads share. The
// n-th negative id takes the n-th input row: those are copied first, in order.
#include <algorithm>
#include <cstring>

#include "ops/cpu.h"
#include "ops/embedding/variants.h"

namespace llamita {

namespace {

void take_chosen_tokens(const EmbeddingArgs& args) {
  if (!args.token_source.defined()) return;
  const int32_t* source = args.token_source.ptr<int32_t>();
  for (int64_t t = 0; t < args.token_ids.dim(0); ++t) {
    if (source[t] < 0) continue;
    LLAMITA_CHECK(source[t] < args.chosen.dim(0), "embedding: row ", source[t], " of ", args.chosen.dim(0));
    args.token_ids.ptr<int32_t>()[t] = std::max(args.chosen.ptr<int32_t>()[source[t]], 0);
  }
}

}  // namespace

void embedding_reference(const EmbeddingArgs& args, Context& context) {
  take_chosen_tokens(args);
  const int64_t T = args.token_ids.dim(0), C = args.table->cols;
  const int64_t inputs = args.input_rows.defined() ? args.input_rows.dim(0) : 0;
  const int32_t* ids = args.token_ids.ptr<int32_t>();
  const auto out = [&](int64_t t) { return args.out.ptr<float>() + t * args.out.stride(0); };
  int64_t next_input = 0;
  for (int64_t t = 0; t < T; ++t) {
    if (ids[t] >= 0) continue;
    LLAMITA_CHECK(next_input < inputs, "embedding: more negative token ids than the ", inputs, " input rows");
    const float* row = args.input_rows.ptr<float>() + next_input++ * args.input_rows.stride(0);
    std::memcpy(out(t), row, static_cast<size_t>(C) * sizeof(float));
  }
  context.pool().parallel_for(T, grain_for(8 * C), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (ids[t] >= 0) quant::unpack_row(*args.table, ids[t], out(t));
    }
  });
  if (args.position_table == nullptr) return;
  const Arena::Scope scope(context.arena());
  auto* position_row = context.arena().take(DType::f32, {C}).ptr<float>();
  for (int64_t t = 0; t < T; ++t) {
    quant::unpack_row(*args.position_table, args.positions.ptr<int32_t>()[t], position_row);
    for (int64_t c = 0; c < C; ++c) out(t)[c] += position_row[c];
  }
}

}  // namespace llamita
