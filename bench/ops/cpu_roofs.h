// What this machine's cores can do at the most, measured: the roofs that the benchmarks of ops divide by.
#pragma once

namespace llamita::bench {

struct CpuRoofs {              // a second, of all threads together
  double read_bytes = 0;       // from DRAM
  double f32_flops = 0;        // multiply-adds, two each
  double bf16_flops = 0;       // the same with vdpbf16ps; f32_flops where there is none
  double int8_operations = 0;  // vpdpbusd, or vpmaddubsw and vpaddw: two a product
};

// Measured once for each number of threads; some tenths of a second.
const CpuRoofs& cpu_roofs(int threads);

}  // namespace llamita::bench
