// Tokens a second of llama.cpp after contexts of many tokens, which llama-bench computes anew each time it is
// started. Here a context is computed once and kept in a file: the speed does not depend on what it holds, so
// files of one shape share them.
//
//   llama_depth MODEL THREADS FLASH(0|1) TOKENS REPETITIONS STATES DEPTH...
//     STATES  what the names of the files begin with; DEPTHs ascend
//
// Prints a line of JSON a depth: {"depth": N, "samples": [tokens a second, ...]}. As llama-bench measures:
// batches of 2048 in parts of 512, an f16 cache, a token at a time, random tokens.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "llama.h"

namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "llama_depth: %s\n", what.c_str());
  std::exit(1);
}

struct Bench {
  llama_context* context;
  int vocabulary;

  void decode(int count) {
    std::vector<llama_token> tokens(static_cast<size_t>(count));
    for (llama_token& token : tokens) token = std::rand() % vocabulary;
    if (llama_decode(context, llama_batch_get_one(tokens.data(), count)) != 0) fail("llama_decode failed");
    llama_synchronize(context);
  }

  void rewind(int depth) { llama_memory_seq_rm(llama_get_memory(context), 0, depth, -1); }

  // From `from` tokens, which are there, to `depth`.
  void fill(int from, int depth, const std::string& file) {
    std::vector<llama_token> tokens(1);
    size_t count = 0;
    const bool is_there = std::ifstream(file).good();
    if (is_there) {
      if (!llama_state_load_file(context, file.c_str(), tokens.data(), tokens.size(), &count))
        fail("cannot read " + file + ": delete it");
      return;
    }
    for (int at = from; at < depth; at += 2048) decode(depth - at < 2048 ? depth - at : 2048);
    const std::string partial = file + ".partial";
    if (!llama_state_save_file(context, partial.c_str(), tokens.data(), 0) ||
        std::rename(partial.c_str(), file.c_str()) != 0)
      fail("cannot write " + file);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8) fail("MODEL THREADS FLASH TOKENS REPETITIONS STATES DEPTH...");
  const int threads = std::atoi(argv[2]), flash = std::atoi(argv[3]), tokens = std::atoi(argv[4]);
  const int repetitions = std::atoi(argv[5]), deepest = std::atoi(argv[argc - 1]);
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) fail(std::string("cannot load ") + argv[1]);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>((deepest + tokens + 255) / 256 * 256);
  params.n_batch = 2048, params.n_ubatch = 512;
  params.n_threads = params.n_threads_batch = threads;
  params.flash_attn_type = flash != 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  Bench bench{llama_init_from_model(model, params), llama_vocab_n_tokens(llama_model_get_vocab(model))};
  if (bench.context == nullptr) fail("no context");
  for (int i = 7, before = 0; i < argc; ++i) {
    const int depth = std::atoi(argv[i]);
    bench.rewind(before);
    bench.fill(before, depth,
               std::string(argv[6]) + "-d" + argv[i] + (flash != 0 ? "-flash" : "") + ".state");
    before = depth;
    bench.decode(1);  // warms up
    std::printf("{\"depth\": %d, \"samples\": [", depth);
    for (int repetition = 0; repetition < repetitions; ++repetition) {
      bench.rewind(depth);
      const auto begin = std::chrono::steady_clock::now();
      for (int token = 0; token < tokens; ++token) bench.decode(1);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      std::printf("%s%.3f", repetition > 0 ? ", " : "", tokens / seconds.count());
    }
    std::printf("]}\n");
  }
  llama_free(bench.context);
  llama_model_free(model);
}
