// Python's str operations on marked text. Every byte of a result keeps the mark of the byte it came from; a
// byte that was made out of several takes the first one's.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "text/jinja/runtime.h"

namespace llamita::jinja {

enum class Side { both, left, right };

// strip(), lstrip(), rstrip(); `chars` is what goes, nullptr for whitespace.
Text strip(Runtime& runtime, const Text& text, const Text* chars, Side side);

// split(separator, most) and, from the right, rsplit(); nullptr splits at whitespace. `most` < 0: no limit.
Values split(Runtime& runtime, const Text& text, const Text* separator, int64_t most, bool from_right);
Values split_lines(Runtime& runtime, const Text& text, bool keep_ends);

// `most` < 0: all of them.
Text replace(Runtime& runtime, const Text& text, const Text& from, const Text& to, int64_t most);
// Items that are no strings fail unless `convert` prints them.
Text join(Runtime& runtime, const Text& separator, const Values& items, bool convert);

Text upper(Runtime& runtime, const Text& text);
Text lower(Runtime& runtime, const Text& text);
Text capitalize(Runtime& runtime, const Text& text);
Text swap_case(Runtime& runtime, const Text& text);
// str.title(): a letter after no letter begins a word.
Text title(Runtime& runtime, const Text& text);

// Byte offset of the first (or last) occurrence at or after `from`, linear in the text.
std::optional<size_t> find_bytes(std::string_view text, std::string_view part, size_t from = 0);
std::optional<size_t> find_last_bytes(std::string_view text, std::string_view part);

// Pads to `width` characters with `fill`: ljust(), rjust(), center().
Text pad(Runtime& runtime, const Text& text, int64_t width, const Text& fill, Side text_side);

// "&<>'\"" as HTML entities.
Text escape_html(Runtime& runtime, const Text& text);

}  // namespace llamita::jinja
