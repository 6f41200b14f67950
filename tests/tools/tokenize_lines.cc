// tokenize_lines FOLDER|FILE.gguf < requests > answers: our tokenizer for the scripts that compare it with
// others. A request is a line, its answer is a line:
//   t HEX          ids of the trusted text with these bytes      u HEX      of the untrusted one
//   T HEX          the same as t with the post-processor's tokens
//   p t:HEX u:HEX  ids of pieces
//   d ID ID        hex of decode() with and of decode() without control tokens; "differs" after these when
//   the
//                  streamed text is not the latter
// An Error is answered by "error: …".
#include <iostream>
#include <sstream>

#include "base/cat.h"
#include "formats/gguf.h"
#include "llamita/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace {

using namespace llamita;

std::string from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  return out;
}

std::string to_hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    out.push_back("0123456789abcdef"[static_cast<unsigned char>(c) >> 4]);
    out.push_back("0123456789abcdef"[static_cast<unsigned char>(c) & 15]);
  }
  return out;
}

std::string joined(const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) out += cat(out.empty() ? "" : " ", id);
  return out;
}

std::string decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const std::string text = tokenizer.decode(ids, true);
  Detokenizer detokenizer(tokenizer);
  std::string streamed;
  for (const int32_t id : ids) streamed += detokenizer.push(id);
  streamed += detokenizer.finish();
  return cat(to_hex(tokenizer.decode(ids, false)), "|", to_hex(text), streamed == text ? "" : "|differs");
}

std::string answer(const Tokenizer& tokenizer, const std::string& line) {
  const char command = line.empty() ? ' ' : line[0];
  std::istringstream rest(line.size() > 2 ? line.substr(2) : "");
  if (command == 'd') {
    std::vector<int32_t> ids;
    for (int32_t id; rest >> id;) ids.push_back(id);
    return decode(tokenizer, ids);
  }
  if (command == 'p') {
    std::vector<Piece> pieces;
    for (std::string item; rest >> item;) pieces.push_back({from_hex(item.substr(2)), item[0] == 't'});
    return joined(tokenizer.encode(pieces, false));
  }
  if (command == 't' || command == 'u' || command == 'T') {
    return joined(tokenizer.encode(from_hex(rest.str()), command == 'T', command != 'u'));
  }
  throw Error(cat("unknown request \"", line, "\""));
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  try {
    const std::string path = argc == 2 ? argv[1] : throw Error("usage: tokenize_lines FOLDER|FILE.gguf");
    const auto tokenizer =
        path.ends_with(".gguf") ? Tokenizer::from_gguf(gguf::File::open(path)) : Tokenizer::from_folder(path);
    for (std::string line; std::getline(std::cin, line);) {
      try {
        std::cout << answer(*tokenizer, line) << '\n';
      } catch (const Error& error) {
        std::cout << "error: " << error.what() << '\n';
      }
    }
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
