#!/usr/bin/env bash
# How many compilers to run at once: the cores this process may use (affinity and cgroup quota), and no more than
# the memory carries at 1.5 GB each.
set -euo pipefail
jobs=$(nproc)
if [[ -r /sys/fs/cgroup/cpu.max ]]; then
  read -r quota period </sys/fs/cgroup/cpu.max
  if [[ $quota != max ]]; then
    quota_cores=$(((quota + period - 1) / period))
    if ((quota_cores < jobs)); then jobs=$quota_cores; fi
  fi
fi
memory_kb=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
by_memory=$((${memory_kb:-1500000} / 1500000))
if ((by_memory < jobs)); then jobs=$by_memory; fi
if ((jobs < 1)); then jobs=1; fi
echo "$jobs"
