#include "server/http/message.h"

#include <charconv>
#include <cstdio>

#include "base/cat.h"

namespace llamita::server {

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

bool HttpRequest::has_header(std::string_view name) const {
  for (const auto& entry : headers) {
    if (entry.first == name) return true;
  }
  return false;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    default: return "Status";
  }
}

std::string http_date(std::time_t time) {
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  char rest[40];
  std::snprintf(rest, sizeof rest, " %04d %02d:%02d:%02d GMT", utc.tm_year + 1900, utc.tm_hour, utc.tm_min,
                utc.tm_sec);
  return cat(kDays[utc.tm_wday], ", ", utc.tm_mday < 10 ? "0" : "", utc.tm_mday, " ", kMonths[utc.tm_mon],
             rest);
}

std::string response_head(int status, const Headers& headers, std::string_view framing, bool keep_alive) {
  std::string head = cat("HTTP/1.1 ", status, " ", reason_phrase(status),
                         "\r\nDate: ", http_date(std::time(nullptr)), "\r\n");
  for (const auto& [name, value] : headers) head += cat(name, ": ", value, "\r\n");
  if (!framing.empty()) head += cat(framing, "\r\n");
  if (!keep_alive) head += "Connection: close\r\n";
  return head += "\r\n";
}

std::string chunk(std::string_view piece) {
  char size[20];
  const auto end = std::to_chars(size, size + sizeof size, piece.size(), 16);
  std::string out(size, end.ptr);
  out.append("\r\n").append(piece).append("\r\n");
  return out;
}

}  // namespace llamita::server
