#include "hub/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <tuple>

#include "base/cat.h"
#include "base/log.h"
#include "formats/json.h"
#include "formats/split_name.h"
#include "hub/strings.h"
#include "llamita/error.h"

namespace llamita::hub {

namespace fs = std::filesystem;

namespace {

std::string folder_name(const std::string& repo_id) {
  std::string out = "models--" + repo_id;
  const size_t slash = out.find('/');
  return slash == std::string::npos ? out : out.substr(0, slash) + "--" + out.substr(slash + 1);
}

std::string read_small_file(const fs::path& path) {
  std::ifstream file(path);
  std::string out;
  std::getline(file, out);
  while (!out.empty() && std::isspace(static_cast<unsigned char>(out.back()))) out.pop_back();
  return out;
}

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    // A link whose blob is gone is no file.
    std::error_code missing;
    if (fs::is_regular_file(it->path(), missing))
      out.push_back(it->path().lexically_relative(folder).generic_string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// How many files make the model that `name` belongs to.
size_t parts_of(const std::string& name) {
  const auto split = parse_split_name(name);
  return split ? static_cast<size_t>(split->count) : 1;
}

bool is_gguf(const std::string& name) { return name.size() > 5 && name.substr(name.size() - 5) == ".gguf"; }

// True when every file that the index names is there.
bool shards_complete(const fs::path& snapshot) {
  const fs::path index = snapshot / "model.safetensors.index.json";
  if (!fs::exists(index)) return true;
  const Json json = Json::parse_file(index.string());
  const Json* map = json.find("weight_map");
  if (!map || !map->is_object()) return false;
  for (const auto& [tensor, file] : map->as_object("weight_map")) {
    if (!file.is_string() || !is_safe_name(file.as_string(tensor))) return false;
    if (!fs::exists(snapshot / file.as_string(tensor))) return false;
  }
  return true;
}

std::optional<fs::path> complete_model(const fs::path& snapshot, const std::string& quant,
                                       const std::string& id) {
  std::vector<std::string> chosen;
  try {
    chosen = choose_files(files_below(snapshot), quant, id);
    if (chosen.empty()) return std::nullopt;
    if (is_gguf(chosen[0])) {
      if (chosen.size() != parts_of(chosen[0])) return std::nullopt;
      return snapshot / chosen[0];
    }
    const bool config = std::find(chosen.begin(), chosen.end(), "config.json") != chosen.end();
    return config && shards_complete(snapshot) ? std::optional(snapshot) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;  // nothing of that kind here, or its index is broken
  }
}

// Appends the complete models of one snapshot.
void list_snapshot(const std::string& id, const fs::path& snapshot, std::vector<CachedModel>& out) {
  const auto files = files_below(snapshot);
  const auto add = [&](const fs::path& path, const std::vector<std::string>& parts) {
    CachedModel model{id, snapshot.filename().string(), path, 0};
    for (const auto& part : parts) model.bytes += fs::file_size(snapshot / part);
    out.push_back(std::move(model));
  };
  bool weights = false;
  for (const auto& file : files) {
    weights |= file.size() > 12 && file.substr(file.size() - 12) == ".safetensors";
    if (!is_gguf(file)) continue;
    const auto split = parse_split_name(file);
    if (!split) add(snapshot / file, {file});
    if (!split || split->part != 1) continue;
    std::vector<std::string> parts;
    for (const auto& other : files) {
      const auto part = parse_split_name(other);
      if (part && part->stem == split->stem && part->count == split->count) parts.push_back(other);
    }
    if (parts.size() == parts_of(file)) add(snapshot / file, parts);
  }
  if (weights && complete_model(snapshot, "", id)) add(snapshot, files);
}

}  // namespace

Config Config::from_environment() {
  Config out;
  const std::string home = environment("HOME");
  std::string hf_home = environment("HF_HOME");
  if (hf_home.empty()) {
    const std::string xdg = environment("XDG_CACHE_HOME");
    hf_home = (xdg.empty() ? home + "/.cache" : xdg) + "/huggingface";
  }
  out.cache = environment("HF_HUB_CACHE");
  if (out.cache.empty()) out.cache = fs::path(hf_home) / "hub";
  out.endpoint = environment("HF_ENDPOINT");
  if (out.endpoint.empty()) out.endpoint = "https://huggingface.co";
  while (out.endpoint.back() == '/') out.endpoint.pop_back();
  out.token = environment("HF_TOKEN");
  if (out.token.empty()) out.token = read_small_file(fs::path(hf_home) / "token");
  const std::string offline = environment("HF_HUB_OFFLINE");
  out.offline =
      offline == "1" || offline == "true" || offline == "TRUE" || offline == "yes" || offline == "ON";
  return out;
}

CacheFolders::CacheFolders(const Config& config, const std::string& repo_id)
    : root(config.cache / folder_name(repo_id)),
      blobs(root / "blobs"),
      snapshots(root / "snapshots"),
      refs(root / "refs"),
      locks(config.cache / ".locks" / folder_name(repo_id)) {}

FileLock::FileLock(const fs::path& path)
    : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) throw Error(cat(path.string(), ": cannot be opened: ", std::strerror(errno)));
  while (::flock(descriptor_, LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    const int problem = errno;
    ::close(descriptor_);
    throw Error(cat(path.string(), ": cannot be locked: ", std::strerror(problem)));
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

void make_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error(cat(path.string(), ": the folder cannot be made: ", error.message()));
}

void write_small_file(const fs::path& path, std::string_view content) {
  make_folders(path.parent_path());
  const fs::path partial = path.string() + cat(".", ::getpid(), ".tmp");
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (!file) throw Error(cat(partial.string(), ": cannot be written; is the disk full?"));
  fs::rename(partial, path);
}

void link_blob(const CacheFolders& folders, const std::string& commit, const std::string& name,
               const std::string& blob) {
  const fs::path link = folders.snapshots / commit / name;
  make_folders(link.parent_path());
  fs::path up = "../..";
  for (const char c : name) {
    if (c == '/') up /= "..";
  }
  std::error_code ignored;
  if (fs::read_symlink(link, ignored) == up / "blobs" / blob) return;
  const fs::path partial = link.string() + cat(".", ::getpid(), ".tmp");
  fs::remove(partial, ignored);
  std::error_code error;
  fs::create_symlink(up / "blobs" / blob, partial, error);
  if (!error) fs::rename(partial, link, error);
  if (error) throw Error(cat(link.string(), ": the link cannot be made: ", error.message()));
}

std::optional<PullResult> find_cached(const Repo& repo, const Config& config) {
  const CacheFolders folders(config, repo.id);
  std::string commit = read_small_file(folders.refs / repo.revision);
  if (commit.empty()) commit = repo.revision;
  if (!is_safe_name(commit) || commit.find('/') != std::string::npos) return std::nullopt;
  const fs::path snapshot = folders.snapshots / commit;
  std::error_code error;
  if (!fs::is_directory(snapshot, error)) return std::nullopt;
  const auto model = complete_model(snapshot, repo.quant, repo.id);
  if (!model) return std::nullopt;
  return PullResult{snapshot, *model, commit, 0};
}

std::vector<CachedModel> list_cached(const Config& config) {
  std::vector<CachedModel> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(config.cache, error)) {
    const std::string folder = entry.path().filename().string();
    const size_t middle = folder.find("--", 8);
    if (folder.rfind("models--", 0) != 0 || middle == std::string::npos) continue;
    const std::string id = folder.substr(8, middle - 8) + "/" + folder.substr(middle + 2);
    for (const auto& snapshot : fs::directory_iterator(entry.path() / "snapshots", error)) {
      try {  // what is wrong with one must not hide the others
        list_snapshot(id, snapshot.path(), out);
      } catch (const std::exception& problem) {
        log_warning(snapshot.path().string(), ": left out: ", problem.what());
      }
    }
  }
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return std::tie(a.repo, a.path) < std::tie(b.repo, b.path); });
  return out;
}

std::optional<PullResult> find_cached(const Repo& repo) {
  return find_cached(repo, Config::from_environment());
}

std::vector<CachedModel> list_cached() { return list_cached(Config::from_environment()); }

}  // namespace llamita::hub
