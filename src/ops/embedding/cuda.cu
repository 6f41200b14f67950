// One block a token: its row decoded from the stored format, and the position's row added. The n-th token
// with a negative id takes input row n; its block counts the negative ids before it. A token that the step
// before chose is looked up there and written down.
#include "ops/cuda/block_formats.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/embedding/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 128;

struct Table {
  const uint8_t* rows;  // nullptr: there is none
  int64_t row_bytes, count;
  DType format;
};

struct EmbeddingParams {
  int32_t* ids;
  const int32_t* chosen;  // or nullptr
  const int32_t* source;  // or nullptr
  int chosen_rows;
  const int32_t* positions;  // or nullptr
  Table table, position_table;
  const float* input_rows;  // or nullptr
  int64_t input_stride, inputs;
  float* out;
  int64_t out_stride;
  int columns;
};

template <bool kAdd>
__device__ void decode_row(const Table& table, int64_t row, float* out, int columns) {
  const uint8_t* bytes = table.rows + row * table.row_bytes;
  // Eight elements a thread: a quarter of a chunk. Only plain formats have rows that are no whole chunks.
  const int items = columns / 32 * 4;
  device::with_format(table.format, [&]<DType kFormat>() {
    for (int item = threadIdx.x; item < items; item += kThreads) {
      float w[8];
      device::decode8<kFormat>(bytes, item / 4, item % 4, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        float& to = out[item / 4 * 32 + device::decoded_element(item % 4, j)];
        to = kAdd ? to + w[j] : w[j];
      }
    }
  });
  for (int c = columns / 32 * 32 + threadIdx.x; c < columns; c += kThreads) {
    const float value = device::load_float(bytes, table.format, c);
    out[c] = kAdd ? out[c] + value : value;
  }
}

__device__ int32_t id_of(const EmbeddingParams& p, int token) {
  const int row = p.source == nullptr ? -1 : p.source[token];
  if (row < 0) return p.ids[token];
  // A row out of range is a mistake of the caller's that must not read what is not ours.
  const int32_t id = max(p.chosen[min(row, p.chosen_rows - 1)], 0);
  if (threadIdx.x == 0) p.ids[token] = id;
  return id;
}

__global__ void __launch_bounds__(kThreads) embed(const EmbeddingParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int token = blockIdx.x;
  float* out = p.out + token * p.out_stride;
  const int32_t id = id_of(p, token);
  if (id >= 0) {
    // An id beyond the table cannot come from a tokenizer; it must not read what is not ours.
    decode_row<false>(p.table, min(static_cast<int64_t>(id), p.table.count - 1), out, p.columns);
  } else {
    int before = 0;
    for (int base = 0; base < token; base += kThreads) {
      const int t = base + static_cast<int>(threadIdx.x);
      before += __syncthreads_count(t < token && p.ids[t] < 0);
    }
    const bool present = before < p.inputs;
    for (int c = threadIdx.x; c < p.columns; c += kThreads)
      out[c] = present ? p.input_rows[before * p.input_stride + c] : 0.0f;
  }
  if (p.positions == nullptr) return;
  __syncthreads();
  const int64_t position = max(0, p.positions[token]);
  decode_row<true>(p.position_table, min(position, p.position_table.count - 1), out, p.columns);
}

Table table_of(const quant::Weight* weight) {
  if (weight == nullptr) return {};
  const quant::Part& part = weight->parts.front();
  return {.rows = static_cast<const uint8_t*>(part.storage.data()),
          .row_bytes = row_bytes(part.format, weight->cols),
          .count = part.rows,
          .format = part.format};
}

bool readable(const quant::Weight* weight) {
  return weight == nullptr || (weight->layout == quant::Layout::rows && weight->parts.size() == 1 &&
                               device::is_cuda_weight_format(weight->parts.front().format));
}

}  // namespace

bool embedding_cuda_supports(const EmbeddingArgs& args) {
  return readable(args.table) && readable(args.position_table);
}

void embedding_cuda(const EmbeddingArgs& args, Context& context) {
  const bool inputs = args.input_rows.defined();
  const EmbeddingParams params{
      .ids = args.token_ids.ptr<int32_t>(),
      .chosen = data_or_null<int32_t>(args.chosen),
      .source = data_or_null<int32_t>(args.token_source),
      .chosen_rows = args.chosen.defined() ? static_cast<int>(args.chosen.dim(0)) : 0,
      .positions = data_or_null<int32_t>(args.positions),
      .table = table_of(args.table),
      .position_table = table_of(args.position_table),
      .input_rows = data_or_null<float>(args.input_rows),
      .input_stride = inputs ? args.input_rows.stride(0) : 0,
      .inputs = inputs ? args.input_rows.dim(0) : 0,
      .out = args.out.ptr<float>(),
      .out_stride = args.out.stride(0),
      .columns = static_cast<int>(args.table->cols)};
  launch(context, embed, dim3(static_cast<unsigned>(args.token_ids.dim(0))), kThreads, 0, params);
}

}  // namespace llamita
