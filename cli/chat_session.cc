#include "cli/chat_session.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/cat.h"
#include "cli/conversation_file.h"
#include "cli/interrupt.h"
#include "cli/numbers.h"
#include "cli/pictures.h"
#include "cli/settings.h"

namespace llamita::cli {

namespace {

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// A file name as it was typed, with ~ and quotes as shells have them.
std::string file_argument(const std::string& argument, const char* command,
                          const char* example = "llama.json") {
  if (argument.empty()) throw Error(cat(command, " needs a file name: ", command, " ", example));
  const char quote = argument.front();
  if (argument.size() > 2 && (quote == '"' || quote == '\'') && argument.back() == quote)
    return argument.substr(1, argument.size() - 2);
  const char* home = std::getenv("HOME");
  return home != nullptr && argument.rfind("~/", 0) == 0 ? cat(home, argument.substr(1)) : argument;
}

void say(const std::string& text) { print(stdout_paint().dim(text) + "\n"); }

std::string counted_pictures(size_t count) { return cat(count, count == 1 ? " picture" : " pictures"); }

std::string speed(int tokens, double seconds) {
  return seconds > 0 ? cat(fixed(tokens / seconds, 1), " tokens/s") : std::string("-");
}

}  // namespace

struct ChatSession::Command {
  const char* name;
  const char* argument;
  const char* help;
  std::function<bool(ChatSession&, const std::string& argument)> run;  // false: end the chat
};

const std::vector<ChatSession::Command>& ChatSession::commands() {
  using Session = ChatSession;
  using Text = const std::string;
  static const std::vector<Command> table = {
      {"/help", "", "this list", [](Session& chat, Text&) { return chat.print_help(), true; }},
      {"/regen", "", "answer the last question again",
       [](Session& chat, Text&) { return chat.regenerate(), true; }},
      {"/clear", "", "forget the conversation, keep the system message",
       [](Session& chat, Text&) { return chat.clear(), true; }},
      {"/system", "[TEXT]", "tell the model what to be; without TEXT shows it; 'none' removes it",
       [](Session& chat, Text& text) { return chat.change_system(text), true; }},
      {"/image", "FILE", "ask the next question about this picture (PNG, JPEG, WebP)",
       [](Session& chat, Text& text) {
         chat.attach(read_picture(file_argument(text, "/image", "llama.jpg")));
         return say(cat("The next question is about ", counted_pictures(chat.attached_.size()), ".")), true;
       }},
      {"/set", "[NAME VALUE]", "change a setting ('default' brings it back); alone it lists them",
       [](Session& chat, Text& text) { return chat.set(text), true; }},
      {"/save", "FILE", "write the conversation to FILE as JSON",
       [](Session& chat, Text& text) { return chat.save(file_argument(text, "/save")), true; }},
      {"/load", "FILE", "go on with a saved conversation",
       [](Session& chat, Text& text) { return chat.load(file_argument(text, "/load")), true; }},
      {"/stats", "", "tokens and speed of the last reply",
       [](Session& chat, Text&) { return chat.print_stats(), true; }},
      {"/quit", "", "leave (also Ctrl-D)", [](Session&, Text&) { return false; }},
  };
  return table;
}

ChatSession::ChatSession(LLM& llm, SamplingParams sampling, const std::string& system)
    : llm_(llm), first_sampling_(sampling), sampling_(std::move(sampling)) {
  if (!system.empty()) conversation_.push_back({"system", to_utf8(system)});
}

void ChatSession::ask(const std::string& prompt) {
  Message question{"user", to_utf8(prompt)};
  question.pictures = std::exchange(attached_, {});
  conversation_.push_back(std::move(question));
  const auto take_back = [this] {
    attached_ = std::move(conversation_.back().pictures);
    conversation_.pop_back();
  };
  try {
    answer(0);
  } catch (const Error& error) {
    take_back();
    if (attached_.empty()) throw;
    throw Error(
        cat(error.what(), " (", counted_pictures(attached_.size()), " attached to the next question)"));
  } catch (...) {
    take_back();
    throw;
  }
}

void ChatSession::attach(Picture picture) {
  if (llm_.info().image_tokens == 0) throw Error(cat(llm_.info().name, " takes no images"));
  attached_.push_back(std::move(picture));
}

std::string ChatSession::drop_attached() {
  const size_t pictures = std::exchange(attached_, {}).size();
  return pictures == 0 ? "" : cat(" What was attached (", counted_pictures(pictures), ") is dropped.");
}

void ChatSession::clear() {
  const bool system = !conversation_.empty() && conversation_[0].role == "system";
  conversation_.resize(system ? 1 : 0);
  say(cat("The conversation is forgotten.", drop_attached()));
}

void ChatSession::regenerate() {
  if (conversation_.empty() || conversation_.back().role != "assistant") {
    throw Error("there is no reply yet to give again");
  }
  const Message previous = conversation_.back();
  conversation_.pop_back();
  try {
    answer(attempt_ + 1);
  } catch (...) {
    conversation_.push_back(previous);
    throw;
  }
}

void ChatSession::answer(uint64_t attempt) {
  Request request{conversation_, sampling_};
  if (request.sampling.seed) *request.sampling.seed += attempt;
  TerminalFilter filter;
  const bool terminal = stdout_is_terminal();
  const InterruptScope interrupt;
  const auto stream = [&](const Delta& delta) {
    print(terminal ? filter.push(delta.text) : delta.text);
    flush_output();
  };
  Completion completion = llm_.generate({request}, stream, interrupt.token()).at(0);
  const Choice& choice = completion.choices.at(0);
  if (choice.finish == FinishReason::error) {
    const bool too_long = choice.error_code == kContextLengthExceeded;
    throw Error(cat(choice.error, too_long ? "; /clear begins a new conversation" : ""));
  }
  if (choice.text.empty() || choice.text.back() != '\n') print("\n");
  if (choice.finish == FinishReason::cancelled) {
    say("[stopped]");
  } else if (choice.finish == FinishReason::length) {
    const int used = completion.prompt_tokens + completion.completion_tokens;
    const std::string why = used >= llm_.info().context
                                ? "the context is full: /clear begins a new conversation"
                                : "/set max_tokens N, or --max-tokens N at the start, allows a longer one";
    if (terminal) {
      say(cat("[the reply was cut: ", why, "]"));
    } else {
      std::fputs(cat("llamita: the reply was cut: ", why, "\n").c_str(), stderr);
    }
  }
  conversation_.push_back({"assistant", choice.text});
  attempt_ = attempt;
  last_ = std::move(completion);
}

bool ChatSession::run_command(const std::string& line) {
  const size_t space = std::min(line.find_first_of(" \t"), line.size());
  const std::string name = line.substr(0, space);
  for (const Command& command : commands()) {
    if (name == command.name) return command.run(*this, trimmed(line.substr(space)));
  }
  throw Error(cat("there is no command ", name, "; /help lists them"));
}

void ChatSession::print_help() const {
  std::string text;
  for (const Command& command : commands()) {
    std::string left = cat("  ", command.name, " ", command.argument);
    left.resize(std::max<size_t>(left.size() + 1, 24), ' ');
    text += cat(left, command.help, "\n");
  }
  print(text +
        "  \"\"\"                   begins and ends a text of several lines\n"
        "  Ctrl-C                stops the reply\n");
}

void ChatSession::change_system(const std::string& text) {
  const bool present = !conversation_.empty() && conversation_[0].role == "system";
  if (text.empty()) {
    say(present ? conversation_[0].content : "There is no system message but the model's own.");
    return;
  }
  if (present) conversation_.erase(conversation_.begin());
  if (text != "none") conversation_.insert(conversation_.begin(), Message{"system", to_utf8(text)});
  say(text == "none" ? "The system message is removed." : "The system message is set.");
}

void ChatSession::set(const std::string& argument) {
  if (argument.empty()) {
    print(show_settings(sampling_));
    return;
  }
  const size_t space = std::min(argument.find_first_of(" \t"), argument.size());
  const std::string value = trimmed(argument.substr(space));
  if (value.empty()) throw Error("/set needs a name and a value: /set temp 0.2");
  set_by_name(sampling_, first_sampling_, argument.substr(0, space), value);
  say(cat(argument.substr(0, space), " is set."));
}

void ChatSession::save(const std::string& path) const {
  save_conversation(path, llm_.info().name, conversation_);
  say(cat("Saved ", conversation_.size(), " messages to ", path, "."));
}

void ChatSession::load(const std::string& path) {
  Conversation conversation = load_conversation(path);
  conversation_ = std::move(conversation);
  last_.reset();
  say(cat("Loaded ", conversation_.size(), " messages from ", path, ".", drop_attached()));
}

void ChatSession::print_stats() const {
  if (!last_) throw Error("there is no reply yet to tell about");
  const int used = last_->prompt_tokens + last_->completion_tokens;
  print(cat("prompt: ", last_->prompt_tokens, " tokens, ", fixed(last_->prefill_seconds, 3),
            " s\nreply:  ", last_->completion_tokens, " tokens, ", fixed(last_->decode_seconds, 3), " s, ",
            speed(last_->completion_tokens - 1, last_->decode_seconds), "\ncontext: ", used, " of ",
            llm_.info().context, " tokens used\n"));
}

}  // namespace llamita::cli
