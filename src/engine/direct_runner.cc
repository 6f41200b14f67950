#include "engine/direct_runner.h"

#include <algorithm>

#include "base/pinning.h"
#include "base/timer.h"
#include "engine/validate.h"

namespace llamita {

namespace {

void take_tokens(std::span<const SampledToken> from, std::vector<int32_t>& to) {
  for (size_t i = 0; i < from.size(); ++i) to[i] = std::max(from[i].token, 0);
}

}  // namespace

DirectRunner::DirectRunner(const Model& model, const EngineConfig& config)
    : model_(model),
      pool_(config.threads, parse_pinning(config.pin, "pin")),
      plan_(plan_steps(model, config, model.config().vocab, pool_)),
      runner_(model, plan_, model.config().vocab, pool_, config.fault),
      blocks_(plan_.shape.kv_pages, kPageTokens) {}

// Blocks for `sequences` empty sequences of up to `tokens` tokens.
void DirectRunner::open(int sequences, int tokens) {
  if (sequences < 1 || sequences > plan_.shape.batch_sequences) {
    throw Error(cat("between 1 and ", plan_.shape.batch_sequences, " sequences can be measured, not ",
                    sequences, ": raise batch_sequences"));
  }
  if (tokens < 1 || tokens > plan_.shape.context) {
    throw Error(
        cat("sequences of ", tokens, " tokens were asked for, but the context is ", plan_.shape.context));
  }
  tables_.clear();
  length_ = 0;
  for (int sequence = 0; sequence < sequences; ++sequence) {
    tables_.emplace_back(blocks_);
    if (!tables_.back().grow(tokens)) {
      throw Error(cat(sequences, " sequences of ", tokens, " tokens do not fit into ", plan_.kv_bytes,
                      " bytes of cache: raise kv_bytes"));
    }
  }
}

sched::Batch::Chunk DirectRunner::chunk(size_t sequence, int begin, int end) const {
  const auto blocks = tables_[sequence].blocks();
  return {sequence, begin, end, true, {blocks.begin(), blocks.end()}};
}

// Any ids do: a step's work does not depend on them. Neighbours differ so that embedding rows do.
int32_t DirectRunner::made_up_token(size_t sequence, int position) const {
  const uint64_t mixed = (sequence * 1000003 + static_cast<uint64_t>(position)) * 2654435761u;
  return static_cast<int32_t>(mixed % static_cast<uint64_t>(model_.config().vocab));
}

void DirectRunner::require_room(int more) const {
  for (const kv::BlockTable& table : tables_) {
    if (length_ + more > table.capacity() || length_ + more > plan_.shape.context) {
      throw Error(cat(more, " tokens after ", length_, " do not fit: ask prefill() for the room"));
    }
  }
}

double DirectRunner::prefill(int tokens, int sequences, int more) {
  open(sequences, tokens + more);
  return extend(tokens);
}

double DirectRunner::extend(int tokens) { return fill(tokens, {}); }

double DirectRunner::see(int tokens, int sequences, int more) {
  LLAMITA_CHECK(model_.config().vision.has_value(), "a model that takes no images");
  const VisionConfig& vision = *model_.config().vision;
  open(sequences, vision.image_rows() + tokens + more);
  std::vector<ImageSpan> images;
  for (int sequence = 0; sequence < sequences; ++sequence) {
    auto image = std::make_shared<PreparedImage>();
    image->token = next_image_++;
    image->pixels.resize(size_t{3} * static_cast<size_t>(vision.image_size * vision.image_size));
    for (size_t i = 0; i < image->pixels.size(); ++i)
      image->pixels[i] =
          static_cast<float>((i * 2654435761u + static_cast<size_t>(image->token)) % 1000) / 500 - 1;
    images.push_back({0, vision.image_rows(), image});
  }
  return fill(vision.image_rows() + tokens, images);
}

std::string DirectRunner::device_name() const {
  if (plan_.caps.device == DeviceKind::cuda) return cat("cuda:", plan_.caps.device_index);
  return cat(threads(), " threads");
}

// Steps as the scheduler makes them: as many tokens as a step may have, one sequence after the other.
// `images`: one at the start of each sequence, whose last token then also chooses the next; or none.
double DirectRunner::fill(int tokens, std::span<const ImageSpan> images) {
  require_room(tokens);
  const int end = length_ + tokens;
  std::vector<int> done(tables_.size(), length_);
  const Stopwatch watch;
  for (size_t first = 0; first < tables_.size();) {
    sched::Batch batch;
    StepImages step_images;
    std::vector<SamplingRow> rows;
    int room = plan_.shape.batch_tokens;
    for (size_t sequence = first; sequence < tables_.size() && room > 0; ++sequence) {
      const int begin = done[sequence], stop = std::min(end, begin + room);
      if (begin == stop) break;  // nothing was asked for
      batch.chunks.push_back(chunk(sequence, begin, stop));
      for (int position = begin; position < stop; ++position)
        batch.tokens.push_back(made_up_token(sequence, position));
      if (!images.empty()) {
        const ImageSpan& image = images[sequence];
        const int seen = std::min(stop, image.end);
        if (begin < seen) step_images.rows.push_back({image.image, begin, seen});
        for (int position = begin; position < seen; ++position)
          batch.tokens[batch.tokens.size() - static_cast<size_t>(stop - position)] = image.image->token;
        batch.chunks.back().sample = stop == end;
        if (stop == end) rows.emplace_back();
      }
      room -= stop - begin;
      done[sequence] = stop;
    }
    while (first < tables_.size() && done[first] == end) ++first;
    for (size_t sequence = first; sequence < images.size(); ++sequence)
      if (done[sequence] < images[sequence].end) step_images.ahead.push_back(images[sequence].image);
    if (batch.empty()) continue;
    const ModelRunner::Ticket sent = runner_.submit(batch, rows, false, std::move(step_images));
    if (!rows.empty()) runner_.collect(sent);
  }
  length_ = end;
  runner_.synchronize();
  return watch.seconds();
}

void DirectRunner::rewind(int length) {
  LLAMITA_CHECK(length >= 0 && length <= length_, "rewind to ", length, " of ", length_, " tokens");
  length_ = length;  // what the cache holds past it is written again before it is read
}

double DirectRunner::decode(int steps) {
  require_room(steps);
  const Stopwatch watch;
  for (int step = 0; step < steps; ++step, ++length_) runner_.submit(decode_batch(), {});
  runner_.synchronize();
  return watch.seconds();
}

sched::Batch DirectRunner::decode_batch() const {
  sched::Batch batch;
  for (size_t sequence = 0; sequence < tables_.size(); ++sequence) {
    batch.chunks.push_back(chunk(sequence, length_, length_ + 1));
    batch.tokens.push_back(made_up_token(sequence, length_));
  }
  return batch;
}

double DirectRunner::decode_sampled(int steps, const SamplingRow& row, int steps_under_way) {
  require_room(steps);
  LLAMITA_CHECK(steps_under_way == 1 || steps_under_way == 2, steps_under_way, " steps under way");
  std::vector<SamplingRow> rows(tables_.size(), row);
  for (size_t sequence = 0; sequence < rows.size(); ++sequence)
    rows[sequence].choice = static_cast<uint32_t>(sequence);
  const Stopwatch watch;
  ModelRunner::Ticket last = 0;
  for (int step = 0; step < steps; ++step, ++length_) {
    sched::Batch batch = decode_batch();
    if (step > 0) {
      // What the host knows it sends along; what it does not know the device finds where it left it.
      if (steps_under_way == 1) {
        take_tokens(runner_.collect(last), batch.tokens);
      } else {
        batch.tokens.assign(rows.size(), sched::kTokenOfStepBefore);
      }
    }
    for (SamplingRow& each : rows) each.position = static_cast<uint64_t>(length_) + 1;
    const ModelRunner::Ticket sent = runner_.submit(batch, rows);
    if (step > 0 && steps_under_way == 2) runner_.collect(last);
    last = sent;
  }
  if (steps > 0) runner_.collect(last);
  return watch.seconds();
}

std::vector<float> DirectRunner::logits_of(std::span<const int32_t> tokens,
                                           std::span<const ImageSpan> images) {
  validate_prompt(tokens, images, model_.config().vocab, plan_.shape.context + 1);
  const int length = static_cast<int>(tokens.size());
  open(1, length);
  std::vector<float> logits;
  logits.reserve(tokens.size() * static_cast<size_t>(model_.config().vocab));
  // No more rows of logits than the arena was measured for.
  const int most = plan_.shape.batch_sequences;
  for (int begin = 0; begin < length; begin += most) {
    const int end = std::min(length, begin + most);
    sched::Batch batch;
    batch.chunks = {chunk(0, begin, end)};
    batch.tokens.assign(tokens.begin() + begin, tokens.begin() + end);
    StepImages seen;
    for (const ImageSpan& span : images) {
      const int first = std::max(begin, span.begin), last = std::min(end, span.end);
      if (first < last) seen.rows.push_back({span.image, first - span.begin, last - span.begin});
    }
    runner_.step_logits(batch, logits, std::move(seen));
  }
  length_ = length;
  return logits;
}

}  // namespace llamita
