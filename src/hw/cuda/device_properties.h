// What a card is: the figures that tile choices and cost models divide by. Read from the device, never
// assumed.
#pragma once

#include <cstddef>
#include <string>

namespace llamita::cuda {

struct DeviceProperties {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int sm_count = 0;
  size_t l2_bytes = 0;
  size_t smem_per_block = 0;  // dynamic shared memory a block may ask for
  size_t memory_bytes = 0;
  // Dense bf16 products, from the multiprocessors and their highest clock, which
  // no card holds under such a load: datasheets say some 8 % less.
  double bf16_flops_per_second = 0;

  int arch() const { return major * 10 + minor; }  // 80, 90, 100
  // Code of the sm_90a objects (wgmma, setmaxnreg) runs on exactly this compute capability.
  bool runs_sm90a() const { return major == 9 && minor == 0; }
};

// Whether this build has a GPU part. Without one device_count() is 0 and everything else that is declared
// here and in stream.h, memory.h and graph.h throws Error.
bool built_in();

// Cards this process can use; 0 without a driver or a card, never an error.
int device_count();

// Throws Error when there is no such card.
DeviceProperties device_properties(int device);

}  // namespace llamita::cuda
