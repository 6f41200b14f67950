// StepRunner of a GPU: ops queue their work on one stream. Steps that decode one token a sequence are padded
// to one of few sizes and replayed as CUDA graphs, at the cost of one launch; the others are launched op by
// op. LLAMITA_GRAPH=off turns the graphs off, not the padding: the bits are the same.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "base/log.h"
#include "engine/gpu_inputs.h"
#include "engine/gpu_op_timer.h"
#include "engine/gpu_sampler.h"
#include "engine/image_rows.h"
#include "engine/step_runner.h"
#include "hw/cuda/graph.h"
#include "hw/cuda/memory.h"

namespace llamita {

namespace {

// Keys of a padded step are bounded by a power of two from here on.
constexpr int kLeastKeysBound = 256;

bool graphs_wanted() {
  const char* text = std::getenv("LLAMITA_GRAPH");
  return text == nullptr || std::string_view(text) != "off";
}

int round_up_to_power(int value, int least) {
  int power = least;
  while (power < value) power *= 2;
  return power;
}

int blocks_of(int tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

class GpuRunner : public StepRunner {
 public:
  GpuRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool);
  ~GpuRunner() override { stream_.synchronize(); }

  std::span<const SampledToken> step(StepInputs& inputs, std::span<const SamplingRow> rows,
                                     bool keep_hidden) override;
  void step_logits(StepInputs& inputs, std::vector<float>& out) override;
  void synchronize() override { stream_.synchronize(); }
  std::span<const float> hidden() const override { return hidden_; }
  void record_to(std::vector<OpRecord>* records) override { records_ = records; }
  int64_t arena_bytes() const override { return static_cast<int64_t>(arena_->capacity()); }

 private:
  // A padded decode step of one size.
  struct Decode {
    bool met = false;  // ran once, which loaded its kernels and showed its arena
    std::optional<cuda::Graph> graph;
    Tensor logits;
  };

  static Placement placement_of(const MemoryPlan& plan) {
    return {Device{DeviceKind::cuda, plan.caps.device_index}, plan.caps.activation};
  }
  void provide_arena(size_t bytes);
  void grow_arena();
  void upload(void* to, const void* from, size_t bytes);
  void see_images(const StepImages& images, ForwardBatch& batch);
  Tensor forward(StepInputs& inputs, bool keep_hidden);
  Tensor launch(const ForwardBatch& batch);
  Tensor decode(StepInputs& inputs);
  const float* read_back(const Tensor& tensor, int64_t rows);
  void read_records(size_t begin);

  const Model& model_;
  int32_t vocab_limit_;
  Caps caps_;
  EngineShape shape_;
  Device device_;
  cuda::Stream stream_;
  GpuInputs inputs_;
  KvCache cache_;
  Storage cache_memory_;
  std::unique_ptr<Arena> arena_;
  std::optional<Context> context_;
  bool use_graphs_ = graphs_wanted();
  std::map<std::pair<int, int>, Decode> decodes_;  // by sequences and blocks a sequence

  std::vector<OpRecord>* records_ = nullptr;
  GpuOpTimer timer_;

  std::optional<ImageRows> images_;
  Storage pinned_pixels_;  // on their way to the card
  cuda::Event pixels_copied_;

  GpuSampler sampler_;
  // Of sampling on the host, which reports probabilities, and of logits that are asked for.
  Storage pinned_;
  Arena host_arena_;
  Context host_context_;
  std::vector<SampledToken> sampled_;
  Storage hidden_memory_;  // (T, C) on the card, made when first wanted
  std::vector<Tensor> hidden_out_;
  std::vector<float> hidden_;
};

Caps caps_of_host(const ThreadPool& pool) { return {DeviceKind::cpu, cpu::detect_isa(), pool.threads()}; }

// What sampling a step's rows takes on the host.
size_t host_arena_bytes(const MemoryPlan& plan, int vocab, int32_t vocab_limit, const ThreadPool& pool) {
  Arena arena;
  Context context(arena, caps_of_host(pool));
  const Tensor logits(nullptr, DType::f32, {plan.shape.batch_sequences, vocab});
  sampling({.logits = logits, .vocab_limit = vocab_limit, .rows = {}, .out = {}}, context);
  return arena.peak();
}

GpuRunner::GpuRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool)
    : model_(model),
      vocab_limit_(vocab_limit),
      caps_(plan.caps),
      shape_(plan.shape),
      device_(placement_of(plan).device),
      inputs_(device_.index, shape_.batch_tokens, shape_.batch_sequences,
              blocks_of(round_up_to_power(shape_.context, kLeastKeysBound)), shape_.batch_sequences),
      sampler_(device_.index, shape_.batch_sequences),
      host_arena_(host_arena_bytes(plan, model.config().vocab, vocab_limit, pool)),
      host_context_(pool, host_arena_, caps_of_host(pool)) {
  cache_ = shape_only_cache(model.config(), plan.shape);
  const size_t side = static_cast<size_t>(cache_.layers.front().k.bytes());
  cache_memory_ = cuda::allocate_storage(side * 2 * cache_.layers.size(), device_.index);
  // Kernels may load whole pages; what was never written must not be NaN times zero.
  cuda::fill_async(cache_memory_.data(), 0, cache_memory_.bytes(), stream_);
  auto* at = static_cast<std::byte*>(cache_memory_.data());
  for (KvCache::Layer& layer : cache_.layers) {
    for (Tensor* tensor : {&layer.k, &layer.v}) {
      *tensor = Tensor(at, tensor->dtype(), tensor->shape(), device_);
      at += side;
    }
  }
  provide_arena(static_cast<size_t>(plan.arena_bytes));
  if (!model.config().vision) return;
  images_.emplace(
      model, plan,
      DeviceMemory{device_, [this](size_t n) { return cuda::allocate_storage(n, device_.index); },
                   [this](void* to, const void* from, size_t n) { upload(to, from, n); },
                   [this](void* to, const void* from, size_t n) { cuda::copy_async(to, from, n, stream_); }});
}

// Through page-locked memory, which waits for the copy before: the host goes on at once.
void GpuRunner::upload(void* to, const void* from, size_t bytes) {
  pixels_copied_.synchronize();
  if (pinned_pixels_.bytes() < bytes) pinned_pixels_ = cuda::allocate_pinned(bytes);
  std::memcpy(pinned_pixels_.data(), from, bytes);
  cuda::copy_async(to, pinned_pixels_.data(), bytes, stream_);
  stream_.record(pixels_copied_);
}

void GpuRunner::see_images(const StepImages& images, ForwardBatch& batch) {
  if (images.rows.empty()) return;
  const size_t begin = records_ == nullptr ? 0 : records_->size();
  context_->record_to(records_);
  context_->time_with(records_ == nullptr ? nullptr : &timer_);
  timer_.queue_on(stream_);
  batch.input_rows = images_.value().rows_of(images, *context_);
  if (records_ != nullptr) timer_.write_times(*records_, begin);
}

void GpuRunner::provide_arena(size_t bytes) {
  stream_.synchronize();
  decodes_.clear();  // graphs hold addresses of the arena
  context_.reset();
  arena_.reset();
  arena_ = std::make_unique<Arena>(bytes, device_,
                                   [this](size_t n) { return cuda::allocate_storage(n, device_.index); });
  context_.emplace(stream_, *arena_, caps_);
}

void GpuRunner::grow_arena() {
  if (arena_->peak() <= arena_->capacity()) return;
  log_warning("a step took ", arena_->peak(), " bytes of activations, ", arena_->capacity(),
              " were planned: the arena grows");
  provide_arena(arena_->peak());
}

// The logits live in the arena until the next step. The work may still run on return.
Tensor GpuRunner::forward(StepInputs& inputs, bool keep_hidden) {
  grow_arena();
  const Arena::Scope scope(*arena_);
  if (inputs.is_decode() && !keep_hidden) return decode(inputs);
  ForwardBatch batch = inputs_.upload(inputs, stream_);
  see_images(inputs.images, batch);
  if (keep_hidden) {
    const auto width = int64_t{model_.config().hidden};
    const auto most = static_cast<size_t>(shape_.batch_tokens * width) * sizeof(float);
    if (hidden_memory_.bytes() == 0) hidden_memory_ = cuda::allocate_storage(most, device_.index);
    hidden_out_.assign(static_cast<size_t>(model_.config().layers) + 1, Tensor());
    hidden_out_.back() = Tensor(hidden_memory_.data(), DType::f32, {inputs.tokens(), width}, device_);
    batch.hidden_out = &hidden_out_;
  }
  return launch(batch);
}

Tensor GpuRunner::launch(const ForwardBatch& batch) {
  const size_t begin = records_ == nullptr ? 0 : records_->size();
  context_->record_to(records_);
  context_->time_with(records_ == nullptr ? nullptr : &timer_);
  timer_.queue_on(stream_);
  const Tensor logits = model_.forward(batch, cache_, *context_);
  if (records_ != nullptr) timer_.write_times(*records_, begin);
  LLAMITA_CHECK(
      logits.rank() == 2 && logits.dim(0) == batch.logit_rows.dim(0) && logits.dim(1) >= vocab_limit_,
      "forward() gave ", logits.shape_text(), " for ", batch.logit_rows.dim(0), " rows");
  return logits;
}

// The first step of a size runs as it is; the second is captured.
Tensor GpuRunner::decode(StepInputs& inputs) {
  const int most = *std::max_element(inputs.kv_len.begin(), inputs.kv_len.end());
  const int sequences = std::min(round_up_to_power(inputs.sequences(), 1), shape_.batch_sequences);
  const int blocks = blocks_of(round_up_to_power(most, kLeastKeysBound));
  inputs.pad_decode(sequences, blocks, shape_.kv_pages);
  const ForwardBatch batch = inputs_.upload(inputs, stream_);
  Decode& decode = decodes_[{sequences, blocks}];
  if (records_ != nullptr || !use_graphs_ || !std::exchange(decode.met, true)) return launch(batch);
  if (!decode.graph) {
    decode.graph = cuda::Graph::capture(stream_, [&] { decode.logits = launch(batch); });
    log_debug("captured a decode step of ", sequences, " sequences and ", blocks, " blocks");
  }
  decode.graph->launch(stream_);
  return decode.logits;
}

// The first `rows` rows of a (R, V) f32 tensor on the host, once everything queued is done.
const float* GpuRunner::read_back(const Tensor& tensor, int64_t rows) {
  const auto bytes = static_cast<size_t>(rows * tensor.dim(1)) * sizeof(float);
  if (pinned_.bytes() < bytes) pinned_ = cuda::allocate_pinned(bytes);
  cuda::copy_async(pinned_.data(), tensor.data(), bytes, stream_);
  stream_.synchronize();
  return static_cast<const float*>(pinned_.data());
}

std::span<const SampledToken> GpuRunner::step(StepInputs& inputs, std::span<const SamplingRow> rows,
                                              bool keep_hidden) {
  const cuda::DeviceGuard guard(device_.index);
  const int tokens = inputs.tokens();
  const Tensor logits = forward(inputs, keep_hidden);
  sampled_.assign(rows.size(), {});
  hidden_.clear();
  if (!rows.empty() && GpuSampler::can_do(rows)) {
    const Arena::Scope scope(*arena_);
    arena_->take(DType::f32, {logits.dim(0), logits.dim(1)});  // where forward() put the logits
    context_->record_to(nullptr);
    sampler_.choose(logits, vocab_limit_, rows, sampled_, *context_);
  } else if (!rows.empty()) {
    const auto count = static_cast<int64_t>(rows.size());
    const float* values = read_back(logits, count);
    const Arena::Scope scope(host_arena_);
    sampling({.logits = Tensor::of(values, {count, logits.dim(1)}),
              .vocab_limit = vocab_limit_,
              .rows = rows,
              .out = sampled_},
             host_context_);
  }
  if (keep_hidden) {
    const Tensor& states = hidden_out_.back();
    const float* values = read_back(states, tokens);
    hidden_.assign(values, values + states.elems());
  }
  return sampled_;
}

void GpuRunner::step_logits(StepInputs& inputs, std::vector<float>& out) {
  const cuda::DeviceGuard guard(device_.index);
  const int64_t rows = inputs.rows();
  const Tensor logits = forward(inputs, false);
  const float* values = read_back(logits, rows);
  out.insert(out.end(), values, values + rows * logits.dim(1));
}

}  // namespace

std::unique_ptr<StepRunner> make_gpu_runner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit,
                                            ThreadPool& pool) {
  const cuda::DeviceGuard guard(plan.caps.device_index);  // streams and events belong to the current device
  return std::make_unique<GpuRunner>(model, plan, vocab_limit, pool);
}

}  // namespace llamita
