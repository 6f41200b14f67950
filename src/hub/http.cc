#include "hub/http.h"

#include <curl/curl.h>
#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <memory>
#include <string_view>

#include "base/cat.h"
#include "hub/strings.h"
#include "llamita/error.h"

namespace llamita::hub {

namespace {

constexpr int kMaxRedirects = 5;

struct Curl {
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_easy_init) easy_init = nullptr;
  decltype(&curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&curl_easy_setopt) easy_setopt = nullptr;
  decltype(&curl_easy_perform) easy_perform = nullptr;
  decltype(&curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&curl_easy_strerror) easy_strerror = nullptr;
  decltype(&curl_slist_append) slist_append = nullptr;
  decltype(&curl_slist_free_all) slist_free_all = nullptr;
  bool ready = false;

  Curl() {
    void* library = nullptr;
    for (const char* name : {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so"}) {
      if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (!library) return;
    bool all = true;
    const auto load = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      all &= function != nullptr;
    };
    load(global_init, "curl_global_init");
    load(easy_init, "curl_easy_init");
    load(easy_cleanup, "curl_easy_cleanup");
    load(easy_setopt, "curl_easy_setopt");
    load(easy_perform, "curl_easy_perform");
    load(easy_getinfo, "curl_easy_getinfo");
    load(easy_strerror, "curl_easy_strerror");
    load(slist_append, "curl_slist_append");
    load(slist_free_all, "curl_slist_free_all");
    ready = all && global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  }
};

const Curl& curl() {
  static const Curl kCurl;  // never closed: libcurl keeps threads and TLS state of its own
  return kCurl;
}

// "https://host:port", which decides where a token may go. A port that the scheme means anyway is left out.
std::string origin_of(const std::string& url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos) return "";
  std::string origin = lower(std::string_view(url).substr(0, url.find_first_of("/?#", scheme + 3)));
  const std::string_view port = origin.starts_with("https://") ? ":443" : ":80";
  if (origin.ends_with(port)) origin.resize(origin.size() - port.size());
  return origin;
}

std::string resolve(const std::string& base, const std::string& location) {
  // A scheme stands before any other slash: "/next?from=https://…" has none.
  const size_t scheme = location.find("://");
  if (scheme != std::string::npos && location.find_first_of("/?#") == scheme + 1) return location;
  if (location.substr(0, 2) == "//") return base.substr(0, base.find(':') + 1) + location;
  if (location.substr(0, 1) == "/") return origin_of(base) + location;
  const std::string path = base.substr(0, base.find_first_of("?#"));
  return path.substr(0, path.rfind('/') + 1) + location;
}

using Clock = std::chrono::steady_clock;

struct Transfer {
  HttpResponse* response;
  const BodyFn* body;
  const std::function<bool()>* stopped_by_caller;
  std::exception_ptr thrown;
  bool stopped = false;
};

size_t on_header(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  std::string_view line(data, size * count);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  if (line.substr(0, 5) == "HTTP/") {
    transfer.response->headers.clear();
    const size_t blank = line.find(' ');
    transfer.response->status = 0;
    if (blank != std::string_view::npos) {
      std::from_chars(line.data() + blank + 1, line.data() + line.size(), transfer.response->status);
    }
  } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    transfer.response->headers[lower(line.substr(0, colon))] = std::string(value);
  }
  return size * count;
}

// No exception may pass through libcurl's frames: it is kept and thrown again behind them.
size_t on_body(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const size_t n = size * count;
  if (transfer.response->status < 200 || transfer.response->status >= 300) return n;
  try {
    transfer.response->body_bytes += n;
    if ((*transfer.body)(*transfer.response, std::as_bytes(std::span(data, n)))) return n;
    transfer.stopped = true;
  } catch (...) {
    transfer.thrown = std::current_exception();
  }
  return 0;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& transfer = *static_cast<Transfer*>(user);
  try {
    return (*transfer.stopped_by_caller)() ? 1 : 0;
  } catch (...) {
    transfer.thrown = std::current_exception();
    return 1;
  }
}

struct Cleanup {
  void operator()(CURL* handle) const { curl().easy_cleanup(handle); }
  void operator()(curl_slist* list) const { curl().slist_free_all(list); }
};

// One request, no redirect followed.
void perform(const HttpRequest& request, const std::string& url, bool with_token,
             std::optional<Clock::time_point> deadline, Transfer& transfer) {
  const Curl& lib = curl();
  // libcurl knows file:// and more; a redirect must not get there.
  const std::string origin = origin_of(url);
  if (origin.rfind("http://", 0) != 0 && origin.rfind("https://", 0) != 0) {
    throw Error(cat("'", url, "' is no http or https address"));
  }
  const std::unique_ptr<CURL, Cleanup> handle(lib.easy_init());
  if (!handle) throw Error("libcurl cannot start a transfer");
  const auto set = [&](CURLoption option, auto value) { lib.easy_setopt(handle.get(), option, value); };
  std::unique_ptr<curl_slist, Cleanup> headers;
  const auto add = [&](const std::string& line) {
    curl_slist* grown = lib.slist_append(headers.get(), line.c_str());
    if (!grown) throw Error("libcurl has no memory for a header");
    (void)headers.release();
    headers.reset(grown);
  };
  for (const auto& [name, value] : request.headers) add(name + ": " + value);
  if (with_token && !request.token.empty()) add("Authorization: Bearer " + request.token);
  if (request.offset > 0) add(cat("Range: bytes=", request.offset, "-"));
  // A compressed body would not have the size and hash that the hub announces.
  add("Accept-Encoding: identity");
  char problem[CURL_ERROR_SIZE] = "";
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_NOBODY, request.head ? 1L : 0L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(request.connect_timeout_s));
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(request.stall_timeout_s));
  if (deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*deadline - Clock::now());
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<int64_t>(left.count(), 1)));  // 0 would be no limit
  }
  if (request.stopped) {
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, on_progress);
    set(CURLOPT_XFERINFODATA, &transfer);
  }
  set(CURLOPT_USERAGENT, "llamita");
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_ERRORBUFFER, problem);
  set(CURLOPT_HEADERFUNCTION, on_header);
  set(CURLOPT_HEADERDATA, &transfer);
  set(CURLOPT_WRITEFUNCTION, on_body);
  set(CURLOPT_WRITEDATA, &transfer);
  const CURLcode code = lib.easy_perform(handle.get());
  if (transfer.thrown) std::rethrow_exception(transfer.thrown);
  if (code == CURLE_OK || transfer.stopped) return;
  if (code == CURLE_ABORTED_BY_CALLBACK) throw Error(cat(url, ": the transfer was stopped"));
  const char* reason = problem[0] ? problem : lib.easy_strerror(code);
  curl_off_t ready_us = 0;  // until the request could be sent: name, connection, proxy, TLS; 0: it could not
  lib.easy_getinfo(handle.get(), CURLINFO_PRETRANSFER_TIME_T, &ready_us);
  if (ready_us == 0) throw Unreachable(cat(origin, " cannot be reached: ", reason));
  throw Error(cat(url, ": the transfer failed after ", transfer.response->body_bytes, " bytes: ", reason));
}

}  // namespace

bool http_available(std::string* reason) {
  if (curl().ready) return true;
  if (reason) *reason = "libcurl is not installed: apt install libcurl4";
  return false;
}

HttpResponse http_fetch(const HttpRequest& request, const BodyFn& body) {
  std::string reason;
  if (!http_available(&reason)) throw Error(cat("downloads need libcurl: ", reason));
  const std::string home = origin_of(request.url);
  std::string url = request.url;
  std::map<std::string, std::string> first_headers;
  std::optional<Clock::time_point> deadline;
  if (request.total_timeout) deadline = Clock::now() + *request.total_timeout;
  for (int hop = 0;; ++hop) {
    HttpResponse response;
    Transfer transfer{&response, &body, &request.stopped, nullptr, false};
    perform(request, url, origin_of(url) == home, deadline, transfer);
    response.first_headers = hop == 0 ? response.headers : first_headers;
    const bool redirect =
        response.status >= 300 && response.status < 400 && response.headers.count("location");
    if (!redirect) return response;
    if (request.same_host_only && origin_of(resolve(url, response.headers["location"])) != home)
      return response;
    if (hop == kMaxRedirects) throw Error(cat(request.url, ": more than ", kMaxRedirects, " redirects"));
    const std::string next = resolve(url, response.headers["location"]);
    if (home.substr(0, 8) == "https://" && origin_of(next).substr(0, 8) != "https://") {
      throw Error(cat(request.url, ": redirects from https to ", next, ", which is refused"));
    }
    first_headers = response.first_headers;
    url = next;
  }
}

HttpResponse http_get_text(const HttpRequest& request, size_t limit, std::string& out) {
  out.clear();
  return http_fetch(request, [&](const HttpResponse&, std::span<const std::byte> bytes) {
    if (out.size() + bytes.size() > limit)
      throw Error(cat(request.url, ": the answer is larger than ", limit, " bytes"));
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  });
}

}  // namespace llamita::hub
