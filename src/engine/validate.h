// What a request may ask for. Everything that reaches the step loop was checked here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/prepared_image.h"
#include "llamita/sampling_params.h"

namespace llamita {

inline constexpr int kMaxChoices = 128;  // of one request

// Throws Error that names the option, its bounds and what came. Token ids must be below `vocab_size`.
void validate(const SamplingParams& params, int32_t vocab_size);

// Throws RequestError when a prompt of so many tokens leaves no room for one token of reply.
void validate_length(size_t tokens, int context);

// Throws Error when the prompt has an id outside its images that is not in 0 .. vocab_size - 1, and
// RequestError when it is empty or too long for a context of `context` tokens.
void validate_prompt(std::span<const int32_t> prompt, std::span<const ImageSpan> images, int32_t vocab_size,
                     int context);

}  // namespace llamita
