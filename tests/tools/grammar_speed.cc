// What masks cost on a real vocabulary: grammar_speed <tokenizer folder or .gguf> [schema.json]
// Walks at random through the schema, first with an empty cache, then with it filled.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/json.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"

using namespace llamita;
using namespace llamita::grammar;
using Clock = std::chrono::steady_clock;

namespace {

double microseconds(Clock::time_point since) {
  return std::chrono::duration<double, std::micro>(Clock::now() - since).count();
}

std::vector<double> walk(const std::shared_ptr<MaskCache>& masks, int walks) {
  std::vector<double> times;
  std::vector<uint32_t> mask(masks->trie().mask_words());
  for (int i = 0; i < walks; ++i) {
    Matcher matcher(masks);
    std::mt19937_64 random(static_cast<uint64_t>(i));
    for (int step = 0; step < 200 && !matcher.is_finished(); ++step) {
      const auto start = Clock::now();
      size_t pick = matcher.fill_mask(mask);
      times.push_back(microseconds(start));
      pick = random() % pick;
      int32_t token = 0;
      for (;; ++token) {
        if ((mask[size_t(token) / 32] >> (token % 32) & 1) != 0 && pick-- == 0) break;
      }
      matcher.accept(token);
    }
  }
  std::sort(times.begin(), times.end());
  return times;
}

void print(const char* name, const std::vector<double>& times) {
  const auto at = [&](double part) {
    return times[static_cast<size_t>(part * static_cast<double>(times.size() - 1))];
  };
  std::printf("%-6s %7zu masks: median %8.1f us, 90 %% %8.1f, 99 %% %8.1f, worst %8.1f\n", name, times.size(),
              at(0.5), at(0.9), at(0.99), at(1));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2)
    return std::fprintf(stderr, "usage: grammar_speed <tokenizer folder or .gguf> [schema.json]\n"), 2;
  const std::string path = argv[1];
  const auto tokenizer =
      path.ends_with(".gguf") ? Tokenizer::from_gguf(gguf::File::open(path)) : Tokenizer::from_folder(path);
  auto start = Clock::now();
  const auto trie = std::make_shared<const TokenTrie>(*tokenizer);
  std::printf("%d tokens, trie of %d nodes in %.1f ms\n", tokenizer->vocab_size(), trie->size(),
              microseconds(start) / 1000);
  start = Clock::now();
  const auto grammar = argc > 2 ? json_schema_grammar(Json::parse_file(argv[2])) : json_object_grammar();
  std::printf("%zu rules, %zu states in %.2f ms\n", grammar->rule_count(), grammar->state_count(),
              microseconds(start) / 1000);
  const auto masks = std::make_shared<MaskCache>(grammar, trie);
  print("cold", walk(masks, 1));
  walk(masks, 20);
  print("warm", walk(masks, 20));
  return 0;
}
