// Answers one question with a model: hello <model folder or .gguf file> [question]
#include <iostream>

#include "llamita/llm.h"

int main(int argc, char** argv) try {
  if (argc < 2) throw llamita::Error("usage: hello <model folder or .gguf file> [question]");
  llamita::LLM llm = llamita::LLM::load(argv[1]);
  llamita::Request request;
  request.prompt = llamita::Conversation{{"user", argc > 2 ? argv[2] : "Why is the sky blue?"}};
  request.sampling.max_tokens = 100;
  const auto show = [](const llamita::Delta& delta) { std::cout << delta.text << std::flush; };
  const llamita::Choice choice = llm.generate({request}, show)[0].choices[0];
  if (!choice.error.empty()) throw llamita::Error(choice.error);
  std::cout << "\n";
} catch (const llamita::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
