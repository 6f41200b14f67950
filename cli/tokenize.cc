// llamita tokenize: text to token ids and their pieces.
#include <algorithm>
#include <string>

#include "base/cat.h"
#include "cli/commands.h"
#include "cli/model_and_text.h"
#include "cli/output.h"
#include "cli/resolve_model.h"
#include "formats/json.h"
#include "text/tokenizer.h"

namespace llamita::cli {

namespace {

class Tokenize : public Subcommand {
 public:
  std::string name() const override { return "tokenize"; }
  std::string summary() const override { return "show how a model sees a text: token ids and pieces"; }
  std::string usage() const override { return "llamita tokenize [MODEL] [TEXT] [options]"; }
  std::string examples() const override {
    return "Without MODEL it is the small default model's; without TEXT it is read from standard input. "
           "Reads "
           "the\ntokenizer only, not the weights.\n"
           "\nExamples:\n"
           "  llamita tokenize \"Hello, llama!\"\n"
           "  llamita tokenize model.gguf --ids < book.txt\n"
           "  llamita tokenize model.gguf --lines --json < prompts.txt\n";
  }

  void declare(OptionSet& options) override {
    arguments_.declare_arguments(options, "TEXT", "the text (default: standard input)");
    options.group("What to print");
    options.flag("--ids", "only the ids, separated by spaces", ids_);
    options.flag("--json", "JSON: a list of {id, piece}, with --ids a list of numbers", json_);
    options.flag("--lines", "each line is a text of its own and makes one line of output", lines_);
    options.group("How to read the text");
    arguments_.declare_option(options);
    options.flag("--no-special", "leave out what the model puts around every text, a BOS say", no_special_);
    options.flag("--control", "let spelled-out control tokens such as <|im_end|> be control tokens",
                 control_);
  }

  int run() override {
    arguments_.settle(name(), false);
    const auto tokenizer = Tokenizer::load(resolve_model(arguments_.model));
    if (!arguments_.has_text && stdin_is_terminal()) hint_at_stdin();
    const std::string text = to_utf8(arguments_.has_text ? arguments_.text : read_stdin());
    if (!lines_) {
      print(shown(*tokenizer, text));
      return 0;
    }
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      print(shown(*tokenizer, text.substr(begin, end - begin)));
      begin = end + 1;
    }
    return 0;
  }

 private:
  std::string shown(const Tokenizer& tokenizer, const std::string& text) const {
    const auto tokens = tokenizer.encode(text, !no_special_, control_);
    if (json_) return as_json(tokenizer, tokens).dump() + "\n";
    std::string out;
    if (ids_ || lines_) {
      for (const int32_t id : tokens) {
        out += cat(out.empty() ? "" : " ", id);
        if (!ids_) out += cat(":", tokenizer.token_text(id));
      }
      return out + "\n";
    }
    for (const int32_t id : tokens) out += cat(id, "\t", tokenizer.token_text(id), "\n");
    return out;
  }

  Json as_json(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens) const {
    Json::Array list;
    for (const int32_t id : tokens) {
      const Json number(int64_t{id});
      const Json piece(to_utf8(tokenizer.token_text(id)));
      list.push_back(ids_ ? number : Json(Json::Object{{"id", number}, {"piece", piece}}));
    }
    return Json(std::move(list));
  }

  ModelAndText arguments_;
  bool ids_ = false, json_ = false, lines_ = false, no_special_ = false, control_ = false;
};

}  // namespace

std::unique_ptr<Subcommand> make_tokenize() { return std::make_unique<Tokenize>(); }

}  // namespace llamita::cli
