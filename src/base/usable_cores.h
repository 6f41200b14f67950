// What affinity and the cgroup this process lives in leave it of the machine's CPUs.
#pragma once

#include <string>
#include <vector>

namespace llamita {

// The CPUs that the calling thread may run on, ascending; empty when the system does not say.
std::vector<int> allowed_cpus();

// The smallest CPU quota on the way from the process's cgroup up to the root, in cores, rounded up; 0 when
// there is none. `proc_self_cgroup` is the text of /proc/self/cgroup, `mount` the folder the cgroup trees are
// mounted in (/sys/fs/cgroup). Knows cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us).
int cgroup_core_limit(const std::string& proc_self_cgroup, const std::string& mount);

}  // namespace llamita
