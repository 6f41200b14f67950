// How a model is loaded and run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace llamita {

struct EngineConfig {
  std::string device = "auto";     // "cpu", "cuda", "cuda:N", or "auto": the first GPU where there is one
  std::string gpu_dtype = "bf16";  // of activations on a GPU: "bf16" or "f16"
  // A folder where the packed form that the CPU makes of the weights is kept, about their size again, so that
  // the next start finds it there; it is made if it is missing. "": weights are packed at every start.
  std::string packed_cache;
  int threads = 0;  // CPU threads; 0: as many as this process may use
  // Whether CPU threads keep to a core each: "on", "off", or "auto": where there are as many threads as cores
  // this process may use, as long as no other process takes them.
  std::string pin = "auto";
  int context = 0;  // longest sequence in tokens; 0: the model's own, cut to 32768 and to memory
  // Keys and values in memory: "f32", "f16", "bf16", on the CPU also "int8" (half the bytes of f16, and a
  // scale for each token and head), or "auto": f16 on the CPU, gpu_dtype on a GPU.
  std::string kv_dtype = "auto";
  // Most tokens of one step: longer prompts are prefilled in chunks. 0: 512 on the CPU; 2048 on a GPU, whose
  // matrix units want as many.
  int batch_tokens = 0;
  int batch_sequences = 64;  // most sequences of one step
  int queue_requests = 256;  // most requests that wait (AsyncEngine)
  int64_t queue_tokens = 0;  // most prompt tokens that wait; 0: four times what the KV cache holds
  // Memory for keys and values; 0: enough for one sequence of `context` tokens, and for batch_sequences of
  // them as far as a quarter of what is free allows, nine tenths on a GPU. On the CPU it is taken as it is
  // first written.
  int64_t kv_bytes = 0;
  // 2: the next step is prepared and sent while one runs, and replies hear of a token one step late; 1: each
  // step is waited for; 0: 2 on a GPU, 1 on the CPU, which gains nothing. The tokens are the same.
  int steps_under_way = 0;
  // What the engine takes: of one image, pixels in all and of a side; bytes of a chat template, at most 2^20;
  // and of the schemas that are looked at, merged ones included, while one is compiled, at most 2^23.
  int64_t image_pixels = int64_t{1} << 24;
  int image_side = 8192;
  size_t template_bytes = size_t{1} << 20;
  size_t schema_work = size_t{8} << 20;
  // Of the hashes that prefixes are found by; default: a random one. Whoever knows it could make prompts
  // whose hashes collide, which costs time and nothing else: to replay a simulation exactly.
  std::optional<uint64_t> prefix_hash_seed;
  // "fail:N" or "lost:N": the N-th step fails, or finds the device lost, to see what becomes of it all; "":
  // none does.
  std::string fault;
};

}  // namespace llamita
