#include "analysis/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/checked.h"
#include "base/log.h"
#include "nn/vision_batch.h"
#include "ops/sampling/device_sampling.h"
#include "ops/sampling/sampling.h"
#include "quant/kv_side.h"

namespace llamita {

namespace {

constexpr int kDefaultContext =
    32768;                          // of models that allow more: the cache of 128k tokens fits few machines
constexpr int kLeastContext = 512;  // that a context nobody asked for is cut to
// A CPU gains nothing from seeing several images at once; a GPU's matrix products do up to some thousand
// rows.
constexpr int kImagesPerPass = 8;
constexpr int kPassesKept = 2;
constexpr int kCpuImageSlots = 4;
constexpr int kMaxContext = INT32_MAX / 2;
constexpr int kMaxBatchTokens = 1 << 20;
constexpr int kMaxBatchSequences = 4096;

KvFormat parse_kv_format(const std::string& name, const Caps& caps) {
  const bool gpu = caps.device == DeviceKind::cuda;
  if (name == "auto") return {gpu ? caps.activation : DType::f16};
  if (gpu && name == "f32") throw Error("kv_dtype must be f16 or bf16 on a GPU, not f32");
  if (name == "f32") return {DType::f32};
  if (name == "f16") return {DType::f16};
  if (name == "bf16") return {DType::bf16};
  if (gpu && name == "int8")
    throw Error(
        "kv_dtype int8 is for the CPU: the GPU's kernels read f16 and bf16. Take one of them, or device cpu");
  if (name == "int8") return {DType::i8};
  throw Error(cat("kv_dtype must be f32, f16, bf16, int8 or auto, not \"", name, "\""));
}

void require_range(std::string_view option, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    throw Error(cat(option, " must be between ", low, " and ", high, ", not ", value));
  }
}

std::string gib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

// Rounded up, so that what is asked for suffices.
std::string megabytes(int64_t bytes) { return cat(bytes / 1'000'000 + (bytes % 1'000'000 != 0), " MB"); }

int64_t needed_bytes(const MemoryPlan& plan) {
  return plan.kv_bytes + plan.arena_bytes + plan.image_bytes + plan.copied_bytes;
}

void plan_images(const ModelConfig& model, MemoryPlan& plan) {
  if (!model.vision) return;
  const VisionConfig& vision = *model.vision;
  const bool gpu = plan.caps.device == DeviceKind::cuda;
  EngineShape& shape = plan.shape;
  shape.images_per_pass = gpu ? kImagesPerPass : 1;
  shape.image_slots = gpu ? kPassesKept * kImagesPerPass : kCpuImageSlots;
  const int64_t rows = int64_t{shape.image_slots} * vision.image_rows() + shape.batch_tokens;
  const int64_t pixels = int64_t{3} * vision.image_size * vision.image_size * shape.images_per_pass;
  plan.image_bytes = checked_mul<int64_t>(rows, model.hidden, "images") * int64_t{sizeof(float)} +
                     pixels * int64_t{sizeof(float)};
}

// The most tokens, in whole pages, whose keys and values fit beside the rest.
int64_t fitting_tokens(const MemoryPlan& plan, int64_t available) {
  const int64_t page_bytes = plan.kv_bytes_per_token * kPageTokens;
  const int64_t scratch = plan.shape.scratch_pages * page_bytes;
  const int64_t room = available - plan.arena_bytes - plan.image_bytes - plan.copied_bytes - scratch;
  return std::max<int64_t>(0, room) / page_bytes * kPageTokens;
}

int choose_context(const ModelConfig& model, const EngineConfig& config) {
  const int longest = longest_context(model);
  if (config.context > longest) {
    throw Error(
        cat("context ", config.context, " is more than the ", longest, " positions this model was made for"));
  }
  if (config.context > 0) return config.context;
  return model.max_positions > 0 ? std::min(model.max_positions, kDefaultContext) : kDefaultContext;
}

}  // namespace

int longest_context(const ModelConfig& model) {
  if (model.max_positions <= 0) return kDefaultContext;
  const RopeConfig& rope = model.rope;
  double scaled = 0;
  if (rope.enabled && (rope.scaling == RopeScaling::linear || rope.scaling == RopeScaling::dynamic)) {
    scaled = rope.factor * model.max_positions;
  } else if (rope.enabled && rope.scaling == RopeScaling::yarn) {
    scaled = rope.factor * rope.original_positions;
  }
  return std::max(model.max_positions, static_cast<int>(std::min(scaled, double{kMaxContext})));
}

MemoryPlan plan_memory(const ModelConfig& model, const EngineConfig& config, int64_t weight_bytes,
                       const Caps& caps) {
  require_range("context", config.context, 0, kMaxContext);
  require_range("batch_tokens", config.batch_tokens, 0, kMaxBatchTokens);
  require_range("batch_sequences", config.batch_sequences, 1, kMaxBatchSequences);
  require_range("threads", config.threads, 0, 4096);
  require_range("kv_bytes", config.kv_bytes, 0, INT64_MAX / 2);
  MemoryPlan plan;
  EngineShape& shape = plan.shape;
  shape.kv_format = parse_kv_format(config.kv_dtype, caps);
  const int usual_tokens = caps.device == DeviceKind::cuda ? 2048 : 512;
  shape.batch_tokens = config.batch_tokens > 0 ? config.batch_tokens : usual_tokens;
  shape.batch_sequences = std::min(config.batch_sequences, shape.batch_tokens);
  shape.context = choose_context(model, config);
  shape.scratch_pages = caps.device == DeviceKind::cuda ? 1 : 0;
  plan.caps = caps;
  plan.weight_bytes = weight_bytes;
  plan_images(model, plan);

  plan.kv_bytes_per_token = checked_mul<int64_t>(int64_t{2} * model.layers * model.kv_heads,
                                                 shape.kv_format.row_bytes(model.head_dim), "KV cache");
  const int64_t page_bytes = checked_mul<int64_t>(plan.kv_bytes_per_token, kPageTokens, "KV cache");
  const int64_t wanted = (int64_t{shape.context} + kPageTokens - 1) / kPageTokens;
  const int64_t pages = config.kv_bytes > 0 ? config.kv_bytes / page_bytes : wanted;
  const int64_t least = config.context > 0 ? wanted : 1;
  if (pages < least) {
    const int64_t needed = checked_mul(least, page_bytes, "KV cache");
    throw Error(cat("the memory for keys and values, ", megabytes(config.kv_bytes), ", holds ",
                    pages * kPageTokens, " tokens, but ",
                    std::min<int64_t>(shape.context, least * kPageTokens), " need ", megabytes(needed),
                    ": raise --kv-memory (kv_bytes)", config.context > 0 ? " or lower --context" : ""));
  }
  shape.kv_pages = checked_cast<int>(std::min<int64_t>(pages, INT32_MAX / kPageTokens), "KV pages");
  shape.context = std::min(shape.context, shape.kv_pages * kPageTokens);
  plan.kv_bytes = checked_mul<int64_t>(page_bytes, int64_t{shape.kv_pages} + shape.scratch_pages, "KV cache");
  return plan;
}

bool shrink_to_fit(MemoryPlan& plan, const EngineConfig& config, std::optional<int64_t> available) {
  if (!available || config.context > 0 || config.kv_bytes > 0) return false;
  if (needed_bytes(plan) <= *available) return false;
  const int64_t tokens = fitting_tokens(plan, *available);
  if (tokens < kLeastContext) return false;
  plan.shape.context = static_cast<int>(tokens);  // less than it was
  plan.shape.kv_pages = plan.shape.context / kPageTokens;
  plan.kv_bytes = plan.kv_bytes_per_token * (tokens + plan.shape.scratch_pages * int64_t{kPageTokens});
  return true;
}

void grow_to_fit(MemoryPlan& plan, const EngineConfig& config, std::optional<int64_t> available) {
  if (config.kv_bytes > 0 || !available) return;
  const int64_t share = plan.caps.device == DeviceKind::cuda ? *available / 10 * 9 : *available / 4;
  const int64_t each = (int64_t{plan.shape.context} + kPageTokens - 1) / kPageTokens;
  const int64_t fitting = fitting_tokens(plan, share) / kPageTokens;
  const int64_t pages =
      std::min({each * plan.shape.batch_sequences, fitting, int64_t{INT32_MAX / kPageTokens}});
  if (pages <= plan.shape.kv_pages) return;
  plan.shape.kv_pages = static_cast<int>(pages);
  plan.kv_bytes = plan.kv_bytes_per_token * kPageTokens * (pages + plan.shape.scratch_pages);
}

MemoryPlan plan_memory(const Model& model, const EngineConfig& config, int32_t vocab_limit, const Caps& caps,
                       std::optional<int64_t> available) {
  MemoryPlan plan = plan_memory(model.config(), config, model.weight_bytes(), caps);
  plan.arena_bytes = measure_largest_arena(model, plan.shape, vocab_limit, caps);
  const MemoryPlan whole = plan;
  if (shrink_to_fit(plan, config, available)) {
    plan.arena_bytes = measure_largest_arena(model, plan.shape, vocab_limit, caps);
    log_warning("the context is cut from ", whole.shape.context, " to ", plan.shape.context,
                " tokens: keys and values of all would take ", gib(whole.kv_bytes), " beside ",
                gib(plan.arena_bytes), " for a step, and ", gib(*available), " of memory are free");
  }
  require_memory(plan, available);
  grow_to_fit(plan, config, available);
  return plan;
}

KvCache shape_only_cache(const ModelConfig& model, const EngineShape& shape) {
  const Tensor side = kv_side(nullptr, shape.kv_format, int64_t{shape.kv_pages} + shape.scratch_pages,
                              model.kv_heads, model.head_dim);
  return {shape.kv_format, std::vector<KvCache::Layer>(static_cast<size_t>(model.layers), {side, side})};
}

int64_t measure_arena(const Model& model, const EngineShape& shape, int tokens, int sequences, int logit_rows,
                      int32_t vocab_limit, const Caps& caps) {
  const Device device{caps.device, caps.device_index};
  // No sequence has more tokens in a step than it may have in all.
  tokens = static_cast<int>(std::min<int64_t>(tokens, int64_t{sequences} * shape.context));
  const auto blocks = (int64_t{shape.context} + kPageTokens - 1) / kPageTokens;
  std::vector<int32_t> q_start, kv_len(static_cast<size_t>(sequences), shape.context);
  for (int b = 0; b <= sequences; ++b) {
    q_start.push_back(static_cast<int32_t>(int64_t{tokens} * b / sequences));
  }
  const AttentionPlan attention = plan_attention(q_start, kv_len);
  ForwardBatch batch;
  batch.token_ids = Tensor(nullptr, DType::i32, {tokens}, device);
  batch.positions = Tensor(nullptr, DType::i32, {1, tokens}, device);
  batch.kv_slot = Tensor(nullptr, DType::i64, {tokens}, device);
  batch.q_start = Tensor(nullptr, DType::i32, {sequences + 1}, device);
  batch.kv_len = Tensor(nullptr, DType::i32, {sequences}, device);
  batch.block_table = Tensor(nullptr, DType::i32, {sequences, blocks}, device);
  batch.logit_rows = Tensor(nullptr, DType::i32, {logit_rows}, device);
  batch.plan = &attention;

  Arena arena(device);
  Context context(arena, caps);
  const Tensor logits = model.forward(batch, shape_only_cache(model.config(), shape), context);
  if (caps.device == DeviceKind::cpu) {
    sampling({.logits = logits, .vocab_limit = vocab_limit, .rows = {}, .out = {}}, context);
  } else {
    const Tensor rows(nullptr, DType::u8, {logit_rows, sizeof(DeviceSamplingRow)}, device);
    const Tensor chosen(nullptr, DType::i32, {logit_rows}, device);
    device_sampling({.logits = logits, .vocab_limit = vocab_limit, .rows = rows, .tokens = chosen}, context);
  }
  return static_cast<int64_t>(arena.peak());
}

int64_t measure_largest_arena(const Model& model, const EngineShape& shape, int32_t vocab_limit,
                              const Caps& caps) {
  constexpr int kEverySize = 8;
  int64_t most = 0;
  for (int tokens = 1;;
       tokens = std::min(tokens < kEverySize ? tokens + 1 : 2 * tokens, shape.batch_tokens)) {
    const int sequences = std::min(tokens, shape.batch_sequences);
    for (const int count : {1, sequences}) {
      most = std::max(most, measure_arena(model, shape, tokens, count, sequences, vocab_limit, caps));
    }
    if (tokens == shape.batch_tokens) break;
  }
  for (int images = 1; images <= shape.images_per_pass; ++images)
    most = std::max(most, measure_image_arena(model, images, caps));
  return most;
}

int64_t measure_image_arena(const Model& model, int images, const Caps& caps) {
  const VisionConfig& vision = *model.config().vision;
  const Device device{caps.device, caps.device_index};
  const VisionBatch pass(vision, images);
  ForwardBatch batch = pass.on_host();
  for (Tensor* tensor : {&batch.kv_slot, &batch.q_start, &batch.kv_len, &batch.block_table})
    *tensor = Tensor(nullptr, tensor->dtype(), tensor->shape(), device);
  Arena arena(device);
  Context context(arena, caps);
  const Tensor pixels(nullptr, DType::f32, {images, 3, vision.image_size, vision.image_size}, device);
  const Tensor rows = arena.take(DType::f32, {images, vision.tokens(), model.config().hidden});
  model.encode_images(pixels, batch, rows, context);
  return static_cast<int64_t>(arena.peak());
}

void require_memory(const MemoryPlan& plan, std::optional<int64_t> available) {
  if (!available || needed_bytes(plan) <= *available) return;
  const int64_t tokens = fitting_tokens(plan, *available);
  throw Error(
      cat("keys and values of ", plan.shape.kv_pages * int64_t{kPageTokens}, " tokens take ",
          gib(plan.kv_bytes), " and a step ", gib(plan.arena_bytes),
          plan.copied_bytes > 0 ? cat(" beside ", gib(plan.copied_bytes), " of weights") : std::string(),
          ", but only ", gib(*available),
          plan.caps.device == DeviceKind::cuda ? " of the GPU's memory" : " of memory", " are free: ",
          tokens > 0 ? cat("a context of at most ", tokens, " tokens fits")
                     : std::string("free memory or choose a smaller model")));
}

}  // namespace llamita
