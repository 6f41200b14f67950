#include "text/jinja/text_ops.h"

#include <algorithm>
#include <cstring>

#include "text/jinja/arguments.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

bool in_set(uint32_t code, const Text* chars, const std::vector<uint32_t>& set) {
  return chars ? std::binary_search(set.begin(), set.end(), code) : unicode::is_space(code);
}

size_t last_code_point(std::string_view text, size_t end) {
  do {
    --end;
  } while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

Values split_at_space(Runtime& runtime, const Text& text, int64_t most, bool from_right) {
  struct Word {
    size_t begin, end;
  };
  std::vector<Word> words;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const auto [code, size] = unicode::decode(text.view(), at);
    if (unicode::is_space(code)) {
      inside = false;
    } else {
      if (!inside) words.push_back({at, at});
      inside = true;
      words.back().end = at + size;
    }
    at += size;
  }
  runtime.budget().work(words.size() * (sizeof(Value) + sizeof(Text)));
  Values out;
  const size_t limit = most < 0 ? words.size() : static_cast<size_t>(most);
  const bool rest = words.size() > limit;
  if (rest && from_right) {
    const size_t joined = words.size() - limit;  // the words that stay together at the front
    out.push_back(Value::text(text.slice(0, words[joined - 1].end)));
    for (size_t i = joined; i < words.size(); ++i) {
      out.push_back(Value::text(text.slice(words[i].begin, words[i].end)));
    }
    return out;
  }
  for (size_t i = 0; i < std::min(limit, words.size()); ++i) {
    out.push_back(Value::text(text.slice(words[i].begin, words[i].end)));
  }
  if (rest) out.push_back(Value::text(text.slice(words[limit].begin, text.size())));
  return out;
}

template <class Map>
Text map_code_points(Runtime& runtime, const Text& text, Map map) {
  runtime.budget().text(text.size());
  Text out;
  std::string changed;
  for (size_t at = 0; at < text.size();) {
    const auto [code, size] = unicode::decode(text.view(), at);
    changed.clear();
    map(code, at, changed);
    out.append(changed, text.trusted_at(at));
    at += size;
  }
  runtime.budget().text(out.size());
  return out;
}

bool is_cased(uint32_t code) {
  return unicode::is_upper(code) || unicode::is_lower(code) || unicode::is_title(code);
}

// A sigma ends a word when a letter stands before it and none after.
bool final_sigma(std::string_view text, size_t at) {
  const size_t after = at + 2;
  const bool before_cased = at > 0 && is_cased(unicode::decode(text, last_code_point(text, at)).code);
  const bool after_cased = after < text.size() && is_cased(unicode::decode(text, after).code);
  return before_cased && !after_cased;
}

void lower_at(const Text& text, uint32_t code, size_t at, std::string& out) {
  unicode::append_lower(code, code == 0x03A3 && final_sigma(text.view(), at), out);
}

}  // namespace

Text strip(Runtime& runtime, const Text& text, const Text* chars, Side side) {
  runtime.budget().work(text.size());
  std::vector<uint32_t> set;
  if (chars) {
    runtime.budget().work(chars->size() * 8);
    for (size_t at = 0; at < chars->size();) {
      const auto [code, size] = unicode::decode(chars->view(), at);
      set.push_back(code);
      at += size;
    }
    std::sort(set.begin(), set.end());
  }
  size_t begin = 0, end = text.size();
  while (side != Side::right && begin < end) {
    const auto [code, size] = unicode::decode(text.view(), begin);
    if (!in_set(code, chars, set)) break;
    begin += size;
  }
  while (side != Side::left && begin < end) {
    const size_t last = last_code_point(text.view(), end);
    if (!in_set(unicode::decode(text.view(), last).code, chars, set)) break;
    end = last;
  }
  return text.slice(begin, end);
}

Values split(Runtime& runtime, const Text& text, const Text* separator, int64_t most, bool from_right) {
  runtime.budget().work(text.size());
  if (!separator) return split_at_space(runtime, text, most, from_right);
  if (separator->empty()) fail("empty separator");
  std::vector<size_t> places;
  const std::string_view whole = text.view();
  if (from_right) {
    size_t end = whole.size();
    // From the right, overlapping separators are found in another order than from the left.
    std::string backwards(whole.rbegin(), whole.rend());
    const std::string part(separator->bytes().rbegin(), separator->bytes().rend());
    for (size_t at = 0; most < 0 || places.size() < static_cast<size_t>(most);) {
      const auto found = find_bytes(backwards, part, at);
      if (!found) break;
      places.push_back(end - *found - part.size());
      at = *found + part.size();
    }
    std::reverse(places.begin(), places.end());
  } else {
    for (size_t at = 0; most < 0 || places.size() < static_cast<size_t>(most);) {
      const auto found = find_bytes(whole, separator->view(), at);
      if (!found) break;
      places.push_back(*found);
      at = *found + separator->size();
    }
  }
  runtime.budget().work((places.size() + 1) * (sizeof(Value) + sizeof(Text)));
  Values out;
  size_t begin = 0;
  for (const size_t place : places) {
    out.push_back(Value::text(text.slice(begin, place)));
    begin = place + separator->size();
  }
  out.push_back(Value::text(text.slice(begin, text.size())));
  return out;
}

Values split_lines(Runtime& runtime, const Text& text, bool keep_ends) {
  runtime.budget().work(text.size());
  Values out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [code, size] = unicode::decode(text.view(), at);
    const size_t line_end = at;
    at += size;
    if (!unicode::is_line_break(code)) continue;
    if (code == '\r' && at < text.size() && text.bytes()[at] == '\n') ++at;
    out.push_back(Value::text(text.slice(begin, keep_ends ? at : line_end)));
    begin = at;
  }
  if (begin < text.size()) out.push_back(Value::text(text.slice(begin, text.size())));
  runtime.budget().work(out.size() * (sizeof(Value) + sizeof(Text)));
  return out;
}

Text replace(Runtime& runtime, const Text& text, const Text& from, const Text& to, int64_t most) {
  runtime.budget().work(text.size());
  Text out;
  int64_t left = most < 0 ? INT64_MAX : most;
  const auto put = [&](const Text& part, size_t begin, size_t end) {
    runtime.budget().text(out.size() + (end - begin) > kMaxText ? kMaxText + 1 : end - begin);
    out.append(part, begin, end);
  };
  size_t at = 0;
  if (from.empty()) {  // between all characters, and at both ends
    while (left-- > 0) {
      put(to, 0, to.size());
      if (at == text.size()) return out;
      const size_t size = unicode::decode(text.view(), at).length;
      put(text, at, at + size);
      at += size;
    }
    put(text, at, text.size());
    return out;
  }
  for (; left > 0; --left) {
    const auto found = find_bytes(text.view(), from.view(), at);
    if (!found) break;
    put(text, at, *found);
    put(to, 0, to.size());
    at = *found + from.size();
  }
  put(text, at, text.size());
  return out;
}

Text join(Runtime& runtime, const Text& separator, const Values& items, bool convert) {
  Text out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!convert) {
      require_defined(items[i]);
      if (!items[i].is_text()) {
        fail("join() takes strings, item ", i, " is of type '", items[i].type_name(), "'");
      }
    }
    const Text item = to_text(runtime, items[i]);
    const size_t more = item.size() + (i > 0 ? separator.size() : 0);
    runtime.budget().text(out.size() + more > kMaxText ? kMaxText + 1 : more);
    if (i > 0) out.append(separator);
    out.append(item);
  }
  return out;
}

Text upper(Runtime& runtime, const Text& text) {
  return map_code_points(runtime, text,
                         [](uint32_t code, size_t, std::string& out) { unicode::append_upper(code, out); });
}

Text lower(Runtime& runtime, const Text& text) {
  return map_code_points(runtime, text,
                         [&](uint32_t code, size_t at, std::string& out) { lower_at(text, code, at, out); });
}

Text capitalize(Runtime& runtime, const Text& text) {
  return map_code_points(runtime, text, [&](uint32_t code, size_t at, std::string& out) {
    at == 0 ? unicode::append_title(code, out) : lower_at(text, code, at, out);
  });
}

Text swap_case(Runtime& runtime, const Text& text) {
  return map_code_points(runtime, text, [&](uint32_t code, size_t at, std::string& out) {
    unicode::is_upper(code) ? lower_at(text, code, at, out) : unicode::append_upper(code, out);
  });
}

Text title(Runtime& runtime, const Text& text) {
  bool inside = false;
  return map_code_points(runtime, text, [&](uint32_t code, size_t at, std::string& out) {
    inside ? lower_at(text, code, at, out) : unicode::append_title(code, out);
    inside = is_cased(code);
  });
}

std::optional<size_t> find_bytes(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::nullopt;
  if (part.empty()) return from;
  // memmem is linear in the worst case; std::string_view::find is not.
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  if (!found) return std::nullopt;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

std::optional<size_t> find_last_bytes(std::string_view text, std::string_view part) {
  const std::string backwards(text.rbegin(), text.rend());
  const auto found = find_bytes(backwards, std::string(part.rbegin(), part.rend()));
  if (!found) return std::nullopt;
  return text.size() - *found - part.size();
}

Text pad(Runtime& runtime, const Text& text, int64_t width, const Text& fill, Side text_side) {
  if (unicode::length(fill.view()) != 1) fail("the fill character must be exactly one character long");
  const auto size = static_cast<int64_t>(unicode::length(text.view()));
  if (width <= size) return text;
  const int64_t missing = width - size;
  if (missing > static_cast<int64_t>(kMaxText)) runtime.budget().text(kMaxText + 1);
  runtime.budget().text(text.size() + static_cast<size_t>(missing) * fill.size());
  // Python puts the odd space of center() to the left only when the width is odd.
  int64_t left = text_side == Side::right ? missing : 0;
  if (text_side == Side::both) left = missing / 2 + (missing & width & 1);
  Text out;
  for (int64_t i = 0; i < left; ++i) out.append(fill);
  out.append(text);
  for (int64_t i = left; i < missing; ++i) out.append(fill);
  return out;
}

Text escape_html(Runtime& runtime, const Text& text) {
  return map_code_points(runtime, text, [](uint32_t code, size_t, std::string& out) {
    switch (code) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: unicode::encode(code, out);
    }
  });
}

}  // namespace llamita::jinja
