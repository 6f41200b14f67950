// An AsyncEngine over a fake model, a listener that keeps what it hears, and a gate that holds steps back.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/threaded_engine.h"
#include "support/fake_model.h"

namespace llamita::test {

// Steps stop here until they are let through.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return arrived_ <= allowed_; });
  }
  void close() { set(arrived_); }
  void open() { set(INT64_MAX); }
  void let(int steps) {
    const std::lock_guard lock(mutex_);
    allowed_ += steps;
    changed_.notify_all();
  }
  int64_t arrived() {
    const std::lock_guard lock(mutex_);
    return arrived_;
  }
  // Until `steps` steps in all have come to the gate.
  void wait_for(int64_t steps) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= steps; });
  }

 private:
  void set(int64_t allowed) {
    const std::lock_guard lock(mutex_);
    allowed_ = allowed;
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t arrived_ = 0, allowed_ = INT64_MAX;
};

// Hears of one request.
class Listener {
 public:
  AsyncEngine::OnUpdate on_update() {
    return [this](const Update& update) {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(done_) << "news after the end";
      const auto choice = static_cast<size_t>(update.delta.choice);
      if (texts_.size() <= choice) {
        texts_.resize(choice + 1);
        tokens_.resize(choice + 1);
      }
      texts_[choice] += update.delta.text;
      tokens_[choice].insert(tokens_[choice].end(), update.tokens.begin(), update.tokens.end());
      ends_ += update.delta.finished ? 1 : 0;
      ++updates_;
      if (update.done != nullptr) {
        completion_ = *update.done;
        done_ = true;
      }
      changed_.notify_all();
    };
  }
  // The completion, once it is there; what came before must add up to it.
  Completion wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_; });
    EXPECT_EQ(ends_, static_cast<int>(completion_.choices.size())) << "every choice ends once";
    for (size_t i = 0; i < completion_.choices.size(); ++i) {
      EXPECT_EQ(texts_.at(i), completion_.choices[i].text);
      EXPECT_EQ(tokens_.at(i), completion_.choices[i].tokens);
    }
    return completion_;
  }
  void wait_for_updates(int updates) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return updates_ >= updates; });
  }
  bool done() {
    const std::lock_guard lock(mutex_);
    return done_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> texts_;
  std::vector<std::vector<int32_t>> tokens_;
  int ends_ = 0, updates_ = 0;
  bool done_ = false;
  Completion completion_;
};

inline EngineConfig small_config() {
  EngineConfig config;
  config.kv_dtype = "f32";
  config.threads = 1;
  config.batch_tokens = 32;
  config.batch_sequences = 8;
  config.queue_tokens = int64_t{1} << 40;  // caches of a few blocks make large crowds wait here
  return config;
}

inline std::unique_ptr<AsyncEngine> engine_over(std::unique_ptr<Model> model,
                                                std::unique_ptr<Tokenizer> tokenizer,
                                                const EngineConfig& config) {
  return std::make_unique<ThreadedEngine>(
      std::make_unique<ServedModel>(std::move(tokenizer), std::move(model), config), config);
}

inline Request request_of(int prompt_length, int salt, int max_tokens) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < prompt_length; ++i) {
    prompt.push_back(static_cast<int32_t>(mix(uint64_t(salt), uint64_t(i)) % 63));
  }
  Request request{prompt, {}};
  request.sampling.max_tokens = max_tokens;
  request.sampling.seed = uint64_t(salt) * 77;
  request.sampling.ignore_eos = true;
  return request;
}

}  // namespace llamita::test
