#include "text/bpe.h"

#include <bit>
#include <string>

#include "base/cat.h"
#include "text/unicode.h"

namespace llamita {

MergeTable::MergeTable(const std::vector<Entry>& entries) {
  slots_.resize(std::bit_ceil(entries.size() * 2 + 1), Entry{-1, -1, {}});
  mask_ = slots_.size() - 1;
  for (const Entry& entry : entries) slots_[slot(entry.left, entry.right)] = entry;
}

size_t MergeTable::slot(int32_t left, int32_t right) const {
  const uint64_t key =
      static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  const uint64_t mixed = key * 0x9E3779B97F4A7C15u;  // Fibonacci hashing: the high bits are the mixed ones
  size_t at = static_cast<size_t>(mixed ^ mixed >> 32) & mask_;
  while (slots_[at].left >= 0 && (slots_[at].left != left || slots_[at].right != right))
    at = (at + 1) & mask_;
  return at;
}

const merging::Merge* MergeTable::find(int32_t left, int32_t right) const {
  if (left < 0 || right < 0) return nullptr;
  const Entry& entry = slots_[slot(left, right)];
  return entry.left < 0 ? nullptr : &entry.merge;
}

BpeModel::BpeModel(const Vocabulary& vocabulary, const std::vector<MergeTable::Entry>& merges,
                   std::vector<bool> excluded, const Options& options)
    : vocabulary_(vocabulary), excluded_(std::move(excluded)), options_(options) {
  excluded_.resize(static_cast<size_t>(vocabulary.size()), false);
  std::vector<MergeTable::Entry> allowed;
  allowed.reserve(merges.size());
  for (const MergeTable::Entry& entry : merges) {
    if (!excluded_[static_cast<size_t>(entry.merge.id)]) allowed.push_back(entry);
  }
  merges_ = MergeTable(allowed);
  for (size_t byte = 0; byte < 256; ++byte) {
    const char digits[] = "0123456789ABCDEF";
    byte_ids_[byte] = find(unicode::to_utf8(byte_to_char(static_cast<unsigned char>(byte)))).value_or(-1);
    fallback_ids_[byte] = find(cat("<0x", digits[byte >> 4], digits[byte & 15], ">")).value_or(-1);
  }
  for (int32_t id = 0; id < vocabulary.size(); ++id)
    longest_ = std::max(longest_, vocabulary.text(id).size());
}

std::optional<int32_t> BpeModel::find(std::string_view text) const {
  const auto id = vocabulary_.find(text);
  return id && excluded_[static_cast<size_t>(*id)] ? std::nullopt : id;
}

void BpeModel::encode(std::string_view word, merging::Scratch& scratch, std::vector<int32_t>& out) const {
  if (word.empty()) return;
  if (options_.ignore_merges && word.size() <= longest_) {
    if (const auto id = find(options_.byte_level ? spell_bytes(word) : std::string(word))) {
      out.push_back(*id);
      return;
    }
  }
  scratch.clear();
  if (options_.byte_level) {
    add_bytes(word, scratch);
  } else {
    add_characters(word, scratch);
  }
  merging::merge_all(scratch,
                     [&](const merging::Symbol& left, const merging::Symbol& right, merging::Merge& merge) {
                       const merging::Merge* found = merges_.find(left.id, right.id);
                       if (found != nullptr) merge = *found;
                       return found != nullptr;
                     });
  if (scratch.symbols.empty()) return;
  for (uint32_t at = 0; at != merging::kNone; at = scratch.symbols[at].next)
    out.push_back(scratch.symbols[at].id);
}

void BpeModel::add_bytes(std::string_view word, merging::Scratch& scratch) const {
  bool after_unk = false;
  for (size_t at = 0; at < word.size(); ++at) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(word[at])];
    if (id >= 0) {
      scratch.add(id, at, 1);
    } else if (options_.unk && !(after_unk && options_.fuse_unk)) {
      scratch.add(*options_.unk, at, 1);
    }
    after_unk = id < 0;
  }
}

// An unknown token waits until a known character comes (or the end), as it may grow; fallback bytes between
// do not wake it. That is how the reference has it.
void BpeModel::add_characters(std::string_view word, merging::Scratch& scratch) const {
  size_t unk_begin = 0, unk_length = 0;
  const auto flush = [&] {
    if (unk_length > 0) scratch.add(*options_.unk, unk_begin, unk_length);
    unk_length = 0;
  };
  for (size_t at = 0; at < word.size();) {
    const size_t length = unicode::decode(word, at).length;
    if (const auto id = find(word.substr(at, length))) {
      flush();
      scratch.add(*id, at, length);
    } else if (!(options_.byte_fallback && add_fallback(word, at, length, scratch)) && options_.unk) {
      if (!options_.fuse_unk) flush();
      if (unk_length == 0) unk_begin = at;
      unk_length += length;
    }
    at += length;
  }
  flush();
}

bool BpeModel::add_fallback(std::string_view word, size_t at, size_t length,
                            merging::Scratch& scratch) const {
  for (size_t i = 0; i < length; ++i) {
    if (fallback_ids_[static_cast<unsigned char>(word[at + i])] < 0) return false;
  }
  for (size_t i = 0; i < length; ++i) {
    scratch.add(fallback_ids_[static_cast<unsigned char>(word[at + i])], at + i, 1);
  }
  return true;
}

}  // namespace llamita
