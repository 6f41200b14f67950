// Hand-written scanners for the split patterns that most models share. A pattern is recognised by its exact
// text; the scanner then finds the same matches as the regular expression would, in one pass and without
// backtracking over more than it has just read, so that a megabyte of one character class costs as much as
// any other.
#pragma once

#include <cstddef>
#include <string_view>

namespace llamita {

// The end of the match that begins at `at` (a character boundary, at < text.size(); text is valid UTF-8).
// Every one of these patterns matches at every character, so matches tile the text.
using Scanner = size_t (*)(std::string_view text, size_t at);

// nullptr when the pattern is none of the known ones.
Scanner find_scanner(std::string_view pattern);

// The known patterns, for the vocabularies that name their pattern instead of spelling it.
extern const std::string_view kGpt2Pattern;
extern const std::string_view kLlama3Pattern;
extern const std::string_view kQwen2Pattern;
extern const std::string_view kQwen35Pattern;
extern const std::string_view kTekkenPattern;
extern const std::string_view kO200kPattern;

}  // namespace llamita
