#include "cli/resolve_model.h"

#include <filesystem>
#include <optional>

#include "base/cat.h"
#include "cli/progress.h"
#include "hub/hub.h"
#include "hub/known_models.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

bool ends_in_gguf(const std::string& text) {
  return text.size() > 5 && text.compare(text.size() - 5, 5, ".gguf") == 0;
}

// "~/", "./", "../", "/…" or a .gguf file: somebody means a path, whether or not it exists.
bool looks_like_path(const std::string& text) {
  const auto starts = [&](const char* start) { return text.rfind(start, 0) == 0; };
  const bool starts_so = starts("/") || starts("./") || starts("../") || starts("~/");
  return (starts_so && text.find(' ') == std::string::npos) || ends_in_gguf(text);
}

// "org/name" with an optional @revision and :quant.
bool looks_like_repository(const std::string& text) {
  try {
    hub::Repo::parse(text);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string pull_repository(const hub::Repo& repo) {
  std::optional<Progress> bar;
  size_t file = 0;
  const auto show = [&](const hub::Progress& progress) {
    if (!bar || file != progress.index) {
      file = progress.index;
      const std::string count = progress.files > 1 ? cat(" (", file + 1, " of ", progress.files, ")") : "";
      bar.emplace(cat("downloading ", progress.file, count));
    }
    bar->update(static_cast<int64_t>(progress.done), static_cast<int64_t>(progress.total));
  };
  return hub::pull(repo, show).model.string();
}

std::string fetch_known(const hub::KnownModel& model) {
  Progress bar(cat("downloading ", model.name));
  const auto show = [&](uint64_t done, uint64_t total) {
    bar.update(static_cast<int64_t>(done), static_cast<int64_t>(total));
  };
  return hub::fetch_known_model(model, show).string();
}

[[noreturn]] void unknown_model(const std::string& model) {
  std::string names;
  for (const hub::KnownModel& known : hub::known_models())
    names += cat(names.empty() ? "" : ", ", known.name);
  throw Error(cat("'", model,
                  "' is no file or folder here, no repository like org/name, and no known model (", names,
                  ")"));
}

}  // namespace

bool is_local_model(const std::string& text) {
  if (text.empty()) return false;
  if (hub::find_known_model(text) != nullptr || exists(text) || ends_in_gguf(text)) return true;
  return looks_like_repository(text) && hub::find_cached(hub::Repo::parse(text)).has_value();
}

bool looks_like_model(const std::string& text) {
  return hub::find_known_model(text) != nullptr || exists(text) || looks_like_path(text) ||
         looks_like_repository(text);
}

std::string resolve_model(const std::string& model) {
  if (!model.empty() && exists(model)) return model;
  if (looks_like_path(model)) throw Error(cat("there is no file or folder ", model));
  if (looks_like_repository(model)) {
    const hub::Repo repo = hub::Repo::parse(model);
    if (const auto cached = hub::find_cached(repo, hub::Config::from_environment()))
      return cached->model.string();
  }
  return pull_model(model);
}

std::string display_name(const std::string& model) {
  if (model.empty()) return std::string(kDefaultModel);
  if (!exists(model)) return model;
  const std::string trimmed = model.substr(0, model.find_last_not_of('/') + 1);
  const std::string name = std::filesystem::path(trimmed).filename().string();
  return name.empty() || name == "." || name == ".." ? model : name;
}

std::string pull_model(const std::string& model) {
  const std::string name = model.empty() ? std::string(kDefaultModel) : model;
  if (const hub::KnownModel* known = hub::find_known_model(name)) return fetch_known(*known);
  if (looks_like_repository(name)) return pull_repository(hub::Repo::parse(name));
  if (exists(name)) throw Error(cat("'", name, "' is on this machine already: there is nothing to pull"));
  unknown_model(name);
}

}  // namespace llamita::cli
