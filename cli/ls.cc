// llamita ls: the models that are on this machine.
#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/cat.h"
#include "cli/commands.h"
#include "cli/numbers.h"
#include "cli/output.h"
#include "formats/json.h"
#include "hub/hub.h"
#include "hub/known_models.h"

namespace llamita::cli {

namespace {

struct LocalModel {
  std::string name;  // as MODEL
  uint64_t bytes = 0;
  std::string path;
};

std::vector<LocalModel> local_models() {
  std::vector<LocalModel> models;
  for (const hub::KnownModel& known : hub::known_models()) {
    const auto path = hub::find_fetched(known);
    if (path) models.push_back({std::string(known.name), known.size, path->string()});
  }
  for (const hub::CachedModel& cached : hub::list_cached()) {
    models.push_back({cached.repo, cached.bytes, cached.path.string()});
  }
  return models;
}

class List : public Subcommand {
 public:
  std::string name() const override { return "ls"; }
  std::string summary() const override { return "list the models on this machine"; }
  std::string usage() const override { return "llamita ls [options]"; }
  std::string examples() const override {
    return "Known models that were fetched, and complete models in the Hugging Face cache.\n"
           "\nExamples:\n"
           "  llamita ls\n"
           "  llamita ls --json\n";
  }

  void declare(OptionSet& options) override { options.flag("--json", "print a JSON list", json_); }

  int run() override {
    const auto models = local_models();
    if (json_) {
      Json::Array list;
      for (const LocalModel& model : models) {
        list.push_back(Json(Json::Object{{"name", Json(model.name)},
                                         {"bytes", Json(static_cast<int64_t>(model.bytes))},
                                         {"path", Json(to_utf8(model.path))}}));
      }
      print(Json(std::move(list)).dump() + "\n");
    } else if (models.empty()) {
      print("There are no models yet; `llamita pull smollm2-135m-instruct` gets a small one.\n");
    } else {
      print(table(models));
    }
    return 0;
  }

 private:
  static std::string table(const std::vector<LocalModel>& models) {
    size_t width = 0;
    for (const LocalModel& model : models) width = std::max(width, model.name.size());
    std::string out;
    for (const LocalModel& model : models) {
      const std::string size = human_bytes(static_cast<double>(model.bytes));
      out += cat(model.name, std::string(width - model.name.size() + 2, ' '),
                 std::string(size.size() < 8 ? 8 - size.size() : 0, ' '), size, "  ", model.path, "\n");
    }
    return out;
  }

  bool json_ = false;
};

}  // namespace

std::unique_ptr<Subcommand> make_ls() { return std::make_unique<List>(); }

}  // namespace llamita::cli
