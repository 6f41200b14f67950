// Which URLs name which hosts: nothing may be fetched from a host that was not named.
#include "cli/fetch_image.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace llamita::cli {
namespace {

TEST(FetchImage, HostsOfUrls) {
  EXPECT_EQ(host_of_url("https://Images.Example.org/a.png?x=1#y"), "images.example.org");
  EXPECT_EQ(host_of_url("https://example.org"), "example.org");
  EXPECT_EQ(host_of_url("HTTPS://example.org:443/a.png"), "example.org");
  for (const char* url :
       {"http://example.org/a", "https://", "https:///a", "https://user@example.org/a",
        "https://example.org:8080/a", "https://example.org:443:443/", "https://example.org:0443/",
        "https://[::1]/a", "https://exa%6dple.org/a", "https://example.org\\@other.org/a",
        "https://example.org/a b", "https://example.org\n.other.org/", "https://ex\xc3\xa4mple.org/",
        "file:///etc/passwd"})
    EXPECT_EQ(host_of_url(url), "") << url;
}

TEST(FetchImage, OnlyNamedHostsAreAsked) {
  EXPECT_FALSE(fetch_from_hosts({}));
  EXPECT_ERROR(fetch_from_hosts({"https://example.org"}), "--image-host");
  EXPECT_ERROR(fetch_from_hosts({""}), "--image-host");
  const auto fetch = fetch_from_hosts({"Example.org"});
  ASSERT_TRUE(fetch);
  for (const char* url : {"https://other.org/a.png", "https://example.org.other.org/a",
                          "https://sub.example.org/a", "https://example.org@other.org/a"})
    EXPECT_ERROR(fetch(url, {100, std::chrono::seconds(1), {}}), "fetches no images from that host");
}

}  // namespace
}  // namespace llamita::cli
