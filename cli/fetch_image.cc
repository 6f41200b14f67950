#include "cli/fetch_image.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "base/cat.h"
#include "hub/http.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

constexpr int kConnectSeconds = 5, kStallSeconds = 5;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string fetch(const std::string& url, const server::FetchTerms& terms) {
  hub::HttpRequest request;
  request.url = url;
  request.same_host_only = true;
  request.connect_timeout_s = kConnectSeconds;
  request.stall_timeout_s = kStallSeconds;
  request.total_timeout = terms.most_time;
  request.stopped = terms.stopped;
  std::string body;
  const hub::HttpResponse response = hub::http_get_text(request, terms.most_bytes, body);
  if (response.status != 200) throw Error(cat("the image's host answered ", response.status));
  return body;
}

}  // namespace

std::string host_of_url(const std::string& url) {
  constexpr std::string_view kScheme = "https://";
  if (lower(url.substr(0, kScheme.size())) != kScheme) return "";
  const size_t end = std::min(url.find_first_of("/?#", kScheme.size()), url.size());
  std::string host = lower(url.substr(kScheme.size(), end - kScheme.size()));
  constexpr std::string_view kPort = ":443";  // what https means without it
  if (host.ends_with(kPort)) host.resize(host.size() - kPort.size());
  // Letters, digits, dots and hyphens: nothing that one reader of URLs takes for a host and another does not.
  const bool plain = std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
  });
  const bool printable =
      std::all_of(url.begin(), url.end(), [](unsigned char c) { return c > 0x20 && c != '\\' && c < 0x7f; });
  return plain && printable ? host : "";
}

server::FetchImage fetch_from_hosts(std::vector<std::string> hosts) {
  if (hosts.empty()) return {};
  for (std::string& host : hosts) {
    if (host.empty() || host_of_url("https://" + host) != lower(host)) {
      throw Error(cat("--image-host: expected a host's name, got '", host, "'"));
    }
    host = lower(host);
  }
  return [hosts](const std::string& url, const server::FetchTerms& terms) {
    const std::string host = host_of_url(url);
    if (host.empty() || std::find(hosts.begin(), hosts.end(), host) == hosts.end()) {
      throw Error("this server fetches no images from that host");
    }
    return fetch(url, terms);
  };
}

}  // namespace llamita::cli
