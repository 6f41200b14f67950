#include "text/grammar/code_points.h"

#include <algorithm>
#include <array>

namespace llamita::grammar {

namespace {

constexpr CodePointRange kSurrogates = {0xD800, 0xDFFF};

int length_of(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

std::array<uint8_t, 4> encode(char32_t c, int length) {
  static constexpr uint8_t kLead[] = {0, 0, 0xC0, 0xE0, 0xF0};
  std::array<uint8_t, 4> out{};
  for (int i = length - 1; i > 0; --i, c >>= 6) out[size_t(i)] = static_cast<uint8_t>(0x80 | (c & 0x3F));
  out[0] = static_cast<uint8_t>(kLead[length] | c);
  return out;
}

// Cuts [first, last], all of `length` bytes, until every part is a product of byte ranges: below the first
// byte that differs, both ends must span the continuation bytes completely.
void append_sequences(CodePointRange range, int length, std::vector<ByteSequence>& out) {
  std::vector<CodePointRange> work = {range};
  while (!work.empty()) {
    const auto [first, last] = work.back();
    work.pop_back();
    bool cut = false;
    for (int i = 1; i < length && !cut; ++i) {
      const char32_t low = (char32_t{1} << (6 * i)) - 1;
      if ((first & ~low) == (last & ~low)) continue;
      char32_t middle = 0;  // the first character of the upper part
      if ((first & low) != 0) {
        middle = (first | low) + 1;
      } else if ((last & low) != low) {
        middle = last & ~low;
      } else {
        continue;
      }
      work.push_back({middle, last});
      work.push_back({first, middle - 1});
      cut = true;
    }
    if (cut) continue;
    const auto low = encode(first, length);
    const auto high = encode(last, length);
    ByteSequence& sequence = out.emplace_back();
    sequence.length = length;
    for (size_t i = 0; i < size_t(length); ++i) sequence.bytes[i] = {low[i], high[i]};
  }
}

}  // namespace

CodePoints normalized(CodePoints ranges) {
  std::sort(ranges.begin(), ranges.end(), [](auto a, auto b) { return a.first < b.first; });
  CodePoints merged;
  for (const auto range : ranges) {
    if (range.first > range.last) continue;
    if (!merged.empty() && range.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  CodePoints out;
  for (const auto [first, last] : merged) {
    if (last < kSurrogates.first || first > kSurrogates.last) {
      out.push_back({first, last});
      continue;
    }
    if (first < kSurrogates.first) out.push_back({first, kSurrogates.first - 1});
    if (last > kSurrogates.last) out.push_back({kSurrogates.last + 1, last});
  }
  return out;
}

CodePoints complement(const CodePoints& set) {
  CodePoints out;
  char32_t next = 0;
  for (const auto [first, last] : set) {
    if (first > next) out.push_back({next, first - 1});
    next = last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return normalized(std::move(out));
}

CodePoints intersection(const CodePoints& a, const CodePoints& b) {
  CodePoints out;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const char32_t first = std::max(a[i].first, b[j].first);
    const char32_t last = std::min(a[i].last, b[j].last);
    if (first <= last) out.push_back({first, last});
    if (a[i].last < b[j].last) {
      ++i;
    } else {
      ++j;
    }
  }
  return out;
}

std::vector<ByteSequence> utf8_sequences(const CodePoints& set) {
  static constexpr CodePointRange kLengths[] = {
      {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xFFFF}, {0x10000, kLastCodePoint}};
  std::vector<ByteSequence> out;
  for (const auto [first, last] : set) {
    for (const auto [shortest, longest] : kLengths) {
      const CodePointRange part = {std::max(first, shortest), std::min(last, longest)};
      if (part.first <= part.last) append_sequences(part, length_of(part.first), out);
    }
  }
  return out;
}

}  // namespace llamita::grammar
