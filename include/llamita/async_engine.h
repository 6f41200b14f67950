// AsyncEngine: a loaded model that serves many callers at once. Requests join and leave between any two steps
// of one step thread; a request's tokens do not depend on what else is running.
//
//   auto engine = llamita::AsyncEngine::load("model.gguf");
//   auto prepared = engine->prepare(request);                      // any thread; throws for a bad request
//   auto id = engine->submit(prepared, {}, [](const Update& update) { … });  // called on the step thread
//   engine->cancel(*id);                                            // at any time, from any thread
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llamita/engine_config.h"
#include "llamita/llm.h"
#include "llamita/request.h"

namespace llamita {

using RequestId = uint64_t;

struct SubmitOptions {
  int priority = 0;  // lower ones are served first; equal ones in order of arrival
  // From submission; past it the request ends with FinishReason::deadline and keeps what it has.
  std::optional<std::chrono::milliseconds> deadline;
  // From submission; a request that no step had part of by then ends likewise, with Completion::queue_seconds
  // 0.
  std::optional<std::chrono::milliseconds> queue_timeout;
  // Requests share cached prefixes only with requests of the same salt.
  std::string cache_salt;
  // Set when a step first has part of one of them, if it is there; false before.
  std::shared_ptr<std::atomic<bool>> begun;
};

// News of one request: one step's delta of one choice. The last update of a request carries its completion.
struct Update {
  Delta delta;                       // delta.request is 0
  std::vector<int32_t> tokens;       // the delta's tokens
  const Completion* done = nullptr;  // with the last update; valid during the call
};

// A request whose prompt is rendered and tokenised, whose options are checked and whose grammar is compiled:
// what may fail or take long. Immutable; may be submitted more than once.
class PreparedRequest {
 public:
  virtual ~PreparedRequest() = default;
  virtual int prompt_tokens() const = 0;
};

// What the engine is doing, as of the end of the last step. Counters start at zero with the engine.
struct EngineStats {
  int running = 0, waiting = 0;                         // sequences (choices), not requests
  int blocks = 0, blocks_used = 0, blocks_shared = 0;   // of the KV cache; shared: by two sequences or more
  int block_tokens = 0;                                 // of one block
  int blocks_kept = 0;                                  // hold prefixes of ended sequences, free when needed
  int step_prefill_tokens = 0, step_decode_tokens = 0;  // of the last step
  int64_t steps = 0;
  int64_t step_tokens = 0;                          // of all steps together
  int64_t prompt_tokens = 0, generated_tokens = 0;  // computed or chosen so far
  int64_t prefix_hit_tokens = 0, prefix_query_tokens = 0;
  int64_t preemptions = 0;
  // Requests that were cancelled before a step had part of them, before their first token, and after it.
  int64_t cancelled_queued = 0, cancelled_prefill = 0, cancelled_decode = 0;
  double step_seconds = 0;   // of the last step
  bool busy = false;         // there is work
  bool device_lost = false;  // nothing more is computed: requests end with FinishReason::error
  std::chrono::steady_clock::time_point progress_at;  // when a step last ended or work last arrived
};

// When a step fails, the requests it had part of end with FinishReason::error, and the engine goes on with
// the others. When it fails because the device is lost (DeviceLostError), all do, and so does whatever comes
// after: has_room() is false from then on, EngineStats::device_lost true, and only a new process helps.
class AsyncEngine {
 public:
  using OnUpdate = std::function<void(const Update&)>;
  using OnGroupUpdate = std::function<void(size_t which, const Update&)>;

  // As LLM::load. Starts the step thread.
  static std::unique_ptr<AsyncEngine> load(const std::string& path, const EngineConfig& config = {},
                                           const LLM::Progress& progress = {});
  // Cancels what is running and joins the step thread. No update comes after it returns.
  virtual ~AsyncEngine() = default;

  // Throws Error for a request that cannot be served.
  virtual std::shared_ptr<const PreparedRequest> prepare(const Request& request) const = 0;

  // Queues requests that belong together, all of them or none; nothing when the queue is full
  // (EngineConfig::queue_requests, queue_tokens; when it is empty it takes any) or the engine is draining.
  // `on_update` is called on the step thread, with the index of the request it is about, and must return at
  // once and not throw; the last call of each has Update::done, also for cancelled requests. The
  // queue_timeout is for the first of them to begin.
  virtual std::optional<std::vector<RequestId>> submit_all(
      std::vector<std::shared_ptr<const PreparedRequest>> requests, const SubmitOptions& options,
      OnGroupUpdate on_update) = 0;
  // One request.
  std::optional<RequestId> submit(std::shared_ptr<const PreparedRequest> request,
                                  const SubmitOptions& options, OnUpdate on_update) {
    OnGroupUpdate listener;
    if (on_update) {
      listener = [on_update = std::move(on_update)](size_t, const Update& update) { on_update(update); };
    }
    const auto ids = submit_all({std::move(request)}, options, std::move(listener));
    return ids ? std::optional(ids->front()) : std::nullopt;
  }
  // False when a request would not be queued now, however short: no need to prepare it.
  virtual bool has_room() const = 0;
  // The request ends with FinishReason::cancelled after the step under way, and its blocks are free by the
  // next. Ids that are unknown or done are ignored.
  virtual void cancel(RequestId id) = 0;
  // Refuses new requests; what was submitted goes on.
  virtual void drain() = 0;

  virtual EngineStats stats() const = 0;

  // As LLM's, from any thread.
  virtual const ModelInfo& info() const = 0;
  virtual std::vector<int32_t> tokenize(std::string_view text, bool add_special) const = 0;
  virtual std::string detokenize(const std::vector<int32_t>& tokens) const = 0;
};

}  // namespace llamita
