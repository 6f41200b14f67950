// What tests of the AsyncEngine have in common: an engine whose steps wait at a gate, and replies alone to
// compare with.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "engine/async_support.h"

namespace llamita {

using test::FakeModel;
using test::FakeTokenizer;
using test::Gate;
using test::Listener;
using test::request_of;
using test::small_config;

class AsyncEngineTest : public testing::Test {
 protected:
  // `prepare` may change the model before its first step.
  std::unique_ptr<AsyncEngine> engine(const EngineConfig& config = small_config()) {
    auto model = std::make_unique<FakeModel>();
    model->on_step = [this](const ForwardBatch& batch) {
      gate_.pass();
      if (on_step_) on_step_(batch);
    };
    return test::engine_over(std::move(model), std::make_unique<FakeTokenizer>(FakeTokenizer::letters()),
                             config);
  }
  // A small cache: `pages` blocks.
  static EngineConfig with_pages(int pages) {
    EngineConfig config = small_config();
    config.kv_bytes = int64_t{pages} * kPageTokens * 2 * 2 * 2 * 4;
    return config;
  }
  static RequestId submit(AsyncEngine& engine, const Request& request, Listener& listener,
                          const SubmitOptions& options = {}) {
    return engine.submit(engine.prepare(request), options, listener.on_update()).value();
  }
  // Until the step thread sleeps: then the statistics are those of the last step.
  static EngineStats when_idle(const AsyncEngine& engine) {
    for (;;) {
      const EngineStats stats = engine.stats();
      if (!stats.busy) return stats;
      std::this_thread::yield();
    }
  }
  static std::vector<std::vector<int32_t>> solo(const Request& request) {
    const FakeModel model;
    const FakeTokenizer tokenizer = FakeTokenizer::letters();
    EngineConfig config = small_config();
    config.batch_tokens = 1024;
    Engine engine(model, tokenizer, config);
    const TokenRequest tokens{std::get<std::vector<int32_t>>(request.prompt), request.sampling, ""};
    std::vector<std::vector<int32_t>> replies;
    const Completion done = engine.generate({tokens})[0];
    for (const Choice& choice : done.choices) replies.push_back(choice.tokens);
    return replies;
  }
  static void expect_solo(const Completion& done, const Request& request) {
    const auto expected = solo(request);
    ASSERT_EQ(done.choices.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(done.choices[i].tokens, expected[i]);
  }

  Gate gate_;
  std::function<void(const ForwardBatch&)> on_step_;
};

}  // namespace llamita
