// bench_decode [SHAPE ...] [--tokens T] [--keys N] [--variants a,b] [--chain a,b] [--norms shared|apart]: the
// chain of kernels of a decode step as one graph, all layers of a shape with weights of their own, through
// the op tables: the whole chain, then each of its products alone, repeated over the layers; and first, where
// there is one, the variant of decoder_layers that does all layers in one kernel. The rate of a product in
// such a chain is what it takes out of a step, start and end included. A variant (LLAMITA_KERNEL's word for
// linear, attn_in and mlp_in at once, beside what the environment forces; "" is the tables' choice) is first
// held against the others: after two layers the residual stream must agree to bf16 with what the first gives
// with the norms apart. `apart`: no norm is prepared by the product before it (norm/prepared_norm.h).
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "base/cat.h"
#include "hw/cuda/device_properties.h"
#include "hw/cuda/made_up.h"
#include "hw/cuda/measure.h"
#include "lessons/bench.h"
#include "llamita/error.h"
#include "ops/attention/attention.h"
#include "ops/attn_in/attn_in.h"
#include "ops/decoder_layers/decoder_layers.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"

namespace llamita::bench {
namespace {

using lessons::median;
using lessons::TimedGraph;

struct Shape {
  const char* name;
  int hidden, layers, heads, kv_heads, dim, ffn, vocab;
};
constexpr Shape kShapes[] = {{"llama-3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256},
                             {"llama-3.2-3b", 3072, 28, 24, 8, 128, 8192, 128256},
                             {"qwen2.5-3b", 2048, 36, 16, 2, 128, 11008, 151936},
                             {"llama-3.1-8b", 4096, 32, 32, 8, 128, 14336, 128256},
                             {"llava-1.5-7b", 4096, 32, 32, 32, 128, 11008, 32064}};
constexpr Device kDevice{DeviceKind::cuda, 0};

struct Options {
  std::vector<std::string> shapes, variants{""};
  std::vector<std::string> chain;  // kernels of a layer to run instead of all
  int tokens = 1, keys = 192;
  bool shared_norms = true;

  // What the launches are planned for: the powers of two of the engine's captured steps.
  int most_keys() const {
    return std::max(256, static_cast<int>(std::bit_ceil(static_cast<unsigned>(keys))));
  }
};

std::vector<std::string> split(std::string list) {
  std::vector<std::string> words;
  for (size_t comma; (comma = list.find(',')) != std::string::npos; list = list.substr(comma + 1))
    words.push_back(list.substr(0, comma));
  words.push_back(list);
  return words;
}

class Model {
 public:
  Model(const Shape& shape, const Options& options, const cuda::Stream& stream)
      : shape_(shape), options_(options), stream_(stream) {
    const int64_t C = shape.hidden, D = shape.dim, q = shape.heads * D, kv = shape.kv_heads * D;
    const int64_t T = options.tokens;
    for (int i = 0; i < shape.layers; ++i)
      layers_.push_back({weight({q, kv, kv}, C), weight({C}, q), weight({shape.ffn, shape.ffn}, C),
                         weight({C}, shape.ffn), cache(), cache()});
    head_ = weight({shape.vocab}, C);
    gain_ = made_up(DType::f32, {C}, 1, 0.1f);
    start_ = made_up(DType::f32, {T, C}, 0, 1);
    x_ = made_up(DType::f32, {T, C}, 0, 1);
    q_ = made_up(DType::bf16, {T, shape.heads, D}, 0, 1);
    mixed_ = made_up(DType::bf16, {T, shape.heads, D}, 0, 1);
    hidden_ = made_up(DType::bf16, {T, shape.ffn}, 0, 1);
    normed_ = made_up(DType::bf16, {T, C}, 0, 1);
    logits_ = made_up(DType::f32, {T, shape.vocab}, 0, 1);
    norm_ = {made_up(DType::bf16, {T, C}, 0, 1), made_up(DType::f32, {norm_runs(C), T}, kNormRun, 1)};
    cos_sin_ = made_up(DType::f32, {T, D}, 0.7f, 0.01f);
    set_sequences();
    plan_ = bound_attention(1, options.most_keys());
    stream.synchronize();
  }

  enum class Part { attn_in, attention, out, mlp_in, down };
  static constexpr Part kParts[] = {Part::attn_in, Part::attention, Part::out, Part::mlp_in, Part::down};
  static const char* name(Part part) {
    constexpr const char* kNames[] = {"attn_in", "attention", "out", "mlp_in", "down"};
    return kNames[static_cast<int>(part)];
  }
  const Shape& shape() const { return shape_; }

  // As models/decoder.cc runs it.
  void run(Part part, int layer, Context& context, bool shared_norms) const {
    const Layer& l = layers_[static_cast<size_t>(layer)];
    const bool last = layer + 1 == shape_.layers;
    switch (part) {
      case Part::attn_in: {
        const bool prepared =
            shared_norms && layer > 0 && shares(down_args(layer - 1), attn_in_args(l), context);
        return attn_in(with_norm(attn_in_args(l), prepared), context);
      }
      case Part::attention: {
        AttentionArgs args;
        args.q = q_;
        args.k_cache = l.k;
        args.v_cache = l.v;
        args.q_start = q_start_;
        args.kv_len = kv_len_;
        args.block_table = table_;
        args.plan = &plan_;
        args.scale = 1 / std::sqrt(static_cast<float>(shape_.dim));
        args.out = mixed_;
        return attention(args, context);
      }
      case Part::out:
        return linear(with_norm(out_args(l), shared_norms && shares(out_args(l), mlp_in_args(l), context)),
                      context);
      case Part::mlp_in:
        return mlp_in(with_norm(mlp_in_args(l), shared_norms && shares(out_args(l), mlp_in_args(l), context)),
                      context);
      case Part::down: {
        const bool prepares =
            shared_norms && !last &&
            shares(down_args(layer), attn_in_args(layers_[static_cast<size_t>(layer) + 1]), context);
        return linear(with_norm(down_args(layer), prepares), context);
      }
    }
  }
  bool in_chain(Part part) const {
    const auto& chain = options_.chain;
    return chain.empty() || std::find(chain.begin(), chain.end(), name(part)) != chain.end();
  }
  void run_layer(int layer, Context& context, bool shared_norms) const {
    for (const Part part : kParts)
      if (in_chain(part)) run(part, layer, context, shared_norms);
  }
  // All layers as one op; only while `layers` of the result lives.
  DecoderLayersArgs all_layers(std::vector<DecoderLayer>& layers) const {
    for (const Layer& l : layers_) {
      DecoderLayer layer;
      layer.attn_norm = layer.mlp_norm = gain_;
      layer.qkv = &l.qkv;
      layer.out = &l.out;
      layer.gate_up = &l.in;
      layer.down = &l.down;
      layer.k_cache = l.k;
      layer.v_cache = l.v;
      layers.push_back(layer);
    }
    DecoderLayersArgs args;
    args.x = x_;
    args.cos_sin = cos_sin_;
    args.kv_slot = slots_;
    args.q_start = q_start_;
    args.kv_len = kv_len_;
    args.block_table = table_;
    args.plan = &plan_;
    args.heads = shape_.heads;
    args.layers = layers;
    return args;
  }
  void run_head(Context& context) const { linear({normed_, &head_, {}, {}, logits_}, context); }
  // The stream as it was: sums that pile up over many replays would leave the range of numbers.
  void reset() const { cuda::copy_async(x_.data(), start_.data(), start_.bytes(), stream_); }

  double bytes(Part part) const {
    const Layer& l = layers_.front();
    switch (part) {
      case Part::attn_in: return static_cast<double>(l.qkv.bytes());
      case Part::attention: return 4.0 * options_.tokens * options_.keys * shape_.kv_heads * shape_.dim;
      case Part::out: return static_cast<double>(l.out.bytes());
      case Part::mlp_in: return static_cast<double>(l.in.bytes());
      case Part::down: return static_cast<double>(l.down.bytes());
    }
    return 0;
  }
  double layer_bytes() const {
    double sum = 0;
    for (const Part part : kParts) sum += in_chain(part) ? bytes(part) : 0;
    return sum;
  }
  double head_bytes() const { return static_cast<double>(head_.bytes()); }

  std::vector<float> stream_values() const {
    std::vector<float> values(static_cast<size_t>(x_.elems()));
    cuda::copy_async(values.data(), x_.data(), values.size() * sizeof(float), stream_);
    stream_.synchronize();
    return values;
  }

 private:
  struct Layer {
    quant::Weight qkv, out, in, down;
    Tensor k, v;
  };

  AttnInArgs attn_in_args(const Layer& l) const {
    AttnInArgs args;
    args.x = x_;
    args.norm_weight = gain_;
    args.qkv = &l.qkv;
    args.cos_sin = cos_sin_;
    args.kv_slot = slots_;
    args.k_cache = l.k;
    args.v_cache = l.v;
    args.q = q_;
    return args;
  }
  MlpInArgs mlp_in_args(const Layer& l) const {
    MlpInArgs args;
    args.x = x_;
    args.norm_weight = gain_;
    args.in = &l.in;
    args.activation = Activation::silu;
    args.gated = true;
    args.out = hidden_;
    return args;
  }
  LinearArgs out_args(const Layer& l) const {
    return {mixed_.view({options_.tokens, int64_t{shape_.heads} * shape_.dim}), &l.out, {}, x_, x_};
  }
  LinearArgs down_args(int layer) const {
    return {hidden_, &layers_[static_cast<size_t>(layer)].down, {}, x_, x_};
  }
  template <class Args>
  Args with_norm(Args args, bool prepared) const {
    if (!prepared) return args;
    args.prepared = norm_;
    if constexpr (requires { args.next_gain; }) args.next_gain = gain_;
    return args;
  }
  static const Op<AttnInArgs>& op_of(const AttnInArgs&) { return attn_in_op(); }
  static const Op<MlpInArgs>& op_of(const MlpInArgs&) { return mlp_in_op(); }
  template <class Next>
  bool shares(const LinearArgs& product, const Next& next, const Context& context) const {
    return takes_prepared_norm(linear_op(), with_norm(product, true), context) &&
           takes_prepared_norm(op_of(next), with_norm(next, true), context);
  }

  Storage allocate(size_t bytes) { return cuda::allocate_storage(bytes, 0); }
  quant::Weight weight(const std::vector<int64_t>& rows, int64_t cols) {
    quant::Weight made{.cols = cols, .parts = {}};
    int64_t all = 0;
    for (const int64_t n : rows) all += n;
    const Storage whole =
        allocate(static_cast<size_t>(all * cols * 2));  // one piece, as the loader places them
    const float spread = 1 / std::sqrt(static_cast<float>(cols));
    cuda::fill_made_up(whole.data(), DType::bf16, all * cols, {.seed = ++seed_, .spread = spread}, stream_);
    auto* at = static_cast<std::byte*>(whole.data());
    for (const int64_t n : rows) {
      const auto bytes = static_cast<size_t>(n * cols * 2);
      made.parts.push_back(
          {"w", DType::bf16, n, Storage::borrow(at, bytes, std::make_shared<Storage>(whole))});
      at += bytes;
    }
    return made;
  }
  template <class Dims>
  Tensor made_up_of(DType dtype, const Dims& dims, int64_t elems, float mean, float spread) {
    storages_.push_back(allocate(static_cast<size_t>(elems * info(dtype).block_bytes)));
    cuda::fill_made_up(storages_.back().data(), dtype, elems, {++seed_, mean, spread}, stream_);
    return Tensor(storages_.back().data(), dtype, dims, kDevice);
  }
  Tensor made_up(DType dtype, std::initializer_list<int64_t> dims, float mean, float spread) {
    int64_t elems = 1;
    for (const int64_t d : dims) elems *= d;
    return made_up_of(dtype, dims, elems, mean, spread);
  }
  int blocks() const { return options_.most_keys() / kPageTokens; }
  Tensor cache() {
    return made_up(DType::bf16,
                   {int64_t{blocks()} * options_.tokens, shape_.kv_heads, kPageTokens, shape_.dim}, 0, 1);
  }
  template <class T>
  Tensor integers(const std::vector<T>& values, DType dtype, std::initializer_list<int64_t> dims) {
    storages_.push_back(allocate(values.size() * sizeof(T)));
    cuda::copy_async(storages_.back().data(), values.data(), values.size() * sizeof(T), stream_);
    stream_.synchronize();
    return Tensor(storages_.back().data(), dtype, dims, kDevice);
  }
  void set_sequences() {
    const int T = options_.tokens;
    std::vector<int32_t> q_start, kv_len, table;
    std::vector<int64_t> slots;
    for (int b = 0; b < T; ++b) {
      q_start.push_back(b);
      kv_len.push_back(options_.keys);
      for (int i = 0; i < blocks(); ++i) table.push_back(b * blocks() + i);
      slots.push_back(int64_t{b} * blocks() * kPageTokens + options_.keys - 1);
    }
    q_start.push_back(T);
    q_start_ = integers(q_start, DType::i32, {T + 1});
    kv_len_ = integers(kv_len, DType::i32, {T});
    table_ = integers(table, DType::i32, {T, blocks()});
    slots_ = integers(slots, DType::i64, {T});
  }

  const Shape& shape_;
  const Options& options_;
  const cuda::Stream& stream_;
  uint64_t seed_ = 0;
  std::vector<Storage> storages_;
  std::vector<Layer> layers_;
  quant::Weight head_;
  AttentionPlan plan_;
  Tensor gain_, start_, x_, q_, mixed_, hidden_, normed_, logits_, cos_sin_;
  Tensor q_start_, kv_len_, table_, slots_;
  PreparedNorm norm_;
};

class DecodeBench {
 public:
  explicit DecodeBench(const Options& options) : options_(options), device_(cuda::device_properties(0)) {
    caps_ = {.device = DeviceKind::cuda,
             .activation = DType::bf16,
             .device_index = 0,
             .arch = device_.arch(),
             .sm_count = device_.sm_count};
    if (const char* text = std::getenv("LLAMITA_KERNEL"); text != nullptr) forced_ = std::string(text) + ",";
    roof_ = cuda::measure_read_bandwidth(0);
    std::printf("%s, read roof %.0f GB/s, %d tokens, %d keys each\n", device_.name.c_str(), roof_ * 1e-9,
                options.tokens, options.keys);
  }

  bool run(const Shape& shape) {
    const Model model(shape, options_, stream_);
    bool right = true;
    if (options_.chain.empty()) time_whole(model);
    std::vector<float> first;
    for (const std::string& variant : options_.variants) {
      const std::string forced = forced_ + "linear=" + variant + ",attn_in=" + variant + ",mlp_in=" + variant;
      setenv("LLAMITA_KERNEL", variant.empty() ? forced_.c_str() : forced.c_str(), 1);
      Arena arena(cuda::allocate_storage(size_t{64} << 20, 0), kDevice);
      Context context(stream_, arena, caps_);
      if (first.empty()) first = after_two_layers(model, context, false);
      const std::vector<float> values = after_two_layers(model, context, options_.shared_norms);
      const double off = distance(first, values);
      const bool ok = off < 1e-4 && std::isfinite(values.front());
      right = right && ok;
      time(model, variant.empty() ? "the tables' choice" : variant, context);
      std::printf("    NMSE to the first variant with norms apart, after two layers, %.1e%s\n", off,
                  ok ? "" : "   WRONG");
      std::fflush(stdout);
    }
    return right;
  }

 private:
  static std::vector<float> after_two_layers(const Model& model, Context& context, bool shared_norms) {
    model.reset();
    for (const int layer : {0, 1}) model.run_layer(layer, context, shared_norms);
    return model.stream_values();
  }

  static double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
      norm += double{a[i]} * a[i];
    }
    return difference / norm;
  }

  double microseconds(const Model& model, int launches, const std::function<void(int)>& run) const {
    const TimedGraph graph(stream_, launches, run);
    std::vector<double> us;
    for (int i = 0; i < 15; ++i) {
      model.reset();
      const double one = graph.microseconds();
      if (i >= 4) us.push_back(one);
    }
    return median(us);
  }

  void row(const char* what, double us, double bytes) const {
    std::printf("  %-10s %8.2f us  %7.1f MB  %5.0f GB/s  %3.0f %% of the roof\n", what, us, bytes * 1e-6,
                bytes / us * 1e-3, 100 * bytes / us * 1e6 / roof_);
  }

  void time_whole(const Model& model) const {
    Arena arena(cuda::allocate_storage(size_t{64} << 20, 0), kDevice);
    Context context(stream_, arena, caps_);
    std::vector<DecoderLayer> layers;
    const DecoderLayersArgs args = model.all_layers(layers);
    if (!decoder_layers_fused(args, context)) return;
    const int count = model.shape().layers;
    const double us = microseconds(model, 1, [&](int) { decoder_layers(args, context); });
    const double head = microseconds(model, 4, [&](int) { model.run_head(context); });
    std::printf("%s, all layers as one kernel: layers and head %.1f us, %.0f steps/s\n", model.shape().name,
                us + head, 1e6 / (us + head));
    row("layer", us / count, model.layer_bytes());
  }

  void time(const Model& model, const std::string& variant, Context& context) const {
    const int layers = model.shape().layers;
    const double layer =
        microseconds(model, layers, [&](int i) { model.run_layer(i, context, options_.shared_norms); });
    const double head = microseconds(model, 4, [&](int) { model.run_head(context); });
    const double step = layer * layers + head;
    std::printf("%s, %s: layers and head %.1f us, %.0f steps/s\n", model.shape().name, variant.c_str(), step,
                1e6 / step);
    row("layer", layer, model.layer_bytes());
    for (const Model::Part part : Model::kParts)
      if (model.in_chain(part))
        row(Model::name(part),
            microseconds(model, layers, [&](int i) { model.run(part, i, context, options_.shared_norms); }),
            model.bytes(part));
    row("head", head, model.head_bytes());
  }

  const Options& options_;
  cuda::DeviceProperties device_;
  Caps caps_;
  cuda::Stream stream_;
  double roof_ = 0;
  std::string forced_;  // what LLAMITA_KERNEL says of other ops
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      options.shapes.push_back(word);
      continue;
    }
    if (++i == argc) return false;
    if (word == "--tokens") {
      options.tokens = std::atoi(argv[i]);
    } else if (word == "--keys") {
      options.keys = std::atoi(argv[i]);
    } else if (word == "--variants") {
      options.variants = split(argv[i]);
    } else if (word == "--chain") {
      options.chain = split(argv[i]);
    } else if (word == "--norms") {
      const std::string norms = argv[i];
      if (norms != "shared" && norms != "apart") return false;
      options.shared_norms = norms == "shared";
    } else {
      return false;
    }
  }
  return options.tokens > 0 && options.keys > 0 && options.keys <= 1 << 16;
}

int run(const Options& options) {
  for (const std::string& name : options.shapes)
    if (std::none_of(std::begin(kShapes), std::end(kShapes), [&](const Shape& s) { return s.name == name; }))
      throw Error(cat("there is no shape ", name));
  if (cuda::device_count() == 0) {
    std::printf("bench_decode: skipped, there is no NVIDIA GPU here\n");
    return 0;
  }
  bool right = true;
  DecodeBench bench(options);
  for (const Shape& shape : kShapes) {
    const bool wanted = options.shapes.empty() || std::find(options.shapes.begin(), options.shapes.end(),
                                                            shape.name) != options.shapes.end();
    if (wanted) right = bench.run(shape) && right;
  }
  return right ? 0 : 1;
}

}  // namespace
}  // namespace llamita::bench

int main(int argc, char** argv) {
  llamita::bench::Options options;
  if (!llamita::bench::parse(argc, argv, options)) {
    std::fprintf(
        stderr,
        "bench_decode [SHAPE ...] [--tokens T] [--keys N, at most 65536] [--variants gemv,skinny_sm90]\n"
        "  [--chain attn_in,out] [--norms shared|apart]\n");
    return 2;
  }
  try {
    return llamita::bench::run(options);
  } catch (const llamita::Error& error) {
    std::printf("bench_decode: %s\n", error.what());
    return 1;
  }
}
