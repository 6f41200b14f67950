#include "cli/made_up_folder.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/cat.h"
#include "cli/output.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/utf8.h"
#include "llamita/error.h"
#include "models/model.h"
#include "tensor/float16.h"
#include "text/tokenizer_files.h"
#include "weights/stored_rows.h"

namespace llamita::cli {

namespace {

class OutputFile {
 public:
  explicit OutputFile(const std::string& path)
      : path_(path), stream_(path, std::ios::binary | std::ios::trunc) {
    require_good();
  }
  void write(const void* data, size_t bytes) {
    stream_.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
    require_good();
  }
  void write(const std::string& text) { write(text.data(), text.size()); }
  void close() {
    stream_.close();
    require_good();
  }

 private:
  void require_good() const {
    if (!stream_) throw Error(cat("cannot write ", path_, ": is there room on the disk?"));
  }
  std::string path_;
  std::ofstream stream_;
};

// Every byte a token, as byte-level tokenizers write bytes: the printable ones as themselves, the others as
// the characters from 256 on.
std::string byte_tokenizer() {
  Json::Object vocabulary;
  int beyond = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    std::string text;
    append_utf8(text, static_cast<char32_t>(printable ? byte : beyond++));
    vocabulary.emplace_back(text, Json(int64_t{byte}));
  }
  const std::string level =
      R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
  return cat(R"({"version": "1.0", "added_tokens": [], "pre_tokenizer": )", level, R"(, "decoder": )", level,
             R"(, "model": {"type": "BPE", "vocab": )", Json(std::move(vocabulary)).dump(),
             R"(, "merges": []}})");
}

// The header of a safetensors file: where each tensor's bytes lie, one after the other.
std::string header_of(const std::vector<StoredTensor>& tensors) {
  std::string text;
  int64_t end = 0;
  for (const StoredTensor& tensor : tensors) {
    std::string shape;
    for (const int64_t dim : tensor.shape) shape += cat(shape.empty() ? "" : ", ", dim);
    const int64_t begin = end;
    end += stored_bytes(tensor);
    text += cat(text.empty() ? "{" : ", ", Json(tensor.name).dump(), R"(: {"dtype": "BF16", "shape": [)",
                shape, R"(], "data_offsets": [)", begin, ", ", end, "]}");
  }
  return text + "}";
}

void write_tensors(const std::vector<StoredTensor>& tensors, const std::string& path, ThreadPool& pool) {
  std::string text = header_of(tensors);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  OutputFile out(path);
  const uint64_t length = text.size();
  out.write(&length, sizeof length);
  out.write(text);
  constexpr int64_t kPiece = int64_t{32} << 20;
  std::vector<bf16> piece(static_cast<size_t>(kPiece));
  for (const StoredTensor& tensor : tensors) {
    const MadeUp numbers = numbers_for(tensor);
    for (int64_t begin = 0; begin < elements(tensor); begin += kPiece) {
      const int64_t count = std::min(kPiece, elements(tensor) - begin);
      pool.parallel_for(count, 1 << 16, [&](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; ++i)
          piece[static_cast<size_t>(i)] = to_bf16(made_up_value(numbers, static_cast<uint64_t>(begin + i)));
      });
      out.write(piece.data(), static_cast<size_t>(count) * sizeof(bf16));
    }
  }
  out.close();
}

}  // namespace

void write_made_up_folder(const TensorFiles& files, const std::string& folder, const std::string& tokenizer,
                          ThreadPool& pool) {
  TokenizerFiles of_model;  // read first: a file that is none leaves nothing behind
  if (tokenizer.ends_with(".gguf"))
    of_model = tokenizer_files(gguf::File::open(tokenizer));
  else
    of_model.tokenizer = tokenizer.empty() ? byte_tokenizer() : read_file(tokenizer);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"})
    if (std::filesystem::exists(std::filesystem::path(folder) / name))
      throw Error(cat(folder, " has a ", name, " already: made-up weights go to a folder without a model"));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw Error(cat("cannot make the folder ", folder, ": ", error.message()));
  const auto write = [&](const char* name, const std::string& text) {
    OutputFile out(cat(folder, "/", name));
    out.write(text);
    out.close();
  };
  write("config.json", files.config().dump() + "\n");
  write("tokenizer.json", of_model.tokenizer);
  if (!of_model.config.empty()) write("tokenizer_config.json", of_model.config);
  write_tensors(made_up_tensors(files), folder + "/model.safetensors", pool);
}

}  // namespace llamita::cli
