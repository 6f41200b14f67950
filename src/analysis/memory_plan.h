// MemoryPlan: how many bytes a model will take, before they are taken. The parts are exact: weights as they
// lie in memory, the cache's tensors, and the arena from a dry run of the real forward() on shape-only
// tensors.
#pragma once

#include <cstdint>
#include <optional>

#include "llamita/engine_config.h"
#include "models/model.h"

namespace llamita {

// The size of steps and of the cache: EngineConfig with the model's numbers in place of its zeros.
struct EngineShape {
  int context = 0;   // longest sequence, tokens
  int kv_pages = 0;  // of kPageTokens tokens each
  KvFormat kv_format;
  int batch_tokens = 0;
  int batch_sequences = 0;  // at most batch_tokens
};

struct MemoryPlan {
  EngineShape shape;
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t kv_bytes = 0;     // all pages
  int64_t arena_bytes = 0;  // activations of the largest step; 0 until a model was there to measure
};

// The most tokens a sequence may have. Beyond the positions that the files name lie those that a rope scaling
// makes usable: `factor` times as many (linear, dynamic), or `factor` times the originally trained length
// (yarn, whose files may name either length).
int longest_context(const ModelConfig& model);

// Everything but the arena; a context of 0 becomes the positions that the files name, 32768 at most. Throws
// Error for options that make no sense, alone or for this model.
MemoryPlan plan_memory(const ModelConfig& model, const EngineConfig& config, int64_t weight_bytes);

// Bytes of arena that a step of `tokens` tokens in `sequences` sequences needs at the most, with logits for
// `logit_rows` tokens and their sampling over `vocab_limit` token ids. Touches no weights.
int64_t measure_arena(const Model& model, const EngineShape& shape, int tokens, int sequences, int logit_rows,
                      int32_t vocab_limit, const Caps& caps);

// The cache's tensors without memory.
KvCache shape_only_cache(const ModelConfig& model, const EngineShape& shape);

// Throws Error, with all the numbers and the largest context that would fit, when the cache and the arena
// (weights are loaded already, or counted by the caller) do not fit into `available` bytes.
void require_memory(const MemoryPlan& plan, std::optional<int64_t> available);

}  // namespace llamita
