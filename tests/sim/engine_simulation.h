// The real Engine, scheduler and books under random load and simulated clocks, over a model whose replies
// depend on every bit of the cache, with every decision drawn from one seed: arrivals, lengths, choices, stop
// tokens, priorities, salts, requests that push all others out, cancels and deadlines in every phase, failing
// steps and slow ones, one and two steps under way, a wall clock that is set forward and back, a machine that
// sleeps for hours, and an end that is natural, by a signal, or by a device that is lost. Each request must
// end once, begin in time or not at all, end at its time and not before, and be counted for the tokens it was
// given; every second reply, or what there is of it, is compared with the one of the request alone, in an
// engine that knows no prefixes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "engine/engine.h"
#include "sim/clocks.h"
#include "sim/event_hash.h"
#include "support/fake_model.h"

namespace llamita::sim {

// What happened, to see that the load had in it what it is there to test.
struct EngineTally {
  int64_t steps = 0, submitted = 0, tokens = 0, finished = 0, cancelled = 0, overdue = 0, failed = 0;
  int64_t overdue_unbegun = 0, forced = 0, preemptions = 0, wall_jumps = 0, sleeps = 0, compared = 0;
  int64_t begun_in_time = 0;      // with a time to begin by
  int64_t stopped = 0, lost = 0;  // simulations that ended so
  EventHash events;               // what happened, in its order, and when
  EngineTally& operator+=(const EngineTally& other);
};

class EngineSimulation {
 public:
  explicit EngineSimulation(uint64_t seed);

  // One of the seeds that run for about 2,000 steps.
  bool runs_long() const { return runs_long_; }

  // Throws Violation.
  EngineTally run();

 private:
  using Clock = Engine::Clock;

  struct Live {
    std::shared_ptr<const TokenRequest> request;
    Engine::StartOptions options;
    std::vector<std::vector<int32_t>> tokens;  // of each choice, as they were given
    std::vector<bool> ended;                   // each choice
  };

  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool one_in(int n) { return below(n) == 0; }
  EngineConfig random_config();
  TokenRequest random_request(bool large);
  void submit_some();
  void submit(bool large);
  void disturb_clocks();
  void cancel_one();
  void step();
  void end_early();
  void hear(RequestId id, const Update& update);
  void check_done(RequestId id, const Live& live, const Completion& done);
  void check_times(const Live& live, const Completion& done);
  void check_replies(const Live& live, const Completion& done);
  void check_step(Clock::time_point began);
  void check_end();

  std::mt19937_64 random_;
  SimulatedClocks clocks_;
  test::FakeModel model_;
  test::FakeTokenizer tokenizer_;
  int pages_;
  Engine engine_;
  int fault_rate_;  // one in so many
  bool runs_long_;
  int to_submit_;
  RequestId next_id_ = 1;
  std::map<RequestId, Live> live_;
  bool step_fails_ = false, failing_ = false;
  std::optional<FinishReason> asked_;  // of ends that the simulation asks for
  EngineTally tally_;
};

}  // namespace llamita::sim
