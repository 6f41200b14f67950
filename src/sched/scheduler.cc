#include "sched/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace llamita::sched {

Scheduler::Scheduler(const Limits& limits, int blocks, int block_tokens)
    : limits_(limits), pool_(blocks, block_tokens), kept_(limits.kept_prefixes) {
  LLAMITA_CHECK(limits.batch_sequences > 0 && limits.batch_tokens >= limits.batch_sequences, "steps of ",
                limits.batch_tokens, " tokens for ", limits.batch_sequences, " sequences");
}

int Scheduler::longest_sequence() const {
  const int64_t room = int64_t{pool_.blocks()} * pool_.block_tokens();
  return static_cast<int>(std::min<int64_t>(limits_.context, room));
}

SequenceId Scheduler::add(std::vector<int32_t> prompt, uint64_t group) {
  const int length = static_cast<int>(prompt.size());
  LLAMITA_CHECK(length >= 1 && length <= longest_sequence(), "a prompt of ", length, " tokens, room for ",
                longest_sequence());
  const SequenceId id = next_id_++;
  // The last token is always computed, for its logits; so a prompt that fills its last block shares one less.
  const int shareable = (length - 1) / pool_.block_tokens() * pool_.block_tokens();
  auto sequence =
      std::make_unique<Sequence>(Sequence{id, group, shareable, std::move(prompt), 0, kv::BlockTable(pool_)});
  waiting_.push_back(sequence.get());
  sequences_.emplace(id, std::move(sequence));
  return id;
}

Batch Scheduler::plan() {
  LLAMITA_CHECK(!in_flight_, "plan() again before commit() or abandon()");
  const auto is_decode = [](const Sequence* sequence) { return sequence->remaining() == 1; };
  const auto decodes = std::count_if(running_.begin(), running_.end(), is_decode);
  int budget = limits_.batch_tokens - static_cast<int>(decodes);
  const int preempted_before = preemptions_;
  Batch batch;
  // Oldest first, and the newest is preempted first: a sequence already in the batch is never a victim.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    const bool decode = is_decode(&sequence);
    const int tokens = decode ? 1 : std::min(sequence.remaining(), budget);
    if (tokens == 0) continue;
    if (!reserve(sequence, sequence.computed + tokens)) break;
    schedule(sequence, tokens, batch);
    if (!decode) budget -= tokens;
  }
  // Right after a preemption the free blocks are its victims' and the running sequences need them.
  if (preemptions_ == preempted_before) admit(budget, batch);
  LLAMITA_CHECK(!batch.empty() || idle(), "nothing scheduled with ", waiting_.size(), " waiting and ",
                running_.size(), " running");
  in_flight_ = !batch.empty();
  in_flight_batch_.chunks.clear();
  for (const Batch::Chunk& chunk : batch.chunks) {
    in_flight_batch_.chunks.push_back({chunk.sequence, chunk.begin, chunk.end, chunk.sample, {}});
  }
  return batch;
}

void Scheduler::schedule(Sequence& sequence, int tokens, Batch& batch) {
  const int begin = sequence.computed, end = begin + tokens;
  for (int position = begin; position < end; position += pool_.block_tokens()) {
    LLAMITA_CHECK(sequence.blocks.exclusive(position), "position ", position, " lies in a shared block");
  }
  LLAMITA_CHECK(sequence.blocks.exclusive(end - 1), "position ", end - 1, " lies in a shared block");
  const auto blocks = sequence.blocks.blocks();
  batch.chunks.push_back({sequence.id, begin, end, end == sequence.length(), {blocks.begin(), blocks.end()}});
  batch.tokens.insert(batch.tokens.end(), sequence.tokens.begin() + begin, sequence.tokens.begin() + end);
}

// Blocks for `tokens` tokens, if need be those of kept prefixes and of sequences admitted later. False when
// the sequence itself had to go back to the queue.
bool Scheduler::reserve(Sequence& sequence, int tokens) {
  while (!sequence.blocks.grow(tokens)) {
    if (kept_.evict_oldest()) continue;
    const bool last = running_.back() == &sequence;
    preempt_last();
    if (last) return false;
  }
  return true;
}

void Scheduler::preempt_last() {
  LLAMITA_CHECK(running_.size() > 1, "one sequence alone does not fit: add() let it in");
  Sequence& victim = *running_.back();
  running_.pop_back();
  victim.blocks.truncate(0);
  victim.computed = 0;
  waiting_.push_front(&victim);
  ++preemptions_;
}

void Scheduler::admit(int budget, Batch& batch) {
  for (size_t next = 0; next < waiting_.size();) {
    if (budget == 0 || static_cast<int>(running_.size()) == limits_.batch_sequences) return;
    Sequence& sequence = *waiting_[next];
    if (waits_for_sibling(sequence)) {
      ++next;
      continue;
    }
    if (!make_room(sequence)) return;
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(next));
    running_.push_back(&sequence);
    const int tokens = std::min(sequence.remaining(), budget);
    schedule(sequence, tokens, batch);
    budget -= tokens;
  }
}

bool Scheduler::waits_for_sibling(const Sequence& sequence) const {
  return std::any_of(running_.begin(), running_.end(), [&](const Sequence* other) {
    return other->group == sequence.group && other->computed < sequence.shareable;
  });
}

// Blocks for all the sequence's tokens, so that prefill is never preempted for its own sake, and one more for
// each running sequence, which will soon want it.
bool Scheduler::make_room(Sequence& sequence) {
  reuse_prefix(sequence);
  const int have = static_cast<int>(sequence.blocks.blocks().size());
  const int needed = pool_.blocks_for(sequence.length()) - have + static_cast<int>(running_.size());
  while (pool_.free_blocks() < needed && kept_.evict_oldest()) {
  }
  if (pool_.free_blocks() >= needed && sequence.blocks.grow(sequence.length())) return true;
  sequence.blocks.truncate(0);
  sequence.computed = 0;
  return false;
}

// Starts a sequence from the keys and values of the longest equal prefix, running or kept. At least one token
// is left to compute.
void Scheduler::reuse_prefix(Sequence& sequence) {
  const auto wanted = std::span<const int32_t>(sequence.tokens).first(sequence.tokens.size() - 1);
  const Sequence* best = nullptr;
  int blocks = 0;
  for (const Sequence* other : running_) {
    const auto ready = std::span<const int32_t>(other->tokens).first(static_cast<size_t>(other->computed));
    const int match = kv::common_prefix(ready, wanted) / pool_.block_tokens();
    if (match > blocks) {
      best = other;
      blocks = match;
    }
  }
  if (kept_.longest_match(wanted) > blocks * pool_.block_tokens()) {
    sequence.computed = kept_.adopt(wanted, sequence.blocks, pool_.block_tokens());
  } else if (best != nullptr) {
    sequence.blocks.share_prefix(best->blocks, blocks);
    sequence.computed = blocks * pool_.block_tokens();
  }
}

void Scheduler::commit() {
  LLAMITA_CHECK(in_flight_, "commit() without a step under way");
  for (const Batch::Chunk& chunk : in_flight_batch_.chunks) {
    const auto found = sequences_.find(chunk.sequence);
    if (found != sequences_.end()) found->second->computed = chunk.end;
  }
  abandon();
}

void Scheduler::abandon() {
  in_flight_ = false;
  in_flight_batch_.chunks.clear();
  read_by_flight_.clear();
}

void Scheduler::append(SequenceId id, int32_t token) {
  Sequence& sequence = find(id);
  LLAMITA_CHECK(!in_flight_ && sequence.remaining() == 0, "sequence ", id, " was not sampled");
  LLAMITA_CHECK(sequence.length() < longest_sequence(), "sequence ", id, " is full");
  sequence.tokens.push_back(token);
}

void Scheduler::finish(SequenceId id) {
  Sequence& sequence = find(id);
  std::erase(running_, &sequence);
  std::erase(waiting_, &sequence);
  if (in_flight_) {
    read_by_flight_.push_back(std::move(sequence.blocks));
  } else if (sequence.computed > 0) {
    sequence.tokens.resize(static_cast<size_t>(sequence.computed));
    kept_.keep(std::move(sequence.tokens), std::move(sequence.blocks));
  }
  sequences_.erase(id);
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
  for (const auto& [id, sequence] : sequences_) hold(sequence->blocks);
  for (const kv::BlockTable& table : read_by_flight_) hold(table);
  kept_.append_blocks(held);
  if (sequences_.size() != running_.size() + waiting_.size()) return "a sequence is in no queue or in two";
  for (const Sequence* sequence : waiting_) {
    if (!sequence->blocks.blocks().empty()) return cat("waiting sequence ", sequence->id, " holds blocks");
  }
  return pool_.check_integrity(held);
}

}  // namespace llamita::sched
