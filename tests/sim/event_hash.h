// A hash over all that happens in a simulation, in its order: two runs of a seed that differ anywhere differ
// here. FNV-1a, 64 bits, by whole words.
#pragma once

#include <cstdint>

namespace llamita::sim {

class EventHash {
 public:
  template <class... Words>
  void add(Words... words) {
    ((hash_ = (hash_ ^ static_cast<uint64_t>(words)) * 0x100000001b3ull), ...);
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325ull;
};

}  // namespace llamita::sim
