// llamita generate: one prompt in, the reply on standard output.
#include <string>

#include "base/cat.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/interrupt.h"
#include "cli/model_and_text.h"
#include "cli/numbers.h"
#include "cli/output.h"
#include "cli/pictures.h"
#include "cli/settings.h"
#include "formats/json.h"

namespace llamita::cli {

namespace {

constexpr int kDefaultMaxTokens = 512;
constexpr int kExitInterrupted = 130;  // as shells have it: 128 + SIGINT

Json json_of(double value) { return Json(value); }
Json json_of(int64_t value) { return Json(value); }

double rate(int tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0; }

Json logprob_json(const TokenLogprob& entry) {
  return Json(Json::Object{{"token", json_of(int64_t{entry.token})},
                           {"text", Json(entry.text)},
                           {"logprob", json_of(double{entry.logprob})}});
}

Json choice_json(const Choice& choice, bool with_logprobs) {
  Json::Array tokens, logprobs;
  for (const int32_t token : choice.tokens) tokens.push_back(json_of(int64_t{token}));
  Json::Object object{{"text", Json(choice.text)},
                      {"tokens", Json(std::move(tokens))},
                      {"finish_reason", Json(std::string(name(choice.finish)))}};
  if (!with_logprobs) return Json(std::move(object));
  for (const TokenInfo& info : choice.logprobs) {
    Json::Array top;
    for (const TokenLogprob& entry : info.top) top.push_back(logprob_json(entry));
    logprobs.push_back(
        Json(Json::Object{{"chosen", logprob_json(info.chosen)}, {"top", Json(std::move(top))}}));
  }
  object.emplace_back("logprobs", Json(std::move(logprobs)));
  return Json(std::move(object));
}

// "-0.1234  ' Paris'   (' Lyon' -3.2, …)" for each token of a reply.
std::string logprob_lines(const Choice& choice, const TerminalFilter& filter) {
  const auto quoted = [&](const TokenLogprob& entry) {
    std::string text = TerminalFilter(filter).push(entry.text);
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.replace(at, 1, "\\n");
    return cat("'", text, "'");
  };
  std::string out = "\n";
  for (const TokenInfo& info : choice.logprobs) {
    out += cat(fixed(info.chosen.logprob, 4), "\t", quoted(info.chosen));
    for (const TokenLogprob& entry : info.top) out += cat("\t", quoted(entry), " ", fixed(entry.logprob, 4));
    out += "\n";
  }
  return out;
}

class Generate : public Subcommand {
 public:
  std::string name() const override { return "generate"; }
  std::string summary() const override {
    return "answer one prompt, from the command line, a file or a pipe";
  }
  std::string usage() const override { return "llamita generate [MODEL] [PROMPT] [options]"; }
  std::string examples() const override {
    return "Without MODEL the small default model answers; a single argument that is no model here is the "
           "prompt.\n"
           "Without PROMPT and --file the prompt is read from standard input.\n"
           "\nExamples:\n"
           "  llamita generate \"Why is the sky blue?\"\n"
           "  llamita generate Qwen/Qwen2.5-3B-Instruct --file question.txt --temp 0\n"
           "  git diff | llamita generate --system \"Summarise this change in one line.\"\n"
           "  llamita generate ./llava-1.5-7b-hf --image llama.jpg \"What is this?\"\n"
           "  llamita generate model.gguf --raw -n 40 \"Once upon a time\"\n"
           "  llamita generate --json --logprobs 3 \"Say yes.\" | python3 -m json.tool\n";
  }

  void declare(OptionSet& options) override {
    arguments_.declare_arguments(options, "PROMPT", "the prompt (default: standard input)");
    options.group("Prompt and output");
    arguments_.declare_option(options);
    options.value("-f,--file", "FILE", "read the prompt from FILE",
                  [this](const std::string& text) { file_ = text; });
    options.value("-s,--system", "TEXT", "what the model is told before the prompt",
                  [this](const std::string& text) { system_ = text; });
    options.repeated(
        "--image", "FILE",
        "a PNG, JPEG or WebP that the prompt is about; may be given several times; with --raw it "
        "stands in front",
        [this](const std::string& path) { images_.push_back(path); });
    options.flag("--raw", "continue the prompt as plain text: no chat template", raw_);
    options.flag("--json", "print one JSON object: text, tokens, finish_reason, usage, timings", json_);
    options.value(
        "--n", "N", "independent replies to the prompt (default 1)",
        [this](const std::string& text) { params_.n = static_cast<int>(parse_int(text, "--n", 1, 128)); });
    options.value("--logprobs", "N", "each token's log-probability and N alternatives",
                  [this](const std::string& text) {
                    params_.logprobs = static_cast<int>(parse_int(text, "--logprobs", 0, 20));
                  });
    declare_sampling(options, params_);
    declare_engine(options, config_);
    declare_packed_cache(options, config_);
    declare_pinning(options, config_);
  }

  int run() override {
    arguments_.settle(name(), !file_.empty());
    read_prompt();
    const std::vector<Picture> pictures = read_pictures(images_);  // before what may take long
    LoadedModel loaded = load(arguments_.model, config_);
    require_sight(images_, loaded.llm.info());
    const Request request = make_request(loaded.llm.info(), pictures);
    const InterruptScope interrupt;
    const bool streams = !json_ && params_.n == 1;
    Completion completion =
        loaded.llm
            .generate(
                {request}, [&](const Delta& delta) { stream(delta, streams); }, interrupt.token())
            .at(0);
    for (const Choice& choice : completion.choices) {
      if (choice.finish == FinishReason::error) throw Error(choice.error);
    }
    if (json_) {
      print(to_json(completion, loaded).dump() + "\n");
    } else {
      print_rest(completion, streams);
    }
    return interrupt.interrupted() ? kExitInterrupted : 0;
  }

 private:
  void read_prompt() {
    const bool has_prompt = arguments_.has_text;
    if (has_prompt && !file_.empty()) throw UsageError("a prompt and --file: give one of them");
    if (!has_prompt && file_.empty() && stdin_is_terminal()) hint_at_stdin();
    prompt_ = to_utf8(has_prompt ? arguments_.text : file_.empty() ? read_stdin() : read_file(file_));
    if (!has_prompt && !raw_) {  // the newline that ends a file or `echo` is no part of a question
      while (!prompt_.empty() && (prompt_.back() == '\n' || prompt_.back() == '\r')) prompt_.pop_back();
    }
    if (prompt_.empty()) {
      throw UsageError("there is no prompt: give it as an argument, with --file, or on standard input");
    }
  }

  Request make_request(const ModelInfo& info, const std::vector<Picture>& pictures) const {
    Request request{prompt_, params_};
    if (!raw_ && !info.template_error.empty()) {
      throw Error(cat(info.template_error, "; --raw continues the prompt without a template"));
    }
    if (raw_ || !info.has_chat_template) {
      if (!system_.empty()) {
        throw Error(raw_ ? std::string("--system and --raw: plain completion has no system message")
                         : cat("--system: ", info.name, " has no chat template"));
      }
      request.pictures = pictures;
      return request;
    }
    Conversation conversation;
    if (!system_.empty()) conversation.push_back({"system", to_utf8(system_)});
    conversation.push_back({"user", prompt_});
    conversation.back().pictures = pictures;
    request.prompt = std::move(conversation);
    return request;
  }

  void stream(const Delta& delta, bool streams) {
    if (!streams) return;
    print(shown(filter_, delta.text));
    flush_output();
  }

  // What a terminal gets to see; pipes and files get the model's own bytes.
  static std::string shown(TerminalFilter& filter, const std::string& text) {
    return stdout_is_terminal() ? filter.push(text) : text;
  }

  void print_rest(const Completion& completion, bool streamed) {
    for (size_t i = 0; i < completion.choices.size(); ++i) {
      const Choice& choice = completion.choices[i];
      if (!streamed) {
        TerminalFilter filter;
        print(cat(i == 0 ? "" : "\n", "--- reply ", i + 1, " of ", completion.choices.size(), " ---\n"));
        print(shown(filter, choice.text));
      }
      if (choice.text.empty() || choice.text.back() != '\n') print("\n");
      if (params_.logprobs >= 0) print(logprob_lines(choice, {}));
      if (choice.finish == FinishReason::length && stdout_is_terminal()) {
        print(stdout_paint().dim("[the reply was cut: --max-tokens or the context is used up]") + "\n");
      }
    }
  }

  Json to_json(const Completion& completion, const LoadedModel& loaded) const {
    const int64_t prompt = completion.prompt_tokens, reply = completion.completion_tokens;
    // The first token of each reply comes out of the prefill.
    const int decoded = completion.completion_tokens - static_cast<int>(completion.choices.size());
    Json first = choice_json(completion.choices.at(0), params_.logprobs >= 0);
    Json::Object object{{"model", Json(loaded.llm.info().name)}};
    for (const auto& member : first.as_object("choice")) object.push_back(member);
    if (params_.n > 1) {
      Json::Array choices;
      for (const Choice& choice : completion.choices)
        choices.push_back(choice_json(choice, params_.logprobs >= 0));
      object.emplace_back("choices", Json(std::move(choices)));
    }
    object.emplace_back("usage", Json(Json::Object{{"prompt_tokens", json_of(prompt)},
                                                   {"completion_tokens", json_of(reply)},
                                                   {"total_tokens", json_of(prompt + reply)}}));
    object.emplace_back(
        "timings",
        Json(Json::Object{{"load_seconds", json_of(loaded.load_seconds)},
                          {"prefill_seconds", json_of(completion.prefill_seconds)},
                          {"decode_seconds", json_of(completion.decode_seconds)},
                          {"prefill_tokens_per_second",
                           json_of(rate(completion.prompt_tokens, completion.prefill_seconds))},
                          {"decode_tokens_per_second", json_of(rate(decoded, completion.decode_seconds))}}));
    // As text: JSON readers keep 53 bits of a number.
    object.emplace_back("seed", Json(cat(completion.seed)));
    return Json(std::move(object));
  }

  ModelAndText arguments_;
  std::string prompt_, file_, system_;
  std::vector<std::string> images_;
  bool raw_ = false, json_ = false;
  SamplingParams params_ = default_sampling(kDefaultMaxTokens);
  EngineConfig config_;
  TerminalFilter filter_;
};

}  // namespace

std::unique_ptr<Subcommand> make_generate() { return std::make_unique<Generate>(); }

}  // namespace llamita::cli
