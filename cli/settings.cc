#include "cli/settings.h"

#include <algorithm>
#include <limits>

#include "base/cat.h"
#include "cli/numbers.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

using Params = SamplingParams;

Setting number_setting(std::string name, std::string flags, std::string help, float Params::*member,
                       float low, float high) {
  return {
      name,
      std::move(flags),
      "X",
      std::move(help),
      false,
      [=](Params& params, const std::string& text) { params.*member = parse_float(text, name, low, high); },
      [=](const Params& params) { return cat(params.*member); }};
}

Setting integer_setting(std::string name, std::string flags, std::string help, int Params::*member, int low,
                        int high) {
  return {name,
          std::move(flags),
          "N",
          std::move(help),
          false,
          [=](Params& params, const std::string& text) {
            params.*member = static_cast<int>(parse_int(text, name, low, high));
          },
          [=](const Params& params) { return cat(params.*member); }};
}

Setting seed_setting() {
  return {"seed",
          "--seed",
          "N",
          "the same seed gives the same reply (default: a new one each time)",
          false,
          [](Params& params, const std::string& text) { params.seed = parse_seed(text, "seed"); },
          [](const Params& params) { return params.seed ? cat(*params.seed) : std::string("random"); }};
}

// \n, \t and \\ in what was typed become the characters they stand for.
std::string unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'n' || next == 't' || next == '\\') {
      out += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += c;
    }
  }
  return out;
}

Setting stop_setting() {
  return {"stop",
          "--stop",
          "TEXT",
          "end the reply before this text; may be given several times; \\n is a newline",
          true,
          [](Params& params, const std::string& text) {
            if (text.empty()) throw Error("stop: expected a text, got nothing");
            params.stop.push_back(unescaped(text));
          },
          [](const Params& params) {
            std::string out;
            for (const auto& stop : params.stop)
              out += cat(out.empty() ? "" : ", ", "\"", escaped(stop), "\"");
            return out.empty() ? std::string("none") : out;
          }};
}

Setting logit_bias_setting() {
  return {"logit_bias",
          "--logit-bias",
          "ID:VALUE",
          "add VALUE (-100 to 100) to the logit of token ID; may be given several times",
          true,
          [](Params& params, const std::string& text) {
            const size_t colon = text.find(':');
            if (colon == std::string::npos) {
              throw Error(cat("logit_bias: expected ID:VALUE, got '", text, "'"));
            }
            const auto id = static_cast<int32_t>(parse_int(text.substr(0, colon), "logit_bias, the token id",
                                                           0, std::numeric_limits<int32_t>::max()));
            params.logit_bias.emplace_back(
                id, parse_float(text.substr(colon + 1), "logit_bias, the value", -100, 100));
          },
          [](const Params& params) {
            std::string out;
            for (const auto& [id, bias] : params.logit_bias)
              out += cat(out.empty() ? "" : ", ", id, ":", bias);
            return out.empty() ? std::string("none") : out;
          }};
}

}  // namespace

const std::vector<Setting>& sampling_settings() {
  static const std::vector<Setting> settings = {
      number_setting("temp", "--temp,--temperature",
                     "0: always the likeliest token; higher: more surprising (default 0.7)",
                     &Params::temperature, 0, 100),
      integer_setting("top_k", "--top-k", "choose among the N likeliest tokens (default 0: all)",
                      &Params::top_k, 0, std::numeric_limits<int>::max()),
      number_setting("top_p", "--top-p",
                     "choose among the fewest tokens that have probability X together (default 0.95)",
                     &Params::top_p, 1e-6f, 1),
      number_setting("min_p", "--min-p",
                     "leave out tokens less than X times as likely as the likeliest (default 0)",
                     &Params::min_p, 0, 1),
      seed_setting(),
      number_setting("repeat_penalty", "--repeat-penalty",
                     "divide the logits of tokens that were seen before by X (default 1: off)",
                     &Params::repetition_penalty, 0.01f, 100),
      number_setting("frequency_penalty", "--frequency-penalty",
                     "subtract X for each time the reply has a token already (default 0)",
                     &Params::frequency_penalty, -2, 2),
      number_setting("presence_penalty", "--presence-penalty",
                     "subtract X once if the reply has a token already (default 0)",
                     &Params::presence_penalty, -2, 2),
      logit_bias_setting(),
      stop_setting(),
      integer_setting("max_tokens", "-n,--max-tokens",
                      "longest reply, in tokens; -1: until the context is full", &Params::max_tokens, -1,
                      std::numeric_limits<int>::max()),
  };
  return settings;
}

SamplingParams default_sampling(int max_tokens) {
  SamplingParams params;
  params.temperature = 0.7f;
  params.top_p = 0.95f;
  params.max_tokens = max_tokens;
  return params;
}

void declare_sampling(OptionSet& options, SamplingParams& params) {
  options.group("How tokens are chosen");
  for (const Setting& setting : sampling_settings()) {
    const auto take = [&setting, &params](const std::string& text) { setting.set(params, text); };
    std::string help = setting.help;
    if (setting.name == "max_tokens") help += cat(" (default ", params.max_tokens, ")");
    if (setting.repeated) {
      options.repeated(setting.flags, setting.placeholder, help, take);
    } else {
      options.value(setting.flags, setting.placeholder, help, take);
    }
  }
  options.flag("--ignore-eos", "go on when the model wants to end its reply", params.ignore_eos);
}

std::string show_settings(const SamplingParams& params) {
  std::string out;
  for (const Setting& setting : sampling_settings())
    out += cat(setting.name, " = ", setting.show(params), "\n");
  return out;
}

void set_by_name(SamplingParams& params, const SamplingParams& defaults, const std::string& name,
                 const std::string& value) {
  std::string key = name;
  std::replace(key.begin(), key.end(), '-', '_');
  const auto& settings = sampling_settings();
  const auto found = std::find_if(settings.begin(), settings.end(),
                                  [&](const Setting& setting) { return setting.name == key; });
  if (found == settings.end()) {
    std::string names;
    for (const Setting& setting : settings) names += cat(names.empty() ? "" : ", ", setting.name);
    throw Error(cat("there is no setting '", name, "'; there are ", names));
  }
  if (value != "default") {
    found->set(params, value);
  } else if (key == "seed") {
    params.seed = defaults.seed;
  } else if (key == "stop") {
    params.stop = defaults.stop;
  } else if (key == "logit_bias") {
    params.logit_bias = defaults.logit_bias;
  } else {
    found->set(params, found->show(defaults));
  }
}

}  // namespace llamita::cli
