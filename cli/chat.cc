// llamita chat: a conversation in the terminal. Without a terminal, one prompt from standard input.
#include <cstdio>
#include <string>

#include "base/cat.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/greeting.h"
#include "cli/line_reader.h"
#include "cli/output.h"
#include "cli/pictures.h"
#include "cli/resolve_model.h"
#include "cli/settings.h"

namespace llamita::cli {

namespace {

constexpr int kDefaultMaxTokens = 1024;
constexpr const char* kBlockMark = "\"\"\"";
constexpr const char* kDefaultPrompt = "Tell me in one sentence what a llama is.";

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

// Reads on until a line ends with """. Returns false when the block is given up.
bool read_block(LineReader& reader, std::string& text) {
  text.erase(0, 3);
  for (;;) {
    const size_t length = text.size();
    if (length >= 3 && text.compare(length - 3, 3, kBlockMark) == 0) {
      text.erase(length - 3);
      if (!text.empty() && text.front() == '\n') text.erase(0, 1);
      if (!text.empty() && text.back() == '\n') text.pop_back();
      return true;
    }
    std::string line;
    if (reader.read(". ", line) != LineReader::Outcome::line) return false;
    text += "\n" + line;
  }
}

class Chat : public Subcommand {
 public:
  std::string name() const override { return "chat"; }
  std::string summary() const override { return "talk with a model in the terminal"; }
  std::string usage() const override { return "llamita chat [MODEL] [options]"; }
  std::string examples() const override {
    return "In the chat, /help lists its commands; Ctrl-C stops a reply; Ctrl-D or /quit leaves. When "
           "standard\n"
           "input is no terminal, it is taken as one prompt, which is answered.\n"
           "\nExamples:\n"
           "  llamita chat                                   the small default model\n"
           "  llamita chat Qwen/Qwen2.5-3B-Instruct          downloaded on first use\n"
           "  llamita chat ~/models/llama.gguf -c 8k         a file, with room for 8192 tokens\n"
           "  llamita chat --system \"Answer in rhymes.\" --temp 1\n"
           "  llamita chat llava-hf/llava-1.5-7b-hf --image llama.jpg\n"
           "  echo \"Why is the sky blue?\" | llamita chat\n";
  }

  void declare(OptionSet& options) override {
    options.positional("MODEL", false,
                       cat("folder, .gguf file, repository or known name (default ", kDefaultModel, ")"),
                       [this](const std::string& text) { model_ = text; });
    options.group("Conversation");
    options.value("-s,--system", "TEXT", "what the model is told before the conversation",
                  [this](const std::string& text) { system_ = text; });
    options.repeated("--image", "FILE",
                     "a PNG, JPEG or WebP that the first question is about; may be given several times",
                     [this](const std::string& path) { images_.push_back(path); });
    declare_sampling(options, params_);
    declare_engine(options, config_);
    declare_packed_cache(options, config_);
    declare_pinning(options, config_);
  }

  int run() override {
    const bool interactive = stdin_is_terminal() && stdout_is_terminal();
    if (stdin_is_terminal() && !interactive) hint_at_stdin();
    const std::vector<Picture> pictures = read_pictures(images_);  // before what may take long
    LoadedModel loaded = load(model_, config_);
    const ModelInfo& info = loaded.llm.info();
    if (!info.template_error.empty()) {
      throw Error(cat(info.template_error, "; `llamita generate --raw` continues text without it"));
    }
    if (!info.has_chat_template) {
      throw Error(cat(info.name,
                      " has no chat template, so it cannot chat; `llamita generate --raw` continues text"));
    }
    require_sight(images_, info);
    ChatSession session(loaded.llm, params_, system_);
    for (const Picture& picture : pictures) session.attach(picture);
    if (interactive) {
      print(greeting(info, model_, stdout_paint()));
      flush_output();
      converse(session);
    } else {
      answer_stdin(session);
    }
    return 0;
  }

 private:
  static void answer_stdin(ChatSession& session) {
    std::string prompt = read_stdin();
    while (!prompt.empty() && (prompt.back() == '\n' || prompt.back() == '\r')) prompt.pop_back();
    if (is_blank(prompt)) {
      prompt = kDefaultPrompt;
      std::fputs(cat("llamita: no terminal and nothing on standard input; asking: ", prompt, "\n").c_str(),
                 stderr);
    }
    session.ask(prompt);
  }

  static void converse(ChatSession& session) {
    LineReader reader;
    bool hinted_at = false;  // the last thing at the prompt was Ctrl-C
    for (;;) {
      std::string line;
      const auto outcome = reader.read("> ", line);
      if (outcome == LineReader::Outcome::end) break;
      if (outcome == LineReader::Outcome::interrupted) {
        if (hinted_at && reader.interrupted_empty()) print("Type /quit or press Ctrl-D to leave.\n");
        hinted_at = true;
        continue;
      }
      hinted_at = false;
      if (is_blank(line)) continue;
      const bool block = line.rfind(kBlockMark, 0) == 0;
      if (block && !read_block(reader, line)) continue;
      if (is_blank(line)) continue;
      reader.remember(line);
      if (!take_line(session, line, block)) return;
      flush_output();
    }
    print("\n");
  }

  // Returns false when the chat is to end.
  static bool take_line(ChatSession& session, const std::string& line, bool block) {
    try {
      if (line[0] == '/' && !block) return session.run_command(line);
      session.ask(line);
      print("\n");
    } catch (const Error& error) {
      print(stdout_paint().red(error.what()) + "\n");
    }
    return true;
  }

  std::string model_, system_;
  std::vector<std::string> images_;
  SamplingParams params_ = default_sampling(kDefaultMaxTokens);
  EngineConfig config_;
};

}  // namespace

std::unique_ptr<Subcommand> make_chat() { return std::make_unique<Chat>(); }

}  // namespace llamita::cli
