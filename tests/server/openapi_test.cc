// The document of the API against the server: every route and every field that one knows the other knows too,
// of the same kind and within the same bounds.
#include "server/api/openapi.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/cat.h"
#include "server/api/api_error.h"
#include "server/api/token_request.h"
#include "server/api_server.h"

namespace llamita::server {
namespace {

struct Known {
  std::set<std::string> types;  // empty: any
  std::optional<double> low, high;
};
using KnownFields = std::map<std::string, Known>;

// "messages[3].role" -> "messages.role"
std::string without_indices(const std::string& path) {
  std::string out;
  bool inside = false;
  for (const char c : path) {
    if (c == '[') inside = true;
    if (!inside) out += c;
    if (c == ']') inside = false;
  }
  return out;
}

void add(KnownFields& fields, const std::string& path, const Known& field) {
  const auto [at, fresh] = fields.emplace(path, field);
  if (fresh) return;
  at->second.types.insert(field.types.begin(), field.types.end());
  if (field.low) at->second.low = field.low;
  if (field.high) at->second.high = field.high;
}

// What the document says of a schema's members, and of what is inside them.
class Document {
 public:
  explicit Document(const Json& document) : document_(document) {}

  const Json& resolve(const Json& schema) const {
    const Json* reference = schema.find("$ref");
    if (reference == nullptr) return schema;
    const Json* at = &document_;
    const std::string& path = reference->as_string("$ref");
    for (size_t begin = 2; begin <= path.size();) {
      const size_t end = std::min(path.find('/', begin), path.size());
      at = at->find(path.substr(begin, end - begin));
      if (at == nullptr) throw Error(cat(path, " leads nowhere"));
      begin = end + 1;
    }
    return resolve(*at);
  }

  KnownFields fields_of(const std::string& name) const {
    KnownFields out;
    collect(*document_.find("components")->find("schemas")->find(name), "", out);
    return out;
  }

 private:
  void collect(const Json& reference, const std::string& path, KnownFields& out) const {
    const Json& schema = resolve(reference);
    for (const char* several : {"anyOf", "oneOf"}) {
      if (const Json* options = schema.find(several)) {
        for (const Json& option : options->as_array("")) collect(option, path, out);
      }
    }
    if (const Json* items = schema.find("items")) collect(*items, path, out);
    if (const Json* properties = schema.find("properties")) {
      EXPECT_NE(schema.find("additionalProperties"), nullptr) << path << " lets any field in";
      for (const auto& [name, value] : properties->as_object("")) {
        const std::string inner = path.empty() ? name : cat(path, ".", name);
        add(out, inner, known(value));
        collect(value, inner, out);
      }
    }
  }

  Known known(const Json& reference) const {
    const Json& schema = resolve(reference);
    Known out;
    const auto add_type = [&](const std::string& type) {
      if (type != "null") out.types.insert(type);
    };
    const auto type_of = [](const Json& value) -> std::string {
      return value.is_string() ? "string" : value.is_bool() ? "boolean" : value.is_null() ? "null" : "other";
    };
    if (const Json* type = schema.find("type")) {
      if (type->is_string()) add_type(type->as_string(""));
      if (type->is_array()) {
        for (const Json& entry : type->as_array("")) add_type(entry.as_string(""));
      }
    }
    if (const Json* values = schema.find("enum")) {
      for (const Json& value : values->as_array("")) add_type(type_of(value));
    }
    if (const Json* value = schema.find("const")) add_type(type_of(*value));
    if (const Json* low = schema.find("minimum")) out.low = low->as_double("");
    if (const Json* high = schema.find("maximum")) out.high = high->as_double("");
    return out;
  }

  const Json& document_;
};

// What the parser asked for while it read these bodies.
template <class Parse>
KnownFields asked_by(Parse parse, std::initializer_list<const char*> bodies) {
  std::vector<AskedField> asked;
  ParseContext context;
  context.asked = &asked;
  context.takes_images = true;
  for (const char* body : bodies) EXPECT_NO_THROW(parse(body, context)) << body;
  KnownFields out;
  for (const AskedField& field : asked) {
    Known known{{}, field.low, field.high};
    if (!field.type.empty()) known.types.insert(field.type);
    add(out, without_indices(field.path), known);
  }
  return out;
}

void expect_same(const KnownFields& parser, const KnownFields& document) {
  for (const auto& [path, field] : parser) {
    const auto at = document.find(path);
    if (at == document.end()) {
      ADD_FAILURE() << "the server reads " << path << ", which openapi.json does not name";
      continue;
    }
    if (field.types.empty()) continue;
    EXPECT_EQ(at->second.types, field.types) << path;
    if (field.low) {
      EXPECT_EQ(at->second.low, field.low) << path;
    }
    if (field.high) {
      EXPECT_EQ(at->second.high, field.high) << path;
    }
  }
  for (const auto& [path, field] : document) {
    EXPECT_TRUE(parser.contains(path)) << "openapi.json names " << path << ", which the server never reads";
  }
}

const char* const kChatBody =
    R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},
          {"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]},
        {"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f"}}]},
        {"role":"tool","content":"1"}],
      "tools":[{"type":"function","function":{"name":"f"}}],
      "tool_choice":{"type":"function","function":{"name":"f"}},
      "stream":true,"stream_options":{"include_usage":true}})";
const char* const kSchemaBody =
    R"({"messages":[{"role":"user","content":"a"}],
      "response_format":{"type":"json_schema","json_schema":{"schema":{}}}})";
const char* const kCompletionBody =
    R"({"prompt":"a","response_format":{"type":"json_schema","json_schema":{"schema":{}}},
      "stream":true,"stream_options":{}})";

TEST(OpenApi, FieldsAreTheOnesThatParsersRead) {
  const Json document = openapi_template();
  const Document read(document);
  expect_same(asked_by(parse_chat, {kChatBody, kSchemaBody}), read.fields_of("ChatRequest"));
  expect_same(asked_by(parse_completion, {kCompletionBody}), read.fields_of("CompletionRequest"));
  expect_same(asked_by(parse_embedding, {R"({"input":"a"})"}), read.fields_of("EmbeddingRequest"));
  expect_same(asked_by(parse_tokenize, {R"({"prompt":"a"})"}), read.fields_of("TokenizeRequest"));
  expect_same(asked_by(parse_detokenize, {R"({"tokens":[1]})"}), read.fields_of("DetokenizeRequest"));
}

TEST(OpenApi, RoutesAreTheServers) {
  const Json document = openapi_template();
  std::set<std::string> served, documented;
  for (const ApiServer::Route& route : ApiServer::routes()) {
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(c | 0x20);
    served.insert(cat(method, " ", route.path));
    const Json* operation = document.find("paths")->find(route.path);
    if (operation != nullptr) operation = operation->find(method);
    ASSERT_NE(operation, nullptr) << method << " " << route.path;
    EXPECT_EQ(operation->find("security") != nullptr, route.open) << route.path;
  }
  for (const auto& [path, operations] : document.find("paths")->as_object("")) {
    for (const auto& [method, operation] : operations.as_object(""))
      documented.insert(cat(method, " ", path));
  }
  EXPECT_EQ(served, documented);
}

TEST(OpenApi, ItsDefaultsAreTheServers) {
  OpenApiFacts facts;
  facts.version = "0";
  EXPECT_EQ(openapi_document(facts).dump(), openapi_template().dump());
}

// What a field is when a request leaves it out.
void expect_defaults(const std::string& schema, const GenerationRequest& parsed,
                     std::optional<int64_t> max_tokens) {
  const Json document = openapi_template();
  const Json& fields = *document.find("components")->find("schemas")->find(schema)->find("properties");
  const SamplingParams& params = parsed.requests.at(0).sampling;
  const std::pair<const char*, std::optional<double>> defaults[] = {
      {"temperature", params.temperature},
      {"top_p", params.top_p},
      {"top_k", params.top_k},
      {"min_p", params.min_p},
      {"repetition_penalty", params.repetition_penalty},
      {"frequency_penalty", params.frequency_penalty},
      {"presence_penalty", params.presence_penalty},
      {"n", params.n},
      {"priority", parsed.priority},
      {"max_tokens", max_tokens ? std::optional<double>(*max_tokens) : std::nullopt}};
  for (const auto& [name, value] : defaults) {
    const Json& field = *fields.find(name);
    const Json* written = field.find("default");
    if (written == nullptr) written = Document(document).resolve(field).find("default");
    ASSERT_EQ(written != nullptr, value.has_value()) << schema << "." << name;
    if (value) {
      EXPECT_DOUBLE_EQ(written->as_double(""), *value) << schema << "." << name;
    }
  }
}

TEST(OpenApi, WhatIsLeftOutHasTheParsersDefaults) {
  const GenerationRequest chat = parse_chat(R"({"messages":[{"role":"user","content":"a"}]})", {});
  const GenerationRequest completion = parse_completion(R"({"prompt":"a"})", {});
  EXPECT_EQ(chat.requests.at(0).sampling.max_tokens, -1) << "until the context is full";
  expect_defaults("ChatRequest", chat, std::nullopt);
  expect_defaults("CompletionRequest", completion, completion.requests.at(0).sampling.max_tokens);
}

TEST(OpenApi, TheServedOneHasTheServersBounds) {
  OpenApiFacts facts;
  facts.version = "1.2";
  facts.keys = true;
  facts.limits.choices = 3;
  facts.limits.stop_bytes = 7;
  facts.limits.reply_tokens = 99;
  facts.model_names = {"llama", "alias"};
  facts.vocab_size = 500;
  const Json document = openapi_document(facts);
  const Json& schemas = *document.find("components")->find("schemas");
  EXPECT_EQ(schemas.find("Choices")->find("maximum")->as_int(""), 3);
  EXPECT_EQ(schemas.find("StopString")->find("maxLength")->as_int(""), 7);
  EXPECT_EQ(schemas.find("MaxTokens")->find("maximum")->as_int(""), 99);
  EXPECT_EQ(schemas.find("TokenId")->find("maximum")->as_int(""), 499);
  EXPECT_EQ(schemas.find("ModelName")->find("enum")->dump(), R"([null,"llama","alias"])");
  EXPECT_EQ(document.find("info")->find("version")->as_string(""), "1.2");
  EXPECT_EQ(document.find("security")->dump(), R"([{"key":[]}])");
}

}  // namespace
}  // namespace llamita::server
