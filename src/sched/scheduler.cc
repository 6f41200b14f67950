#include "sched/scheduler.h"

#include <algorithm>

#include "base/cat.h"
#include "base/check.h"

namespace llamita::sched {

Scheduler::Scheduler(const Limits& limits, int blocks, int block_tokens)
    : limits_(limits), pool_(blocks, block_tokens), cache_(pool_, limits.prefixes) {
  LLAMITA_CHECK(limits.batch_sequences > 0 && limits.batch_tokens >= limits.batch_sequences, "steps of ",
                limits.batch_tokens, " tokens for ", limits.batch_sequences, " sequences");
  LLAMITA_CHECK(limits.steps_under_way == 1 || limits.steps_under_way == 2, limits.steps_under_way,
                " steps under way");
}

int Scheduler::longest_sequence() const {
  const int64_t room = int64_t{pool_.blocks()} * pool_.block_tokens();
  return static_cast<int>(std::min<int64_t>(limits_.context, room));
}

SequenceId Scheduler::add(std::vector<int32_t> prompt, const SequenceOptions& options) {
  const int length = static_cast<int>(prompt.size());
  LLAMITA_CHECK(length >= 1 && length <= longest_sequence(), "a prompt of ", length, " tokens, room for ",
                longest_sequence());
  const SequenceId id = next_id_++;
  auto sequence = std::make_unique<Sequence>(id, std::move(prompt), options, pool_);
  waiting_.insert(sequence.get());
  sequences_.emplace(id, std::move(sequence));
  return id;
}

Batch Scheduler::plan() {
  LLAMITA_CHECK(static_cast<int>(under_way_.size()) < limits_.steps_under_way,
                "plan() again before commit() or abandon()");
  make_way();
  const auto is_decode = [&](const Sequence* sequence) {
    return may_plan(*sequence) && sequence->remaining() == 1;
  };
  const auto decodes = std::count_if(running_.begin(), running_.end(), is_decode);
  int budget = limits_.batch_tokens - static_cast<int>(decodes);
  const int64_t preempted_before = preemptions_;
  Batch batch;
  // By rank, and the lowest is preempted first: a sequence already in the batch is never a victim.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (!may_plan(sequence)) continue;
    const bool decode = is_decode(&sequence);
    const int tokens = decode ? 1 : std::min(sequence.remaining(), budget);
    if (tokens == 0 || !reserve(sequence, sequence.planned + tokens)) continue;
    schedule(sequence, tokens, batch);
    if (!decode) budget -= tokens;
  }
  // Right after a preemption the free blocks are its victims' and the running sequences need them.
  if (preemptions_ == preempted_before) admit(budget, batch);
  LLAMITA_CHECK(!batch.empty() || idle() || !under_way_.empty(), "nothing scheduled with ", waiting_.size(),
                " waiting and ", running_.size(), " running");
  if (batch.empty()) return batch;
  Step step;
  for (const Batch::Chunk& chunk : batch.chunks) {
    step.parts.push_back({chunk.sequence, find(chunk.sequence).generation, chunk.end});
  }
  under_way_.push_back(std::move(step));
  return batch;
}

bool Scheduler::may_plan(const Sequence& sequence) const {
  if (sequence.expected > 0 && !sequence.options.overlap) return false;
  // A full sequence ends with the token that is expected, and so does one as long as its caller wants it.
  const int longest = sequence.options.longest, length = sequence.length() + sequence.expected;
  return length <= longest_sequence() && (longest == 0 || length < longest);
}

void Scheduler::schedule(Sequence& sequence, int tokens, Batch& batch) {
  const int begin = sequence.planned, end = begin + tokens;
  for (int position = begin; position < end; position += pool_.block_tokens()) {
    LLAMITA_CHECK(sequence.blocks.exclusive(position), "position ", position, " lies in a shared block");
  }
  LLAMITA_CHECK(sequence.blocks.exclusive(end - 1), "position ", end - 1, " lies in a shared block");
  const auto blocks = sequence.blocks.blocks();
  const bool sample = tokens == sequence.remaining();
  batch.chunks.push_back({sequence.id, begin, end, sample, {blocks.begin(), blocks.end()}});
  for (int position = begin; position < end; ++position) {
    const bool known = position < sequence.length();
    batch.tokens.push_back(known ? sequence.tokens[static_cast<size_t>(position)] : kTokenOfStepBefore);
  }
  sequence.planned = end;
  sequence.expected += sample ? 1 : 0;
}

// Blocks for `tokens` tokens, if need be those of idle prefixes and of sequences of a lower rank. False when
// the sequence cannot be planned now: it had to go itself, or blocks that come free are still read by a step
// under way.
bool Scheduler::reserve(Sequence& sequence, int tokens) {
  while (!sequence.blocks.grow(tokens)) {
    if (cache_.evict_oldest()) continue;
    if (blocks_come()) return false;
    LLAMITA_CHECK(running_.size() > 1, "one sequence alone does not fit: add() let it in");
    Sequence& victim = *running_.back();
    const bool itself = &victim == &sequence;
    preempt(victim);
    if (itself) return false;
  }
  return true;
}

// Whether blocks will be free when the steps under way have run.
bool Scheduler::blocks_come() const {
  return std::any_of(under_way_.begin(), under_way_.end(),
                     [](const Step& step) { return !step.read.empty(); });
}

void Scheduler::preempt(Sequence& victim) {
  std::erase(running_, &victim);
  leave(victim);
  waiting_.insert(&victim);
  ++preemptions_;
}

// Gives the sequence's blocks back, once no step reads them any more.
void Scheduler::leave(Sequence& sequence) {
  if (under_way_.empty()) {
    sequence.blocks.truncate(0);
  } else if (!sequence.blocks.blocks().empty()) {
    under_way_.back().read.push_back(std::move(sequence.blocks));
    sequence.blocks = kv::BlockTable(pool_);
  }
  sequence.planned = sequence.computed = sequence.kept = 0;
  sequence.keeps = true;
  ++sequence.generation;
}

// Waiting sequences of a better priority take the place of running ones of a worse one.
void Scheduler::make_way() {
  while (!waiting_.empty() && !running_.empty()) {
    Sequence& first = **waiting_.begin();
    if (running_.back()->options.priority <= first.options.priority) return;
    if (first.expected > 0 || waits_for_other(first)) return;
    const bool full = static_cast<int>(running_.size()) == limits_.batch_sequences;
    const auto match = full ? std::nullopt : room_for(first);
    if (match) {
      join(first, *match);
    } else {
      if (!full && blocks_come()) return;
      preempt(*running_.back());
    }
  }
}

void Scheduler::admit(int budget, Batch& batch) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (budget == 0 || static_cast<int>(running_.size()) == limits_.batch_sequences) return;
    Sequence& sequence = **next;
    if (waits_for_other(sequence)) {
      ++next;
      continue;
    }
    const auto match = room_for(sequence);
    if (!match) return;
    ++next;
    join(sequence, *match);
    const int tokens = std::min(sequence.remaining(), budget);
    schedule(sequence, tokens, batch);
    budget -= tokens;
  }
}

// Whether a running sequence is about to compute blocks that this one begins with.
bool Scheduler::waits_for_other(Sequence& sequence) {
  if (!limits_.keep_prefixes) return false;
  if (sequence.waits_for != 0) {
    const auto other = sequences_.find(sequence.waits_for);
    const bool there = other != sequences_.end() && !other->second->blocks.blocks().empty();
    if (there && other->second->computed < sequence.waits_until) return true;
    sequence.waits_for = 0;
  }
  const auto wanted = std::span<const int32_t>(sequence.tokens).first(sequence.tokens.size() - 1);
  const int kept = static_cast<int>(kept_prefix(sequence).blocks.size());
  for (const Sequence* other : running_) {
    if (!other->keeps || other->options.salt != sequence.options.salt) continue;
    const int ready = other->computed / pool_.block_tokens();
    if (ready == other->length() / pool_.block_tokens()) continue;
    const int shared = kv::common_prefix(other->tokens, wanted) / pool_.block_tokens();
    if (shared <= kept || shared <= ready) continue;
    sequence.waits_for = other->id;
    sequence.waits_until = shared * pool_.block_tokens();
    return true;
  }
  return false;
}

// At least one token stays to be computed, for its logits.
kv::PrefixCache::Match Scheduler::kept_prefix(const Sequence& sequence) const {
  if (!limits_.keep_prefixes) return {};
  const auto wanted = std::span<const int32_t>(sequence.tokens).first(sequence.tokens.size() - 1);
  return cache_.find(wanted, sequence.options.salt);
}

// Whether there are blocks for all the sequence's tokens, so that prefill is never preempted for its own
// sake, and one more for each running sequence, which will soon want it. If so, the prefix it may begin with.
std::optional<kv::PrefixCache::Match> Scheduler::room_for(const Sequence& sequence) const {
  if (sequence.expected > 0) return std::nullopt;  // it was preempted while a step chooses its next token
  kv::PrefixCache::Match match = kept_prefix(sequence);
  int available = pool_.free_blocks() + pool_.idle_blocks() - (match.tail ? 1 : 0);
  for (const kv::BlockId block : match.blocks) available -= pool_.references(block) == 0 ? 1 : 0;
  const int needed = pool_.blocks_for(sequence.length()) - match.count() + running();
  if (available < needed) return std::nullopt;
  return match;
}

// A waiting sequence for which there is room runs from now on.
void Scheduler::join(Sequence& sequence, const kv::PrefixCache::Match& match) {
  waiting_.erase(&sequence);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, ByRank()), &sequence);
  cache_.adopt(match, sequence.blocks);
  sequence.planned = sequence.computed = match.tokens;
  sequence.kept = static_cast<int>(match.blocks.size());
  sequence.kept_to = match.place;
  while (!sequence.blocks.grow(sequence.length())) {
    LLAMITA_CHECK(cache_.evict_oldest(), "sequence ", sequence.id, " does not fit where there was room");
  }
}

void Scheduler::commit() {
  LLAMITA_CHECK(!under_way_.empty(), "commit() without a step under way");
  const Step step = std::move(under_way_.front());
  under_way_.pop_front();
  for (const Step::Part& part : step.parts) {
    const auto found = sequences_.find(part.sequence);
    if (found == sequences_.end() || found->second->generation != part.generation) continue;
    LLAMITA_CHECK(part.end <= found->second->blocks.capacity(), "sequence ", part.sequence, " computed ",
                  part.end, " tokens in blocks for ", found->second->blocks.capacity());
    found->second->computed = part.end;
    keep_blocks(*found->second);
  }
}

void Scheduler::abandon() {
  for (const Step& step : under_way_) {
    for (const Step::Part& part : step.parts) {
      const auto found = sequences_.find(part.sequence);
      if (found == sequences_.end()) continue;
      Sequence& sequence = *found->second;
      sequence.planned = sequence.computed;
      sequence.expected = 0;
      ++sequence.generation;
    }
  }
  under_way_.clear();
}

// What is computed and fills a block can be shared from now on.
void Scheduler::keep_blocks(Sequence& sequence) {
  if (!limits_.keep_prefixes) return;
  const auto size = static_cast<size_t>(pool_.block_tokens());
  while (sequence.keeps && (sequence.kept + 1) * pool_.block_tokens() <= sequence.computed) {
    const auto index = static_cast<size_t>(sequence.kept);
    const auto parent = sequence.kept == 0 ? cache_.start(sequence.options.salt) : sequence.kept_to;
    const auto place =
        cache_.keep(parent, std::span<const int32_t>(sequence.tokens).subspan(index * size, size),
                    sequence.blocks.blocks()[index]);
    sequence.keeps = place.has_value();
    if (!place) return;
    sequence.kept_to = *place;
    ++sequence.kept;
  }
}

void Scheduler::append(SequenceId id, int32_t token) {
  Sequence& sequence = find(id);
  LLAMITA_CHECK(sequence.expected > 0, "sequence ", id, " was not sampled");
  LLAMITA_CHECK(sequence.length() < longest_sequence(), "sequence ", id, " is full");
  sequence.tokens.push_back(token);
  --sequence.expected;
}

void Scheduler::truncate(SequenceId id, int length) {
  Sequence& sequence = find(id);
  LLAMITA_CHECK(length >= 1 && length <= sequence.length(), "sequence ", id, " of ", sequence.length(),
                " tokens cannot be cut to ", length);
  LLAMITA_CHECK(sequence.expected == 0 && sequence.planned == sequence.computed, "sequence ", id,
                " is cut while a step with a part of it is under way");
  sequence.tokens.resize(static_cast<size_t>(length));
  if (sequence.computed < length) return;
  // The last token is computed again, for its logits; in a block that others may read, all of the block.
  int computed = length - 1;
  if (!sequence.blocks.exclusive(computed)) computed -= computed % pool_.block_tokens();
  sequence.planned = sequence.computed = computed;
  sequence.blocks.truncate(computed);
  for (; sequence.kept > computed / pool_.block_tokens(); --sequence.kept) {
    sequence.kept_to = cache_.parent(sequence.kept_to);
  }
}

void Scheduler::finish(SequenceId id) {
  Sequence& sequence = find(id);
  std::erase(running_, &sequence);
  waiting_.erase(&sequence);
  if (under_way_.empty()) keep_tail(sequence);
  leave(sequence);
  sequences_.erase(id);
}

// The last block of a sequence that ends may be partly full.
void Scheduler::keep_tail(const Sequence& sequence) {
  const int begin = sequence.kept * pool_.block_tokens();
  if (!limits_.keep_prefixes || !sequence.keeps || sequence.computed <= begin) return;
  const auto parent = sequence.kept == 0 ? cache_.start(sequence.options.salt) : sequence.kept_to;
  const auto tokens =
      std::span<const int32_t>(sequence.tokens)
          .subspan(static_cast<size_t>(begin), static_cast<size_t>(sequence.computed - begin));
  cache_.keep_tail(parent, tokens, sequence.blocks.blocks()[static_cast<size_t>(sequence.kept)]);
}

Scheduler::Sequence& Scheduler::find(SequenceId id) {
  const auto found = sequences_.find(id);
  LLAMITA_CHECK(found != sequences_.end(), "sequence ", id, " is not here");
  return *found->second;
}

std::string Scheduler::check_integrity() const {
  std::vector<kv::BlockId> held;
  const auto hold = [&](const kv::BlockTable& table) {
    held.insert(held.end(), table.blocks().begin(), table.blocks().end());
  };
  for (const auto& [id, sequence] : sequences_) {
    hold(sequence->blocks);
    const bool ordered = sequence->kept * pool_.block_tokens() <= sequence->computed &&
                         sequence->computed <= sequence->planned &&
                         sequence->planned <= sequence->length() + sequence->expected;
    if (!ordered)
      return cat("sequence ", id, " counts ", sequence->kept, " kept blocks, ", sequence->computed,
                 " computed and ", sequence->planned, " planned of ", sequence->length());
  }
  for (const Step& step : under_way_) {
    for (const kv::BlockTable& table : step.read) hold(table);
  }
  if (sequences_.size() != running_.size() + waiting_.size()) return "a sequence is in no queue or in two";
  if (!std::is_sorted(running_.begin(), running_.end(), ByRank()))
    return "running sequences lost their ranks";
  for (const Sequence* sequence : waiting_) {
    if (!sequence->blocks.blocks().empty()) return cat("waiting sequence ", sequence->id, " holds blocks");
  }
  const std::string wrong = pool_.check_integrity(held);
  return wrong.empty() ? cache_.check_integrity() : wrong;
}

}  // namespace llamita::sched
