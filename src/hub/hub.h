// Models from a Hugging Face hub into the standard cache, the one that its Python library uses too:
// models--org--name/{blobs/<etag>, snapshots/<commit>/<file>, refs/<revision>}. Environment: HF_ENDPOINT,
// HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llamita::hub {

// "org/name", "org/name:Q4_K_M", "org/name@revision", "org/name@revision:Q4_K_M".
struct Repo {
  std::string id;                 // "org/name"
  std::string revision = "main";  // branch, tag or commit
  std::string quant;              // part of the wanted GGUF file's name; empty: not said

  // Throws Error when the text is no repository.
  static Repo parse(std::string_view text);
};

struct Config {
  std::string endpoint;
  std::string token;
  std::filesystem::path cache;
  bool offline = false;
  int tries = 5;             // in a row that bring nothing new
  int first_wait_ms = 1000;  // before the second try; doubles with each

  static Config from_environment();
};

struct Progress {
  std::string file;
  uint64_t done = 0;   // bytes of this file that are on disk
  uint64_t total = 0;  // 0 when not known
  size_t index = 0;    // this is file index + 1 of `files`
  size_t files = 0;
};
using ProgressFn = std::function<void(const Progress&)>;

struct PullResult {
  std::filesystem::path snapshot;  // the folder of the commit
  std::filesystem::path model;     // what to load: the (first) GGUF file, or the snapshot folder
  std::string commit;
  uint64_t downloaded = 0;  // bytes that came over the network
};

struct CachedModel {
  std::string repo;
  std::string commit;
  std::filesystem::path path;  // GGUF file or snapshot folder
  uint64_t bytes = 0;
};

// Downloads what is missing and returns where the model is. Interrupted downloads are resumed, sizes and
// SHA-256 sums checked before a file gets its name. Throws Error: no such repository, no access, no such
// quantisation (listing those there are), offline, disk full, broken data.
PullResult pull(const Repo& repo, const ProgressFn& progress, const Config& config);
PullResult pull(const Repo& repo, const ProgressFn& progress);

// Complete models in the cache, by name.
std::vector<CachedModel> list_cached(const Config& config);
std::vector<CachedModel> list_cached();

// The model in the cache, without any network.
std::optional<PullResult> find_cached(const Repo& repo, const Config& config);
std::optional<PullResult> find_cached(const Repo& repo);

// True for a relative path without "..", backslashes and control characters: the only file names that are
// taken from a server.
bool is_safe_name(std::string_view name);

// Which of a repository's files a model needs. Throws Error as pull() does.
std::vector<std::string> choose_files(const std::vector<std::string>& names, const std::string& quant,
                                      const std::string& repo);

}  // namespace llamita::hub
