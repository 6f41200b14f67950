#include "engine/compute_device.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "analysis/available_memory.h"
#include "base/cat.h"
#include "hw/cuda/device_properties.h"
#include "hw/cuda/memory.h"
#include "llamita/error.h"
#include "ops/linear/linear.h"

namespace llamita {

namespace {

constexpr int kLeastArch = 80;
// What the driver takes as kernels are first loaded and graphs are made.
constexpr int64_t kDriverBytes = int64_t{384} << 20;

DType activation_by_name(const std::string& name) {
  if (name == "bf16") return DType::bf16;
  if (name == "f16") return DType::f16;
  throw Error(cat("gpu_dtype must be bf16 or f16, not \"", name, "\""));
}

// N of "cuda:N", 0 of "cuda".
std::optional<int> parse_index(std::string_view device) {
  if (device == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  if (!device.starts_with(kPrefix)) return std::nullopt;
  device.remove_prefix(kPrefix.size());
  int index = -1;
  const auto [end, error] = std::from_chars(device.data(), device.data() + device.size(), index);
  if (error != std::errc() || end != device.data() + device.size() || index < 0) return std::nullopt;
  return index;
}

void require_card(const std::string& device, int index) {
  if (!cuda::built_in())
    throw Error(
        cat("device ", device,
            ": this build has no GPU part: take device cpu, or build one that has it: cmake --preset cuda && "
            "cmake --build build-cuda --target llamita"));
  const int count = cuda::device_count();
  if (count == 0)
    throw Error(
        cat("device ", device,
            ": no NVIDIA GPU can be used here: nvidia-smi must list one and CUDA_VISIBLE_DEVICES must not "
            "hide it, or take device cpu"));
  if (index >= count)
    throw Error(cat("device ", device, ": there ", count == 1 ? "is one GPU" : cat("are ", count, " GPUs"),
                    " here, the last is cuda:", count - 1));
  const cuda::DeviceProperties card = cuda::device_properties(index);
  if (card.arch() < kLeastArch)
    throw Error(cat("device ", device, ": ", card.name, " has compute capability ", card.major, ".",
                    card.minor, ", the kernels need 8.0 or newer: take device cpu"));
}

}  // namespace

Placement cpu_placement() {
  Placement placement;
  placement.layout = linear_cpu_layout();
  return placement;
}

Placement choose_placement(const EngineConfig& config) {
  check_forced_variants();
  const DType activation = activation_by_name(config.gpu_dtype);
  if (config.device == "cpu") return cpu_placement();
  if (config.device == "auto") {
    for (int index = 0; index < cuda::device_count(); ++index) {
      if (cuda::device_properties(index).arch() >= kLeastArch)
        return {Device{DeviceKind::cuda, index}, activation};
    }
    return cpu_placement();
  }
  const std::optional<int> index = parse_index(config.device);
  if (!index) throw Error(cat("device must be cpu, cuda, cuda:N or auto, not \"", config.device, "\""));
  require_card(config.device, *index);
  return {Device{DeviceKind::cuda, *index}, activation};
}

Caps caps_of(const Placement& placement, const ThreadPool& pool) {
  Caps caps{DeviceKind::cpu, cpu::detect_isa(), pool.threads()};
  if (!placement.on_gpu()) return caps;
  const cuda::DeviceProperties card = cuda::device_properties(placement.device.index);
  caps.device = DeviceKind::cuda;
  caps.activation = placement.activation;
  caps.device_index = placement.device.index;
  caps.arch = card.arch();
  caps.sm_count = card.sm_count;
  return caps;
}

std::optional<int64_t> available_memory_of(const Placement& placement) {
  if (!placement.on_gpu()) return available_memory();
  const auto free_bytes = static_cast<int64_t>(cuda::memory_info(placement.device.index).free_bytes);
  return std::max<int64_t>(free_bytes - kDriverBytes, 0);
}

void require_room(const TensorFiles& files, const EngineConfig& config, const Placement& placement) {
  const ModelSize size = measure_model(files, placement);
  Caps caps;
  caps.device = placement.device.kind;
  caps.activation = placement.activation;
  MemoryPlan plan = plan_memory(size.config, config, size.weight_bytes, caps);
  plan.copied_bytes = size.copied_bytes;
  const auto available = available_memory_of(placement);
  shrink_to_fit(plan, config, available);
  require_memory(plan, available);
}

MemoryPlan plan_steps(const Model& model, const EngineConfig& config, int32_t vocab_limit,
                      const ThreadPool& pool) {
  return plan_memory(model, config, vocab_limit, caps_of(model.placement(), pool),
                     available_memory_of(model.placement()));
}

}  // namespace llamita
