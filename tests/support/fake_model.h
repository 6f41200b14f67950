// A model and a tokenizer for tests of the engine, without weights. FakeModel computes like a model as far as
// the engine can tell: it writes each token's key and value into its slot and its logits depend, through the
// block table, on every key and value before, exactly. One stale, shared or misplaced slot changes the reply.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "models/model.h"
#include "text/tokenizer.h"

namespace llamita::test {

inline uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15u ^ (b + 0xD1B54A32D192ED03u);
  x = (x ^ (x >> 31)) * 0xBF58476D1CE4E5B9u;
  return x ^ (x >> 29);
}

class FakeModel : public Model {
 public:
  // Logits for `vocab` ids, for sequences of up to `positions` tokens. The cache must be f32.
  explicit FakeModel(int vocab = 64, int positions = 1024) : Model(shape(vocab, positions)) {}

  // When set and not negative for a position, that token is by far the most probable there.
  std::function<int32_t(int position)> favourite;
  // Called at the start of every real step.
  std::function<void(const ForwardBatch&)> on_step;
  // Bytes of scratch that a step of `tokens` tokens wants on top.
  std::function<int64_t(int64_t tokens)> scratch;
  mutable int dry_runs = 0;
  int nan_position = -1;  // the token at this position gets a NaN logit

  Tensor forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const override {
    const int64_t rows = batch.logit_rows.dim(0);
    const Tensor logits = context.arena().take(DType::f32, {rows, config_.vocab});
    const Arena::Scope scope(context.arena());
    const Tensor states = context.arena().take(DType::i64, {batch.token_ids.dim(0)});
    if (scratch) context.arena().take(DType::u8, {scratch(batch.token_ids.dim(0))});
    if (context.dry_run()) {
      ++dry_runs;
      return logits;
    }
    if (on_step) on_step(batch);
    const int64_t sequences = batch.kv_len.dim(0);
    for (int64_t b = 0; b < sequences; ++b) run_sequence(batch, kv, b, states.ptr<int64_t>());
    for (int64_t r = 0; r < rows; ++r) {
      const int32_t token = batch.logit_rows.ptr<int32_t>()[r];
      write_logits(static_cast<uint64_t>(states.ptr<int64_t>()[token]), batch.positions.ptr<int32_t>()[token],
                   logits.ptr<float>() + r * config_.vocab);
    }
    return logits;
  }

 private:
  static ModelConfig shape(int vocab, int positions) {
    ModelConfig config;
    config.family = "fake";
    config.name = "fake";
    config.layers = 2;
    config.hidden = config.heads = config.kv_heads = 1;
    config.head_dim = 2;
    config.vocab = vocab;
    config.max_positions = positions;
    return config;
  }

  // Four 16-bit parts, exact in f32, over the keys and values of both layers (head_dim 2: parts 0 to 7).
  void run_sequence(const ForwardBatch& batch, const KvCache& kv, int64_t b, int64_t* states) const {
    const int32_t* q_start = batch.q_start.ptr<int32_t>();
    const int32_t* table = batch.block_table.ptr<int32_t>() + b * batch.block_table.dim(1);
    for (int32_t t = q_start[b]; t < q_start[b + 1]; ++t) {
      const int position = batch.positions.ptr<int32_t>()[t];
      const uint64_t own = mix(static_cast<uint64_t>(batch.token_ids.ptr<int32_t>()[t]), uint64_t(position));
      uint64_t state = own;
      for (int before = 0; before < position; ++before) {
        const int64_t slot = int64_t{table[before / kPageTokens]} * kPageTokens + before % kPageTokens;
        for (size_t part = 0; part < 4; ++part) state = mix(state, uint64_t(*cell(kv, slot, part)));
      }
      for (size_t part = 0; part < 4; ++part) {
        *cell(kv, batch.kv_slot.ptr<int64_t>()[t], part) = static_cast<float>(state >> (16 * part) & 0xFFFF);
      }
      states[t] = static_cast<int64_t>(state);
    }
  }

  static float* cell(const KvCache& kv, int64_t slot, size_t part) {
    const KvCache::Layer& layer = kv.layers[part / 2];
    return (part % 2 == 0 ? layer.k : layer.v).ptr<float>() + slot * 2 + static_cast<int64_t>(part % 2);
  }

  void write_logits(uint64_t state, int position, float* out) const {
    for (int v = 0; v < config_.vocab; ++v) {
      out[v] = static_cast<float>(mix(state, uint64_t(v)) >> 40) * (6.0f / (1 << 24));
    }
    if (favourite) {
      const int32_t token = favourite(position + 1);
      if (token >= 0) out[token] += 1000;
    }
    if (position == nan_position) out[3] = std::numeric_limits<float>::quiet_NaN();
  }
};

// Tokens are the byte strings they are given; encode() takes the longest that fits. The last one is "<end>",
// a control token that ends replies.
class FakeTokenizer : public Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> vocabulary) : vocabulary_(std::move(vocabulary)) {
    stops_ = {vocab_size() - 1};
  }
  // "a" to "z", then "0" to "9" and pairs until 63 tokens, then "<end>".
  static FakeTokenizer letters() {
    std::vector<std::string> words;
    for (char c = 'a'; c <= 'z'; ++c) words.emplace_back(1, c);
    for (char c = '0'; c <= '9'; ++c) words.emplace_back(1, c);
    for (char c = 'a'; words.size() < 63; ++c) words.push_back({c, ' '});
    words.push_back("<end>");
    return FakeTokenizer(words);
  }

  using Tokenizer::encode;
  std::vector<int32_t> encode(std::span<const Piece> pieces, bool) const override {
    std::vector<int32_t> ids;
    for (const Piece& piece : pieces) {
      for (size_t at = 0; at < piece.text.size();) {
        int32_t best = -1;
        for (int32_t id = 0; id < vocab_size() - 1; ++id) {
          const std::string& word = vocabulary_[size_t(id)];
          const bool longer = best < 0 || word.size() > vocabulary_[size_t(best)].size();
          if (longer && piece.text.compare(at, word.size(), word) == 0) best = id;
        }
        if (best < 0) break;
        ids.push_back(best);
        at += vocabulary_[size_t(best)].size();
      }
    }
    return ids;
  }
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    std::string text;
    for (const int32_t id : ids) text += skip_special ? token_bytes(id) : token_text(id);
    return text;
  }
  std::string_view token_bytes(int32_t id) const override {
    return is_control(id) ? std::string_view() : token_text(id);
  }
  std::string_view first_token_bytes(int32_t id) const override { return token_bytes(id); }
  bool is_byte(int32_t) const override { return false; }
  std::string_view token_text(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? std::string_view(vocabulary_[size_t(id)]) : std::string_view();
  }
  std::optional<int32_t> find(std::string_view text) const override {
    for (int32_t id = 0; id < vocab_size(); ++id) {
      if (vocabulary_[size_t(id)] == text) return id;
    }
    return std::nullopt;
  }
  int32_t vocab_size() const override { return static_cast<int32_t>(vocabulary_.size()); }
  bool is_control(int32_t id) const override { return id == vocab_size() - 1; }
  std::optional<int32_t> bos() const override { return std::nullopt; }
  std::optional<int32_t> eos() const override { return vocab_size() - 1; }
  const std::vector<int32_t>& stop_tokens() const override { return stops_; }
  bool strips_leading_space() const override { return false; }
  std::string description() const override { return "fake"; }
  const std::optional<std::string>& chat_template() const override { return no_template_; }

 private:
  std::vector<std::string> vocabulary_;
  std::vector<int32_t> stops_;
  std::optional<std::string> no_template_;
};

}  // namespace llamita::test
