// Counters of blocks that have finished their split, for the kernels whose last block combines. They live
// with the kernels, because they must be zero when a program starts and every kernel leaves them zero; each
// stream has its own, because two streams may be in attention at once.
#pragma once

#include "ops/context.h"

namespace llamita {

inline constexpr int64_t kAttentionTickets = 8192;  // of a stream
inline constexpr int kTicketStreams = 16;

// Device memory, kAttentionTickets zeros for the context's stream. Throws Error beyond kTicketStreams
// streams of this process.
unsigned* attention_tickets(const Context& context);

}  // namespace llamita
