// Any body is a request within the limits or an ApiError that names what is wrong in valid JSON; what the
// tool-call parsers make of text does not depend on how it is cut.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "server/api/api_error.h"
#include "server/api/generation_request.h"

namespace {

using namespace llamita;
using namespace llamita::server;

void check_request(const GenerationRequest& request, const ApiLimits& limits) {
  LLAMITA_CHECK(request.n >= 1 && request.n <= limits.choices, "n is out of its range");
  LLAMITA_CHECK(!request.requests.empty() && request.requests.size() <= static_cast<size_t>(limits.prompts),
                "the number of prompts is out of its range");
  const SamplingParams& params = request.requests[0].sampling;
  LLAMITA_CHECK(params.temperature >= 0 && params.temperature <= 2, "temperature is out of its range");
  LLAMITA_CHECK(params.top_p > 0 && params.top_p <= 1, "top_p is out of its range");
  LLAMITA_CHECK(params.stop.size() <= static_cast<size_t>(limits.stops), "there are too many stops");
  if (request.tools.forced) Json::parse(params.constraint.text, "schema");
}

std::string calls(std::string_view text, size_t piece, ToolFormat format) {
  const auto parser = make_tool_call_parser(format, true);
  std::string content, out;
  const auto add = [&](const ParsedDelta& delta) {
    content += delta.content;
    for (const ToolCallDelta& call : delta.calls)
      out += (call.name.empty() ? "" : "\n" + call.name + "\n") + call.arguments;
  };
  for (size_t at = 0; at < text.size(); at += piece) add(parser->push(text.substr(at, piece)));
  add(parser->finish());
  return content + "\n" + out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  ParseContext context;
  context.lenient = (data[0] & 4) != 0;
  context.takes_images = (data[0] & 8) != 0;
  for (const auto parse : {parse_chat, parse_completion, parse_embedding}) {
    try {
      check_request(parse(text, context), context.limits);
    } catch (const ApiError& error) {
      LLAMITA_CHECK(error.status == 400, "a body's fault is a 400");
      Json::parse(error_body(error).dump(), "error");
    }
  }
  const ToolFormat format = (data[0] & 1) != 0 ? ToolFormat::llama3 : ToolFormat::hermes;
  LLAMITA_CHECK(calls(text, text.size(), format) == calls(text, 1 + data[0] % 7, format),
                "the cut changed the calls");
  return 0;
}
