// StepRunner of a GPU: ops queue their work on one stream, and the host goes on. Steps that decode one token
// a sequence are padded to one of few sizes and replayed as CUDA graphs, sampling included, at the cost of
// one launch; the others are launched op by op. A step's tokens stay on the card for the next one, whose
// other inputs the host sends meanwhile: the stream's order is the fence between steps. LLAMITA_GRAPH=off
// turns the graphs off, not the padding: the bits are the same.
#include <algorithm>
#include <compare>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>

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
  const std::string_view wanted = text == nullptr ? "on" : text;
  if (wanted != "on" && wanted != "off") throw Error(cat("LLAMITA_GRAPH: expected on or off, got ", wanted));
  return wanted == "on";
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
  ~GpuRunner() override;

  void submit(StepInputs& inputs, std::span<const SamplingRow> rows, bool keep_hidden, int slot) override;
  std::span<const SampledToken> collect(int slot) override;
  void step_logits(StepInputs& inputs, std::vector<float>& out) override;
  void synchronize() override { stream_.synchronize(); }
  std::span<const float> hidden() const override { return hidden_; }
  void record_to(std::vector<OpRecord>* records) override { records_ = records; }
  int64_t arena_bytes() const override { return static_cast<int64_t>(arena_->capacity()); }

 private:
  // What a step's launches do besides forward().
  struct Extras {
    bool feeds = false;    // tokens of the step before come in
    bool samples = false;  // its own are chosen
    auto operator<=>(const Extras&) const = default;
  };
  // A padded decode step of one size.
  struct Decode {
    bool met = false;  // ran once, which loaded its kernels and showed its arena
    std::optional<cuda::Graph> graph;
    Tensor logits;
  };
  struct Slot {
    cuda::Event done;
    int64_t hidden_elems = 0;  // that the host wants of the step's states
  };

  static Placement placement_of(const MemoryPlan& plan) {
    return {Device{DeviceKind::cuda, plan.caps.device_index}, plan.caps.activation};
  }
  void provide_cache();
  void provide_arena(size_t bytes);
  void grow_arena();
  void upload(void* to, const void* from, size_t bytes);
  void provide_images(const MemoryPlan& plan);
  void see_images(const StepImages& images, ForwardBatch& batch);
  void grow_inputs();
  Tensor prefill(StepInputs& inputs, int slot, bool keep_hidden);
  Tensor decode(StepInputs& inputs, int slot);
  Tensor launch(const GpuInputs::Uploaded& step, Extras extras);
  Tensor replay(Decode& decode, const GpuInputs::Uploaded& step, Extras extras);
  void sample(const Tensor& logits, const GpuInputs::Uploaded& step);
  void sample_with_host(const Tensor& logits, const GpuInputs::Uploaded& step, int slot);
  void fetch_hidden(int slot);

  const Model& model_;
  int32_t vocab_limit_;
  Caps caps_;
  EngineShape shape_;
  Device device_;
  cuda::Stream stream_;
  GpuInputs inputs_;
  GpuSampler sampler_;
  Slot slots_[kSlots];
  KvCache cache_;
  Storage cache_memory_;
  std::unique_ptr<Arena> arena_;
  std::optional<Context> context_;
  bool use_graphs_ = graphs_wanted();
  std::map<std::tuple<int, int, Extras>, Decode> decodes_;  // by sequences and blocks a sequence

  std::vector<OpRecord>* records_ = nullptr;
  GpuOpTimer timer_;

  std::optional<ImageRows> images_;
  Storage pinned_pixels_;  // on their way to the card
  cuda::Event pixels_copied_;

  Storage pinned_logits_;                  // that step_logits() asks for
  Storage hidden_memory_, pinned_hidden_;  // (T, C), on the card and page-locked, made when first wanted
  std::vector<Tensor> hidden_out_;
  std::vector<float> hidden_;
};

GpuRunner::GpuRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool)
    : model_(model),
      vocab_limit_(vocab_limit),
      caps_(plan.caps),
      shape_(plan.shape),
      device_(placement_of(plan).device),
      inputs_(device_.index, shape_.batch_tokens, shape_.batch_sequences,
              blocks_of(round_up_to_power(shape_.context, kLeastKeysBound)), shape_.batch_sequences),
      sampler_(device_.index, shape_.batch_sequences, model.config().vocab, vocab_limit, pool) {
  provide_cache();
  provide_arena(static_cast<size_t>(plan.arena_bytes));
  provide_images(plan);
}

// Steps under way use what is destroyed next. A device that is lost runs none, and whoever used it knows.
GpuRunner::~GpuRunner() {
  try {
    stream_.synchronize();
  } catch (const std::exception& error) {
    log_warning("the GPU's last steps failed: ", error.what());
  }
}

void GpuRunner::provide_cache() {
  cache_ = shape_only_cache(model_.config(), shape_);
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
}

void GpuRunner::provide_images(const MemoryPlan& plan) {
  if (!model_.config().vision) return;
  images_.emplace(
      model_, plan,
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

// More biases and seen tokens than any step had so far.
void GpuRunner::grow_inputs() {
  if (inputs_.has_room(sampler_.parameters())) return;
  stream_.synchronize();
  decodes_.clear();  // graphs hold addresses of the inputs
  inputs_.grow(sampler_.parameters());
}

void GpuRunner::submit(StepInputs& inputs, std::span<const SamplingRow> rows, bool keep_hidden, int slot) {
  const cuda::DeviceGuard guard(device_.index);
  Slot& step = slots_[slot];
  step.done.synchronize();  // nobody may have collected it
  grow_arena();
  sampler_.take(rows, inputs, slot);
  grow_inputs();
  const Arena::Scope scope(*arena_);
  const bool decodes = inputs.is_decode() && !keep_hidden;
  step.hidden_elems = keep_hidden ? int64_t{inputs.tokens()} * model_.config().hidden : 0;
  decodes ? decode(inputs, slot) : prefill(inputs, slot, keep_hidden);
  if (keep_hidden) fetch_hidden(slot);
  stream_.record(step.done);
}

Tensor GpuRunner::prefill(StepInputs& inputs, int slot, bool keep_hidden) {
  GpuInputs::Uploaded step = inputs_.upload(inputs, sampler_.parameters(), slot, stream_);
  see_images(inputs.images, step.batch);
  if (keep_hidden) {
    const auto width = int64_t{model_.config().hidden};
    const auto most = static_cast<size_t>(shape_.batch_tokens * width) * sizeof(float);
    if (hidden_memory_.bytes() == 0) hidden_memory_ = cuda::allocate_storage(most, device_.index);
    if (pinned_hidden_.bytes() == 0) pinned_hidden_ = cuda::allocate_pinned(most);
    hidden_out_.assign(static_cast<size_t>(model_.config().layers) + 1, Tensor());
    hidden_out_.back() = Tensor(hidden_memory_.data(), DType::f32, {inputs.tokens(), width}, device_);
    step.batch.hidden_out = &hidden_out_;
  }
  const bool with_host = sampler_.wants_logits(slot);
  const bool samples = step.sampling_rows.defined() && !with_host;
  const Tensor logits = launch(step, {inputs.has_sources(), samples});
  if (with_host) sample_with_host(logits, step, slot);
  return logits;
}

// The first step of a size runs as it is; the second is captured.
Tensor GpuRunner::decode(StepInputs& inputs, int slot) {
  const int most = *std::max_element(inputs.kv_len.begin(), inputs.kv_len.end());
  const int sequences = std::min(round_up_to_power(inputs.sequences(), 1), shape_.batch_sequences);
  const int blocks = blocks_of(round_up_to_power(most, kLeastKeysBound));
  inputs.pad_decode(sequences, blocks, shape_.kv_pages);
  sampler_.pad(sequences);
  const GpuInputs::Uploaded step = inputs_.upload(inputs, sampler_.parameters(), slot, stream_);
  const bool with_host = sampler_.wants_logits(slot);
  const bool samples = step.sampling_rows.defined() && !with_host;
  // A step that samples is fed sooner or later: one graph serves both.
  const Extras extras{samples || inputs.has_sources(), samples};
  Decode& decode = decodes_[{sequences, blocks, extras}];
  const bool as_it_is = records_ != nullptr || !use_graphs_ || !std::exchange(decode.met, true);
  const Tensor logits = as_it_is ? launch(step, extras) : replay(decode, step, extras);
  if (with_host) sample_with_host(logits, step, slot);
  return logits;
}

// The logits stay in the arena, where the caller holds a scope.
Tensor GpuRunner::launch(const GpuInputs::Uploaded& step, Extras extras) {
  const size_t begin = records_ == nullptr ? 0 : records_->size();
  context_->record_to(records_);
  context_->time_with(records_ == nullptr ? nullptr : &timer_);
  timer_.queue_on(stream_);
  ForwardBatch batch = step.batch;
  if (extras.feeds) {
    batch.chosen = sampler_.tokens();
    batch.token_source = step.token_source;
  }
  const Tensor logits = model_.forward(batch, cache_, *context_);
  LLAMITA_CHECK(
      logits.rank() == 2 && logits.dim(0) == batch.logit_rows.dim(0) && logits.dim(1) >= vocab_limit_,
      "forward() gave ", logits.shape_text(), " for ", batch.logit_rows.dim(0), " rows");
  if (extras.samples) sample(logits, step);
  if (records_ != nullptr) timer_.write_times(*records_, begin);
  return logits;
}

Tensor GpuRunner::replay(Decode& decode, const GpuInputs::Uploaded& step, Extras extras) {
  if (!decode.graph) {
    const Arena::Scope scope(*arena_);
    decode.graph = cuda::Graph::capture(stream_, [&] { decode.logits = launch(step, extras); });
    log_debug("captured a decode step of ", step.batch.kv_len.dim(0), " sequences and ",
              step.batch.block_table.dim(1), " blocks", extras.samples ? " with sampling" : "");
  }
  decode.graph->launch(stream_);
  const Tensor logits = arena_->take(DType::f32, {decode.logits.dim(0), decode.logits.dim(1)});
  LLAMITA_CHECK(logits.data() == decode.logits.data(), "a replayed step's logits lie elsewhere");
  return logits;
}

void GpuRunner::sample(const Tensor& logits, const GpuInputs::Uploaded& step) {
  const int64_t rows = logits.dim(0);
  device_sampling({.logits = logits,
                   .vocab_limit = vocab_limit_,
                   .rows = step.sampling_rows,
                   .entries = step.entries,
                   .token_ids = step.batch.token_ids,
                   .tokens = sampler_.tokens().slice(0, rows)},
                  *context_);
}

// What the host must see is copied before the card's choice changes it.
void GpuRunner::sample_with_host(const Tensor& logits, const GpuInputs::Uploaded& step, int slot) {
  sampler_.fetch_logits(logits, slot, stream_);
  context_->record_to(nullptr);
  sample(logits, step);
}

void GpuRunner::fetch_hidden(int slot) {
  const auto bytes = static_cast<size_t>(slots_[slot].hidden_elems) * sizeof(float);
  cuda::copy_async(pinned_hidden_.data(), hidden_memory_.data(), bytes, stream_);
}

std::span<const SampledToken> GpuRunner::collect(int slot) {
  slots_[slot].done.synchronize();
  if (const int64_t elems = std::exchange(slots_[slot].hidden_elems, 0); elems > 0) {
    const auto* values = static_cast<const float*>(pinned_hidden_.data());
    hidden_.assign(values, values + elems);
  }
  return sampler_.finish(slot);
}

void GpuRunner::step_logits(StepInputs& inputs, std::vector<float>& out) {
  const cuda::DeviceGuard guard(device_.index);
  const int64_t rows = inputs.rows();
  stream_.synchronize();  // no step's page-locked memory is taken from it
  grow_arena();
  sampler_.take({}, inputs, 0);
  const Arena::Scope scope(*arena_);
  const Tensor logits = inputs.is_decode() ? decode(inputs, 0) : prefill(inputs, 0, false);
  const auto elems = rows * logits.dim(1);
  const auto bytes = static_cast<size_t>(elems) * sizeof(float);
  if (pinned_logits_.bytes() < bytes) pinned_logits_ = cuda::allocate_pinned(bytes);
  cuda::copy_async(pinned_logits_.data(), logits.data(), bytes, stream_);
  stream_.synchronize();
  const auto* values = static_cast<const float*>(pinned_logits_.data());
  out.insert(out.end(), values, values + elems);
}

}  // namespace

std::unique_ptr<StepRunner> make_gpu_runner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit,
                                            ThreadPool& pool) {
  const cuda::DeviceGuard guard(plan.caps.device_index);  // streams and events belong to the current device
  return std::make_unique<GpuRunner>(model, plan, vocab_limit, pool);
}

}  // namespace llamita
