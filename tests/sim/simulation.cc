#include "sim/simulation.h"

#include <algorithm>

#include "sim/violation.h"

namespace llamita::sim {

namespace {

constexpr int kLongSeeds = 4;  // one in so many runs for about 2,000 steps

}  // namespace

Tally& Tally::operator+=(const Tally& other) {
  steps += other.steps;
  submitted += other.submitted;
  finished += other.finished;
  cancelled += other.cancelled;
  overdue += other.overdue;
  failed_steps += other.failed_steps;
  rollbacks += other.rollbacks;
  preemptions += other.preemptions;
  prefix_hits += other.prefix_hits;
  late_tokens += other.late_tokens;
  waited_to_share += other.waited_to_share;
  cut_in_step += other.cut_in_step;
  forced += other.forced;
  forced_out += other.forced_out;
  events.add(other.events.value());
  return *this;
}

Simulation::Simulation(uint64_t seed)
    : random_(seed),
      block_tokens_(1 << below(4)),
      blocks_(3 + below(30)),
      limits_(random_limits()),
      fault_rate_(one_in(3) ? 1000000 : 8 + below(30)),
      scheduler_(limits_, blocks_, block_tokens_),
      cache_(blocks_, block_tokens_),
      runs_long_(one_in(kLongSeeds)),
      to_submit_(runs_long_ ? 150 + below(200) : 5 + below(25)) {}

sched::Limits Simulation::random_limits() {
  sched::Limits limits;
  limits.batch_sequences = 1 + below(6);
  limits.batch_tokens = limits.batch_sequences + below(40);
  limits.context = 2 + below(blocks_ * block_tokens_ + 20);
  limits.steps_under_way = 1 + below(2);
  limits.keep_prefixes = !one_in(6);
  limits.prefixes.hash_seed = random_();
  limits.prefixes.hash_bits = one_in(3) ? below(4) : 64;  // few bits: everything collides
  return limits;
}

Tally Simulation::run() {
  while (to_submit_ > 0 || !scheduler_.idle()) {
    require(++tally_.steps < 200'000, "no end in sight, with ", live_.size(), " sequences");
    submit_some();
    if (one_in(2 * fault_rate_)) submit_forcing();
    if (one_in(fault_rate_)) cancel_one();
    end_overdue();
    step();
    check_books();
  }
  while (!flights_.empty()) collect();
  check_end();
  tally_.preemptions = scheduler_.preemptions();
  return tally_;
}

void Simulation::submit_some() {
  while (to_submit_ > 0 && one_in(3)) {
    --to_submit_;
    const int room = scheduler_.longest_sequence();
    const std::vector<int32_t> prompt = random_prompt(room);
    sched::SequenceOptions options;
    options.priority = one_in(3) ? below(3) : 1;
    options.salt = one_in(4) ? "other" : "";
    options.overlap = !one_in(5);
    const auto most = static_cast<int>(static_cast<size_t>(room) + 1 - prompt.size());
    for (int choice = one_in(4) ? 1 + below(4) : 1; choice > 0; --choice) {
      Live live;
      live.prompt = prompt;
      live.wanted = static_cast<size_t>(1 + below(most));
      live.options = options;
      if (one_in(2)) live.options.longest = static_cast<int>(prompt.size() + live.wanted);
      if (one_in(fault_rate_)) live.deadline = tally_.steps + below(40);
      const sched::SequenceOptions& chosen = live.options;
      live_[scheduler_.add(prompt, chosen)] = std::move(live);
      ++tally_.submitted;
    }
  }
}

// A prompt like no other that needs all blocks there are: who runs must go, and find its place again later.
void Simulation::submit_forcing() {
  if (forcing_ != 0 && live_.count(forcing_) != 0) return;
  if (6 * tally_.forced > tally_.submitted) return;  // or nobody else would ever come to an end
  Live live;
  live.forcing = true;
  const int room = scheduler_.longest_sequence();
  for (int i = 0; i < room; ++i) live.prompt.push_back(100 + below(1'000'000));
  live.wanted = 1;
  live.options.priority = -1;
  live.options.overlap = !one_in(5);
  forcing_ = scheduler_.add(live.prompt, live.options);
  live_[forcing_] = std::move(live);
  ++tally_.submitted;
  ++tally_.forced;
}

// Often the continuation of an earlier one, or of a part of it.
std::vector<int32_t> Simulation::random_prompt(int room) {
  std::vector<int32_t> prompt;
  if (!history_.empty() && one_in(2)) prompt = history_[static_cast<size_t>(below(int(history_.size())))];
  if (!prompt.empty() && one_in(3)) prompt.resize(static_cast<size_t>(1 + below(int(prompt.size()))));
  for (int extra = below(1 + room); extra > 0 || prompt.empty(); --extra) prompt.push_back(below(3));
  prompt.resize(static_cast<size_t>(std::min<int>(int(prompt.size()), std::max(1, room - 1 - below(5)))));
  history_.push_back(prompt);
  return prompt;
}

void Simulation::step() {
  const bool planned = plan_and_run();
  const bool late =
      limits_.steps_under_way == 2 && planned && static_cast<int>(flights_.size()) == 1 && !one_in(5);
  if (one_in(fault_rate_)) {
    ++tally_.cut_in_step;
    cancel_one();
  }
  if (!flights_.empty() && one_in(3 * fault_rate_)) return lose_steps();
  if (late) return;  // the results come after the next plan
  require(planned || !flights_.empty() || scheduler_.idle(), "work waits and nothing runs");
  if (!flights_.empty()) collect();
  while (flights_.size() >= static_cast<size_t>(limits_.steps_under_way)) collect();
  if (flights_.empty() && one_in(fault_rate_)) roll_back_one();
}

bool Simulation::plan_and_run() {
  const sched::Batch batch = scheduler_.plan();
  tally_.events.add(tally_.steps, batch.tokens.size());
  if (batch.empty()) return false;
  check_batch(batch);
  check_rank(batch);
  check_forced(batch);
  Flight flight;
  size_t at = 0;
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    Live& live = live_.at(chunk.sequence);
    check_fence(chunk);
    check_intact(chunk);
    const auto first = batch.tokens.begin() + static_cast<ptrdiff_t>(at);
    std::vector<int32_t> tokens(first, first + (chunk.end - chunk.begin));
    at += tokens.size();
    for (int32_t& token : tokens) {
      if (token != sched::kTokenOfStepBefore) continue;
      require(!flights_.empty() && flights_.back().token.count(chunk.sequence) == 1,
              "a token is expected of a step that did not choose one");
      token = flights_.back().token.at(chunk.sequence);
      ++tally_.late_tokens;
    }
    const uint64_t hash = cache_.run(chunk, tokens.data());
    tally_.events.add(chunk.sequence, chunk.begin, chunk.end, chunk.sample, hash);
    for (const kv::BlockId block : chunk.blocks) tally_.events.add(block);
    if (chunk.sample) {
      flight.chosen.emplace_back(chunk.sequence, next_token(hash));
      flight.token[chunk.sequence] = next_token(hash);
    }
    for (const kv::BlockId block : chunk.blocks) flight.uses.emplace(block, chunk.sequence);
    for (int position = chunk.begin; position < chunk.end; ++position) {
      flight.written.push_back(&cache_.slot(chunk, position));
      written_by_[chunk.blocks[static_cast<size_t>(position / block_tokens_)]] = live.options.salt;
    }
    if (chunk.begin > 0 && !live.started) ++tally_.prefix_hits;
    live.started = true;
  }
  flights_.push_back(std::move(flight));
  return true;
}

// The oldest step's results reach the scheduler.
void Simulation::collect() {
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  scheduler_.commit();
  for (const auto& [id, token] : flight.chosen) {
    if (live_.count(id) != 0) take(id, token);
  }
}

void Simulation::take(sched::SequenceId id, int32_t token) {
  Live& live = live_.at(id);
  live.reply.push_back(token);
  tally_.events.add(id, token);
  check_reply(live);
  if (live.reply.size() < live.wanted) return scheduler_.append(id, token);
  history_.push_back(live.prompt);
  history_.back().insert(history_.back().end(), live.reply.begin(), live.reply.end());
  ++tally_.finished;
  end(id);
}

void Simulation::end(sched::SequenceId id) {
  require(live_.erase(id) == 1, "sequence ", id, " ends twice");
  tally_.events.add(id);
  scheduler_.finish(id);
}

void Simulation::cancel_one() {
  if (live_.empty()) return;
  auto victim = live_.begin();
  std::advance(victim, below(static_cast<int>(live_.size())));
  ++tally_.cancelled;
  end(victim->first);
}

void Simulation::end_overdue() {
  std::vector<sched::SequenceId> overdue;
  for (const auto& [id, live] : live_) {
    if (live.deadline > 0 && live.deadline <= tally_.steps) overdue.push_back(id);
  }
  for (const sched::SequenceId id : overdue) {
    ++tally_.overdue;
    end(id);
  }
}

// A reply loses its last tokens and has to find them again.
void Simulation::roll_back_one() {
  if (live_.empty()) return;
  auto chosen = live_.begin();
  std::advance(chosen, below(static_cast<int>(live_.size())));
  Live& live = chosen->second;
  if (live.reply.empty() || ++live.rollbacks > 3) return;
  live.reply.resize(static_cast<size_t>(below(static_cast<int>(live.reply.size()))));
  scheduler_.truncate(chosen->first, static_cast<int>(live.prompt.size() + live.reply.size()));
  ++tally_.rollbacks;
}

// All steps under way fail: nothing they wrote counts, and it may be anything.
void Simulation::lose_steps() {
  for (const Flight& flight : flights_) {
    for (uint64_t* slot : flight.written) *slot = random_();
  }
  flights_.clear();
  scheduler_.abandon();
  ++tally_.failed_steps;
}

void Simulation::check_batch(const sched::Batch& batch) {
  require(static_cast<int>(batch.tokens.size()) <= limits_.batch_tokens, "a step of ", batch.tokens.size(),
          " tokens, at most ", limits_.batch_tokens);
  require(static_cast<int>(batch.chunks.size()) <= limits_.batch_sequences, "a step of ", batch.chunks.size(),
          " sequences");
  size_t tokens = 0;
  std::set<sched::SequenceId> sequences;
  std::map<kv::BlockId, int> users;
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    require(live_.count(chunk.sequence) == 1, "an ended sequence is planned");
    require(sequences.insert(chunk.sequence).second, "sequence ", chunk.sequence, " is planned twice");
    require(chunk.begin < chunk.end && chunk.end <= scheduler_.longest_sequence(), "a chunk from ",
            chunk.begin, " to ", chunk.end);
    tokens += static_cast<size_t>(chunk.end - chunk.begin);
    for (const kv::BlockId block : std::set<kv::BlockId>(chunk.blocks.begin(), chunk.blocks.end())) {
      ++users[block];
    }
  }
  require(tokens == batch.tokens.size(), batch.tokens.size(), " tokens for ", tokens, " positions");
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    for (int position = chunk.begin; position < chunk.end; ++position) {
      const kv::BlockId block = chunk.blocks.at(static_cast<size_t>(position / block_tokens_));
      require(users[block] == 1, "block ", block, " is written while others use it");
    }
  }
}

// The sequence of the highest rank moves in every step, but while it waits to share what another one
// computes.
void Simulation::check_rank(const sched::Batch& batch) {
  if (!flights_.empty()) return;
  const auto ranks_before = [](const auto& a, const auto& b) {
    return std::pair(a.second.options.priority, a.first) < std::pair(b.second.options.priority, b.first);
  };
  const sched::SequenceId first = std::min_element(live_.begin(), live_.end(), ranks_before)->first;
  const bool moves = std::any_of(batch.chunks.begin(), batch.chunks.end(),
                                 [&](const auto& chunk) { return chunk.sequence == first; });
  quiet_steps_ = moves || first != first_ ? 0 : quiet_steps_ + 1;
  first_ = first;
  if (moves) return;
  ++tally_.waited_to_share;
  require(limits_.keep_prefixes && quiet_steps_ < 300, "the sequence of the highest rank does not move");
}

// Nothing keeps the one that pushes others out from moving once no step under way reads their blocks, and
// those whose blocks it took begin again from what the prefix cache still has of them.
void Simulation::check_forced(const sched::Batch& batch) {
  if (forcing_ == 0 || live_.count(forcing_) == 0 || !flights_.empty()) return;
  const auto moves = std::any_of(batch.chunks.begin(), batch.chunks.end(),
                                 [&](const auto& chunk) { return chunk.sequence == forcing_; });
  require(moves, "a sequence that ranks before all others does not get what they have");
  const int needed = scheduler_.pool().blocks_for(scheduler_.longest_sequence());
  if (needed < scheduler_.pool().blocks()) return;
  require(scheduler_.running() == 1 && batch.chunks.size() == 1, "all blocks are one sequence's, and ",
          scheduler_.running(), " run");
  if (live_.size() > 1) ++tally_.forced_out;
}

// A step under way still reads and writes its blocks: nobody else may write there.
void Simulation::check_fence(const sched::Batch::Chunk& chunk) {
  for (int position = chunk.begin; position < chunk.end; ++position) {
    const kv::BlockId block = chunk.blocks.at(static_cast<size_t>(position / block_tokens_));
    for (const Flight& flight : flights_) {
      for (auto use = flight.uses.lower_bound({block, 0}); use != flight.uses.end() && use->first == block;
           ++use) {
        require(use->second == chunk.sequence, "block ", block,
                " is written before a step that uses it ended");
      }
    }
  }
}

// All that the chunk's tokens would attend to is what this sequence's own tokens make it, and comes from its
// own salt.
void Simulation::check_intact(const sched::Batch::Chunk& chunk) {
  const Live& live = live_.at(chunk.sequence);
  std::vector<int32_t> tokens = live.prompt;
  tokens.insert(tokens.end(), live.reply.begin(), live.reply.end());
  require(chunk.begin <= static_cast<int>(tokens.size()), "tokens that nobody knows count as computed");
  uint64_t hash = 0;
  for (int position = 0; position < chunk.begin; ++position) {
    const auto at = static_cast<size_t>(position);
    hash = slot_hash(tokens[at], position, hash);
    require(cache_.slot(chunk, position) == hash, "position ", position, " of sequence ", chunk.sequence,
            " reads what is not its own");
    const kv::BlockId block = chunk.blocks[at / static_cast<size_t>(block_tokens_)];
    require(written_by_.at(block) == live.options.salt, "block ", block, " crosses from salt to salt");
  }
}

void Simulation::check_reply(const Live& live) const {
  require(live.reply == solo_reply(live.prompt, live.reply.size()), "a reply differs from the one alone");
}

void Simulation::check_books() const {
  const std::string wrong = scheduler_.check_integrity();
  require(wrong.empty(), wrong);
  require(scheduler_.running() + scheduler_.waiting() == static_cast<int>(live_.size()), scheduler_.running(),
          " running and ", scheduler_.waiting(), " waiting of ", live_.size());
  require(scheduler_.running() <= limits_.batch_sequences, scheduler_.running(), " sequences run");
}

void Simulation::check_end() {
  require(live_.empty(), live_.size(), " sequences never ended");
  require(tally_.finished + tally_.cancelled + tally_.overdue == tally_.submitted, "of ", tally_.submitted,
          " sequences ", tally_.finished, " finished, ", tally_.cancelled, " were cancelled and ",
          tally_.overdue, " were overdue");
  const kv::BlockPool& pool = scheduler_.pool();
  require(pool.free_blocks() + pool.idle_blocks() == pool.blocks(), "idle, and ",
          pool.blocks() - pool.free_blocks() - pool.idle_blocks(), " blocks are in use");
  require(scheduler_.check_integrity().empty(), scheduler_.check_integrity());
}

}  // namespace llamita::sim
