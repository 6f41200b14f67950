// Bodies of requests: what is taken, what is refused and by which name, every limit at its edge.
#include "server/api/generation_request.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/cat.h"
#include "server/api/api_error.h"

namespace llamita::server {
namespace {

using Parse = GenerationRequest (*)(std::string_view, const ParseContext&);

ParseContext context(bool lenient = false) {
  ParseContext out;
  out.lenient = lenient;
  return out;
}

// The field that the error names; "ok" without an error.
std::string fault(Parse parse, const std::string& body, const ParseContext& with = {}) {
  try {
    parse(body, with);
    return "ok";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    return error.param;
  }
}

// A chat body with `more` members.
std::string chat(const std::string& more) {
  return cat(R"({"model":"m","messages":[{"role":"user","content":"hi"}])", more.empty() ? "" : ",", more,
             "}");
}
std::string chat_fault(const std::string& more, const ParseContext& with = {}) {
  return fault(parse_chat, chat(more), with);
}

TEST(ChatBody, EveryFieldArrives) {
  const auto request = parse_chat(
      R"({"model":"m","messages":[{"role":"developer","content":"be brief"},
          {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
          {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
             "function":{"name":"f","arguments":"{}"}}]},
          {"role":"tool","content":"42","tool_call_id":"c1"}],
          "stream":true,"stream_options":{"include_usage":true},"n":3,"temperature":0.5,"top_p":0.9,"top_k":7,
          "min_p":0.1,"repetition_penalty":1.1,"frequency_penalty":-1,"presence_penalty":2,"seed":9,
          "stop":["x","y"],"stop_token_ids":[4],"logit_bias":{"5":-100},"max_completion_tokens":11,
          "logprobs":true,"top_logprobs":4,"response_format":{"type":"json_object"},"priority":-2,
          "user":"u","metadata":{},"store":true,"service_tier":"auto","parallel_tool_calls":true,
          "chat_template_kwargs":{"enable_thinking":false},"continue_final_message":true,"ignore_eos":true})",
      context());
  EXPECT_TRUE(request.stream && request.include_usage && request.logprobs);
  EXPECT_EQ(request.n, 3);
  EXPECT_EQ(request.priority, -2);
  const Request& engine = request.requests.at(0);
  const auto& conversation = std::get<Conversation>(engine.prompt);
  EXPECT_EQ(conversation[0].role, "system");
  EXPECT_EQ(conversation[1].content, "ab");
  EXPECT_EQ(conversation[2].tool_calls.at(0).name, "f");
  EXPECT_EQ(conversation[3].tool_call_id, "c1");
  const SamplingParams& params = engine.sampling;
  EXPECT_FLOAT_EQ(params.temperature, 0.5f);
  EXPECT_FLOAT_EQ(params.top_p, 0.9f);
  EXPECT_EQ(params.top_k, 7);
  EXPECT_FLOAT_EQ(params.min_p, 0.1f);
  EXPECT_FLOAT_EQ(params.repetition_penalty, 1.1f);
  EXPECT_FLOAT_EQ(params.frequency_penalty, -1);
  EXPECT_FLOAT_EQ(params.presence_penalty, 2);
  EXPECT_EQ(params.seed, 9u);
  EXPECT_EQ(params.stop, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(params.stop_token_ids, std::vector<int32_t>{4});
  EXPECT_EQ(params.logit_bias, (std::vector<std::pair<int32_t, float>>{{5, -100.0f}}));
  EXPECT_EQ(params.max_tokens, 11);
  EXPECT_EQ(params.logprobs, 4);
  EXPECT_EQ(params.n, 3);
  EXPECT_EQ(params.constraint.kind, Constraint::Kind::json_object);
  EXPECT_EQ(engine.chat.template_variables, R"({"enable_thinking":false})");
  EXPECT_TRUE(engine.chat.continue_last && params.ignore_eos);
}

TEST(ChatBody, FormsArrive) {
  const auto constraint = [](const char* more) {
    return parse_chat(chat(more), {}).requests[0].sampling.constraint;
  };
  const Constraint grammar = constraint(R"("grammar":"root ::= \"a\"")");
  EXPECT_EQ(grammar.kind, Constraint::Kind::gbnf);
  EXPECT_EQ(grammar.text, "root ::= \"a\"");
  const Constraint schema =
      constraint(R"("response_format":{"type":"json_schema","json_schema":{"schema":{"type":"null"}}})");
  EXPECT_EQ(schema.kind, Constraint::Kind::json_schema);
  EXPECT_EQ(schema.text, R"({"type":"null"})");
  EXPECT_EQ(chat_fault(R"("grammar":"root ::= \"a\"","response_format":{"type":"json_object"})"), "grammar");
}

TEST(ChatBody, NeutralAndNullFieldsAreTaken) {
  for (const char* more :
       {R"("functions":[])", R"("function_call":"none")", R"("modalities":["text"])", R"("audio":null)",
        R"("temperature":null,"stop":null,"tools":null,"logprobs":null,"max_tokens":null,"seed":null)",
        R"("logprobs":false)", R"("tools":[],"tool_choice":"none")",
        R"("response_format":{"type":"text"})"}) {
    EXPECT_EQ(chat_fault(more), "ok") << more;
  }
}

TEST(ChatBody, FaultsNameTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("temperature":"hot")", "temperature"},
      {R"("temperature":2.01)", "temperature"},
      {R"("top_p":1.5)", "top_p"},
      {R"("n":0)", "n"},
      {R"("n":1.5)", "n"},
      {R"("stream":1)", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stop":[1])", "stop"},
      {R"("stop":"")", "stop"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logit_bias":[])", "logit_bias"},
      {R"("top_logprobs":2)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("response_format":{"type":"yaml"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format.json_schema.schema"},
      {R"("modalities":["audio"])", "modalities"},
      {R"("prediction":{})", "prediction"},
      {R"("functions":[{}])", "functions"},
      {R"("nonsense":1)", "nonsense"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tools":{})", "tools"},
      {R"("stream":true,"stream_options":{"x":1})", "stream_options.x"},
      {R"("response_format":{"type":"text","x":1})", "response_format.x"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{},"x":1}})",
       "response_format.json_schema.x"},
      {R"("tools":[{"type":"function","x":1,"function":{"name":"f"}}])", "tools[0].x"},
      {R"("tools":[{"type":"function","function":{"name":"f","x":1}}])", "tools[0].function.x"},
      {R"("n":1e300)", "n"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
  };
  for (const auto& [more, field] : cases) EXPECT_EQ(chat_fault(more), field) << more;
  EXPECT_EQ(fault(parse_chat, R"({"model":"m"})"), "messages");
  EXPECT_EQ(fault(parse_chat, R"({"messages":[]})"), "messages");
  EXPECT_EQ(fault(parse_chat, R"({"messages":[{"role":"user"}]})"), "messages[0].content");
  EXPECT_EQ(fault(parse_chat, R"({"messages":[{"role":"king","content":""}]})"), "messages[0].role");
  EXPECT_EQ(fault(parse_chat, R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})"),
            "messages[0].content");
  for (const char* body : {"", "{", "[]", "null", "{}x", "\xff"})
    EXPECT_NE(fault(parse_chat, body), "ok") << body;
}

TEST(ChatBody, LenientWarnsOfUnknownFieldsOnly) {
  const auto request = parse_chat(chat(R"("nonsense":1)"), context(true));
  ASSERT_EQ(request.warnings.size(), 1u);
  EXPECT_NE(request.warnings[0].find("nonsense"), std::string::npos);
  EXPECT_EQ(chat_fault(R"("prediction":{})", context(true)), "prediction");
}

TEST(ChatBody, AWholeNumberIsAnInteger) {
  EXPECT_EQ(parse_chat(chat(R"("n":2.0)"), {}).n, 2);
  EXPECT_EQ(parse_chat(chat(R"("seed":-3e2)"), {}).requests[0].sampling.seed, static_cast<uint64_t>(-300));
}

TEST(ChatBody, TokensAreOfTheVocabulary) {
  ParseContext with;
  with.vocab_size = 100;
  EXPECT_EQ(chat_fault(R"("logit_bias":{"99":1},"stop_token_ids":[99])", with), "ok");
  EXPECT_EQ(chat_fault(R"("logit_bias":{"100":1})", with), "logit_bias");
  EXPECT_EQ(chat_fault(R"("stop_token_ids":[100])", with), "stop_token_ids");
  EXPECT_EQ(chat_fault(R"("stop_token_ids":[99.0])", with), "ok");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":[[7.0,9]]})", with), "ok");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":[99]})", with), "ok");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":[100]})", with), "prompt");
}

TEST(ChatBody, LimitsHoldAtTheirEdges) {
  ParseContext with;
  with.limits.logprobs = 6;
  with.limits.choices = 4;
  with.limits.stops = 2;
  with.limits.stop_bytes = 5;
  with.limits.schema_bytes = 30;
  with.limits.tools = 2;
  with.limits.body_depth = 5;
  for (const int n : {3, 4}) EXPECT_EQ(chat_fault(cat(R"("n":)", n), with), "ok");
  EXPECT_EQ(chat_fault(R"("n":5)", with), "n");
  for (const int top : {5, 6})
    EXPECT_EQ(chat_fault(cat(R"("logprobs":true,"top_logprobs":)", top), with), "ok");
  EXPECT_EQ(chat_fault(R"("logprobs":true,"top_logprobs":7)", with), "top_logprobs");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":"a","logprobs":6})", with), "ok");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":"a","logprobs":7})", with), "logprobs");
  EXPECT_EQ(chat_fault(R"("stop":["a"])", with), "ok");
  EXPECT_EQ(chat_fault(R"("stop":["a","b"])", with), "ok");
  EXPECT_EQ(chat_fault(R"("stop":["a","b","c"])", with), "stop");
  EXPECT_EQ(chat_fault(R"("stop":"1234")", with), "ok");
  EXPECT_EQ(chat_fault(R"("stop":"12345")", with), "ok");
  EXPECT_EQ(chat_fault(R"("stop":"123456")", with), "stop");
  const auto schema = [&](size_t bytes) {  // {"title":"xx…"}
    return chat_fault(cat(R"("response_format":{"type":"json_schema","json_schema":{"schema":{"title":")",
                          std::string(bytes - 12, 'x'), R"("}}})"),
                      with);
  };
  EXPECT_EQ(schema(29), "ok");
  EXPECT_EQ(schema(30), "ok");
  EXPECT_EQ(schema(31), "response_format.json_schema.schema");
  const auto tools = [&](int count) {
    std::string list;
    for (int i = 0; i < count; ++i)
      list += cat(i ? "," : "", R"({"type":"function","function":{"name":"f"}})");
    return chat_fault(cat(R"("tools":[)", list, "]"), with);
  };
  EXPECT_EQ(tools(1), "ok");
  EXPECT_EQ(tools(2), "ok");
  EXPECT_EQ(tools(3), "tools");
  EXPECT_EQ(chat_fault(R"("metadata":{"a":{"b":{"c":1}}})", with), "ok");
  EXPECT_EQ(chat_fault(R"("metadata":{"a":{"b":{"c":[]}}})", with), "ok");
  EXPECT_NE(chat_fault(R"("metadata":{"a":{"b":{"c":[[]]}}})", with), "ok");
}

// The limits that `llamita serve` has by default, each at L - 1, L and L + 1.
TEST(ChatBody, TheDefaultLimitsHoldAtTheirEdges) {
  const auto repeated = [](const std::string& piece, int times) {
    std::string list;
    for (int i = 0; i < times; ++i) list += (i > 0 ? "," : "") + piece;
    return list;
  };
  const auto schema = [](int bytes) {  // {"title":"xx…"}
    return cat(R"("response_format":{"type":"json_schema","json_schema":{"schema":{"title":")",
               std::string(static_cast<size_t>(bytes) - 12, 'x'), R"("}}})");
  };
  const auto biases = [](int count) {
    std::string list;
    for (int i = 0; i < count; ++i) list += cat(i > 0 ? "," : "", '"', i, R"(":1)");
    return cat(R"("logit_bias":{)", list, "}");
  };
  const auto nested = [](int depth) {  // the body's own object is the first
    return cat(R"("metadata":)", std::string(static_cast<size_t>(depth) - 1, '['),
               std::string(static_cast<size_t>(depth) - 1, ']'));
  };
  struct Limit {
    const char* field;
    int most;
    std::function<std::string(int)> members;
  };
  const std::vector<Limit> limits = {
      {"n", 8, [](int n) { return cat(R"("n":)", n); }},
      {"top_logprobs", 20, [](int n) { return cat(R"("logprobs":true,"top_logprobs":)", n); }},
      {"stop", 4, [&](int n) { return cat(R"("stop":[)", repeated("\"a\"", n), "]"); }},
      {"stop", 256, [](int n) { return cat(R"("stop":")", std::string(static_cast<size_t>(n), 'x'), "\""); }},
      {"response_format.json_schema.schema", 64 << 10, schema},
      {"grammar", 64 << 10,
       [](int n) { return cat(R"("grammar":")", std::string(static_cast<size_t>(n), 'x'), "\""); }},
      {"tools", 128,
       [&](int n) {
         return cat(R"("tools":[)", repeated(R"({"type":"function","function":{"name":"f"}})", n), "]");
       }},
      {"logit_bias", 4096, biases},
      {"priority", 1000, [](int n) { return cat(R"("priority":)", n); }},
      {"", 64, nested},
  };
  for (const Limit& limit : limits) {
    for (const int n : {limit.most - 1, limit.most, limit.most + 1}) {
      EXPECT_EQ(chat_fault(limit.members(n)), n <= limit.most ? "ok" : limit.field)
          << limit.field << " " << n;
    }
  }
  for (const int n : {19, 20, 21}) {
    EXPECT_EQ(fault(parse_completion, cat(R"({"prompt":"a","logprobs":)", n, "}")),
              n <= 20 ? "ok" : "logprobs");
  }
  for (const int n : {63, 64, 65}) {
    const std::string prompts = repeated("\"a\"", n);
    EXPECT_EQ(fault(parse_completion, cat(R"({"prompt":[)", prompts, "]}")), n <= 64 ? "ok" : "prompt") << n;
    EXPECT_EQ(fault(parse_embedding, cat(R"({"input":[)", prompts, "]}")), n <= 64 ? "ok" : "input") << n;
  }
  // Of all JSON values inside a body: the prompt's two arrays, and ids.
  for (const int n : {-1, 0, 1}) {
    const std::string ids = repeated("1", (1 << 20) - 2 + n);
    const bool taken = fault(parse_completion, cat(R"({"prompt":[[)", ids, "]]}")) == "ok";
    EXPECT_EQ(taken, n <= 0) << n;
  }
}

TEST(CompletionBody, PromptsOfAllKinds) {
  EXPECT_EQ(parse_completion(R"({"prompt":"a"})", {}).requests.at(0).sampling.max_tokens, 16);
  EXPECT_EQ(parse_completion(R"({"prompt":["a","b"]})", {}).requests.size(), 2u);
  EXPECT_EQ(parse_completion(R"({"prompt":[1,2]})", {}).requests.size(), 1u);
  EXPECT_EQ(parse_completion(R"({"prompt":[[1,2],[3]]})", {}).requests.size(), 2u);
  for (const char* prompt : {"[]", "{}", "1", "[1,\"a\"]", "[[\"a\"]]", "[-1]", "[1.5]", "[true]"}) {
    EXPECT_EQ(fault(parse_completion, cat(R"({"prompt":)", prompt, "}")), "prompt") << prompt;
  }
  EXPECT_EQ(fault(parse_completion, "{}"), "prompt");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":"a","n":2,"best_of":2})"), "ok");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":"a","best_of":2})"), "best_of");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":"a","suffix":"x"})"), "suffix");
}

TEST(CompletionBody, PromptsLimit) {
  ParseContext with;
  with.limits.prompts = 3;
  EXPECT_EQ(fault(parse_completion, R"({"prompt":["a","b"]})", with), "ok");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":["a","b","c"]})", with), "ok");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":["a","b","c","d"]})", with), "prompt");
  EXPECT_EQ(fault(parse_completion, R"({"prompt":["a","b"],"n":2})", with), "n");
}

TEST(EmbeddingBody, Fields) {
  const auto request =
      parse_embedding(R"({"model":"m","input":["a","b"],"encoding_format":"base64","user":"u"})", {});
  EXPECT_TRUE(request.base64);
  EXPECT_TRUE(request.requests.at(1).embedding);
  EXPECT_EQ(fault(parse_embedding, R"({"input":"a","encoding_format":"int8"})"), "encoding_format");
  EXPECT_EQ(fault(parse_embedding, R"({"input":"a","dimensions":64})"), "dimensions");
  EXPECT_EQ(fault(parse_embedding, "{}"), "input");
}

const char* const kTools =
    R"("tools":[{"type":"function","function":{"name":"f","parameters":{"$defs":{"s":{"type":"string"}},
        "type":"object","properties":{"x":{"$ref":"#/$defs/s"}}}}},
       {"type":"function","function":{"name":"g"}}])";

TEST(Tools, ChoiceDecidesWhatTheModelSees) {
  EXPECT_TRUE(parse_chat(chat(kTools), {}).tools.offered);
  const auto none = parse_chat(chat(cat(kTools, R"(,"tool_choice":"none")")), {});
  EXPECT_FALSE(none.tools.offered);
  EXPECT_EQ(none.requests[0].chat.tools, "");
  const auto automatic = parse_chat(chat(cat(kTools, R"(,"tool_choice":"auto")")), {});
  EXPECT_EQ(automatic.requests[0].sampling.constraint.kind, Constraint::Kind::none);
  EXPECT_EQ(chat_fault(cat(kTools, R"(,"tool_choice":{"type":"function","function":{"name":"h"}})")),
            "tool_choice");
}

TEST(Tools, AForcedCallIsHeldToItsSchema) {
  const auto named =
      parse_chat(chat(cat(kTools, R"(,"tool_choice":{"type":"function","function":{"name":"f"}})")), {});
  EXPECT_EQ(
      named.requests[0].sampling.constraint.text,
      R"({"type":"object","properties":{"name":{"const":"f"},"arguments":{"$defs":{"s":{"type":"string"}},)"
      R"("type":"object","properties":{"x":{"$ref":"#/properties/arguments/$defs/s"}}}},)"
      R"("required":["name","arguments"],"additionalProperties":false})");
  const auto required = parse_chat(chat(cat(kTools, R"(,"tool_choice":"required")")), {});
  const std::string& schema = required.requests[0].sampling.constraint.text;
  EXPECT_NE(schema.find(R"("#/anyOf/0/properties/arguments/$defs/s")"), std::string::npos) << schema;
  EXPECT_NE(schema.find(R"({"const":"g"})"), std::string::npos);
}

}  // namespace
}  // namespace llamita::server
