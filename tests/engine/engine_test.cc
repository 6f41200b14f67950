// The engine's promises, on a model whose replies depend on every bit of the cache. One file, though a long
// one: all of it needs the same few helpers.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "engine/direct_runner.h"
#include "support/expect_error.h"
#include "support/fake_model.h"

namespace llamita {
namespace {

using test::FakeModel;
using test::FakeTokenizer;

EngineConfig small_config() {
  EngineConfig config;
  config.kv_dtype = "f32";
  config.threads = 1;
  config.batch_tokens = 32;
  config.batch_sequences = 8;
  return config;
}

std::vector<int32_t> prompt_of(int length, int salt) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < length; ++i) {
    tokens.push_back(static_cast<int32_t>(test::mix(uint64_t(salt), uint64_t(i)) % 63));
  }
  return tokens;
}

TokenRequest request_of(int prompt_length, int salt, int max_tokens) {
  TokenRequest request;
  request.prompt = prompt_of(prompt_length, salt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.seed = uint64_t(salt) * 77;
  request.sampling.ignore_eos = true;
  return request;
}

// The tokens of every choice when each request runs alone in a fresh engine with large steps.
std::vector<std::vector<std::vector<int32_t>>> solo(const FakeModel& model, const FakeTokenizer& tokenizer,
                                                    const std::vector<TokenRequest>& requests) {
  std::vector<std::vector<std::vector<int32_t>>> replies;
  for (const TokenRequest& request : requests) {
    EngineConfig config = small_config();
    config.batch_tokens = 1024;
    Engine engine(model, tokenizer, config);
    replies.emplace_back();
    const Completion done = engine.generate({request})[0];
    for (const Choice& choice : done.choices) replies.back().push_back(choice.tokens);
  }
  return replies;
}

void expect_same(const std::vector<Completion>& completions,
                 const std::vector<std::vector<std::vector<int32_t>>>& expected) {
  ASSERT_EQ(completions.size(), expected.size());
  for (size_t r = 0; r < expected.size(); ++r) {
    ASSERT_EQ(completions[r].choices.size(), expected[r].size());
    for (size_t c = 0; c < expected[r].size(); ++c) {
      EXPECT_EQ(completions[r].choices[c].tokens, expected[r][c]) << "request " << r << " choice " << c;
    }
  }
}

std::vector<TokenRequest> mixed_requests() {
  std::vector<TokenRequest> requests;
  const int lengths[] = {1, 63, 64, 65, 130, 7, 200, 128, 20, 31, 33, 90};
  for (int i = 0; i < 12; ++i) {
    requests.push_back(request_of(lengths[i], i, 20 + 7 * i));
    if (i % 3 == 0) requests.back().sampling.temperature = 0;
    if (i % 4 == 1) requests.back().sampling.repetition_penalty = 1.3f;
    if (i % 4 == 2) requests.back().sampling.n = 3;
  }
  return requests;
}

TEST(Engine, BatchedChunkedAndPreemptedRepliesEqualSoloReplies) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const std::vector<TokenRequest> requests = mixed_requests();
  const auto expected = solo(model, tokenizer, requests);
  int preemptions = 0;
  for (const int batch_tokens : {8, 32, 57, 512}) {
    for (const int pages : {5, 8, 64}) {
      EngineConfig config = small_config();
      config.batch_tokens = batch_tokens;
      config.kv_bytes = int64_t{pages} * kPageTokens * 2 * 2 * 2 * 4;
      Engine engine(model, tokenizer, config);
      expect_same(engine.generate(requests), expected);
      EXPECT_TRUE(engine.scheduler().idle());
      EXPECT_EQ(engine.scheduler().check_integrity(), "");
      preemptions += engine.scheduler().preemptions();
    }
  }
  EXPECT_GT(preemptions, 3) << "the small caches must have forced some";
}

TEST(Engine, ReusedPrefixesChangeNothingAndSaveWork) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  int64_t computed = 0;
  model.on_step = [&](const ForwardBatch& batch) { computed += batch.token_ids.dim(0); };
  Engine engine(model, tokenizer, small_config());
  TokenRequest turn = request_of(150, 5, 20);
  const std::vector<int32_t> reply = engine.generate({turn})[0].choices[0].tokens;
  turn.prompt.insert(turn.prompt.end(), reply.begin(), reply.end());
  const std::vector<int32_t> next = prompt_of(9, 6);
  turn.prompt.insert(turn.prompt.end(), next.begin(), next.end());

  computed = 0;
  const auto warm = engine.generate({turn});
  // The last token of the first reply was never computed, the nine new ones neither; then 19 of the reply.
  EXPECT_EQ(computed, 1 + 9 + 19);
  expect_same(warm, solo(model, tokenizer, {turn}));

  // The same prompt again, another that leaves it in the middle of a block, one that is a part of it.
  for (const int cut : {179, 100, 64, 63, 128}) {
    TokenRequest other = turn;
    other.prompt.resize(size_t(cut));
    if (cut == 100) other.prompt.push_back(1);
    expect_same(engine.generate({other}), solo(model, tokenizer, {other}));
  }
  EXPECT_EQ(engine.scheduler().check_integrity(), "");
}

TEST(Engine, ChoicesShareTheirPromptAndDiffer) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  int64_t computed = 0;
  model.on_step = [&](const ForwardBatch& batch) { computed += batch.token_ids.dim(0); };
  TokenRequest request = request_of(130, 9, 10);
  request.sampling.n = 5;
  Engine engine(model, tokenizer, small_config());
  const Completion done = engine.generate({request})[0];
  EXPECT_EQ(computed, 130 + 4 * 2 + 5 * 9) << "two full blocks are computed once, the rest five times";
  std::set<std::vector<int32_t>> different;
  for (const Choice& choice : done.choices) different.insert(choice.tokens);
  EXPECT_EQ(different.size(), 5u);
  EXPECT_EQ(done.completion_tokens, 50);
  EXPECT_EQ(done.prompt_tokens, 130);
}

TEST(Engine, SeedsDecideAndAreReported) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine engine(model, tokenizer, small_config());
  TokenRequest request = request_of(20, 3, 16);
  request.sampling.seed.reset();
  const Completion first = engine.generate({request})[0];
  const Completion second = engine.generate({request})[0];
  EXPECT_NE(first.seed, second.seed);
  EXPECT_NE(first.choices[0].tokens, second.choices[0].tokens);
  request.sampling.seed = first.seed;
  EXPECT_EQ(engine.generate({request})[0].choices[0].tokens, first.choices[0].tokens);
}

TEST(Engine, StopStringsAcrossTokensStopTokensAndStreaming) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const std::vector<int32_t> script = tokenizer.encode(std::vector<Piece>{{"one two stop three"}}, false);
  const int start = 4;
  model.favourite = [&](int position) {
    const size_t at = size_t(position - start);
    return at < script.size() ? script[at] : tokenizer.vocab_size() - 1;
  };
  Engine engine(model, tokenizer, small_config());
  TokenRequest request;
  request.prompt = prompt_of(start, 1);

  std::string streamed;
  int finished = 0;
  const auto stream = [&](const Delta& delta) {
    EXPECT_EQ(finished, 0);
    streamed += delta.text;
    finished += delta.finished ? 1 : 0;
  };
  Completion done = engine.generate({request}, stream)[0];
  EXPECT_EQ(done.choices[0].text, tokenizer.decode(script, true));
  EXPECT_EQ(done.choices[0].finish, FinishReason::stop);
  EXPECT_EQ(done.choices[0].tokens.back(), tokenizer.vocab_size() - 1)
      << "the token that ended it is reported";
  EXPECT_EQ(streamed, done.choices[0].text);
  EXPECT_EQ(finished, 1);

  const std::string whole = done.choices[0].text;
  const size_t at = whole.find("sto");
  ASSERT_NE(at, std::string::npos) << whole;
  streamed.clear();
  finished = 0;
  request.sampling.stop = {"xyz", "stop"};
  done = engine.generate({request}, stream)[0];
  EXPECT_EQ(done.choices[0].text, whole.substr(0, at));
  EXPECT_EQ(done.choices[0].finish, FinishReason::stop);
  EXPECT_EQ(streamed, done.choices[0].text);

  request.sampling.stop = {};
  request.sampling.stop_token_ids = {script[2]};
  done = engine.generate({request})[0];
  EXPECT_EQ(done.choices[0].tokens, std::vector<int32_t>(script.begin(), script.begin() + 3));
  EXPECT_EQ(done.choices[0].text, tokenizer.decode(std::span(script).first(2), true));
  EXPECT_EQ(done.choices[0].finish, FinishReason::stop);

  request.sampling.stop_token_ids = {};
  request.sampling.ignore_eos = true;
  request.sampling.max_tokens = static_cast<int>(script.size()) + 3;
  done = engine.generate({request})[0];
  EXPECT_EQ(done.choices[0].finish, FinishReason::length);
  EXPECT_EQ(done.choices[0].tokens.size(), script.size() + 3);
  EXPECT_EQ(done.choices[0].text, whole) << "control tokens give no text";
}

TEST(Engine, CharactersSpreadOverTokensArriveWhole) {
  FakeModel model(8);
  const FakeTokenizer tokenizer({"a", "\xC3", "\xA9", "\xF0\x9F", "\x98", "\x80", "b", "<end>"});
  const std::vector<int32_t> script = {0, 1, 2, 3, 4, 5, 6, 1, 7};
  model.favourite = [&](int position) { return script[size_t(position - 1) % script.size()]; };
  Engine engine(model, tokenizer, small_config());
  TokenRequest request;
  request.prompt = {0};
  std::vector<std::string> pieces;
  const Completion done = engine.generate({request}, [&](const Delta& delta) {
    if (!delta.text.empty()) pieces.push_back(delta.text);
  })[0];
  EXPECT_EQ(pieces, (std::vector<std::string>{"a", "é", "😀", "b", "\uFFFD"}));
  EXPECT_EQ(done.choices[0].text, "aé😀b\uFFFD");
}

// A client puts a character together from the bytes of its tokens.
TEST(Engine, LogprobsHaveTheBytesOfPartsOfCharacters) {
  FakeModel model(8);
  const FakeTokenizer tokenizer({"a", "\xC3", "\xA9", "\xF0\x9F", "\x98", "\x80", "b", "<end>"});
  const std::vector<int32_t> script = {0, 1, 2, 3, 4, 5, 6, 7};
  model.favourite = [&](int position) { return script[size_t(position - 1) % script.size()]; };
  Engine engine(model, tokenizer, small_config());
  TokenRequest request;
  request.prompt = {0};
  request.sampling.logprobs = 1;
  std::string bytes;
  const Completion done = engine.generate({request})[0];
  for (const TokenInfo& info : done.choices[0].logprobs) {
    bytes += info.chosen.bytes;
    EXPECT_EQ(info.top.at(0).bytes, info.chosen.bytes);
  }
  EXPECT_EQ(bytes, "aé😀b<end>");
}

TEST(Engine, ContextFullEndsWithLength) {
  const FakeModel model(64, 100);
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine engine(model, tokenizer, small_config());
  EXPECT_EQ(engine.context(), 100);
  for (const int prompt : {1, 64, 99}) {
    TokenRequest request = request_of(prompt, 4, -1);
    const Completion done = engine.generate({request})[0];
    EXPECT_EQ(done.choices[0].tokens.size(), size_t(100 - prompt));
    EXPECT_EQ(done.choices[0].finish, FinishReason::length);
  }
  TokenRequest none = request_of(5, 4, 0);
  const Completion done = engine.generate({none})[0];
  EXPECT_EQ(done.choices[0].tokens.size(), 0u);
  EXPECT_EQ(done.choices[0].finish, FinishReason::length);
}

TEST(Engine, BadRequestsFailAloneAndSayWhy) {
  const FakeModel model(64, 100);
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const TokenRequest good = request_of(10, 2, 12);
  const auto expected = solo(model, tokenizer, {good});
  std::vector<std::pair<TokenRequest, std::string>> bad;
  const auto add = [&](std::string why, const auto& change) {
    bad.emplace_back(good, std::move(why));
    change(bad.back().first);
  };
  add("prompt has 100 tokens", [](TokenRequest& r) { r.prompt = prompt_of(100, 1); });
  add("no tokens", [](TokenRequest& r) { r.prompt = {}; });
  add("names token 64", [](TokenRequest& r) { r.prompt = {64}; });
  add("names token -1", [](TokenRequest& r) { r.prompt = {-1}; });
  add("temperature", [](TokenRequest& r) { r.sampling.temperature = -0.5f; });
  add("temperature", [](TokenRequest& r) { r.sampling.temperature = std::nanf(""); });
  add("top_p", [](TokenRequest& r) { r.sampling.top_p = 0; });
  add("min_p", [](TokenRequest& r) { r.sampling.min_p = 1.5f; });
  add("top_k", [](TokenRequest& r) { r.sampling.top_k = -1; });
  add("repetition_penalty", [](TokenRequest& r) { r.sampling.repetition_penalty = 0; });
  add("frequency_penalty", [](TokenRequest& r) { r.sampling.frequency_penalty = 2.5f; });
  add("logit_bias", [](TokenRequest& r) { r.sampling.logit_bias = {{3, 101.0f}}; });
  add("logit_bias", [](TokenRequest& r) { r.sampling.logit_bias = {{64, 1.0f}}; });
  add("stop string", [](TokenRequest& r) { r.sampling.stop = {""}; });
  add("max_tokens", [](TokenRequest& r) { r.sampling.max_tokens = -2; });
  add("logprobs", [](TokenRequest& r) { r.sampling.logprobs = 21; });
  add("n must be", [](TokenRequest& r) { r.sampling.n = 0; });
  add("n must be", [](TokenRequest& r) { r.sampling.n = 129; });
  add("made elsewhere", [](TokenRequest& r) { r.error = "made elsewhere"; });

  std::vector<TokenRequest> requests = {good};
  for (const auto& [request, why] : bad) requests.push_back(request);
  Engine engine(model, tokenizer, small_config());
  std::vector<int> ends(requests.size(), 0);
  const auto done = engine.generate(requests, [&](const Delta& d) { ends[size_t(d.request)] += d.finished; });
  EXPECT_EQ(done[0].choices[0].tokens, expected[0][0]);
  for (size_t i = 0; i < bad.size(); ++i) {
    const Choice& choice = done[i + 1].choices.at(0);
    EXPECT_EQ(choice.finish, FinishReason::error) << bad[i].second;
    EXPECT_NE(choice.error.find(bad[i].second), std::string::npos) << choice.error;
    EXPECT_EQ(ends[i + 1], static_cast<int>(done[i + 1].choices.size()));
  }
}

// What the engine takes, whoever asks; a server may ask for less.
TEST(Engine, LimitsOfSamplingHoldAtTheirEdges) {
  const FakeModel model(5000, 100);
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine engine(model, tokenizer, small_config());
  using Change = std::function<void(SamplingParams&, int)>;
  const std::vector<std::tuple<const char*, int, Change>> limits = {
      {"logprobs", 20, [](SamplingParams& params, int n) { params.logprobs = n; }},
      {"n must be", 128, [](SamplingParams& params, int n) { params.n = n; }},
      {"stop has", 64, [](SamplingParams& params, int n) { params.stop.resize(size_t(n), "x"); }},
      {"stop string", 1024,
       [](SamplingParams& params, int n) { params.stop = {std::string(size_t(n), 'x')}; }},
      {"logit_bias", 4096,
       [](SamplingParams& params, int n) {
         params.logit_bias.resize(size_t(n), {3, 1.0f});
       }},
      {"logit_bias", 100,
       [](SamplingParams& params, int n) {
         params.logit_bias = {{3, float(n)}};
       }},
      {"temperature", 100, [](SamplingParams& params, int n) { params.temperature = float(n); }},
      {"presence_penalty", 2, [](SamplingParams& params, int n) { params.presence_penalty = float(n); }},
  };
  for (const auto& [field, most, change] : limits) {
    for (const int n : {most - 1, most, most + 1}) {
      TokenRequest request = request_of(10, 2, 12);
      change(request.sampling, n);
      if (n <= most) {
        EXPECT_NO_THROW(engine.check(request)) << field << " " << n;
      } else {
        EXPECT_ERROR(engine.check(request), field);
      }
    }
  }
  for (const int length : {98, 99, 100}) {  // of a context of 100
    TokenRequest request = request_of(10, 2, 1);
    request.prompt = prompt_of(length, 1);
    if (length < 100) {
      EXPECT_NO_THROW(engine.check(request)) << length;
    } else {
      EXPECT_ERROR(engine.check(request), "prompt has 100 tokens");
    }
  }
}

TEST(Engine, BrokenLogitsEndTheReplyWithAnError) {
  FakeModel model;
  model.nan_position = 12;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine engine(model, tokenizer, small_config());
  const auto done = engine.generate({request_of(10, 2, 12), request_of(5, 3, 4)});
  EXPECT_EQ(done[0].choices[0].finish, FinishReason::error);
  EXPECT_EQ(done[0].choices[0].tokens.size(), 3u);
  EXPECT_NE(done[0].choices[0].error.find("not a number"), std::string::npos);
  EXPECT_EQ(done[1].choices[0].finish, FinishReason::length);
}

TEST(Engine, PaddedVocabularyIsNeverChosen) {
  FakeModel model(80);  // 64 ids and 16 rows of padding
  model.favourite = [](int) { return 70; };
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine engine(model, tokenizer, small_config());
  const auto done = engine.generate({request_of(10, 2, 50)});
  for (const int32_t token : done[0].choices[0].tokens) EXPECT_LT(token, 64);
}

TEST(Engine, LogprobsAreOfTheModelsOwnDistribution) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  TokenRequest request = request_of(10, 2, 6);
  request.sampling.logprobs = 5;
  request.sampling.temperature = 0.3f;
  request.sampling.logit_bias = {{7, 5.0f}};
  Engine engine(model, tokenizer, small_config());
  std::vector<TokenInfo> streamed;
  const Choice choice =
      engine
          .generate({request},
                    [&](const Delta& delta) {
                      streamed.insert(streamed.end(), delta.logprobs.begin(), delta.logprobs.end());
                    })[0]
          .choices[0];
  ASSERT_EQ(choice.logprobs.size(), choice.tokens.size());
  ASSERT_EQ(streamed.size(), choice.tokens.size());

  std::vector<int32_t> all = request.prompt;
  all.insert(all.end(), choice.tokens.begin(), choice.tokens.end());
  DirectRunner direct(model, small_config());
  const std::vector<float> logits = direct.logits_of(all);
  ASSERT_EQ(logits.size(), all.size() * 64);
  for (size_t i = 0; i < choice.tokens.size(); ++i) {
    const float* row = logits.data() + (request.prompt.size() - 1 + i) * 64;
    double sum = 0;
    for (int v = 0; v < 64; ++v) sum += std::exp(double(row[v]));
    const TokenInfo& info = choice.logprobs[i];
    EXPECT_EQ(info.chosen.token, choice.tokens[i]);
    EXPECT_EQ(info.chosen.text, tokenizer.token_text(choice.tokens[i]));
    EXPECT_NEAR(info.chosen.logprob, row[choice.tokens[i]] - std::log(sum), 1e-5);
    ASSERT_EQ(info.top.size(), 5u);
    EXPECT_EQ(info.top[0].token, std::max_element(row, row + 64) - row);
    for (size_t k = 1; k < 5; ++k) EXPECT_GE(info.top[k - 1].logprob, info.top[k].logprob);
  }
}

TEST(Engine, CancelFromTheStreamAndFromAnotherThread) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine engine(model, tokenizer, small_config());
  CancelToken cancel;
  int tokens = 0;
  const std::vector<TokenRequest> requests = {request_of(10, 1, -1), request_of(200, 2, -1),
                                              request_of(3, 3, 2)};
  auto done = engine.generate(
      requests,
      [&](const Delta&) {
        tokens += 1;
        if (tokens == 9) cancel.cancel();
      },
      &cancel);
  EXPECT_EQ(done[0].choices[0].finish, FinishReason::cancelled);
  EXPECT_EQ(done[1].choices[0].finish, FinishReason::cancelled);
  EXPECT_GT(done[0].choices[0].tokens.size(), 0u);
  EXPECT_TRUE(engine.scheduler().idle());
  EXPECT_EQ(engine.scheduler().check_integrity(), "");

  // The stream waits at its third token for the other thread, so the reply must end with the fourth.
  cancel.reset();
  std::atomic<bool> waiting{false};
  std::thread other([&] {
    while (!waiting) std::this_thread::yield();
    cancel.cancel();
  });
  tokens = 0;
  done = engine.generate(
      {requests[0]},
      [&](const Delta&) {
        waiting = ++tokens >= 3;
        while (waiting && !cancel.cancelled()) std::this_thread::yield();
      },
      &cancel);
  other.join();
  EXPECT_EQ(done[0].choices[0].finish, FinishReason::cancelled);
  EXPECT_EQ(done[0].choices[0].tokens.size(), 3u);
  // What was cancelled leaves a usable prefix behind and nothing else.
  cancel.reset();
  expect_same(engine.generate({request_of(10, 1, 30)}), solo(model, tokenizer, {request_of(10, 1, 30)}));
}

TEST(Engine, StepsAreMeasuredOnceAndAStepThatNeedsMoreGetsIt) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const std::vector<TokenRequest> requests = mixed_requests();
  const auto expected = solo(model, tokenizer, requests);
  Engine engine(model, tokenizer, small_config());
  const int measured = model.dry_runs;
  testing::internal::CaptureStderr();
  expect_same(engine.generate(requests), expected);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(model.dry_runs, measured) << "whatever the shapes of steps";

  // No size that is measured, and larger than all that are.
  model.scratch = [](int64_t tokens) { return tokens == 11 ? int64_t{1} << 20 : 1; };
  Engine surprised(model, tokenizer, small_config());
  const std::vector<TokenRequest> eleven = {request_of(11, 5, 3)};
  testing::internal::CaptureStderr();
  expect_same(surprised.generate(eleven), solo(model, tokenizer, eleven));
  surprised.generate(eleven);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("the arena grows"), std::string::npos) << log;
}

TEST(Engine, AnExceptionFromTheStreamEndsTheCallAndLeavesTheEngineUsable) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  Engine engine(model, tokenizer, small_config());
  const TokenRequest request = request_of(70, 1, 20);
  int tokens = 0;
  EXPECT_ERROR(engine.generate({request, request_of(40, 8, 50)},
                               [&](const Delta&) {
                                 if (++tokens == 5) throw Error("the listener left");
                               }),
               "the listener left");
  EXPECT_TRUE(engine.scheduler().idle());
  EXPECT_EQ(engine.scheduler().check_integrity(), "");
  expect_same(engine.generate({request}), solo(model, tokenizer, {request}));
}

TEST(Engine, AFailingStepLeavesTheEngineUsable) {
  FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const TokenRequest request = request_of(70, 1, 20);
  const auto expected = solo(model, tokenizer, {request});
  Engine engine(model, tokenizer, small_config());
  int steps = 0;
  model.on_step = [&](const ForwardBatch&) {
    if (++steps == 6) throw Error("step failed");
  };
  EXPECT_ERROR(engine.generate({request}), "step failed");
  EXPECT_EQ(engine.scheduler().check_integrity(), "");
  expect_same(engine.generate({request}), expected);
}

TEST(Engine, OptionsThatMakeNoSenseAreRefused) {
  const FakeModel model;
  const FakeTokenizer tokenizer = FakeTokenizer::letters();
  const auto with = [&](const auto& change) {
    EngineConfig config = small_config();
    change(config);
    Engine engine(model, tokenizer, config);
  };
  EXPECT_ERROR(with([](EngineConfig& c) { c.context = 5000; }), "1024 positions");
  EXPECT_ERROR(with([](EngineConfig& c) { c.kv_dtype = "q8"; }), "f32, f16, bf16, int8 or auto");
  EXPECT_ERROR(with([](EngineConfig& c) { c.batch_tokens = -1; }), "batch_tokens");
  EXPECT_ERROR(with([](EngineConfig& c) { c.batch_sequences = -1; }), "batch_sequences");
  EXPECT_ERROR(with([](EngineConfig& c) { c.kv_bytes = 100; }), "kv_bytes");
  EXPECT_ERROR(with([](EngineConfig& c) { c.context = 512, c.kv_bytes = 64 * 32 * 7; }), "kv_bytes");
}

}  // namespace
}  // namespace llamita
