// The document of the API (openapi.json, compiled in) as this server keeps it: with its version, its flags'
// values and its model's names and vocabulary. tests/server/openapi_test.cc holds it to what the parsers
// take.
#pragma once

#include <string>
#include <vector>

#include "formats/json.h"
#include "server/api/generation_request.h"

namespace llamita::server {

struct OpenApiFacts {
  std::string version;
  ApiLimits limits;
  std::vector<std::string> model_names;
  int vocab_size = 0;  // 0: no model yet
  bool keys = false;   // API keys are asked for
};

// As it stands in the source.
Json openapi_template();
Json openapi_document(const OpenApiFacts& facts);

}  // namespace llamita::server
