// ChatSession: one conversation with a loaded model, its settings, and the slash commands that change them.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/output.h"
#include "llamita/llm.h"

namespace llamita::cli {

class ChatSession {
 public:
  // Borrows the model. `system` may be empty.
  ChatSession(LLM& llm, SamplingParams sampling, const std::string& system);

  // Asks and streams the reply to standard output; Ctrl-C ends the reply, not the program. What was said
  // stays in the conversation, also when it was cut. Throws Error when the model cannot answer; the
  // conversation and the pictures that were attached are then as they were before.
  void ask(const std::string& prompt);
  // The next question is about this picture too. Throws Error when the model takes none.
  void attach(Picture picture);
  // The same for the last question again, with another seed.
  void regenerate();

  // Runs "/name argument". Returns false when the chat is to end. Throws Error.
  bool run_command(const std::string& line);

  const Conversation& conversation() const { return conversation_; }

 private:
  struct Command;
  static const std::vector<Command>& commands();

  void answer(uint64_t attempt);
  void clear();
  std::string drop_attached();  // a sentence that says so; "" when there was none
  void print_help() const;
  void change_system(const std::string& text);
  void set(const std::string& argument);
  void save(const std::string& path) const;
  void load(const std::string& path);
  void print_stats() const;

  LLM& llm_;
  const SamplingParams first_sampling_;
  SamplingParams sampling_;
  Conversation conversation_;
  std::vector<Picture> attached_;  // to the next question
  uint64_t attempt_ = 0;           // of the last question
  std::optional<Completion> last_;
};

}  // namespace llamita::cli
