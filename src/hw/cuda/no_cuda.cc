// hw/cuda in a build without the GPU part: no card is ever found, so nothing but a mistake of ours reaches
// the rest. Compiled in place of all other files of this folder.
#include "hw/cuda/device_properties.h"
#include "hw/cuda/graph.h"
#include "hw/cuda/made_up.h"
#include "hw/cuda/measure.h"
#include "hw/cuda/memory.h"
#include "hw/cuda/stream.h"
#include "llamita/error.h"

namespace llamita::cuda {

namespace {

[[noreturn]] void no_gpu_part() {
  throw Error("this build has no GPU part: cmake --preset cuda && cmake --build build-cuda --target llamita");
}

}  // namespace

bool built_in() { return false; }
int device_count() { return 0; }
DeviceProperties device_properties(int) { no_gpu_part(); }

Event::Event(bool) { no_gpu_part(); }
Event::~Event() = default;
void Event::synchronize() const { no_gpu_part(); }
bool Event::done() const { no_gpu_part(); }
float elapsed_ms(const Event&, const Event&) { no_gpu_part(); }

Stream::Stream() { no_gpu_part(); }
Stream::~Stream() = default;
void Stream::synchronize() const { no_gpu_part(); }
void Stream::record(const Event&) const { no_gpu_part(); }
void Stream::wait(const Event&) const { no_gpu_part(); }

Graph Graph::capture(const Stream&, const std::function<void()>&) { no_gpu_part(); }
Graph::~Graph() = default;
void Graph::launch(const Stream&) const { no_gpu_part(); }

Storage allocate_storage(size_t, int) { no_gpu_part(); }
Storage allocate_pinned(size_t) { no_gpu_part(); }
int64_t allocations() { return 0; }
void copy_async(void*, const void*, size_t, const Stream&) { no_gpu_part(); }
void fill_async(void*, int, size_t, const Stream&) { no_gpu_part(); }
MemoryInfo memory_info(int) { no_gpu_part(); }
DeviceGuard::DeviceGuard(int) { no_gpu_part(); }
DeviceGuard::~DeviceGuard() = default;

void fill_made_up(void*, DType, int64_t, const MadeUp&, const Stream&) { no_gpu_part(); }
double measure_read_bandwidth(int) { no_gpu_part(); }

}  // namespace llamita::cuda
