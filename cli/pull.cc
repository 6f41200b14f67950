// llamita pull: a model onto this machine, without running it.
#include "base/cat.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/resolve_model.h"

namespace llamita::cli {

namespace {

class Pull : public Subcommand {
 public:
  std::string name() const override { return "pull"; }
  std::string summary() const override { return "download a model, or what is missing of it"; }
  std::string usage() const override { return "llamita pull MODEL"; }
  std::string examples() const override {
    return "Repositories go to the cache that Hugging Face's own tools share. A download that was cut goes "
           "on where\n"
           "it stopped. HF_TOKEN opens gated repositories, HF_HOME or HF_HUB_CACHE move the cache, "
           "HF_ENDPOINT names\n"
           "a mirror. Prints where the model is.\n"
           "\nExamples:\n"
           "  llamita pull smollm2-135m-instruct\n"
           "  llamita pull Qwen/Qwen2.5-3B-Instruct\n"
           "  llamita pull Qwen/Qwen2.5-3B-Instruct-GGUF:Q4_K_M\n";
  }

  void declare(OptionSet& options) override {
    options.positional("MODEL", true,
                       "repository (org/name, org/name:quant, org/name@revision) or known name",
                       [this](const std::string& text) { model_ = text; });
  }

  int run() override {
    print(cat(pull_model(model_), "\n"));
    return 0;
  }

 private:
  std::string model_;
};

}  // namespace

std::unique_ptr<Subcommand> make_pull() { return std::make_unique<Pull>(); }

}  // namespace llamita::cli
