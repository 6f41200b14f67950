// What one client may cost the server. Every limit is a flag of `llamita serve` with this default;
// --max-body-bytes sets both `body_bytes` and `image_body_bytes`.
#pragma once

#include <chrono>
#include <cstddef>

namespace llamita::server {

struct HttpLimits {
  size_t header_bytes = 16 << 10;  // request line and headers
  int header_lines = 64;
  size_t body_bytes = 8 << 20;
  size_t image_body_bytes = 32 << 20;  // instead, where the model takes images: they come inside the body
  // Of all bodies that arrive, wait to be parsed or hold images that wait to be decoded; beyond it 503.
  size_t bodies_bytes = 256 << 20;
  int connections = 512;  // one more is told 503 and closed

  std::chrono::milliseconds header_timeout{10'000};  // from the first byte of a request to its last header
  std::chrono::milliseconds body_timeout{30'000};    // from there to the last byte of the body
  std::chrono::milliseconds idle_timeout{60'000};    // between requests, and before the first

  // A reader that takes nothing for `write_timeout`, or leaves more than `write_queue_bytes` of a stream
  // (beside its largest piece) unread, is dropped.
  std::chrono::milliseconds write_timeout{30'000};
  size_t write_queue_bytes = 256 << 10;
  int send_buffer_bytes = 0;  // of the kernel, per connection; 0: the system's choice
};

}  // namespace llamita::server
