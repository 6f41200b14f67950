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
  int scratch_pages = 0;    // behind the others, for the sequences that fill up a GPU's batch
  int images_per_pass = 0;  // of models that take images: most that the vision tower sees at once
  int image_slots = 0;      // images whose rows are kept
};

struct MemoryPlan {
  EngineShape shape;
  Caps caps;  // of the device that it is a plan for
  int64_t weight_bytes = 0;
  int64_t copied_bytes = 0;  // weights that will take memory of their own; 0 once they are loaded
  int64_t kv_bytes_per_token = 0;
  int64_t kv_bytes = 0;     // all pages
  int64_t image_bytes = 0;  // rows of images that are kept, those of a step, and a pass's pixels
  int64_t arena_bytes = 0;  // activations of the largest step; 0 until a model was there to measure
};

// The most tokens a sequence may have. Beyond the positions that the files name lie those that a rope scaling
// makes usable: `factor` times as many (linear, dynamic), or `factor` times the originally trained length
// (yarn, whose files may name either length).
int longest_context(const ModelConfig& model);

// Everything but the arena; a context of 0 becomes the positions that the files name, 32768 at most. Throws
// Error for options that make no sense, alone or for this model.
MemoryPlan plan_memory(const ModelConfig& model, const EngineConfig& config, int64_t weight_bytes,
                       const Caps& caps = {});

// The whole plan for a loaded model, arena included; sampling chooses among ids below `vocab_limit`. When
// config.context is 0 and what the model would get does not fit into `available` bytes, the context is cut to
// what does, with a warning. Throws Error when the rest does not fit. Nothing is known to be available: the
// plan is not held against anything.
MemoryPlan plan_memory(const Model& model, const EngineConfig& config, int32_t vocab_limit, const Caps& caps,
                       std::optional<int64_t> available);

// Cuts a context that nobody asked for (config.context and kv_bytes are 0) to the whole pages that fit into
// `available` bytes, and says whether it did: not when it fits as it is, and not below 512 tokens.
bool shrink_to_fit(MemoryPlan& plan, const EngineConfig& config, std::optional<int64_t> available);

// A cache that nobody gave a size (kv_bytes is 0): more pages, for up to batch_sequences sequences of
// `context` tokens, as far as nine tenths of `available` bytes allow on a GPU, which is there for this, and a
// quarter on a CPU, where a page takes memory when it is first written.
void grow_to_fit(MemoryPlan& plan, const EngineConfig& config, std::optional<int64_t> available);

// The most that measure_arena() finds for any step that `shape` allows: every size up to 8 tokens and every
// doubling, since kernels chosen for few tokens may want scratch that those for many do not; each with one
// sequence and with the most.
int64_t measure_largest_arena(const Model& model, const EngineShape& shape, int32_t vocab_limit,
                              const Caps& caps);

// Bytes of arena that a step of `tokens` tokens in `sequences` sequences needs at the most, with logits for
// `logit_rows` tokens and their sampling over `vocab_limit` token ids. Touches no weights.
int64_t measure_arena(const Model& model, const EngineShape& shape, int tokens, int sequences, int logit_rows,
                      int32_t vocab_limit, const Caps& caps);

// The same of a pass of `images` images through the model's vision tower.
int64_t measure_image_arena(const Model& model, int images, const Caps& caps);

// The cache's tensors without memory.
KvCache shape_only_cache(const ModelConfig& model, const EngineShape& shape);

// Throws Error, with all the numbers and the largest context that would fit, when the cache, the arena and
// the weights still to be copied do not fit into `available` bytes. Weights that stay in their mapped files
// need none: the system may drop and read their pages again.
void require_memory(const MemoryPlan& plan, std::optional<int64_t> available);

}  // namespace llamita
