// Damaged model files: whatever is cut, flipped, removed or repeated in one, loading it and its tokenizer
// ends in a model that computes or in an Error. Anything else (another exception, a failed check, a crash) is
// a bug. A crash leaves the file that caused it in the temporary folder.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "formats/gguf.h"
#include "support/golden_model.h"
#include "support/model_steps.h"
#include "support/temp_dir.h"
#include "text/tokenizer.h"

namespace llamita {
namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A new file and no rewritten one: some file systems flush those to the disk.
std::string rewrite(const test::TempDir& dir, const std::string& name, const std::string& bytes) {
  std::filesystem::remove(dir.path() / name);
  return dir.write(name, bytes);
}

// One seeded damage after another; most of them within the first `head` bytes, where the structure is.
class Damage {
 public:
  Damage(uint32_t seed, std::string_view alphabet) : random_(seed), alphabet_(alphabet) {}

  std::string apply(std::string bytes, size_t head) {
    head = std::min(head, bytes.size());
    const auto position = [&] { return below(below(8) == 0 ? bytes.size() : head); };
    switch (below(6)) {
      case 0: bytes.resize(position()); break;
      case 1: bytes.erase(position(), 1 + below(16)); break;
      case 2: {
        const size_t from = position();
        bytes.insert(position(), bytes.substr(from, 1 + below(32)));
        break;
      }
      case 3:
        for (size_t i = 0, flips = 1 + below(4); i < flips; ++i)
          bytes[position()] ^= static_cast<char>(1 << below(8));
        break;
      default:
        for (size_t i = 0, bad = 1 + below(3); i < bad; ++i) bytes[position()] = any_byte();
        break;
    }
    return bytes;
  }

 private:
  size_t below(size_t end) { return static_cast<size_t>(random_() % end); }
  char any_byte() {
    return alphabet_.empty() ? static_cast<char>(below(256)) : alphabet_[below(alphabet_.size())];
  }

  std::mt19937 random_;  // its sequence is the same everywhere
  std::string_view alphabet_;
};

struct Tally {
  int loaded = 0, refused = 0;
};

// Loads what lies at `path`; a model that loads must also compute.
void expect_model_or_error(const std::string& path, Tally& tally) {
  const auto attempt = [&](const auto& load) {
    try {
      load();
      ++tally.loaded;
    } catch (const Error& error) {
      EXPECT_STRNE(error.what(), "");
      ++tally.refused;
    } catch (const std::exception& other) {
      ADD_FAILURE() << path << ": not an Error but " << other.what();
    }
  };
  attempt([&] {
    const auto model = load_model(path);
    if (model->config().vocab > 2) test::ModelSteps(*model).run({{0, {0, 2, 1}}});
  });
  attempt([&] {
    const auto tokenizer = std::filesystem::is_directory(path) ? Tokenizer::from_folder(path)
                                                               : Tokenizer::from_gguf(gguf::File::open(path));
    const auto ids = tokenizer->encode("Hello, world 42 <|x|> \xc3\xa9", true, false);
    tokenizer->decode(ids, false);
  });
}

// Bytes before the first tensor.
size_t header_bytes(const std::string& path) {
  const gguf::File file = gguf::File::open(path);
  size_t first = SIZE_MAX;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const std::byte* begin = tensor.file->bytes().data();
    if (tensor.file->path() == path) first = std::min(first, static_cast<size_t>(tensor.data.data() - begin));
  }
  return first;
}

class HostileGguf : public testing::TestWithParam<const char*> {};

TEST_P(HostileGguf, EveryDamageIsAModelOrAnError) {
  const std::filesystem::path folder = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/gguf";
  const std::string name = GetParam();
  const test::TempDir dir;
  const std::string stem = name.substr(0, name.find("-00001"));
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(stem))
      std::filesystem::copy(entry.path(), dir.path() / entry.path().filename());
  }
  const std::string whole = read(folder / name);
  const size_t head = header_bytes((folder / name).string());
  Damage damage(7, "");
  Tally tally;
  for (int i = 0; i < 150; ++i) expect_model_or_error(rewrite(dir, name, damage.apply(whole, head)), tally);
  EXPECT_GT(tally.refused, 75) << "the damage must be felt";
}

INSTANTIATE_TEST_SUITE_P(Files, HostileGguf,
                         testing::Values("llama-f32.gguf", "llama-tied-bias-f16.gguf",
                                         "llama-llama3-bf16-00001-of-00003.gguf", "llama-linear-bf16.gguf",
                                         "llama-yarn-bf16.gguf", "qwen2-bf16.gguf", "qwen3-bf16.gguf",
                                         "gpt2-f32.gguf", "llama-q8_0.gguf", "llama-q4_1.gguf"),
                         [](const auto& file) {
                           std::string out =
                               std::string(file.param).substr(0, std::string(file.param).find('.'));
                           std::replace(out.begin(), out.end(), '-', '_');
                           return out;
                         });

class HostileFolder : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(HostileFolder, EveryDamageIsAModelOrAnError) {
  const auto [model, victim] = GetParam();
  const test::TempDir dir;
  for (const auto& entry : std::filesystem::directory_iterator(test::golden_model(model))) {
    const std::string name = entry.path().filename().string();
    if (name != "golden.safetensors") std::filesystem::copy(entry.path(), dir.path() / name);
  }
  const std::string whole = read(dir.path() / victim);
  const bool json = std::string_view(victim).ends_with(".json");
  const size_t head = json ? whole.size() : 4096;  // the header of a few dozen tensors
  // Damage that stays JSON more often than random bytes do.
  Damage damage(11, json ? "0123456789-.eE\"{}[],: truefalsn" : "");
  Tally tally;
  for (int i = 0; i < 200; ++i) {
    rewrite(dir, victim, damage.apply(whole, head));
    expect_model_or_error(dir.path().string(), tally);
  }
  EXPECT_GT(tally.refused, 50) << "the damage must be felt";
}

INSTANTIATE_TEST_SUITE_P(
    Files, HostileFolder,
    testing::Values(std::pair("llama-yarn", "config.json"), std::pair("llama-yarn", "tokenizer.json"),
                    std::pair("llama-yarn", "model.safetensors"), std::pair("gpt2", "config.json"),
                    std::pair("gpt2", "tokenizer.json"), std::pair("gpt2", "model.safetensors")),
    [](const auto& pair) {
      std::string out = std::string(pair.param.first) + "_" + pair.param.second;
      for (char& c : out) c = c == '-' || c == '.' ? '_' : c;
      return out;
    });

}  // namespace
}  // namespace llamita
