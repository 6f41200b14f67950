// Renders one chat template, for the scripts that compare with Jinja2:
//   render_template TEMPLATE [--marks] < input.json     input: {"messages", "tools", "options": {…}}
//   render_template --lines < lines.jsonl               each line {"template", "input"}; answers one JSON a
//   line
// --marks shows trusted text plain and untrusted text inside ⟦…⟧.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "base/mapped_file.h"
#include "formats/json.h"
#include "llamita/error.h"
#include "text/chat_template.h"

namespace {

using llamita::ChatTemplate;
using llamita::Json;

ChatTemplate::Options options_of(const Json& input) {
  ChatTemplate::Options out;
  if (const Json* tools = input.find("tools")) out.tools = *tools;
  const Json* given = input.find("options");
  if (!given) return out;
  for (const auto& [name, value] : given->as_object("options")) {
    if (name == "add_generation_prompt")
      out.add_generation_prompt = value.as_bool(name);
    else if (name == "bos_token")
      out.bos_token = value.as_string(name);
    else if (name == "eos_token")
      out.eos_token = value.as_string(name);
    else if (name == "now")
      out.now = value.as_int(name);
    else
      out.extra.emplace_back(name, value);
  }
  return out;
}

std::string render(std::string_view source, const Json& input, bool marks) {
  const Json* messages = input.find("messages");
  std::string out;
  for (const auto& piece : ChatTemplate(source).render(messages ? *messages : Json(), options_of(input))) {
    out += marks && !piece.trusted ? "⟦" + piece.text + "⟧" : piece.text;
  }
  return out;
}

void answer_lines() {
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = Json::parse(line, "standard input");
    Json::Object answer;
    try {
      const Json* input = request.find("input");
      const std::string& source = request.find("template")->as_string("template");
      answer.emplace_back("output", Json(render(source, input ? *input : Json(), false)));
    } catch (const llamita::Error& error) {
      answer.emplace_back("error", Json(std::string(error.what())));
    }
    std::cout << Json(std::move(answer)).dump() << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 2 && std::string(argv[1]) == "--lines") {
      answer_lines();
      return 0;
    }
    const bool marks = argc == 3 && std::string(argv[2]) == "--marks";
    if (argc != 2 && !marks) {
      std::cerr << "usage: render_template TEMPLATE [--marks] < input.json\n";
      return 2;
    }
    const llamita::MappedFile file(argv[1]);
    const std::string input{std::istreambuf_iterator<char>(std::cin), {}};
    const auto bytes = file.bytes();
    const std::string_view source(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::cout << render(source, Json::parse(input, "standard input"), marks);
  } catch (const llamita::Error& error) {
    std::cerr << "render_template: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
