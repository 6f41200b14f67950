// Answers one question with a model: hello <model folder or .gguf file> [question]
#include <cstdio>
#include <iostream>
#include <string>

#include "llamita/llm.h"

int main(int argc, char** argv) {
  if (argc < 2) return std::puts("usage: hello <model folder or .gguf file> [question]"), 2;
  try {
    llamita::LLM llm = llamita::LLM::load(argv[1]);
    const std::string question = argc > 2 ? argv[2] : "Why is the sky blue?";
    llamita::Request request;
    if (llm.info().has_chat_template) {
      request.prompt = llamita::Conversation{{"user", question}};
    } else {
      request.prompt = question;
    }
    request.sampling.max_tokens = 100;
    const auto done =
        llm.generate({request}, [](const llamita::Delta& delta) { std::cout << delta.text << std::flush; });
    std::cout << "\n";
    if (done[0].choices[0].error.empty()) return 0;
    std::cerr << done[0].choices[0].error << "\n";
  } catch (const llamita::Error& error) {
    std::cerr << error.what() << "\n";
  }
  return 1;
}
