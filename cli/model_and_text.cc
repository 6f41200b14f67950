#include "cli/model_and_text.h"

#include "base/cat.h"
#include "cli/resolve_model.h"

namespace llamita::cli {

Meaning meaning_of(const std::string& argument) {
  if (is_local_model(argument)) return Meaning::model;
  return looks_like_model(argument) ? Meaning::unclear : Meaning::text;
}

void ModelAndText::declare_arguments(OptionSet& options, const std::string& name, const std::string& help) {
  options.positional("MODEL", false,
                     cat("folder, .gguf file, repository or known name (default ", kDefaultModel, ")"),
                     [this](const std::string& value) {
                       first_ = value;
                       has_first_ = true;
                     });
  options.positional(name, false, help, [this](const std::string& value) {
    second_ = value;
    has_second_ = true;
  });
}

void ModelAndText::declare_option(OptionSet& options) {
  options.value("-m,--model", "MODEL", "the model, when it is not the first argument",
                [this](const std::string& value) {
                  option_ = value;
                  has_option_ = true;
                });
}

void ModelAndText::settle(const std::string& command, bool text_elsewhere) {
  if (has_option_) {
    if (has_second_) throw UsageError("--model and two arguments: give the text as one argument, in quotes");
    model = option_;
    text = first_;
    has_text = has_first_;
  } else if (has_second_) {
    model = first_;
    text = second_;
    has_text = true;
  } else if (has_first_) {
    settle_one(command, text_elsewhere);
  }
}

void ModelAndText::settle_one(const std::string& command, bool text_elsewhere) {
  Meaning meaning = meaning_of(first_);
  if (meaning == Meaning::unclear && text_elsewhere) meaning = Meaning::model;
  if (meaning == Meaning::unclear) {
    throw UsageError(cat("'", first_, "' may be text or a model that is not on this machine: `llamita ",
                         command, " --model ", first_, "` takes it as the model, `llamita ", command,
                         " --model ", kDefaultModel, " ", first_, "` as text"));
  }
  has_text = meaning == Meaning::text;
  (has_text ? text : model) = first_;
}

}  // namespace llamita::cli
