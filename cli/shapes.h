// The shapes of known models, to be measured with made-up weights where their files are not.
#pragma once

#include <string>

#include "formats/json.h"

namespace llamita::cli {

// The config.json of a shape such as "llama-3.2-1b". Throws Error that lists all when there is none.
Json config_of_shape(const std::string& name);
// "llama-3.2-1b, llama-3.2-3b, …"
std::string shape_names();

}  // namespace llamita::cli
