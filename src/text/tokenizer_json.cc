// Tokenizer::from_folder: Hugging Face's tokenizer.json with the files beside it.
#include <algorithm>
#include <filesystem>
#include <limits>

#include "base/checked.h"
#include "base/mapped_file.h"
#include "formats/printable.h"
#include "text/bpe.h"
#include "text/json_node.h"
#include "text/merges.h"
#include "text/pipeline_tokenizer.h"
#include "text/tokenizer_json_steps.h"
#include "text/unicode.h"

namespace llamita {

namespace {

// An id may lie this far above the number of tokens: real vocabularies have holes, a hostile file has an id
// that asks for gigabytes.
constexpr int64_t kMaxHoles = 1 << 16;
constexpr size_t kMaxTemplateBytes = 4 << 20;

class Reader {
 public:
  // `folder` is empty when there are no files beside `path`.
  Reader(std::string path, std::string folder) : path_(std::move(path)), folder_(std::move(folder)) {}

  std::unique_ptr<Tokenizer> read(const Json& file) {
    const JsonNode root(file, cat(path_, ":"));
    read_vocabulary(root);
    read_configs();
    read_steps(root);
    read_model(root.at("model"));
    if (const auto post = root.find("post_processor")) read_post_processor(*post);
    read_chat_template();
    parts_.description =
        byte_level_ ? "byte-level BPE (tokenizer.json)" : "SentencePiece-style BPE (tokenizer.json)";
    return std::make_unique<PipelineTokenizer>(std::move(parts_), path_);
  }

 private:
  int32_t read_id(const JsonNode& node, int64_t limit) const {
    const int64_t id = node.json().as_int(node.where());
    if (id < 0 || id >= limit) {
      node.fail(
          cat("token id ", id, " is out of range; ids of this vocabulary lie between 0 and ", limit - 1));
    }
    return static_cast<int32_t>(id);
  }

  static void put(std::vector<std::string>& texts, int32_t id, const std::string& text,
                  const JsonNode& node) {
    const auto at = static_cast<size_t>(id);
    if (texts.size() <= at) texts.resize(at + 1);
    if (!texts[at].empty() && texts[at] != text) {
      node.fail(cat("tokens ", printable(texts[at]), " and ", printable(text), " have the same id ", id));
    }
    texts[at] = text;
  }

  // Model vocabulary and added tokens, by id.
  void read_vocabulary(const JsonNode& root) {
    const JsonNode model = root.at("model");
    const auto type = model.find("type");
    // Files older than 2020 leave the type out; only byte-pair models have merges.
    const std::string name = type ? type->text() : model.find("merges") ? "BPE" : "unnamed";
    if (name != "BPE") model.fail(cat("model type ", printable(name), " is not supported; BPE is"));
    const JsonNode vocab = model.at("vocab");
    const Json::Object& entries = vocab.json().as_object(vocab.where());
    const auto added = root.find("added_tokens");
    const std::vector<JsonNode> added_nodes = added ? added->elements() : std::vector<JsonNode>{};
    const int64_t limit =
        std::min<int64_t>(static_cast<int64_t>(entries.size() + added_nodes.size()) * 2 + kMaxHoles,
                          std::numeric_limits<int32_t>::max());
    std::vector<std::string> texts;
    for (const auto& [text, id] : entries)
      put(texts, read_id(JsonNode(id, vocab.where()), limit), text, vocab);
    for (const std::string& text : texts) only_added_.push_back(text.empty());
    for (const JsonNode& node : added_nodes) {
      const JsonNode id = node.at("id");
      AddedToken token{
          read_id(id, limit),         node.text("content"),       node.flag("single_word", false),
          node.flag("lstrip", false), node.flag("rstrip", false), node.flag("normalized", true),
          node.flag("special", false)};
      put(texts, token.id, token.content, node);
      parts_.added_tokens.push_back(std::move(token));
    }
    parts_.vocabulary = std::make_unique<const Vocabulary>(std::move(texts), path_, false);
  }

  std::optional<Json> read_beside(const char* name) const {
    const auto path = folder_ / name;
    if (folder_.empty() || !std::filesystem::exists(path)) return std::nullopt;
    return Json::parse_file(path.string());
  }

  // bos and eos by name, the other ends of a reply by number.
  void read_configs() {
    for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
      const auto file = read_beside(name);
      if (!file) continue;
      const JsonNode root(*file, cat((folder_ / name).string(), ":"));
      if (const auto bos = special_token(root, "bos_token")) parts_.bos = bos;
      if (const auto eos = special_token(root, "eos_token")) parts_.eos = eos;
    }
    if (const auto file = read_beside("generation_config.json")) {
      const JsonNode root(*file, cat((folder_ / "generation_config.json").string(), ":"));
      if (const auto eos = root.find("eos_token_id")) {
        const auto nodes = eos->json().is_array() ? eos->elements() : std::vector<JsonNode>{*eos};
        for (const JsonNode& node : nodes) {
          parts_.stop_tokens.push_back(read_id(node, parts_.vocabulary->size()));
        }
      }
    }
    // What ends a reply is a control token, whatever its flag says: no user may spell it.
    for (AddedToken& token : parts_.added_tokens) {
      const auto& stops = parts_.stop_tokens;
      const bool stop = std::find(stops.begin(), stops.end(), token.id) != stops.end();
      if (stop || token.id == parts_.bos || token.id == parts_.eos) token.special = true;
    }
  }

  std::optional<int32_t> special_token(const JsonNode& root, const char* key) const {
    auto node = root.find(key);
    if (!node) return std::nullopt;
    if (node->json().is_object()) node = node->at("content");
    return parts_.vocabulary->find(node->text());
  }

  void read_steps(const JsonNode& root) {
    if (const auto node = root.find("normalizer")) tokenizer_json::read_normalizer(*node, parts_.normalizer);
    if (const auto node = root.find("pre_tokenizer")) {
      byte_level_ = tokenizer_json::read_pre_tokenizer(*node, parts_.pre_tokenizer);
    }
    if (const auto node = root.find("decoder")) {
      tokenizer_json::read_decoder(*node, parts_.decoder);
    } else {
      parts_.decoder.emplace_back(decoders::Separator{});
    }
  }

  void read_model(const JsonNode& model) {
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (const auto node = model.find(key); node && !node->text().empty()) {
        node->fail(cat(printable(node->text()), " is not supported; only an empty one is"));
      }
    }
    BpeModel::Options options;
    options.byte_level = byte_level_;
    options.byte_fallback = model.flag("byte_fallback", false);
    options.fuse_unk = model.flag("fuse_unk", false);
    options.ignore_merges = model.flag("ignore_merges", false);
    if (byte_level_ && options.byte_fallback) refuse_incomplete_alphabet(model);
    if (const auto unk = model.find("unk_token")) options.unk = parts_.vocabulary->find(unk->text());

    const JsonNode merges = model.at("merges");
    MergeReader reader(*parts_.vocabulary, merges.where());
    for (const Json& merge : merges.json().as_array(merges.where())) {
      if (merge.is_string()) {
        reader.add(merge.as_string(merges.where()));
        continue;
      }
      const Json::Array& pair = merge.as_array(merges.where());
      if (pair.size() != 2) merges.fail(cat("a merge has ", pair.size(), " tokens instead of two"));
      reader.add(pair[0].as_string(merges.where()), pair[1].as_string(merges.where()));
    }
    // The model makes neither control tokens of text nor tokens it does not know of.
    std::vector<bool> excluded = std::move(only_added_);
    excluded.resize(static_cast<size_t>(parts_.vocabulary->size()), true);
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.special) excluded[static_cast<size_t>(token.id)] = true;
    }
    parts_.model =
        std::make_unique<BpeModel>(*parts_.vocabulary, reader.entries(), std::move(excluded), options);
  }

  // With every byte in the vocabulary a byte-level model never falls back.
  void refuse_incomplete_alphabet(const JsonNode& model) const {
    for (int byte = 0; byte < 256; ++byte) {
      if (!parts_.vocabulary->find(unicode::to_utf8(byte_to_char(static_cast<unsigned char>(byte))))) {
        model.fail(
            cat("byte_fallback with a byte-level vocabulary that lacks byte ", byte, " is not supported"));
      }
    }
  }

  int32_t vocabulary_id(const JsonNode& node) const { return read_id(node, parts_.vocabulary->size()); }

  void read_post_processor(const JsonNode& node) {
    const std::string& type = node.text("type");
    if (type == "Sequence") {
      for (const JsonNode& step : node.at("processors").elements()) read_post_processor(step);
    } else if (type == "TemplateProcessing") {
      read_template(node);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      wrap({vocabulary_id(pair_id(node.at("cls")))}, {vocabulary_id(pair_id(node.at("sep")))});
    } else if (type != "ByteLevel") {  // which changes offsets only
      node.fail(cat("post-processor ", printable(type), " is not supported"));
    }
  }

  // The id of ["[CLS]", 101].
  static JsonNode pair_id(const JsonNode& node) {
    const auto elements = node.elements();
    if (elements.size() != 2) node.fail("expected a token and its id");
    return elements[1];
  }

  // A later post-processor wraps what the earlier made.
  void wrap(std::vector<int32_t> before, const std::vector<int32_t>& after) {
    before.insert(before.end(), parts_.prefix.begin(), parts_.prefix.end());
    parts_.prefix = std::move(before);
    parts_.suffix.insert(parts_.suffix.end(), after.begin(), after.end());
  }

  void read_template(const JsonNode& node) {
    std::vector<int32_t> before, after;
    bool seen_text = false;
    for (const JsonNode& item : node.at("single").elements()) {
      if (const auto sequence = item.find("Sequence")) {
        if (seen_text) item.fail("the text may come only once");
        seen_text = true;
        continue;
      }
      const std::string name = item.at("SpecialToken").text("id");
      const JsonNode tokens = node.at("special_tokens");
      const Json* token = tokens.json().find(name);
      if (token == nullptr) tokens.fail(cat("the template's token ", printable(name), " is missing"));
      auto& ids = seen_text ? after : before;
      for (const JsonNode& id : JsonNode(*token, tokens.where()).at("ids").elements())
        ids.push_back(vocabulary_id(id));
    }
    if (!seen_text) node.fail("the template for a single text has no place for the text");
    wrap(std::move(before), after);
  }

  void read_chat_template() {
    const auto jinja = folder_ / "chat_template.jinja";
    if (!folder_.empty() && std::filesystem::exists(jinja)) {
      const MappedFile file(jinja.string());
      if (file.size() > kMaxTemplateBytes) {
        throw Error(
            cat(file.path(), " has ", file.size(), " bytes; at most ", kMaxTemplateBytes, " are supported"));
      }
      parts_.chat_template.emplace(reinterpret_cast<const char*>(file.bytes().data()), file.size());
      return;
    }
    for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
      const auto file = read_beside(name);
      if (!file) continue;
      const auto node = JsonNode(*file, cat((folder_ / name).string(), ":")).find("chat_template");
      if (!node) continue;
      if (node->json().is_string()) {
        parts_.chat_template = node->text();
        return;
      }
      for (const JsonNode& entry : node->elements()) {  // several by name; the others are for special uses
        if (entry.text("name") != "default") continue;
        parts_.chat_template = entry.text("template");
        return;
      }
    }
  }

  std::string path_;
  std::filesystem::path folder_;
  TokenizerParts parts_;
  std::vector<bool> only_added_;  // of each id: in added_tokens but not in the model's vocabulary
  bool byte_level_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_folder(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "tokenizer.json").string();
  if (!std::filesystem::exists(path)) {
    throw Error(cat(path, " is not there; a model folder needs its tokenizer as tokenizer.json"));
  }
  return Reader(path, folder).read(Json::parse_file(path));
}

std::unique_ptr<Tokenizer> Tokenizer::from_json(std::string_view text, const std::string& source) {
  return Reader(source, "").read(Json::parse(text, source));
}

}  // namespace llamita
