#include "server/api/image_parts.h"

#include <array>
#include <cstdint>

#include "base/cat.h"
#include "llamita/error.h"
#include "server/api/api_error.h"

namespace llamita::server {

namespace {

constexpr uint8_t kNoDigit = 64;

constexpr std::array<uint8_t, 256> base64_digits() {
  std::array<uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    digits[static_cast<uint8_t>(kAlphabet[i])] = static_cast<uint8_t>(i);
  return digits;
}

constexpr std::array<uint8_t, 256> kDigits = base64_digits();

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw ApiError(400, cat(path, why), path, "invalid_image");
}

// Schemes and ";base64" are the same in either case.
std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

bool has_scheme(std::string_view url, std::string_view scheme) {
  return lower(url.substr(0, scheme.size())) == scheme;
}

std::string_view without_padding(std::string_view text) {
  for (int padding = 0; padding < 2 && !text.empty() && text.back() == '='; ++padding) text.remove_suffix(1);
  return text;
}

// What follows "data:": "image/png;base64,…". The media type is not believed: the bytes tell.
std::string read_data_url(std::string_view rest, const std::string& path, size_t limit) {
  constexpr std::string_view kMark = ";base64,";
  const size_t mark = lower(rest.substr(0, 256)).find(kMark);
  if (mark == std::string_view::npos) refuse(path, " must be a data: URL in base64: data:image/png;base64,…");
  rest.remove_prefix(mark + kMark.size());
  const size_t digits = without_padding(rest).size();
  if (digits / 4 * 3 + digits % 4 * 3 / 4 > limit) {
    refuse(path, cat(" has an image of more than ", limit, " bytes"));
  }
  std::string bytes;
  if (!decode_base64(rest, bytes)) refuse(path, " is not in base64");
  return bytes;
}

}  // namespace

bool decode_base64(std::string_view text, std::string& out) {
  const size_t whole = text.size();
  text = without_padding(text);
  if (text.size() % 4 == 1 || (text.size() != whole && whole % 4 != 0)) return false;
  out.clear();
  out.reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const uint8_t digit = kDigits[static_cast<uint8_t>(c)];
    if (digit == kNoDigit) return false;
    bits = bits << 6 | digit;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out.push_back(static_cast<char>(bits >> held & 0xff));
  }
  return (bits & ((1u << held) - 1)) == 0;  // what is left of the last digit says nothing
}

ImageSource read_image(const Json& value, const std::string& path, const ImageLimits& limits, bool fetches) {
  const std::string url_path = path + ".image_url.url";
  std::string_view url;
  if (value.is_string()) {
    url = value.as_string("");
  } else {
    const Json* text = value.find("url");  // beside it "detail": every image is seen in the tower's one size
    if (text == nullptr || !text->is_string()) refuse(url_path, " must be given, as a string");
    url = text->as_string("");
  }
  constexpr std::string_view kData = "data:", kHttps = "https://";
  if (has_scheme(url, kData)) {
    std::string file = read_data_url(url.substr(kData.size()), url_path, limits.bytes);
    return {std::make_shared<const std::string>(std::move(file)), {}, url_path};
  }
  if (!fetches) refuse(url_path, " must be a data: URL: this server fetches no images from elsewhere");
  if (!has_scheme(url, kHttps)) refuse(url_path, " must be a data: or https: URL");
  return {nullptr, std::string(url), url_path};
}

std::shared_ptr<const std::string> fetch_image(const ImageSource& source, const FetchImage& fetch,
                                               const FetchTerms& terms) {
  try {
    return std::make_shared<const std::string>(fetch(source.url, terms));
  } catch (const Error& error) {
    refuse(source.path, cat(": ", error.what()));
  }
}

}  // namespace llamita::server
