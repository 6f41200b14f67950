// Downloads: ask the hub what there is, fetch the blobs that are missing, give them their names.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "base/cat.h"
#include "base/log.h"
#include "base/sha256.h"
#include "formats/json.h"
#include "hub/cache.h"
#include "hub/http.h"
#include "llamita/error.h"

namespace llamita::hub {

namespace fs = std::filesystem;

namespace {

// A failure that another try cannot mend.
class Permanent : public Error {
 public:
  using Error::Error;
};

struct Remote {
  std::string url;
  std::string etag;   // the blob's name
  uint64_t size = 0;  // bytes
  bool sized = false;
};

std::string url_path(std::string_view path) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || std::string_view("-_.~/").find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

std::string url_segment(const std::string& text) {
  std::string out = url_path(text);
  for (size_t at = out.find('/'); at != std::string::npos; at = out.find('/', at)) out.replace(at, 1, "%2F");
  return out;
}

void check_status(int status, const std::string& what, const Config& config) {
  if (status >= 200 && status < 400) return;
  if (status == 401 || status == 403) {
    throw Permanent(cat(what, ": access is refused (HTTP ", status, "); ",
                        config.token.empty() ? "set HF_TOKEN to a token that may read it"
                                             : "the token in HF_TOKEN may not read it",
                        ", and accept the model's terms on its page"));
  }
  if (status == 404) throw Permanent(cat(what, ": there is no such repository, revision or file (HTTP 404)"));
  if (status >= 400 && status < 500 && status != 408 && status != 429) {
    throw Permanent(cat(what, ": the hub answered HTTP ", status));
  }
  throw Error(cat(what, ": the hub answered HTTP ", status));
}

// Runs `attempt` until it succeeds, fails for good or has used up its tries. `reached` says how far attempts
// have come in all: after one that came further, the tries are counted anew.
template <class Attempt>
auto with_retries(const Config& config, Attempt attempt, const uint64_t& reached = 0) {
  int wait = config.first_wait_ms;
  uint64_t before = reached;
  for (int left = std::max(config.tries, 1);;) {
    try {
      return attempt();
    } catch (const Permanent&) {
      throw;
    } catch (const Error& error) {
      if (reached > before) {
        before = reached;
        left = std::max(config.tries, 1);
        wait = config.first_wait_ms;
      }
      if (--left == 0) throw;
      log_warning(error.what(), "; trying again in ", wait, " ms");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(wait));
    wait *= 2;
  }
}

bool is_hex(std::string_view text, size_t size) {
  return text.size() == size && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

const std::string* header(const HttpResponse& response, const std::string& name) {
  for (const auto* headers : {&response.headers, &response.first_headers}) {
    const auto found = headers->find(name);
    if (found != headers->end()) return &found->second;
  }
  return nullptr;
}

Remote ask_about(const Config& config, const Repo& repo, const std::string& commit, const std::string& name) {
  Remote out;
  out.url = cat(config.endpoint, "/", repo.id, "/resolve/", commit, "/", url_path(name));
  HttpRequest request;
  request.url = out.url;
  request.head = true;
  request.token = config.token;
  request.same_host_only = true;  // the hub, not the store behind it, knows the file's hash
  const HttpResponse response = http_fetch(request, [](const auto&, auto) { return true; });
  check_status(response.status, out.url, config);
  const std::string* etag = header(response, "x-linked-etag");
  if (!etag) etag = header(response, "etag");
  if (!etag) throw Error(cat(out.url, ": the hub names no ETag for this file"));
  out.etag = *etag;
  if (out.etag.rfind("W/", 0) == 0) out.etag.erase(0, 2);
  out.etag.erase(std::remove(out.etag.begin(), out.etag.end(), '"'), out.etag.end());
  // It becomes the name of a file.
  const bool plain = !out.etag.empty() && out.etag.size() <= 128 &&
                     std::all_of(out.etag.begin(), out.etag.end(),
                                 [](unsigned char c) { return std::isalnum(c) || c == '-'; });
  if (!plain) throw Permanent(cat(out.url, ": the hub's ETag '", out.etag, "' cannot be the name of a file"));
  const std::string* size = header(response, "x-linked-size");
  if (!size && response.status < 300) size = header(response, "content-length");
  if (size) {
    const auto result = std::from_chars(size->data(), size->data() + size->size(), out.size);
    out.sized = result.ec == std::errc() && result.ptr == size->data() + size->size();
  }
  return out;
}

// The partial file: appended to, synced, given its name.
class PartialFile {
 public:
  explicit PartialFile(const fs::path& path)
      : path_(path), descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) fail("cannot be opened");
    const off_t end = ::lseek(descriptor_, 0, SEEK_END);
    if (end < 0) fail("cannot be positioned");
    size_ = static_cast<uint64_t>(end);
  }
  ~PartialFile() { ::close(descriptor_); }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  uint64_t size() const { return size_; }

  void restart() {
    if (::ftruncate(descriptor_, 0) != 0 || ::lseek(descriptor_, 0, SEEK_SET) != 0) fail("cannot be emptied");
    size_ = 0;
  }

  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) fail("cannot be written");
      size_ += static_cast<uint64_t>(n);
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
  }

  void sync() {
    if (::fsync(descriptor_) != 0) fail("cannot be synced");
  }

 private:
  // What arrived stays for the next run.
  [[noreturn]] void fail(const char* what) const {
    const int problem = errno;
    throw Permanent(cat(path_.string(), ": ", what, ": ", std::strerror(problem),
                        problem == ENOSPC ? "; make room and run the same command again to go on" : ""));
  }

  fs::path path_;
  int descriptor_;
  uint64_t size_ = 0;
};

class Download {
 public:
  Download(const Config& config, const Remote& remote, fs::path blob, std::function<void(uint64_t)> progress)
      : config_(config), remote_(remote), blob_(std::move(blob)), progress_(std::move(progress)) {}

  // Returns the bytes that came over the network.
  uint64_t run() {
    with_retries(
        config_,
        [&] {
          attempt();
          return true;
        },
        reached_);
    return received_;
  }

 private:
  fs::path partial() const { return blob_.string() + ".incomplete"; }

  void attempt() {
    PartialFile file(partial());
    if (remote_.sized && file.size() > remote_.size) file.restart();
    if (!remote_.sized || file.size() < remote_.size) fetch_rest(file);
    if (remote_.sized && file.size() != remote_.size) {
      throw Error(
          cat(remote_.url, ": the file has ", remote_.size, " bytes, but only ", file.size(), " came"));
    }
    file.sync();
    check_hash();
    fs::rename(partial(), blob_);
  }

  void fetch_rest(PartialFile& file) {
    HttpRequest request;
    request.url = remote_.url;
    request.token = config_.token;
    request.offset = file.size();
    bool begun = false;
    const HttpResponse response =
        http_fetch(request, [&](const HttpResponse& now, std::span<const std::byte> bytes) {
          if (!begun) place(now, request.offset, file);
          begun = true;
          if (remote_.sized && file.size() + bytes.size() > remote_.size) {
            file.restart();
            throw Error(cat(remote_.url, ": more than the announced ", remote_.size, " bytes came"));
          }
          file.append(bytes);
          received_ += bytes.size();
          reached_ = std::max(reached_, file.size());
          progress_(file.size());
          return true;
        });
    if (response.status == 416) {  // what is here does not belong to the file that is there now
      file.restart();
      throw Error(cat(remote_.url, ": the partial download does not fit; starting again"));
    }
    check_status(response.status, remote_.url, config_);
  }

  // A server may ignore the range and send everything, or send another part than was asked for.
  static void place(const HttpResponse& response, uint64_t offset, PartialFile& file) {
    if (offset == 0) return;
    const auto range = response.headers.find("content-range");
    const std::string expected = cat("bytes ", offset, "-");
    const bool fits =
        response.status == 206 && range != response.headers.end() && range->second.rfind(expected, 0) == 0;
    if (fits) return;
    file.restart();
    if (response.status == 206) throw Error("the server sent another part of the file than was asked for");
  }

  void check_hash() {
    if (!is_hex(remote_.etag, 64)) return;  // a git blob's hash is over more than the file: the size must do
    const std::string hash = sha256_of_file(partial().string());
    if (hash == remote_.etag) return;
    fs::remove(partial());
    const std::string problem =
        cat(remote_.url, ": the SHA-256 of what came is ", hash, ", expected ", remote_.etag);
    // The start may be of an earlier run, or of another version of the file; from zero it must be right.
    if (std::exchange(restarted_, true)) throw Permanent(problem);
    throw Error(problem);
  }

  const Config& config_;
  const Remote& remote_;
  fs::path blob_;
  std::function<void(uint64_t)> progress_;
  uint64_t received_ = 0;
  uint64_t reached_ = 0;    // the most bytes that the partial file had; a restart does not lower it
  bool restarted_ = false;  // because of a wrong hash
};

struct Listing {
  std::string commit;
  std::vector<std::string> names;
};

Listing list_files(const Config& config, const Repo& repo) {
  HttpRequest request;
  request.url = cat(config.endpoint, "/api/models/", repo.id, "/revision/", url_segment(repo.revision));
  request.token = config.token;
  std::string body;
  constexpr size_t kMaxListing = size_t{16} << 20;
  const HttpResponse response = http_get_text(request, kMaxListing, body);
  check_status(response.status, request.url, config);
  const Json json = Json::parse(body, request.url);
  Listing out;
  const Json* sha = json.find("sha");
  if (!sha || !sha->is_string() || !is_hex(sha->as_string("sha"), 40)) {
    throw Error(cat(request.url, ": the answer names no commit"));
  }
  out.commit = sha->as_string("sha");
  if (const Json* siblings = json.find("siblings")) {
    for (const Json& sibling : siblings->as_array("siblings")) {
      const Json* name = sibling.find("rfilename");
      if (!name) continue;
      if (!is_safe_name(name->as_string("rfilename"))) {
        throw Permanent(cat(
            repo.id, ": the hub names a file that is refused: ", Json(name->as_string("rfilename")).dump()));
      }
      out.names.push_back(name->as_string("rfilename"));
    }
  }
  return out;
}

// The first question to the hub. When there is no way to it, waiting would not help and nothing is lost: one
// sentence says it, at once. Later on, in the middle of a download, a lost network is worth the wait.
Listing first_listing(const Config& config, const Repo& repo) {
  try {
    return list_files(config, repo);
  } catch (const Unreachable& error) {
    const char* cached = find_cached(repo, config) ? "; what is in the cache can be used without it" : "";
    throw Permanent(cat("no download of ", repo.id, ": ", error.what(),
                        "; is this machine online? HF_ENDPOINT names a mirror, https_proxy a proxy", cached));
  }
}

}  // namespace

PullResult pull(const Repo& repo, const ProgressFn& progress, const Config& config) {
  if (config.offline) {
    if (const auto found = find_cached(repo, config)) return *found;
    throw Error(cat(repo.id, " is not in the cache ", config.cache.string(),
                    ", and HF_HUB_OFFLINE forbids downloads"));
  }
  const Listing listing = with_retries(config, [&] { return first_listing(config, repo); });
  const auto chosen = choose_files(listing.names, repo.quant, repo.id);
  const CacheFolders folders(config, repo.id);
  make_folders(folders.blobs);
  make_folders(folders.locks);
  PullResult out;
  out.commit = listing.commit;
  out.snapshot = folders.snapshots / listing.commit;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const Remote remote =
        with_retries(config, [&] { return ask_about(config, repo, listing.commit, chosen[i]); });
    const fs::path blob = folders.blobs / remote.etag;
    const auto report = [&](uint64_t done) {
      if (progress) progress({chosen[i], done, remote.size, i, chosen.size()});
    };
    const FileLock lock(folders.locks / (remote.etag + ".lock"));
    std::error_code missing;
    const bool there =
        fs::is_regular_file(blob, missing) && (!remote.sized || fs::file_size(blob) == remote.size);
    if (!there) out.downloaded += Download(config, remote, blob, report).run();
    report(fs::file_size(blob));
    link_blob(folders, listing.commit, chosen[i], remote.etag);
  }
  if (repo.revision != listing.commit) write_small_file(folders.refs / repo.revision, listing.commit);
  const bool gguf = chosen[0].size() > 5 && chosen[0].substr(chosen[0].size() - 5) == ".gguf";
  out.model = gguf ? out.snapshot / chosen[0] : out.snapshot;
  return out;
}

PullResult pull(const Repo& repo, const ProgressFn& progress) {
  return pull(repo, progress, Config::from_environment());
}

}  // namespace llamita::hub
