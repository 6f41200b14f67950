// LLM: a loaded model that answers.
//
//   llamita::LLM llm = llamita::LLM::load("model.gguf");
//   auto done = llm.generate({{llamita::Conversation{{"user", "Why is the sky blue?"}}, {}}},
//                            [](const llamita::Delta& delta) { std::cout << delta.text << std::flush; });
//
// One LLM is used from one thread at a time; only CancelToken may be touched from others.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "llamita/engine_config.h"
#include "llamita/error.h"
#include "llamita/request.h"

namespace llamita {

// Cancels a running generate() from another thread or a signal handler: it ends after the step under way.
class CancelToken {
 public:
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  void reset() { cancelled_.store(false, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

struct ModelInfo {
  std::string name;
  std::string family;  // "llama", "qwen2", …
  int64_t parameters = 0;
  int64_t weight_bytes = 0;  // in memory
  int64_t kv_bytes = 0;      // of the whole cache
  int context = 0;           // longest sequence, tokens
  int vocab_size = 0;
  bool has_chat_template = false;
  bool takes_tools = false;    // the chat template has a place for ChatOptions::tools
  int image_tokens = 0;        // that a picture takes in a prompt; 0: the model takes none
  std::string template_error;  // why the chat template that the files carry cannot be used
};

class LLM {
 public:
  using Progress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;
  using Stream = std::function<void(const Delta&)>;

  // `path` is a model folder (config.json, *.safetensors, tokenizer.json) or a .gguf file. Throws Error when
  // it is missing, broken or not supported, or when the machine lacks the memory for it.
  static LLM load(const std::string& path, const EngineConfig& config = {}, const Progress& progress = {});
  ~LLM();
  LLM(LLM&&) noexcept;
  LLM& operator=(LLM&&) noexcept;

  // Answers all requests together, each as if it were alone. A request that cannot be served (too long, bad
  // options) comes back with FinishReason::error and does not disturb the others. `stream` is called on this
  // thread as text arrives; an exception from it ends the call. Prompts that share a prefix with the previous
  // call's sequences reuse its keys and values where possible, which never changes a result.
  std::vector<Completion> generate(const std::vector<Request>& requests, const Stream& stream = {},
                                   const CancelToken* cancel = nullptr);

  const ModelInfo& info() const;
  std::vector<int32_t> tokenize(std::string_view text, bool add_special = true) const;
  std::string detokenize(const std::vector<int32_t>& tokens) const;
  // The prompt a conversation becomes, for people to read. Throws Error when the model has no chat template.
  std::string render_chat(const Conversation& conversation) const;

 private:
  struct Impl;
  explicit LLM(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace llamita
