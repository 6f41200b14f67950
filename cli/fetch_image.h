// Images that requests point to: got over HTTPS from hosts that the server's owner named, and from no others.
#pragma once

#include <string>
#include <vector>

#include "server/api/image_parts.h"

namespace llamita::cli {

// The host of an https: URL in lower case; "" for one that has no host, or has a user, a port other than 443
// or an escape in it.
std::string host_of_url(const std::string& url);

// Empty when there are no hosts. The body is refused as soon as it passes its limit, redirects to other hosts
// too.
server::FetchImage fetch_from_hosts(std::vector<std::string> hosts);

}  // namespace llamita::cli
