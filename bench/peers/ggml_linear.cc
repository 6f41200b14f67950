// Microseconds of one 4096 x 4096 product in llama.cpp, as its models multiply: weights in the layout that
// its CPU backend chooses for them, activations f32, a pool of threads. The weights rotate over enough copies
// that they come from DRAM, as bench_ops' do.
//
//   ggml_linear TYPE THREADS REPETITIONS TOKENS...      TYPE as ggml spells it: q4_0, q4_K, bf16, ...
//
// Prints a line of JSON a count of tokens: {"tokens": N, "samples": [microseconds, ...]}.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

namespace {

constexpr int64_t kRows = 4096, kColumns = 4096;
constexpr size_t kCacheBytes = size_t{96} << 20;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "ggml_linear: %s\n", what.c_str());
  std::exit(1);
}

ggml_type type_named(const std::string& name) {
  for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
    const char* known = ggml_type_name(static_cast<ggml_type>(type));
    if (known != nullptr && name == known) return static_cast<ggml_type>(type);
  }
  fail("there is no type " + name);
}

ggml_context* context_for(size_t tensors) {
  return ggml_init(
      {tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(tensors, false), nullptr, true});
}

// The first layout in which the backend multiplies such weights, as llama.cpp asks when it loads a model.
ggml_backend_buffer_type_t layout_of(ggml_backend_dev_t device, ggml_type type) {
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
  ggml_context* context = context_for(8);
  ggml_tensor* weight = ggml_new_tensor_2d(context, type, kColumns, kRows);
  ggml_tensor* product =
      ggml_mul_mat(context, weight, ggml_new_tensor_2d(context, GGML_TYPE_F32, kColumns, 512));
  for (ggml_backend_buffer_type_t* layout = extra != nullptr ? extra(device) : nullptr;
       layout != nullptr && *layout != nullptr; ++layout) {
    weight->buffer = ggml_backend_buft_alloc_buffer(*layout, 0);
    const bool fits = ggml_backend_dev_supports_op(device, product);
    ggml_backend_buffer_free(weight->buffer);
    weight->buffer = nullptr;
    if (fits) return *layout;
  }
  return ggml_backend_dev_buffer_type(device);
}

std::vector<float> random_values(size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

double microseconds_of(ggml_backend_t backend, ggml_cgraph* graph) {
  const auto begin = std::chrono::steady_clock::now();
  if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS) fail("computing failed");
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) fail("TYPE THREADS REPETITIONS TOKENS...");
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const ggml_type type = type_named(argv[1]);
  const int repetitions = std::atoi(argv[3]);
  ggml_backend_t backend = ggml_backend_cpu_init();
  ggml_backend_cpu_set_n_threads(backend, std::atoi(argv[2]));
  const ggml_backend_dev_t device = ggml_backend_get_device(backend);

  const size_t weight_bytes = ggml_row_size(type, kColumns) * kRows;
  const size_t copies = kCacheBytes / weight_bytes + 2;
  ggml_context* weights_context = context_for(copies + 1);
  std::vector<ggml_tensor*> weights;
  for (size_t i = 0; i < copies; ++i)
    weights.push_back(ggml_new_tensor_2d(weights_context, type, kColumns, kRows));
  if (ggml_backend_alloc_ctx_tensors_from_buft(weights_context, layout_of(device, type)) == nullptr)
    fail("no memory for the weights");
  std::vector<uint8_t> stored(weight_bytes);
  ggml_quantize_chunk(type, random_values(kRows * kColumns).data(), stored.data(), 0, kRows, kColumns,
                      nullptr);
  for (ggml_tensor* weight : weights) ggml_backend_tensor_set(weight, stored.data(), 0, weight_bytes);

  for (int i = 4; i < argc; ++i) {
    const int64_t tokens = std::atoi(argv[i]);
    ggml_context* context = context_for(2 * copies + 8);
    ggml_tensor* x = ggml_new_tensor_2d(context, GGML_TYPE_F32, kColumns, tokens);
    ggml_set_input(x);
    ggml_cgraph* graph = ggml_new_graph_custom(context, copies + 8, false);
    for (ggml_tensor* weight : weights) ggml_build_forward_expand(graph, ggml_mul_mat(context, weight, x));
    ggml_gallocr_t memory = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend));
    if (!ggml_gallocr_alloc_graph(memory, graph)) fail("no memory for the activations");
    const std::vector<float> values = random_values(static_cast<size_t>(kColumns * tokens));
    ggml_backend_tensor_set(x, values.data(), 0, values.size() * sizeof(float));

    // A sample is as many passes as a third of a second holds.
    microseconds_of(backend, graph);
    const int passes = std::max(1, static_cast<int>(3e5 / microseconds_of(backend, graph)));
    std::printf("{\"tokens\": %d, \"samples\": [", static_cast<int>(tokens));
    for (int sample = 0; sample < repetitions; ++sample) {
      double sum = 0;
      for (int pass = 0; pass < passes; ++pass) sum += microseconds_of(backend, graph);
      std::printf("%s%.3f", sample > 0 ? ", " : "", sum / passes / static_cast<double>(copies));
    }
    std::printf("]}\n");
    std::fflush(stdout);
    ggml_gallocr_free(memory);
    ggml_free(context);
  }
  return 0;
}
