// Two steps under way (EngineConfig::steps_under_way): replies are the same to the last bit as when each step
// is waited for, whatever ends them, and nothing is computed twice or once too often without need. On the
// CPU, where a request's tokens do not depend on its company, so that "the same" can be asked for.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/async_support.h"
#include "support/expect_error.h"

namespace llamita {
namespace {

using test::FakeModel;
using test::FakeTokenizer;

EngineConfig config_with(int steps_under_way, int batch_tokens = 32, int pages = 0) {
  EngineConfig config = test::small_config();
  config.steps_under_way = steps_under_way;
  config.batch_tokens = batch_tokens;
  config.kv_bytes = int64_t{pages} * kPageTokens * 2 * 2 * 2 * 4;
  return config;
}

TokenRequest request_of(int prompt_length, int salt, int max_tokens) {
  const Request request = test::request_of(prompt_length, salt, max_tokens);
  TokenRequest out;
  out.prompt = std::get<std::vector<int32_t>>(request.prompt);
  out.sampling = request.sampling;
  return out;
}

// Long and short ones, alike at the start or not, with every kind of setting and every kind of end.
std::vector<TokenRequest> mixed_requests() {
  std::vector<TokenRequest> requests;
  const int lengths[] = {1, 63, 64, 65, 130, 7, 200, 128, 20, 31, 33, 90, 131, 5, 12};
  for (int i = 0; i < 15; ++i) {
    requests.push_back(request_of(lengths[i], i == 12 ? 4 : i, 20 + 7 * i));
    SamplingParams& sampling = requests.back().sampling;
    if (i % 3 == 0) sampling.temperature = 0;
    if (i % 4 == 1) sampling.repetition_penalty = 1.3f;
    if (i % 4 == 3) sampling.frequency_penalty = 0.7f, sampling.presence_penalty = 0.4f;
    if (i % 4 == 2) sampling.n = 3;
    if (i % 5 == 0) sampling.logprobs = 3;
    if (i % 5 == 1) sampling.stop = {"a", "xy"};
    if (i % 5 == 2) sampling.stop_token_ids = {3, 17, 40, 41, 42};
    if (i % 5 == 3) sampling.logit_bias = {{5, 2.0f}, {60, -3.0f}};
    if (i % 5 == 4) sampling.ignore_eos = false;
  }
  return requests;
}

void expect_same(const std::vector<Completion>& got, const std::vector<Completion>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t r = 0; r < got.size(); ++r) {
    EXPECT_EQ(got[r].completion_tokens, expected[r].completion_tokens) << "request " << r;
    ASSERT_EQ(got[r].choices.size(), expected[r].choices.size());
    for (size_t c = 0; c < got[r].choices.size(); ++c) {
      const Choice &a = got[r].choices[c], &b = expected[r].choices[c];
      EXPECT_EQ(a.tokens, b.tokens) << "request " << r << ", choice " << c;
      EXPECT_EQ(a.text, b.text);
      EXPECT_EQ(a.finish, b.finish) << name(a.finish) << ", not " << name(b.finish);
      ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
      for (size_t t = 0; t < a.logprobs.size(); ++t)
        EXPECT_EQ(a.logprobs[t].chosen.logprob, b.logprobs[t].chosen.logprob);
    }
  }
}

void expect_left_clean(const Engine& engine) {
  EXPECT_TRUE(engine.idle());
  EXPECT_TRUE(engine.scheduler().idle());
  EXPECT_EQ(engine.scheduler().check_integrity(), "");
  EXPECT_EQ(engine.stats().blocks_used, 0);
}

TEST(Overlap, RepliesAreThoseOfOneStepAtATime) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const std::vector<TokenRequest> requests = mixed_requests();
  Engine one(model, tokenizer, config_with(1));
  const std::vector<Completion> expected = one.generate(requests);
  int64_t preemptions = 0;
  for (const int batch_tokens : {8, 32, 57, 512}) {
    for (const int pages : {5, 8, 64}) {
      Engine two(model, tokenizer, config_with(2, batch_tokens, pages));
      expect_same(two.generate(requests), expected);
      expect_left_clean(two);
      preemptions += two.scheduler().preemptions();
    }
  }
  EXPECT_GT(preemptions, 3) << "the small caches must have forced some";
}

TEST(Overlap, PrefixesOfEarlierRequestsAreReused) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const std::vector<TokenRequest> requests = mixed_requests();
  Engine one(model, tokenizer, config_with(1)), two(model, tokenizer, config_with(2, 32, 200));
  const std::vector<Completion> expected = one.generate(requests);
  two.generate(requests);
  const std::vector<Completion> again = two.generate(requests);
  expect_same(again, expected);
  int cached = 0;
  for (const Completion& each : again) cached += each.cached_tokens;
  EXPECT_GE(cached, 64 * 10) << "all full blocks of the prompts";
}

TEST(Overlap, TheNextStepIsSentBeforeTokensAreGivenOut) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  int steps = 0;
  model.on_step = [&](const ForwardBatch&) { ++steps; };
  Engine engine(model, tokenizer, config_with(2));
  std::vector<int> steps_at_token;
  engine.generate({request_of(5, 1, 6)}, [&](const Delta&) { steps_at_token.push_back(steps); });
  EXPECT_EQ(steps_at_token, (std::vector<int>{2, 3, 4, 5, 6, 6}));
}

TEST(Overlap, OnlyAnEndThatTextDecidesCostsAStep) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  int64_t computed = 0;
  model.on_step = [&](const ForwardBatch& batch) { computed += batch.token_ids.dim(0); };
  Engine engine(model, tokenizer, config_with(2));
  const TokenRequest request = request_of(40, 1, 10);
  const std::vector<int32_t> reply = engine.generate({request})[0].choices[0].tokens;
  EXPECT_EQ(computed, 40 + 9) << "that ten tokens are the most is known before";
  // The same again, and its third token stops it: the step after had begun.
  TokenRequest stopped = request;
  stopped.sampling.stop_token_ids = {reply[2]};
  const auto first = std::find(reply.begin(), reply.end(), reply[2]);
  Engine fresh(model, tokenizer, config_with(2));
  computed = 0;
  const size_t tokens = fresh.generate({stopped})[0].choices[0].tokens.size();
  EXPECT_EQ(tokens, static_cast<size_t>(first - reply.begin()) + 1);
  EXPECT_EQ(computed, 40 + static_cast<int64_t>(tokens) - 1 + 1);
  expect_left_clean(fresh);
}

TEST(Overlap, CancelsDeadlinesAndArrivalsLeaveTheOthersAlone) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const std::vector<TokenRequest> requests = mixed_requests();
  Engine one(model, tokenizer, config_with(1));
  const std::vector<Completion> expected = one.generate(requests);
  Engine two(model, tokenizer, config_with(2, 57, 16));
  std::vector<Completion> done(requests.size());
  std::vector<size_t> heard(requests.size(), 0);
  const auto start = [&](size_t r) {
    Engine::StartOptions options;
    if (r == 4) options.deadline = options.submitted;  // past when the next step is planned
    two.start(r, std::make_shared<TokenRequest>(requests[r]), options, [&, r](const Update& update) {
      heard[r] += update.tokens.size();
      if (update.done != nullptr) done[r] = *update.done;
    });
  };
  size_t started = 0;
  for (int step = 0; started < requests.size() || !two.idle(); ++step) {
    if (started < requests.size() && step % 2 == 0) start(started++);
    two.step();
    if (step == 20) two.end(8, FinishReason::cancelled);
    if (step == 33) two.end(11, FinishReason::cancelled);
    EXPECT_EQ(two.scheduler().check_integrity(), "");
  }
  for (size_t r = 0; r < requests.size(); ++r) {
    SCOPED_TRACE(r);
    const Choice& choice = done[r].choices.at(0);
    if (r == 4) {
      EXPECT_EQ(choice.finish, FinishReason::deadline);
      EXPECT_TRUE(choice.tokens.empty());
    } else if (r == 8 || r == 11) {
      EXPECT_EQ(choice.finish, FinishReason::cancelled);
      EXPECT_EQ(choice.tokens.size(), heard[r]) << "nothing comes after the end";
      const auto& whole = expected[r].choices[0].tokens;
      EXPECT_EQ(choice.tokens, std::vector<int32_t>(whole.begin(), whole.begin() + std::ptrdiff_t(heard[r])));
    } else {
      expect_same({done[r]}, {expected[r]});
    }
  }
  expect_left_clean(two);
}

TEST(Overlap, RepliesHeldToAFormKeepTheirs) {
  const auto served = [](int steps_under_way) {
    std::vector<std::string> words;
    for (int byte = 1; byte < 256; ++byte) words.emplace_back(1, static_cast<char>(byte));
    words.emplace_back("<end>");
    auto tokenizer = std::make_unique<FakeTokenizer>(words);
    auto model = std::make_unique<FakeModel>(tokenizer->vocab_size());
    return std::make_unique<ServedModel>(std::move(tokenizer), std::move(model),
                                         config_with(steps_under_way));
  };
  const auto replies = [](ServedModel& of) {
    std::vector<TokenRequest> prepared;
    for (int i = 0; i < 12; ++i) {
      Request request{std::vector<int32_t>{1, 2, 3, i}, {}};
      request.sampling.seed = static_cast<uint64_t>(i);
      request.sampling.max_tokens = 40 + i;
      if (i % 2 == 0)
        request.sampling.constraint = {Constraint::Kind::json_schema,
                                       R"({"type":"object","properties":{"a":{"type":"integer"},
                                       "b":{"type":"boolean"}},"required":["a","b"],
                                       "additionalProperties":false})"};
      if (i % 3 == 0) request.sampling.repetition_penalty = 1.2f;
      prepared.push_back(of.preparer.prepare(request));
    }
    return of.engine.generate(prepared);
  };
  const auto one = served(1), two = served(2);
  expect_same(replies(*two), replies(*one));
  expect_left_clean(two->engine);
}

TEST(Overlap, AFailingStepEndsWhatWasUnderWayAndNothingElse) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine one(model, tokenizer, config_with(1));
  const std::vector<Completion> expected = one.generate({request_of(30, 7, 25)});
  Engine two(model, tokenizer, config_with(2));
  Completion first, later;
  two.start(1, std::make_shared<TokenRequest>(request_of(70, 1, 30)), {}, [&](const Update& update) {
    if (update.done != nullptr) first = *update.done;
  });
  for (int step = 0; step < 6; ++step) two.step();
  two.start(2, std::make_shared<TokenRequest>(request_of(30, 7, 25)), {}, [&](const Update& update) {
    if (update.done != nullptr) later = *update.done;
  });
  model.on_step = [](const ForwardBatch&) { throw Error("the card fell off"); };
  EXPECT_ERROR(two.step(), "the card fell off");
  two.fail_step("the card fell off");
  EXPECT_EQ(first.choices.at(0).finish, FinishReason::error);
  EXPECT_EQ(later.choices.at(0).finish, FinishReason::error) << "the failed step had its prompt";
  model.on_step = nullptr;
  expect_left_clean(two);
  expect_same(two.generate({request_of(30, 7, 25)}), expected);
}

TEST(Overlap, ThreeStepsAreRefused) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  EXPECT_ERROR(Engine(model, tokenizer, config_with(3)), "steps_under_way must be between 0 and 2");
  EXPECT_ERROR(Engine(model, tokenizer, config_with(-1)), "steps_under_way must be between 0 and 2");
}

}  // namespace
}  // namespace llamita
