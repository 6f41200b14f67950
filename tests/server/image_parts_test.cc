// Images in bodies of requests: base64 and data: URLs to the byte, what is refused, every limit at its edge.
#include "server/api/image_parts.h"

#include <gtest/gtest.h>

#include "base/cat.h"
#include "server/api/api_error.h"
#include "server/api/generation_request.h"
#include "server/api/reply_format.h"
#include "support/expect_error.h"

namespace llamita::server {
namespace {

std::string data_url(const std::string& bytes, const std::string& type = "image/png") {
  return cat("data:", type, ";base64,",
             base64(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

std::string url_json(const std::string& url) { return Json(Json::Object{{"url", Json(url)}}).dump(); }

// What an image_url of this JSON is, or the message that refuses it.
std::string read(const std::string& json, const ImageLimits& limits = {}, const FetchImage& fetch = {}) {
  try {
    const ImageSource source =
        read_image(Json::parse(json, "test"), "messages[0].content", limits, fetch != nullptr);
    if (source.file) return *source.file;
    return *fetch_image(source, fetch, {limits.bytes, std::chrono::seconds(3), {}});
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    return cat("refused: ", error.what());
  }
}

TEST(Base64, EveryLengthComesBack) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    std::string out = "old";
    const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
    std::string text = base64(from, bytes.size());
    ASSERT_TRUE(decode_base64(text, out));
    ASSERT_EQ(out, bytes);
    while (!text.empty() && text.back() == '=') text.pop_back();
    ASSERT_TRUE(decode_base64(text, out));
    ASSERT_EQ(out, bytes);
    bytes.push_back(static_cast<char>(i * 37 + 11));
  }
}

TEST(Base64, WhatIsNone) {
  std::string out;
  for (const char* text : {"A", "AAAAA", "AA=A", "A===", "AAAA=", "AAA==", "=", "AA AA", "AA\n", "AAA-", "AB",
                           "AAB", "\xff\xff\xff\xff"})
    EXPECT_FALSE(decode_base64(text, out)) << text;
}

TEST(ImageUrl, DataUrlsAreDecodedWhateverTheirType) {
  EXPECT_EQ(read(url_json(data_url("pixels"))), "pixels");
  EXPECT_EQ(read(url_json(data_url("pixels", "image/jpeg;name=a"))), "pixels");
  EXPECT_EQ(read(url_json(data_url("pixels", ""))), "pixels");
  EXPECT_EQ(read(Json(data_url("pixels")).dump()), "pixels");
  EXPECT_EQ(read(R"({"url": "data:;base64,AAAA", "detail": "high"})"), std::string(3, '\0'));
  EXPECT_EQ(read(R"("DATA:image/png;BASE64,AAAA")"), std::string(3, '\0'));
  EXPECT_EQ(read(R"("Data:image/png;charset=x;Base64,aaaa")"), "i\xa6\x9a");
}

TEST(ImageUrl, OthersAreRefused) {
  for (const char* json : {R"({})", R"({"url": 7})", R"({"url": "data:image/png,raw"})", R"("data:")",
                           R"({"url": "data:image/png;base64,$$$$"})", R"({"url": "file:///etc/passwd"})",
                           R"({"url": "https://example.org/a.png"})", R"({"url": ""})"})
    EXPECT_EQ(read(json).rfind("refused: messages[0].content.image_url.url", 0), 0u) << json << read(json);
}

TEST(ImageUrl, TheLimitOfBytes) {
  ImageLimits limits;
  for (size_t most = 1; most <= 9; ++most) {
    limits.bytes = most;
    const std::string whole(most, 'x');
    EXPECT_EQ(read(url_json(data_url(whole.substr(1))), limits), whole.substr(1));
    EXPECT_EQ(read(url_json(data_url(whole)), limits), whole);
    const std::string refused = read(url_json(data_url(whole + "x")), limits);
    EXPECT_NE(refused.find(cat("more than ", most, " bytes")), std::string::npos) << refused;
  }
}

TEST(ImageUrl, RemoteOnesAreFetchedOnlyWhereSomebodyDoes) {
  std::string asked;
  const FetchImage fetch = [&](const std::string& url, const FetchTerms& terms) {
    asked = cat(url, " ", terms.most_bytes, " in ", terms.most_time.count());
    if (url.find("bad") != std::string::npos) throw Error("the image's host answered 404");
    return std::string("remote");
  };
  EXPECT_EQ(read(url_json("https://example.org/a.png"), {}, fetch), "remote");
  EXPECT_EQ(asked, cat("https://example.org/a.png ", ImageLimits{}.bytes, " in 3000"));
  EXPECT_EQ(read(url_json("HTTPS://example.org/a.png"), {}, fetch), "remote");
  const std::string bad = read(url_json("https://example.org/bad"), {}, fetch);
  EXPECT_EQ(bad, "refused: messages[0].content.image_url.url: the image's host answered 404");
  asked.clear();
  EXPECT_NE(read(url_json("http://example.org/a.png"), {}, fetch).find("data: or https:"), std::string::npos);
  EXPECT_EQ(asked, "");
}

std::string body_with(int images) {
  std::string parts = R"({"type":"text","text":"before"})";
  for (int i = 0; i < images; ++i)
    parts += cat(R"(,{"type":"image_url","image_url":)", url_json(data_url(cat("image ", i))), "}");
  return cat(R"({"messages":[{"role":"user","content":[)", parts, R"(,{"type":"text","text":"behind"}]}]})");
}

TEST(ImageParts, KeepTheirPlacesBetweenTexts) {
  ParseContext context;
  context.takes_images = true;
  const GenerationRequest request = parse_chat(body_with(2), context);
  const Message& message = std::get<Conversation>(request.requests.at(0).prompt).at(0);
  EXPECT_EQ(message.content, "beforebehind");
  ASSERT_EQ(message.pictures.size(), 2u);
  EXPECT_EQ(*message.pictures[1].file, "image 1");
  EXPECT_EQ(message.pictures[0].at, 6u);
  EXPECT_EQ(message.pictures[1].at, 6u);
}

TEST(ImageParts, TheLimitOfImagesAndModelsWithoutEyes) {
  ParseContext context;
  context.takes_images = true;
  context.limits.images.images = 3;
  EXPECT_NO_THROW(parse_chat(body_with(3), context));
  EXPECT_THROW(parse_chat(body_with(4), context), ApiError);
  context.takes_images = false;
  EXPECT_THROW(parse_chat(body_with(1), context), ApiError);
  context.limits.images.images = 0;
  EXPECT_ERROR(parse_chat(body_with(1), context), "this server takes none (--max-images 0)");
  EXPECT_NO_THROW(parse_chat(body_with(0), context));
}

TEST(ImageParts, TheDefaultLimits) {
  ParseContext context;
  context.takes_images = true;
  for (const int images : {7, 8}) EXPECT_NO_THROW(parse_chat(body_with(images), context)) << images;
  EXPECT_THROW(parse_chat(body_with(9), context), ApiError);
  constexpr size_t kMost = size_t{16} << 20;
  for (const size_t bytes : {kMost - 1, kMost, kMost + 1}) {
    const Json url(data_url(std::string(bytes, 'x')));
    if (bytes <= kMost) {
      EXPECT_EQ(read_image(url, "image", {}, false).file->size(), bytes);
    } else {
      EXPECT_THROW(read_image(url, "image", {}, false), ApiError);
    }
  }
}

}  // namespace
}  // namespace llamita::server
