// Any bytes as text, for tokenizers of every kind: the first byte chooses the tokenizer, the second the
// trust, the third where the text is cut in two pieces. Ids are in range, untrusted text makes no control
// token, streamed text is the decoded text, and a byte-level tokenizer without a normalizer gives the text
// back.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "text/detokenizer.h"
#include "text/scanners.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace {

using namespace llamita;

void require(bool truth) {
  if (!truth) std::abort();
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + '"';
}

constexpr const char* kMerges = R"("merges":["t h","th e","e r","a a","aa aa"])";
constexpr const char* kAdded =
    R"("added_tokens":[{"id":300,"content":"<s>","special":true,"normalized":false},
       {"id":301,"content":"<t>","normalized":false,"lstrip":true},{"id":302,"content":"<n>","normalized":true,"rstrip":true}])";

std::string with_tokens(std::string vocab, std::initializer_list<const char*> tokens, int next) {
  for (const char* token : tokens) vocab += quoted(token) + ":" + std::to_string(next++) + ",";
  vocab.pop_back();
  return vocab;
}

std::unique_ptr<Tokenizer> byte_level(const std::string& pre_tokenizer) {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelling = unicode::to_utf8(byte_to_char(static_cast<unsigned char>(byte)));
    vocab += quoted(spelling) + ":" + std::to_string(byte) + ",";
  }
  vocab = with_tokens(vocab, {"th", "the", "er", "aa", "aaaa"}, 256);
  return Tokenizer::from_json(
      "{\"model\":{\"type\":\"BPE\",\"vocab\":{" + vocab + "}," + kMerges + "}," + kAdded +
          ",\"decoder\":{\"type\":\"ByteLevel\"},\"pre_tokenizer\":" + pre_tokenizer + "}",
      "byte level");
}

std::unique_ptr<Tokenizer> sentencepiece() {
  std::string vocab = "\"<unk>\":256,";
  for (int byte = 0; byte < 256; ++byte) {
    const char digits[] = "0123456789ABCDEF";
    const std::string token = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
    vocab += quoted(token) + ":" + std::to_string(byte) + ",";
  }
  vocab = with_tokens(vocab, {"t", "h", "e", "r", "a", "\u2581", "th", "the", "er", "aa", "aaaa"}, 257);
  return Tokenizer::from_json(
      "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"vocab\":{" + vocab +
          "}," + kMerges + "}," + kAdded +
          R"(,"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Prepend","prepend":"▁"},
          {"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"decoder":{"type":"Sequence","decoders":[
          {"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},
          {"type":"Strip","content":" ","start":1,"stop":0}]}})",
      "sentencepiece");
}

// Split by a pattern, then bytes.
std::string split(const std::string& pattern) {
  std::string escaped;
  for (const char c : pattern) {
    if (c == '\\') escaped.push_back('\\');
    escaped.push_back(c);
  }
  return R"({"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","pattern":{"Regex":")" +
         escaped + R"("}},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
}

constexpr size_t kKinds = 5;

const Tokenizer& tokenizer(size_t kind) {
  static const std::array<std::unique_ptr<Tokenizer>, kKinds> all = {
      byte_level(R"({"type":"ByteLevel","add_prefix_space":false})"),
      byte_level(split(std::string(kLlama3Pattern))),
      byte_level(split(std::string(kTekkenPattern))),
      byte_level(split(R"(\s?\p{L}+|\s+$|\p{N}{1,3})")),
      sentencepiece(),
  };
  return *all[kind];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t kind = data[0] % kKinds;
  const Tokenizer& subject = tokenizer(kind);
  const std::string_view bytes(reinterpret_cast<const char*>(data + 3), size - 3);
  const size_t cut = std::min<size_t>(data[2], bytes.size());
  const std::array<Piece, 2> pieces = {Piece{std::string(bytes.substr(0, cut)), (data[1] & 1) != 0},
                                       Piece{std::string(bytes.substr(cut)), (data[1] & 2) != 0}};
  const bool trusted = pieces[0].trusted || pieces[1].trusted;
  const auto ids = subject.encode(pieces, false);
  Detokenizer detokenizer(subject);
  std::string streamed;
  for (const int32_t id : ids) {
    require(id >= 0 && id < subject.vocab_size());
    require(trusted || !subject.is_control(id));
    const std::string part = detokenizer.push(id);
    require(unicode::is_valid(part));
    streamed += part;
  }
  streamed += detokenizer.finish();
  require(streamed == subject.decode(ids, true));
  const bool strips =
      bytes.find("<t>") != std::string_view::npos || bytes.find("<n>") != std::string_view::npos;
  if (kind != kKinds - 1 && pieces[0].trusted == pieces[1].trusted && !strips) {
    std::string clean;
    unicode::append_lossy(clean, bytes);
    require(subject.decode(ids, false) == clean);
  }
  return 0;
}
