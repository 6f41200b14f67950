#include "ops/attention/cuda_tickets.h"

#include <array>
#include <mutex>

#include "base/cat.h"
#include "hw/cuda/check.h"
#include "hw/cuda/stream.h"
#include "llamita/error.h"

namespace llamita {

namespace {

__device__ unsigned all_tickets[kTicketStreams][kAttentionTickets];

struct Streams {
  std::mutex mutex;
  std::array<cudaStream_t, kTicketStreams> seen{};
};

}  // namespace

unsigned* attention_tickets(const Context& context) {
  static Streams streams;
  const cudaStream_t stream = context.stream().get();
  const std::lock_guard lock(streams.mutex);
  for (int i = 0; i < kTicketStreams; ++i) {
    if (streams.seen[i] == nullptr) streams.seen[i] = stream;
    if (streams.seen[i] != stream) continue;
    void* address = nullptr;
    LLAMITA_CUDA_CHECK(cudaGetSymbolAddress(&address, all_tickets));
    return static_cast<unsigned*>(address) + i * kAttentionTickets;
  }
  throw Error(cat("attention runs on more than ", kTicketStreams, " CUDA streams: use fewer"));
}

}  // namespace llamita
