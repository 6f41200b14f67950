#include "cli/greeting.h"

#include "base/cat.h"
#include "cli/numbers.h"
#include "cli/resolve_model.h"
#include "hub/known_models.h"

namespace llamita::cli {

std::string greeting(const ModelInfo& info, const std::string& model, const Paint& paint) {
  std::string text =
      cat(paint.bold(display_name(model)), ": ", human_count(static_cast<double>(info.parameters)),
          " parameters, weights ", human_bytes(static_cast<double>(info.weight_bytes)), ", context ",
          info.context, " tokens\n");
  const std::string_view name = model.empty() ? kDefaultModel : std::string_view(model);
  if (hub::find_known_model(name) == hub::find_known_model(kDefaultModel)) {
    text +=
        "This is a 135M demonstration model: quick, and often wrong. A better one (6 GB, downloaded once):\n"
        "    llamita chat Qwen/Qwen2.5-3B-Instruct\n";
  }
  return text + paint.dim("/help lists the commands, Ctrl-C stops a reply, /quit leaves.") + "\n\n";
}

}  // namespace llamita::cli
