#include "text/tokenizer_json_steps.h"

#include "text/unicode.h"

namespace llamita::tokenizer_json {

namespace {

// {"String": "..."} or {"Regex": "..."}
Pattern read_pattern(const JsonNode& node) {
  if (const auto literal = node.find("String")) return Pattern::literal(literal->text());
  if (const auto regex = node.find("Regex")) return Pattern::regex(regex->text(), regex->where());
  node.fail("expected {\"String\": ...} or {\"Regex\": ...}");
}

char32_t read_character(const JsonNode& node) {
  const std::string& text = node.text();
  if (text.empty() || unicode::decode(text, 0).length != text.size()) node.fail("expected one character");
  return unicode::decode(text, 0).c;
}

pre_tokenizers::Behavior read_behavior(const JsonNode& node) {
  using pre_tokenizers::Behavior;
  const std::string& name = node.text();
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  node.fail(cat("unknown split behavior \"", name, "\""));
}

// Older files say add_prefix_space instead of prepend_scheme.
pre_tokenizers::Prepend read_prepend(const JsonNode& node) {
  using pre_tokenizers::Prepend;
  const auto scheme = node.find("prepend_scheme");
  if (!scheme) return node.flag("add_prefix_space", true) ? Prepend::always : Prepend::never;
  const std::string& name = scheme->text();
  if (name == "always") return Prepend::always;
  if (name == "first") return Prepend::first;
  if (name == "never") return Prepend::never;
  scheme->fail(cat("expected \"always\", \"first\" or \"never\", found \"", name, "\""));
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7F && !unicode::is_letter(c) && !unicode::is_number(c);
  return unicode::is_punctuation(c);
}

// ByteLevel ends the sequence: after it the words are bytes in disguise.
class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(PreTokenizer& out) : out_(out) {}

  bool byte_level() const { return byte_level_; }

  void read(const JsonNode& node) {
    using namespace pre_tokenizers;
    const std::string& type = node.text("type");
    if (type == "Sequence") {
      for (const JsonNode& step : node.at("pretokenizers").elements()) read(step);
      return;
    }
    if (byte_level_) node.fail(cat("pre-tokenizer ", type, " after ByteLevel is not supported"));
    if (type == "ByteLevel") {
      read_byte_level(node);
    } else if (type == "Split") {
      out_.add(split(read_pattern(node.at("pattern")), read_behavior(node.at("behavior")),
                     node.flag("invert", false)));
    } else if (type == "Digits") {
      const bool individual = node.flag("individual_digits", false);
      out_.add(split(Pattern::of_class(unicode::is_number),
                     individual ? Behavior::isolated : Behavior::contiguous, false));
    } else if (type == "Metaspace") {
      out_.add(metaspace(unicode::to_utf8(read_character(node.at("replacement"))), read_prepend(node),
                         node.flag("split", true)));
    } else if (type == "Whitespace") {
      out_.add(whitespace());
    } else if (type == "WhitespaceSplit") {
      out_.add(split(Pattern::of_class(unicode::is_space), Behavior::removed, false));
    } else if (type == "Punctuation") {
      const auto behavior = node.find("behavior");
      out_.add(split(Pattern::of_class(is_punctuation),
                     behavior ? read_behavior(*behavior) : Behavior::isolated, false));
    } else if (type == "CharDelimiterSplit") {
      out_.add(split(Pattern::literal(unicode::to_utf8(read_character(node.at("delimiter")))),
                     Behavior::removed, false));
    } else {
      node.fail(cat("pre-tokenizer \"", type, "\" is not supported"));
    }
  }

 private:
  void read_byte_level(const JsonNode& node) {
    using namespace pre_tokenizers;
    byte_level_ = true;
    if (node.flag("add_prefix_space", true)) out_.add(prefix_space());
    if (node.flag("use_regex", true)) {
      out_.add(split(Pattern::regex(std::string(kGpt2Pattern), node.where()), Behavior::isolated, false));
    }
  }

  PreTokenizer& out_;
  bool byte_level_ = false;
};

}  // namespace

void read_normalizer(const JsonNode& node, Normalizer& out) {
  using namespace normalizers;
  const std::string& type = node.text("type");
  if (type == "Sequence") {
    for (const JsonNode& step : node.at("normalizers").elements()) read_normalizer(step, out);
  } else if (type == "NFC") {
    out.add(unicode_form(Form::nfc));
  } else if (type == "NFD") {
    out.add(unicode_form(Form::nfd));
  } else if (type == "NFKC") {
    out.add(unicode_form(Form::nfkc));
  } else if (type == "NFKD") {
    out.add(unicode_form(Form::nfkd));
  } else if (type == "Prepend") {
    out.add(prepend(node.text("prepend")));
  } else if (type == "Replace") {
    out.add(replace(read_pattern(node.at("pattern")), node.text("content")));
  } else if (type == "Lowercase") {
    out.add(lowercase());
  } else if (type == "Strip") {
    out.add(strip(node.flag("strip_left", true), node.flag("strip_right", true)));
  } else if (type == "StripAccents") {
    out.add(strip_accents());
  } else {
    node.fail(cat("normalizer \"", type, "\" is not supported"));
  }
}

bool read_pre_tokenizer(const JsonNode& node, PreTokenizer& out) {
  PreTokenizerReader reader(out);
  reader.read(node);
  return reader.byte_level();
}

void read_decoder(const JsonNode& node, std::vector<decoders::Step>& out) {
  const std::string& type = node.text("type");
  if (type == "Sequence") {
    for (const JsonNode& step : node.at("decoders").elements()) read_decoder(step, out);
  } else if (type == "ByteLevel") {
    out.emplace_back(decoders::ByteLevel{});
  } else if (type == "ByteFallback") {
    out.emplace_back(decoders::ByteFallback{});
  } else if (type == "Fuse") {
    out.emplace_back(decoders::Fuse{});
  } else if (type == "Replace") {
    out.emplace_back(decoders::Replace{read_pattern(node.at("pattern")), node.text("content")});
  } else if (type == "Strip") {
    const JsonNode start = node.at("start"), stop = node.at("stop");
    out.emplace_back(decoders::Strip{read_character(node.at("content")), start.json().as_int(start.where()),
                                     stop.json().as_int(stop.where())});
  } else if (type == "Metaspace") {
    out.emplace_back(decoders::Metaspace{unicode::to_utf8(read_character(node.at("replacement"))),
                                         read_prepend(node) != pre_tokenizers::Prepend::never});
  } else {
    node.fail(cat("decoder \"", type, "\" is not supported"));
  }
}

}  // namespace llamita::tokenizer_json
