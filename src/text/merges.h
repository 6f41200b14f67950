// The merges of a byte-pair vocabulary, from the spellings in a file to ids.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/cat.h"
#include "llamita/error.h"
#include "text/bpe.h"

namespace llamita {

// Collects merges in order of rank. Errors name `source`.
class MergeReader {
 public:
  MergeReader(const Vocabulary& vocabulary, std::string source)
      : vocabulary_(vocabulary), source_(std::move(source)) {}

  void add(std::string_view left, std::string_view right) {
    const int32_t merged = find(cat(left, right), left, right);
    entries_.push_back({find(left, left, right),
                        find(right, left, right),
                        {static_cast<uint32_t>(entries_.size()), merged}});
  }
  // "left right"
  void add(std::string_view line) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      throw Error(cat(source_, ": merge ", entries_.size(), ", \"", line,
                      "\", is not two tokens with a space between"));
    }
    add(line.substr(0, space), line.substr(space + 1));
  }

  const std::vector<MergeTable::Entry>& entries() const { return entries_; }

 private:
  int32_t find(std::string_view text, std::string_view left, std::string_view right) const {
    const auto id = vocabulary_.find(text);
    if (!id) {
      throw Error(cat(source_, ": merge ", entries_.size(), ", \"", left, "\" with \"", right, "\", names \"",
                      text, "\", which is no token of the vocabulary"));
    }
    return *id;
  }

  const Vocabulary& vocabulary_;
  std::string source_;
  std::vector<MergeTable::Entry> entries_;
};

}  // namespace llamita
