// The AsyncEngine's queue: its bounds, groups, time-outs and priorities.
#include <gtest/gtest.h>

#include <atomic>
#include <deque>

#include "engine/async_fixture.h"
#include "support/expect_error.h"

namespace llamita {
namespace {

TEST_F(AsyncEngineTest, ByDefault256RequestsMayWait) {
  EngineConfig config = small_config();  // as EngineConfig has it, but for the tokens that wait
  config.batch_sequences = 1;
  const auto served = engine(config);
  gate_.close();
  std::deque<Listener> listeners;
  const auto submitted = [&] {
    return served->submit(served->prepare(request_of(4, 1, 1)), {}, listeners.emplace_back().on_update())
        .has_value();
  };
  EXPECT_TRUE(submitted());
  gate_.wait_for(1);
  for (int i = 1; i <= 257; ++i) EXPECT_EQ(submitted(), i <= 256) << i;
  gate_.open();
  when_idle(*served);
}

TEST_F(AsyncEngineTest, TheQueueIsBoundedAndDrainingRefusesAll) {
  EngineConfig config = small_config();
  config.queue_requests = 3;
  config.batch_sequences = 1;
  const auto served = engine(config);
  gate_.close();
  std::vector<std::unique_ptr<Listener>> listeners;
  const auto submitted = [&] {
    listeners.push_back(std::make_unique<Listener>());
    const auto id = served->submit(served->prepare(request_of(4, 1, 2)), {}, listeners.back()->on_update());
    if (!id) listeners.pop_back();
    return id.has_value();
  };
  EXPECT_TRUE(submitted());
  gate_.wait_for(1);  // the first one runs and waits no more
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(submitted()) << i;
  EXPECT_FALSE(submitted());
  EXPECT_EQ(served->stats().waiting + served->stats().running, 4);
  EXPECT_TRUE(served->stats().busy);
  gate_.open();
  for (const auto& listener : listeners) expect_solo(listener->wait(), request_of(4, 1, 2));
  when_idle(*served);
  EXPECT_TRUE(submitted());
  served->drain();
  EXPECT_FALSE(submitted());
  expect_solo(listeners.back()->wait(), request_of(4, 1, 2));
  config.queue_requests = 0;
  EXPECT_ERROR(engine(config), "queue_requests");
}

// Three prompts of 4 tokens wait where 12 may; a fourth does not, and neither does one of 5 in place of a
// third.
TEST_F(AsyncEngineTest, WaitingPromptsAreBoundedByTheirTokens) {
  EngineConfig config = small_config();
  config.queue_tokens = 12;
  config.batch_sequences = 1;
  const auto served = engine(config);
  gate_.close();
  std::vector<std::unique_ptr<Listener>> listeners;
  const auto submitted = [&](int tokens) {
    listeners.push_back(std::make_unique<Listener>());
    const auto request = served->prepare(request_of(tokens, 1, 2));
    const auto id = served->submit(request, {}, listeners.back()->on_update());
    if (!id) listeners.pop_back();
    return id.has_value();
  };
  ASSERT_TRUE(submitted(20));  // nobody waits: it is taken although it is larger
  gate_.wait_for(1);
  EXPECT_TRUE(submitted(4));
  EXPECT_TRUE(submitted(4));
  EXPECT_FALSE(submitted(5));
  EXPECT_TRUE(submitted(4));
  EXPECT_FALSE(submitted(1));
  gate_.open();
  for (const auto& listener : listeners) listener->wait();
  when_idle(*served);
  EXPECT_TRUE(submitted(4));
  listeners.back()->wait();
  config.queue_tokens = -1;
  EXPECT_ERROR(engine(config), "queue_tokens");
}

// Requests that come together are queued together: an empty queue takes any number, whatever its bounds, and
// one that has not enough room takes none.
TEST_F(AsyncEngineTest, AGroupIsQueuedWholeOrNotAtAll) {
  EngineConfig config = small_config();
  config.queue_requests = 4;
  config.queue_tokens = 30;
  config.batch_sequences = 1;
  const auto served = engine(config);
  gate_.close();
  std::deque<Listener> listeners;
  const auto submitted = [&](int requests) {
    std::vector<std::shared_ptr<const PreparedRequest>> group;
    std::vector<AsyncEngine::OnUpdate> updates;
    for (int i = 0; i < requests; ++i) {
      group.push_back(served->prepare(request_of(8, i, 2)));
      updates.push_back(listeners.emplace_back().on_update());
    }
    const auto ids = served->submit_all(
        group, {}, [updates](size_t which, const Update& update) { updates.at(which)(update); });
    if (ids) {
      EXPECT_EQ(ids->size(), static_cast<size_t>(requests));
    } else {
      listeners.resize(listeners.size() - static_cast<size_t>(requests));
    }
    return ids.has_value();
  };
  ASSERT_TRUE(submitted(20));
  gate_.wait_for(1);
  EXPECT_FALSE(served->has_room());
  EXPECT_FALSE(submitted(1));
  gate_.open();
  for (size_t i = 0; i < 20; ++i) expect_solo(listeners[i].wait(), request_of(8, static_cast<int>(i), 2));
  when_idle(*served);
  listeners.clear();
  const int64_t steps = gate_.arrived();
  gate_.close();
  EXPECT_TRUE(submitted(1));
  gate_.wait_for(steps + 1);
  EXPECT_TRUE(submitted(1));
  EXPECT_TRUE(served->has_room());
  EXPECT_FALSE(submitted(3)) << "32 tokens would wait where 30 may";
  EXPECT_EQ(served->stats().waiting + served->stats().running, 2) << "and none of them does";
  EXPECT_TRUE(submitted(2));
  gate_.open();
  for (Listener& listener : listeners) listener.wait();
  served->drain();
  EXPECT_FALSE(served->has_room());
}

// One prompt after the other takes longer than the queue's timeout, which is for the first of them.
TEST_F(AsyncEngineTest, AGroupThatHasBegunIsNotUnserved) {
  EngineConfig config = small_config();
  config.batch_sequences = 1;
  const auto served = engine(config);
  on_step_ = [](const ForwardBatch&) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  Listener first, second;
  const auto updates = std::vector{first.on_update(), second.on_update()};
  SubmitOptions options;
  options.queue_timeout = std::chrono::milliseconds(50);
  served->submit_all({served->prepare(request_of(5, 1, 60)), served->prepare(request_of(5, 2, 3))}, options,
                     [updates](size_t which, const Update& update) { updates.at(which)(update); });
  expect_solo(first.wait(), request_of(5, 1, 60));
  expect_solo(second.wait(), request_of(5, 2, 3));
}

TEST_F(AsyncEngineTest, WhoWaitsTooLongEndsUnbegun) {
  EngineConfig config = small_config();
  config.batch_sequences = 1;
  const auto served = engine(config);
  on_step_ = [](const ForwardBatch&) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  Listener running, late, patient;
  SubmitOptions options;
  options.queue_timeout = std::chrono::milliseconds(1000);
  submit(*served, request_of(5, 1, 50), running, options);
  options.queue_timeout = std::chrono::milliseconds(20);
  submit(*served, request_of(5, 2, 10), late, options);
  options.queue_timeout = std::chrono::milliseconds(60'000);
  submit(*served, request_of(5, 3, 10), patient, options);
  const Completion unbegun = late.wait();
  EXPECT_EQ(unbegun.choices[0].finish, FinishReason::deadline);
  EXPECT_EQ(unbegun.queue_seconds, 0);
  EXPECT_TRUE(unbegun.choices[0].tokens.empty());
  expect_solo(running.wait(), request_of(5, 1, 50));
  const Completion served_late = patient.wait();
  expect_solo(served_late, request_of(5, 3, 10));
  EXPECT_GT(served_late.queue_seconds, 0);
}

TEST_F(AsyncEngineTest, LowerPriorityNumbersGoFirst) {
  EngineConfig config = small_config();
  config.batch_sequences = 1;
  const auto served = engine(config);
  gate_.close();
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::unique_ptr<Listener>> listeners;
  const auto add = [&](int name, int priority) {
    listeners.push_back(std::make_unique<Listener>());
    SubmitOptions options;
    options.priority = priority;
    const auto heard = listeners.back()->on_update();
    const auto on_update = [&, name, heard](const Update& update) {
      if (update.done != nullptr) {
        const std::lock_guard lock(mutex);
        order.push_back(name);
      }
      heard(update);
    };
    ASSERT_TRUE(served->submit(served->prepare(request_of(8, name, 3)), options, on_update));
  };
  add(0, 5);
  gate_.wait_for(1);
  add(1, 5);
  add(2, 5);
  add(3, 1);
  add(4, 9);
  add(5, 1);
  gate_.open();
  for (int i = 0; i < 6; ++i) expect_solo(listeners[size_t(i)]->wait(), request_of(8, i, 3));
  EXPECT_EQ(order, (std::vector<int>{3, 5, 0, 1, 2, 4}))
      << "even what runs goes back for what is more important";
}

// Whoever submits can see when a step has part of one of the group.
TEST_F(AsyncEngineTest, BeginningIsSaidWithTheFirstStep) {
  EngineConfig config = small_config();
  config.batch_sequences = 1;
  const auto served = engine(config);
  gate_.close();
  Listener first, second;
  SubmitOptions options[2];
  for (SubmitOptions& one : options) one.begun = std::make_shared<std::atomic<bool>>(false);
  submit(*served, request_of(4, 1, 2), first, options[0]);
  gate_.wait_for(1);
  submit(*served, request_of(4, 2, 2), second, options[1]);
  EXPECT_TRUE(*options[0].begun);
  EXPECT_FALSE(*options[1].begun);
  gate_.open();
  second.wait();
  EXPECT_TRUE(*options[1].begun);
}

}  // namespace
}  // namespace llamita
