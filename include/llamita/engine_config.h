// How a model is loaded and run.
#pragma once

#include <cstdint>
#include <string>

namespace llamita {

struct EngineConfig {
  std::string device = "auto";   // "cpu" or "auto", which is the CPU in this build
  int threads = 0;               // CPU threads; 0: as many as this process may use
  int context = 0;               // longest sequence in tokens; 0: the model's own, cut to 32768 and to memory
  std::string kv_dtype = "f16";  // "f32", "f16" or "bf16"
  int batch_tokens = 512;        // most tokens of one step: longer prompts are prefilled in chunks
  int batch_sequences = 64;      // most sequences of one step
  int queue_requests = 256;      // most requests that wait (AsyncEngine)
  int64_t kv_bytes = 0;          // memory for keys and values; 0: enough for one sequence of `context` tokens
};

}  // namespace llamita
