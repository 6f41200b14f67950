// The AsyncEngine's promises, on a model whose replies depend on every bit of the cache. Those of its queue
// are in async_queue_test.cc.
#include "llamita/async_engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <thread>

#include "engine/async_fixture.h"
#include "support/expect_error.h"

namespace llamita {
namespace {

TEST_F(AsyncEngineTest, ManyThreadsSubmitAndEveryReplyIsTheSoloOne) {
  std::vector<Request> requests;
  const int lengths[] = {1, 63, 64, 65, 130, 7, 200, 128, 20, 31, 33, 90};
  for (int i = 0; i < 12; ++i) {
    requests.push_back(request_of(lengths[i], i % 5, 10 + 7 * i));
    if (i % 3 == 0) requests.back().sampling.temperature = 0;
    if (i % 4 == 2) requests.back().sampling.n = 3;
  }
  std::vector<std::vector<std::vector<int32_t>>> expected;
  for (const Request& request : requests) expected.push_back(solo(request));
  for (const int pages : {6, 64}) {
    const auto served = engine(with_pages(pages));
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&, thread] {
        std::vector<std::unique_ptr<Listener>> listeners;
        for (size_t i = 0; i < requests.size(); ++i) {
          listeners.push_back(std::make_unique<Listener>());
          SubmitOptions options;
          options.priority = static_cast<int>(i + size_t(thread)) % 3;
          options.cache_salt = i % 4 == 0 ? "mine" : "";
          const size_t which = (i + static_cast<size_t>(thread) * 3) % requests.size();
          const RequestId id = submit(*served, requests[which], *listeners.back(), options);
          if (i % 5 == 4) served->cancel(id);
        }
        for (size_t i = 0; i < requests.size(); ++i) {
          const Completion done = listeners[i]->wait();
          const size_t which = (i + static_cast<size_t>(thread) * 3) % requests.size();
          for (size_t c = 0; c < done.choices.size(); ++c) {
            const Choice& choice = done.choices[c];
            std::vector<int32_t> whole = expected[which][c];
            if (choice.finish == FinishReason::cancelled) whole.resize(choice.tokens.size());
            EXPECT_EQ(choice.tokens, whole) << "request " << which;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const EngineStats stats = when_idle(*served);
    EXPECT_EQ(stats.running + stats.waiting + stats.blocks_used + stats.blocks_shared, 0);
    EXPECT_GT(stats.prefix_hit_tokens, 0);
    EXPECT_GT(stats.steps, 0);
  }
}

TEST_F(AsyncEngineTest, PreemptedRequestsAreTheSoloOnes) {
  const auto served = engine(with_pages(6));
  gate_.close();
  std::vector<std::unique_ptr<Listener>> listeners;
  for (int i = 0; i < 4; ++i) {  // each begins with one block and ends with three
    listeners.push_back(std::make_unique<Listener>());
    submit(*served, request_of(20 + i, i, 130), *listeners.back());
    if (i == 0) gate_.wait_for(1);
  }
  gate_.open();
  for (int i = 0; i < 4; ++i) expect_solo(listeners[size_t(i)]->wait(), request_of(20 + i, i, 130));
  EXPECT_GT(when_idle(*served).preemptions, 0);
}

TEST_F(AsyncEngineTest, CancelEndsARequestInEveryPhase) {
  EngineConfig config = small_config();
  config.batch_sequences = 2;
  const auto served = engine(config);
  gate_.close();
  Listener decoding, prefilling, queued, other;
  const RequestId first = submit(*served, request_of(5, 1, -1), decoding);
  gate_.wait_for(1);
  const RequestId second = submit(*served, request_of(300, 2, 5), prefilling);
  const RequestId third = submit(*served, request_of(5, 3, 5), queued);
  submit(*served, request_of(40, 4, 6), other);
  gate_.let(3);
  gate_.wait_for(4);  // 300 tokens in chunks of at most 31 are far from done
  served->cancel(first);
  served->cancel(second);
  served->cancel(third);
  served->cancel(third);
  served->cancel(12345);
  gate_.open();
  Completion done = decoding.wait();
  EXPECT_EQ(done.choices[0].finish, FinishReason::cancelled);
  EXPECT_EQ(done.choices[0].tokens.size(), 4u) << "the step under way ends first";
  for (Listener* listener : {&prefilling, &queued}) {
    done = listener->wait();
    EXPECT_EQ(done.choices[0].finish, FinishReason::cancelled);
    EXPECT_EQ(done.completion_tokens, 0);
  }
  expect_solo(other.wait(), request_of(40, 4, 6));
  const EngineStats stats = when_idle(*served);
  EXPECT_EQ(stats.blocks_used, 0);
  EXPECT_LT(stats.prompt_tokens, 5 + 4 * 32 + 40) << "nothing was computed for what was cancelled";
}

TEST_F(AsyncEngineTest, CancelFreesTheBlocksByTheNextStep) {
  const auto served = engine(with_pages(5));
  Listener large, next;
  gate_.close();
  const RequestId id = submit(*served, request_of(300, 1, -1), large);  // all five blocks
  gate_.wait_for(1);
  submit(*served, request_of(200, 2, 3), next);
  served->cancel(id);
  int64_t sequences = 0;
  on_step_ = [&](const ForwardBatch& batch) { sequences = batch.kv_len.dim(0); };
  gate_.let(1);
  gate_.wait_for(2);  // the step after the one under way has the next request
  EXPECT_TRUE(large.done());
  gate_.open();
  expect_solo(next.wait(), request_of(200, 2, 3));
  EXPECT_EQ(sequences, 1);
}

TEST_F(AsyncEngineTest, DeadlinesEndRequestsThatKeepWhatTheyHave) {
  const auto served = engine();
  on_step_ = [](const ForwardBatch&) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  Listener slow, late, free;
  SubmitOptions options;
  options.deadline = std::chrono::milliseconds(100);
  submit(*served, request_of(5, 1, -1), slow, options);
  options.deadline = std::chrono::milliseconds(0);
  submit(*served, request_of(5, 2, 10), late, options);
  submit(*served, request_of(5, 3, 10), free);
  const Completion done = slow.wait();
  EXPECT_EQ(done.choices[0].finish, FinishReason::deadline);
  EXPECT_LT(done.choices[0].tokens.size(), 1000u);
  std::vector<int32_t> whole = solo(request_of(5, 1, -1))[0];
  whole.resize(done.choices[0].tokens.size());
  EXPECT_EQ(done.choices[0].tokens, whole);
  EXPECT_EQ(late.wait().choices[0].finish, FinishReason::deadline);
  EXPECT_EQ(free.wait().choices[0].finish, FinishReason::length);
}

TEST_F(AsyncEngineTest, PrefixesAreSharedWithinASaltOnly) {
  const auto served = engine();
  const auto cached = [&](const std::string& salt) {
    Listener listener;
    SubmitOptions options;
    options.cache_salt = salt;
    submit(*served, request_of(150, 9, 4), listener, options);
    const Completion done = listener.wait();
    expect_solo(done, request_of(150, 9, 4));
    return done.cached_tokens;
  };
  EXPECT_EQ(cached("a"), 0);
  EXPECT_EQ(cached("a"), 149);
  EXPECT_EQ(cached("b"), 0);
  EXPECT_EQ(cached(""), 0);
  EXPECT_EQ(cached("b"), 149);
  const EngineStats stats = when_idle(*served);
  EXPECT_EQ(stats.prefix_query_tokens, 5 * 150);
  EXPECT_EQ(stats.prefix_hit_tokens, 2 * 149);
  EXPECT_EQ(stats.blocks_kept, 3 * 3);

  // A running request shares what it has computed.
  gate_.close();
  const int64_t before = stats.steps;
  Listener running, second;
  submit(*served, request_of(200, 10, 50), running);
  gate_.wait_for(before + 1);
  gate_.let(9);
  gate_.wait_for(before + 10);
  submit(*served, request_of(200, 10, 2), second);
  gate_.open();
  EXPECT_EQ(second.wait().cached_tokens, 192);
  EXPECT_GE(running.wait().completion_tokens, 50);
}

TEST_F(AsyncEngineTest, AFailingStepEndsItsRequestsAndLeavesTheEngineUsable) {
  EngineConfig config = small_config();
  config.batch_sequences = 2;
  const auto served = engine(config);
  std::atomic<int> steps{0};
  on_step_ = [&](const ForwardBatch&) {
    if (++steps == 4) throw Error("the device is on fire");
  };
  gate_.close();
  Listener a, b, waiting;
  submit(*served, request_of(5, 1, 50), a);
  gate_.wait_for(1);
  submit(*served, request_of(5, 2, 50), b);
  submit(*served, request_of(5, 3, 7), waiting);
  testing::internal::CaptureStderr();
  gate_.open();
  for (Listener* listener : {&a, &b}) {
    const Completion done = listener->wait();
    EXPECT_EQ(done.choices[0].finish, FinishReason::error);
    EXPECT_EQ(done.choices[0].error, "the device is on fire");
  }
  expect_solo(waiting.wait(), request_of(5, 3, 7));
  Listener again;
  submit(*served, request_of(5, 1, 50), again);
  expect_solo(again.wait(), request_of(5, 1, 50));
  EXPECT_EQ(when_idle(*served).blocks_used, 0);
  testing::internal::GetCapturedStderr();
}

// What runs, what waits and what is on its way: all of it fails, once, and nobody is let in again.
TEST_F(AsyncEngineTest, ALostDeviceEndsEveryRequestAndLetsNoneIn) {
  EngineConfig config = small_config();
  config.batch_sequences = 2;
  const auto served = engine(config);
  std::atomic<int> steps{0};
  on_step_ = [&](const ForwardBatch&) {
    if (++steps >= 4) throw DeviceLostError("an illegal access");
  };
  gate_.close();
  Listener a, b, waiting;
  submit(*served, request_of(5, 1, 50), a);
  gate_.wait_for(1);
  submit(*served, request_of(5, 2, 50), b);
  submit(*served, request_of(5, 3, 7), waiting);
  EXPECT_FALSE(served->stats().device_lost);
  testing::internal::CaptureStderr();
  gate_.open();
  for (Listener* listener : {&a, &b, &waiting}) {
    const Completion done = listener->wait();
    EXPECT_EQ(done.choices[0].finish, FinishReason::error);
    EXPECT_EQ(done.choices[0].error, "an illegal access");
  }
  EXPECT_TRUE(served->stats().device_lost);
  EXPECT_FALSE(served->has_room());
  const auto late = served->prepare(request_of(5, 4, 5));
  EXPECT_FALSE(served->submit(late, {}, {}).has_value());
  EXPECT_EQ(when_idle(*served).blocks_used, 0);
  EXPECT_TRUE(served->stats().device_lost);
  EXPECT_EQ(steps, 4) << "a lost device was asked again";
  EXPECT_NE(testing::internal::GetCapturedStderr().find("an illegal access"), std::string::npos);
}

TEST_F(AsyncEngineTest, CancelledRequestsAreCountedByTheirPhase) {
  EngineConfig config = small_config();  // 32 tokens a step
  config.batch_sequences = 1;
  const auto served = engine(config);
  gate_.close();
  Listener prefill, queued, decode;
  const RequestId first = submit(*served, request_of(100, 1, 5), prefill);
  gate_.wait_for(1);
  const RequestId second = submit(*served, request_of(5, 2, 5), queued);
  served->cancel(first);
  served->cancel(second);
  gate_.let(1);
  prefill.wait();
  queued.wait();
  const RequestId third = submit(*served, request_of(5, 3, -1), decode);
  gate_.open();
  decode.wait_for_updates(2);
  served->cancel(third);
  decode.wait();
  const EngineStats stats = when_idle(*served);
  EXPECT_EQ(stats.cancelled_prefill, 1);
  EXPECT_EQ(stats.cancelled_queued, 1);
  EXPECT_EQ(stats.cancelled_decode, 1);
}

TEST_F(AsyncEngineTest, TheDestructorCancelsAndNothingIsHeardAfterwards) {
  auto served = engine();
  Listener running, queued;
  gate_.close();
  submit(*served, request_of(5, 1, -1), running);
  gate_.wait_for(1);
  submit(*served, request_of(5, 2, -1), queued);
  gate_.open();
  served.reset();
  EXPECT_TRUE(running.done() && queued.done());
  EXPECT_EQ(running.wait().choices[0].finish, FinishReason::cancelled);
  EXPECT_EQ(queued.wait().choices[0].finish, FinishReason::cancelled);
}

TEST_F(AsyncEngineTest, AListenerThatThrowsHarmsNobody) {
  const auto served = engine();
  testing::internal::CaptureStderr();
  std::atomic<int> calls{0};
  const auto bad = [&](const Update&) {
    ++calls;
    throw std::runtime_error("oops");
  };
  ASSERT_TRUE(served->submit(served->prepare(request_of(5, 1, 9)), {}, bad));
  Listener good;
  submit(*served, request_of(5, 2, 9), good);
  expect_solo(good.wait(), request_of(5, 2, 9));
  when_idle(*served);
  EXPECT_EQ(calls, 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("oops"), std::string::npos);
}

TEST_F(AsyncEngineTest, BadRequestsAreRefusedByPrepare) {
  const auto served = engine();
  Request request = request_of(5, 1, 2);
  request.sampling.top_p = 0;
  EXPECT_ERROR(served->prepare(request), "top_p");
  EXPECT_ERROR(served->prepare(request_of(5000, 1, 2)), "5000 tokens");
  EXPECT_ERROR(served->prepare({Conversation{{"user", "hi"}}, {}}), "no chat template");
  EXPECT_EQ(served->prepare(request_of(17, 1, 2))->prompt_tokens(), 17);
  EXPECT_EQ(served->info().family, "fake");
  EXPECT_EQ(served->detokenize(served->tokenize("ab9", false)), "ab9");
  // What asks for nothing ends at once; one prepared request may be submitted twice.
  Listener none;
  submit(*served, request_of(5, 1, 0), none);
  EXPECT_EQ(none.wait().choices[0].finish, FinishReason::length);
  const auto prepared = served->prepare(request_of(30, 4, 6));
  Listener first, second;
  served->submit(prepared, {}, first.on_update());
  served->submit(prepared, {}, second.on_update());
  expect_solo(first.wait(), request_of(30, 4, 6));
  expect_solo(second.wait(), request_of(30, 4, 6));
}

}  // namespace
}  // namespace llamita
