// The tokenizer.ggml.* keys of a GGUF file: Tokenizer::from_gguf, and the same as the files of a model
// folder.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/cat.h"
#include "base/checked.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/printable.h"
#include "formats/utf8.h"
#include "llamita/error.h"
#include "text/bpe.h"
#include "text/merges.h"
#include "text/pipeline_tokenizer.h"
#include "text/sentencepiece_bpe.h"
#include "text/tokenizer_files.h"
#include "text/unicode.h"

namespace llamita {

namespace {

// tokenizer.ggml.token_type
enum TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// How the common chat formats spell the end of a turn, a message or a text.
constexpr std::string_view kEndsOfTurns[] = {"<|eot_id|>",    "<|im_end|>", "<|end|>",
                                             "<end_of_turn>", "<|eom_id|>", "<|endoftext|>"};

// How the models behind a tokenizer.ggml.pre cut words, by their tokenizer.json. The patterns are applied one
// after another.
struct Splitting {
  std::vector<std::string_view> names;
  std::vector<std::string_view> patterns;
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;  // when the file does not say
};

const std::vector<Splitting>& splittings() {
  static constexpr std::string_view kDigit = R"(\p{N})";
  static const std::vector<Splitting> table = {
      {{"default", "gpt-2", "gpt2", "phi-2"}, {kGpt2Pattern}},
      {{"llama-bpe", "llama3", "llama-v3"}, {kLlama3Pattern}, false, true, true},
      {{"qwen2", "deepseek-r1-qwen"}, {kQwen2Pattern}, true},
      {{"qwen35"}, {kQwen35Pattern}, true},
      {{"smollm", "starcoder", "refact"}, {kDigit, kGpt2Pattern}},
      {{"tekken"}, {kTekkenPattern}, false, true, true},
      {{"gpt-4o", "llama4"}, {kO200kPattern}},
      {{"deepseek-coder"}, {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", kDigit}},
      {{"deepseek-v3"},
       {R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
  };
  return table;
}

class Reader {
 public:
  explicit Reader(const gguf::File& file) : file_(file) {}

  std::unique_ptr<Tokenizer> read() {
    read_parts();
    return std::make_unique<PipelineTokenizer>(std::move(parts_), file_.path());
  }

  TokenizerFiles files() {
    if (text("model") != "gpt2") {
      fail(cat("tokenizer.ggml.model is ", printable(text("model")),
               "; only byte-level tokenizers (\"gpt2\") can be written as tokenizer.json"));
    }
    if (file_.get_bool(key("add_space_prefix")).value_or(false))
      fail(cat(key("add_space_prefix"), " is true, which cannot be written as tokenizer.json"));
    read_parts();
    return {.tokenizer = tokenizer_json().dump(), .config = tokenizer_config_json().dump()};
  }

 private:
  void read_parts() {
    const std::string& model = text("model");
    read_vocabulary();
    read_special_ids();
    if (model == "gpt2") {
      read_byte_level();
    } else if (model == "llama") {
      read_sentencepiece();
    } else {
      fail(cat("tokenizer.ggml.model ", printable(model), " is not supported; \"gpt2\" and \"llama\" are"));
    }
    read_added_tokens();
    if (const auto* source = file_.get_string("tokenizer.chat_template")) parts_.chat_template = *source;
  }

  static Json text_value(std::string_view value) { return Json(std::string(value)); }

  static Json byte_level_step(bool use_regex) {
    return Json(Json::Object{{"type", text_value("ByteLevel")},
                             {"add_prefix_space", Json(false)},
                             {"trim_offsets", Json(true)},
                             {"use_regex", Json(use_regex)}});
  }

  // What the file puts before and after a text.
  Json post_processor() const {
    if (parts_.prefix.empty() && parts_.suffix.empty()) return byte_level_step(false);
    Json::Array single;
    Json::Object special;
    const auto add = [&](int32_t id) {
      const std::string& name = parts_.vocabulary->text(id);
      single.push_back(Json(Json::Object{
          {"SpecialToken", Json(Json::Object{{"id", Json(name)}, {"type_id", Json(int64_t{0})}})}}));
      special.emplace_back(name, Json(Json::Object{{"id", Json(name)},
                                                   {"ids", Json(Json::Array{Json(int64_t{id})})},
                                                   {"tokens", Json(Json::Array{Json(name)})}}));
    };
    for (const int32_t id : parts_.prefix) add(id);
    single.push_back(Json(Json::Object{
        {"Sequence", Json(Json::Object{{"id", text_value("A")}, {"type_id", Json(int64_t{0})}})}}));
    for (const int32_t id : parts_.suffix) add(id);
    return Json(Json::Object{{"type", text_value("TemplateProcessing")},
                             {"single", Json(single)},
                             {"pair", Json(single)},
                             {"special_tokens", Json(std::move(special))}});
  }

  Json tokenizer_json() const {
    const Splitting& splitting = find_splitting(pre_name());
    Json::Array steps, added, merges;
    for (const std::string_view pattern : splitting.patterns) {
      steps.push_back(Json(Json::Object{{"type", text_value("Split")},
                                        {"pattern", Json(Json::Object{{"Regex", text_value(pattern)}})},
                                        {"behavior", text_value("Isolated")},
                                        {"invert", Json(false)}}));
    }
    steps.push_back(byte_level_step(false));
    for (const AddedToken& token : parts_.added_tokens) {
      added.push_back(Json(Json::Object{{"id", Json(int64_t{token.id})},
                                        {"content", Json(token.content)},
                                        {"single_word", Json(false)},
                                        {"lstrip", Json(false)},
                                        {"rstrip", Json(false)},
                                        {"normalized", Json(false)},
                                        {"special", Json(token.special)}}));
    }
    for (const std::string& merge : *file_.get_strings(key("merges"))) merges.push_back(Json(merge));
    Json::Object vocabulary;
    for (int32_t id = 0; id < parts_.vocabulary->size(); ++id) {
      const std::string& spelling = parts_.vocabulary->text(id);
      if (parts_.vocabulary->find(spelling) == id) vocabulary.emplace_back(spelling, Json(int64_t{id}));
    }
    Json::Object model{{"type", text_value("BPE")},
                       {"fuse_unk", Json(false)},
                       {"byte_fallback", Json(false)},
                       {"ignore_merges", Json(splitting.ignore_merges)},
                       {"vocab", Json(std::move(vocabulary))},
                       {"merges", Json(std::move(merges))}};
    return Json(
        Json::Object{{"version", text_value("1.0")},
                     {"added_tokens", Json(std::move(added))},
                     {"normalizer", splitting.nfc ? Json(Json::Object{{"type", text_value("NFC")}}) : Json()},
                     {"pre_tokenizer",
                      Json(Json::Object{{"type", text_value("Sequence")}, {"pretokenizers", Json(steps)}})},
                     {"post_processor", post_processor()},
                     {"decoder", byte_level_step(true)},
                     {"model", Json(std::move(model))}});
  }

  Json tokenizer_config_json() const {
    Json::Object config;
    if (parts_.bos) config.emplace_back("bos_token", Json(parts_.vocabulary->text(*parts_.bos)));
    if (parts_.eos) config.emplace_back("eos_token", Json(parts_.vocabulary->text(*parts_.eos)));
    if (parts_.chat_template) config.emplace_back("chat_template", Json(*parts_.chat_template));
    return Json(std::move(config));
  }

  [[noreturn]] void fail(const std::string& message) const { throw Error(cat(file_.path(), ": ", message)); }

  static std::string key(std::string_view name) { return cat("tokenizer.ggml.", name); }

  const std::string& text(std::string_view name) const {
    const std::string* value = file_.get_string(key(name));
    if (value == nullptr) fail(cat("key ", key(name), " is missing"));
    return *value;
  }

  size_t vocabulary_size() const { return static_cast<size_t>(parts_.vocabulary->size()); }

  // Spellings and types. Control and unknown tokens are found in trusted text only, the user's own
  // everywhere.
  void read_vocabulary() {
    const auto* tokens = file_.get_strings(key("tokens"));
    if (tokens == nullptr) fail(cat("key ", key("tokens"), " is missing"));
    checked_cast<int32_t>(tokens->size(), cat(file_.path(), ": number of tokens"));
    std::vector<std::string> texts;
    texts.reserve(tokens->size());
    for (const std::string& token : *tokens) unicode::append_lossy(texts.emplace_back(), token);
    parts_.vocabulary = std::make_unique<const Vocabulary>(std::move(texts), file_.path(), true);

    types_.assign(tokens->size(), kNormal);
    if (const auto* types = file_.get_ints(key("token_type"))) {
      if (types->size() != tokens->size()) {
        fail(cat(key("token_type"), " has ", types->size(), " entries for ", tokens->size(), " tokens"));
      }
      types_ = *types;
    }
    parts_.control.resize(tokens->size());
    for (size_t id = 0; id < tokens->size(); ++id) {
      parts_.control[id] = types_[id] == kControl || types_[id] == kUnknown;
    }
    // Duplicates of an earlier spelling are not reachable, as they have no spelling of their own.
  }

  // What begins a text and what ends a reply. Files are careless about the types of these tokens, but they
  // are control tokens: the template must find them, and no user may spell them.
  void read_special_ids() {
    parts_.bos = token("bos_token_id");
    parts_.eos = token("eos_token_id");
    for (const char* name : {"eot_token_id", "eom_token_id"}) {
      if (const auto id = token(name)) parts_.stop_tokens.push_back(*id);
    }
    // A file may name the end of a text alone, while its template ends replies with another token.
    for (const std::string_view text : kEndsOfTurns) {
      const auto id = parts_.vocabulary->find(text);
      if (id && (type(*id) == kControl || type(*id) == kUserDefined)) parts_.stop_tokens.push_back(*id);
    }
    for (const auto id : {parts_.bos, parts_.eos}) {
      if (id) make_control(*id);
    }
    for (const int32_t id : parts_.stop_tokens) make_control(id);
  }

  int64_t type(int32_t id) const { return types_[static_cast<size_t>(id)]; }

  // Bytes and single characters stay text: a model that ends with a line must still read lines.
  void make_control(int32_t id) {
    const std::string& text = parts_.vocabulary->text(id);
    if (type(id) == kByte || utf8_length(text) == text.size()) return;
    parts_.control[static_cast<size_t>(id)] = true;
  }

  void read_added_tokens() {
    if (file_.get_bool(key("add_bos_token")).value_or(add_bos_) && parts_.bos)
      parts_.prefix.push_back(*parts_.bos);
    if (file_.get_bool(key("add_eos_token")).value_or(false) && parts_.eos)
      parts_.suffix.push_back(*parts_.eos);
    for (size_t id = 0; id < vocabulary_size(); ++id) {
      if (!parts_.control[id] && types_[id] != kUserDefined) continue;
      AddedToken added;
      added.id = static_cast<int32_t>(id);
      added.content = parts_.vocabulary->text(added.id);
      added.special = parts_.control[id];
      parts_.added_tokens.push_back(std::move(added));
    }
  }

  std::optional<int32_t> token(std::string_view name) const {
    const auto value = file_.get_int(key(name));
    if (!value) return std::nullopt;
    if (*value < 0 || *value >= parts_.vocabulary->size()) {
      fail(cat(key(name), " is ", *value, ", outside the vocabulary of ", parts_.vocabulary->size(),
               " tokens"));
    }
    return static_cast<int32_t>(*value);
  }

  std::string pre_name() const {
    const std::string* pre = file_.get_string(key("pre"));
    return pre == nullptr ? "default" : *pre;
  }

  void read_byte_level() {
    const std::string name = pre_name();
    const Splitting& splitting = find_splitting(name);
    if (splitting.nfc) parts_.normalizer.add(normalizers::unicode_form(normalizers::Form::nfc));
    if (file_.get_bool(key("add_space_prefix")).value_or(false)) {
      parts_.pre_tokenizer.add(pre_tokenizers::prefix_space());
    }
    for (const std::string_view pattern : splitting.patterns) {
      parts_.pre_tokenizer.add(
          pre_tokenizers::split(Pattern::regex(std::string(pattern), cat("pre-tokenizer ", name)),
                                pre_tokenizers::Behavior::isolated, false));
    }
    const auto* merges = file_.get_strings(key("merges"));
    if (merges == nullptr) fail(cat("key ", key("merges"), " is missing"));
    MergeReader reader(*parts_.vocabulary, cat(file_.path(), ": ", key("merges")));
    for (const std::string& merge : *merges) reader.add(merge);
    BpeModel::Options options;
    options.byte_level = true;
    options.ignore_merges = splitting.ignore_merges;
    parts_.model = std::make_unique<BpeModel>(*parts_.vocabulary, reader.entries(), parts_.control, options);
    parts_.decoder.emplace_back(decoders::ByteLevel{});
    parts_.description = cat("byte-level BPE (", name, ")");
    add_bos_ = splitting.add_bos;
  }

  const Splitting& find_splitting(const std::string& name) const {
    std::string known;
    for (const Splitting& splitting : splittings()) {
      for (const std::string_view candidate : splitting.names) {
        if (candidate == name) return splitting;
        known += cat(known.empty() ? "" : ", ", candidate);
      }
    }
    fail(cat("tokenizer.ggml.pre ", printable(name), " is not supported; these are: ", known));
  }

  void read_sentencepiece() {
    if (file_.get_bool(key("remove_extra_whitespaces")).value_or(false)) {
      fail(cat(key("remove_extra_whitespaces"), " is true, which is not supported"));
    }
    const auto* scores = file_.get_doubles(key("scores"));
    if (scores == nullptr) fail(cat("key ", key("scores"), " is missing"));
    if (scores->size() != vocabulary_size()) {
      fail(cat(key("scores"), " has ", scores->size(), " entries for ", vocabulary_size(), " tokens"));
    }
    for (const double score : *scores) {
      if (std::isnan(score)) fail(cat(key("scores"), " holds a NaN"));
    }
    std::vector<bool> excluded = parts_.control;
    std::array<int32_t, 256> bytes;
    bytes.fill(-1);
    std::optional<int32_t> unk = token("unknown_token_id");
    for (size_t id = 0; id < vocabulary_size(); ++id) {
      if (types_[id] == kUnused || types_[id] == kByte) excluded[id] = true;
      if (types_[id] == kUnknown && !unk) unk = static_cast<int32_t>(id);
      const int byte = types_[id] == kByte
                           ? byte_of_fallback_token(parts_.vocabulary->text(static_cast<int32_t>(id)))
                           : -1;
      if (byte >= 0) bytes[static_cast<size_t>(byte)] = static_cast<int32_t>(id);
    }
    parts_.model =
        std::make_unique<SentencePieceBpeModel>(*parts_.vocabulary, *scores, std::move(excluded), bytes, unk);

    const std::string space = "\u2581";
    const bool prefix = file_.get_bool(key("add_space_prefix")).value_or(true);
    if (prefix) parts_.normalizer.add(normalizers::prepend(space));
    parts_.normalizer.add(normalizers::replace(Pattern::literal(" "), space));
    parts_.decoder.emplace_back(decoders::Replace{Pattern::literal(space), " "});
    parts_.decoder.emplace_back(decoders::ByteFallback{});
    parts_.decoder.emplace_back(decoders::Fuse{});
    if (prefix) parts_.decoder.emplace_back(decoders::Strip{' ', 1, 0});
    parts_.description = "SentencePiece BPE";
    add_bos_ = true;
  }

  const gguf::File& file_;
  TokenizerParts parts_;
  std::vector<int64_t> types_;  // of each id
  bool add_bos_ = false;        // when the file does not say
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_gguf(const gguf::File& file) { return Reader(file).read(); }

TokenizerFiles tokenizer_files(const gguf::File& file) { return Reader(file).files(); }

}  // namespace llamita
