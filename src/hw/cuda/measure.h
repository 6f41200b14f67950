// The limit that decoding runs into, measured on the card at hand.
#pragma once

namespace llamita::cuda {

// Bytes a second that one kernel reads from memory far larger than the second cache level: the best of
// several passes. Takes about 50 ms and, for a moment, up to 2 GiB (a quarter of what is free, if that is
// less).
double measure_read_bandwidth(int device);

}  // namespace llamita::cuda
