// How much memory this process could still get.
#pragma once

#include <cstdint>
#include <optional>

namespace llamita {

// The smaller of what the kernel calls available (MemAvailable) and what the process's cgroup still allows;
// page cache that can be dropped counts as available in both. Nothing when the system does not say.
std::optional<int64_t> available_memory();

}  // namespace llamita
