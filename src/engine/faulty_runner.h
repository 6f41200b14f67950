// A StepRunner whose device fails at a step of one's choice, without a card that does: to see what becomes of
// the requests, of the server, and of what should start it again. docs/serving.md has it as LLAMITA_FAULT.
#pragma once

#include <memory>
#include <string_view>

#include "engine/step_runner.h"

namespace llamita {

// `fault`: "fail:N", the N-th step throws Error and the next ones work; "lost:N", it and all later ones throw
// DeviceLostError, as after an illegal access on a GPU. As there, a step fails where its tokens are waited
// for. Throws Error for anything else.
std::unique_ptr<StepRunner> with_fault(std::unique_ptr<StepRunner> runner, std::string_view fault);

}  // namespace llamita
