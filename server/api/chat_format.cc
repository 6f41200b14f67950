#include "server/api/chat_format.h"

namespace llamita::server {

namespace {

Json text(std::string_view value) { return Json(std::string(value)); }

Json content_logprobs(const std::vector<TokenInfo>& infos) {
  Json::Array content;
  for (const TokenInfo& info : infos) content.push_back(token_json(info));
  return Json(Json::Object{{"content", Json(std::move(content))}, {"refusal", Json()}});
}

// The first delta of a call has its id and name, the later ones only more of the arguments.
Json call_delta(const ToolCallDelta& call) {
  Json::Object out{{"index", Json(int64_t{call.index})}};
  Json::Object function;
  if (!call.name.empty()) {
    out.emplace_back("id", Json(random_id("call_")));
    out.emplace_back("type", text("function"));
    function.emplace_back("name", Json(call.name));
  }
  function.emplace_back("arguments", Json(call.arguments));
  out.emplace_back("function", Json(std::move(function)));
  return Json(std::move(out));
}

struct Call {
  std::string name, arguments;
};

void collect(const ParsedDelta& delta, std::string& content, std::vector<Call>& calls) {
  content += delta.content;
  for (const ToolCallDelta& call : delta.calls) {
    if (!call.name.empty()) calls.push_back({call.name, ""});
    calls.back().arguments += call.arguments;
  }
}

}  // namespace

ChatFormat::ChatFormat(const GenerationRequest& request, ReplyHeader header)
    : header_(std::move(header)),
      n_(request.n),
      include_usage_(request.include_usage),
      logprobs_(request.logprobs),
      tools_(request.tools) {
  if (!tools_.offered) return;
  for (int i = 0; i < n_; ++i) parsers_.push_back(new_parser());
}

// A forced call is a bare object, whatever the model would write around it.
std::unique_ptr<ToolCallParser> ChatFormat::new_parser() const {
  return make_tool_call_parser(tools_.forced ? ToolFormat::llama3 : tools_.format, tools_.parallel);
}

Json::Object ChatFormat::frame(const char* object) const {
  return {{"id", Json(header_.id)},
          {"object", text(object)},
          {"created", Json(header_.created)},
          {"model", Json(header_.model)},
          {"system_fingerprint", Json(header_.fingerprint)}};
}

std::string ChatFormat::chunk(int choice, Json::Object delta, Json logprobs, Json finish) const {
  Json::Object out = frame("chat.completion.chunk");
  out.emplace_back("choices", Json(Json::Array{Json(Json::Object{{"index", Json(int64_t{choice})},
                                                                 {"delta", Json(std::move(delta))},
                                                                 {"logprobs", std::move(logprobs)},
                                                                 {"finish_reason", std::move(finish)}})}));
  if (include_usage_) out.emplace_back("usage", Json());
  return event(Json(std::move(out)));
}

std::string ChatFormat::begin() {
  std::string out;
  for (int i = 0; i < n_; ++i) {
    out += chunk(i, {{"role", text("assistant")}, {"content", text("")}}, Json(), Json());
  }
  return out;
}

std::string ChatFormat::update(size_t, const Delta& delta) {
  ParsedDelta parsed;
  bool called = false;
  if (parsers_.empty()) {
    parsed.content = delta.text;
  } else {
    ToolCallParser& parser = *parsers_[static_cast<size_t>(delta.choice)];
    parsed = parser.push(delta.text);
    if (delta.finished) {
      ParsedDelta rest = parser.finish();
      parsed.content += rest.content;
      for (ToolCallDelta& call : rest.calls) parsed.calls.push_back(std::move(call));
    }
    called = parser.calls() > 0;
  }
  std::string out;
  Json logprobs = logprobs_ && !delta.logprobs.empty() ? content_logprobs(delta.logprobs) : Json();
  const bool has_logprobs = !logprobs.is_null();
  if (!parsed.content.empty() || (has_logprobs && parsed.calls.empty())) {
    out += chunk(delta.choice, {{"content", Json(parsed.content)}}, std::exchange(logprobs, Json()), Json());
  }
  if (!parsed.calls.empty()) {
    Json::Array calls;
    for (const ToolCallDelta& call : parsed.calls) calls.push_back(call_delta(call));
    out += chunk(delta.choice, {{"tool_calls", Json(std::move(calls))}}, std::move(logprobs), Json());
  }
  if (delta.finished) out += chunk(delta.choice, {}, Json(), Json(finish_name(delta.finish, called)));
  return out;
}

std::string ChatFormat::end(const std::vector<Completion>& done) {
  std::string out;
  if (include_usage_) {
    Json::Object last = frame("chat.completion.chunk");
    last.emplace_back("choices", Json(Json::Array{}));
    last.emplace_back("usage", usage_json(done));
    out = event(Json(std::move(last)));
  }
  return out += "data: [DONE]\n\n";
}

Json ChatFormat::whole_choice(const Choice& choice, int index) const {
  std::string content;
  std::vector<Call> calls;
  if (tools_.offered) {
    const auto parser = new_parser();
    collect(parser->push(choice.text), content, calls);
    collect(parser->finish(), content, calls);
  } else {
    content = choice.text;
  }
  Json::Object message{{"role", text("assistant")},
                       {"content", content.empty() && !calls.empty() ? Json() : Json(content)},
                       {"refusal", Json()}};
  if (!calls.empty()) {
    Json::Array list;
    for (const Call& call : calls) {
      list.push_back(Json(Json::Object{
          {"id", Json(random_id("call_"))},
          {"type", text("function")},
          {"function", Json(Json::Object{{"name", Json(call.name)}, {"arguments", Json(call.arguments)}})}}));
    }
    message.emplace_back("tool_calls", Json(std::move(list)));
  }
  return Json(Json::Object{{"index", Json(int64_t{index})},
                           {"message", Json(std::move(message))},
                           {"logprobs", logprobs_ ? content_logprobs(choice.logprobs) : Json()},
                           {"finish_reason", Json(finish_name(choice.finish, !calls.empty()))}});
}

Json ChatFormat::whole(const std::vector<Completion>& done) {
  Json::Array choices;
  for (const Choice& choice : done.front().choices) {
    choices.push_back(whole_choice(choice, static_cast<int>(choices.size())));
  }
  Json::Object out = frame("chat.completion");
  out.emplace_back("choices", Json(std::move(choices)));
  out.emplace_back("usage", usage_json(done));
  return Json(std::move(out));
}

}  // namespace llamita::server
