// Streams are OpenAI's byte for byte, but for ids.
#include "server/api/reply_format.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/cat.h"

namespace llamita::server {
namespace {

const char* const kHead =
    R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"f","choices":[)";

Delta delta(std::string text, bool finished = false, FinishReason reason = FinishReason::stop) {
  Delta out;
  out.text = std::move(text);
  out.finished = finished;
  out.finish = reason;
  return out;
}

TokenLogprob entry(int32_t id, const char* text, float logprob) {
  TokenLogprob out;
  out.token = id;
  out.text = text;
  out.logprob = logprob;
  return out;
}
void add_token(Delta& delta, const TokenLogprob& chosen, const std::vector<TokenLogprob>& top) {
  TokenInfo info;
  info.chosen = chosen;
  info.top = top;
  delta.logprobs.push_back(info);
}

std::unique_ptr<ReplyFormat> format(const GenerationRequest& request) {
  return make_format(request, {"chatcmpl-1", "m", 7, "f"}, {});
}

TEST(ChatStream, RoleContentReasonUsageDone) {
  GenerationRequest request;
  request.include_usage = true;
  const auto stream = format(request);
  EXPECT_EQ(
      stream->begin(),
      cat(kHead,
          R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}])",
          ",\"usage\":null}\n\n"));
  EXPECT_EQ(
      stream->update(0, delta("Hi\n\"é")),
      cat(kHead,
          R"({"index":0,"delta":{"content":"Hi\n\"é"},"logprobs":null,"finish_reason":null}],"usage":null})",
          "\n\n"));
  EXPECT_EQ(stream->update(0, delta("")), "");
  EXPECT_EQ(
      stream->update(0, delta("", true)),
      cat(kHead, R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null})", "\n\n"));
  Completion done;
  done.prompt_tokens = 3;
  done.completion_tokens = 2;
  done.cached_tokens = 1;
  EXPECT_EQ(
      stream->end({done}),
      cat(kHead,
          R"(],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":)",
          "{\"cached_tokens\":1}}}\n\ndata: [DONE]\n\n"));
}

TEST(ChatStream, WithoutUsageNoChunkSpeaksOfIt) {
  const auto stream = format({});
  EXPECT_EQ(stream->begin().find("usage"), std::string::npos);
  EXPECT_EQ(stream->end({{}}), "data: [DONE]\n\n");
}

TEST(ChatStream, LogprobsAndLength) {
  GenerationRequest request;
  request.logprobs = true;
  const auto stream = format(request);
  Delta update = delta("é", true, FinishReason::length);
  add_token(update, entry(5, "é", -0.5f), {entry(5, "é", -0.5f), entry(6, "x", -INFINITY)});
  EXPECT_EQ(
      stream->update(0, update),
      cat(kHead, R"({"index":0,"delta":{"content":"é"},"logprobs":{"content":[{"token":"é","logprob":-0.5,)",
          R"("bytes":[195,169],"top_logprobs":[{"token":"é","logprob":-0.5,"bytes":[195,169]},)",
          R"({"token":"x","logprob":-9999.0,"bytes":[120]}]}],"refusal":null},"finish_reason":null}]})",
          "\n\n", kHead, R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]})", "\n\n"));
}

TEST(ChatStream, PartsOfCharactersHaveTheirBytes) {
  GenerationRequest request;
  request.logprobs = true;
  Delta update = delta("");
  TokenLogprob half = entry(5, "\uFFFD", -0.5f);
  half.bytes = "\xC3";
  add_token(update, half, {half});
  const std::string said = format(request)->update(0, update);
  EXPECT_NE(said.find(R"("bytes":[195],"top_logprobs":[{"token":"�","logprob":-0.5,"bytes":[195]}])"),
            std::string::npos)
      << said;
}

TEST(ChatStream, ToolCallsHaveIdAndNameOnce) {
  GenerationRequest request;
  request.tools.offered = true;
  const auto stream = format(request);
  std::string out;
  for (const char* piece :
       {"<tool", "_call>{\"name\": \"sum\", \"argu", "ments\": {\"a\":", " 1}}</tool_call>"}) {
    out += stream->update(0, delta(piece));
  }
  out += stream->update(0, delta("", true));
  const size_t id = out.find("call_");
  ASSERT_NE(id, std::string::npos);
  out.replace(id, 29, "ID");
  EXPECT_EQ(
      out,
      cat(kHead, R"({"index":0,"delta":{"tool_calls":[{"index":0,"id":"ID","type":"function",)",
          R"("function":{"name":"sum","arguments":"{\"a\":"}}]},"logprobs":null,"finish_reason":null}]})",
          "\n\n", kHead, R"({"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" 1}"}}]},)",
          R"("logprobs":null,"finish_reason":null}]})", "\n\n", kHead,
          R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]})", "\n\n"));
}

TEST(ChatWhole, ContentIsNullBesideCalls) {
  GenerationRequest request;
  request.tools.offered = request.tools.forced = true;
  Completion done;
  done.choices.resize(1);
  done.choices[0].text = R"({"name":"f","arguments":{"x":[1,2]}})";
  done.choices[0].finish = FinishReason::stop;
  const Json body = format(request)->whole({done});
  const Json& choice = body.find("choices")->as_array("")[0];
  EXPECT_EQ(choice.find("finish_reason")->as_string(""), "tool_calls");
  EXPECT_TRUE(choice.find("message")->find("content")->is_null());
  const Json& call = choice.find("message")->find("tool_calls")->as_array("")[0];
  EXPECT_EQ(call.find("function")->dump(), R"({"name":"f","arguments":"{\"x\":[1,2]}"})");
}

TEST(Completions, StreamAndOffsets) {
  GenerationRequest request;
  request.endpoint = Endpoint::completions;
  request.requests.resize(2);
  request.n = 2;
  request.logprobs = true;
  const auto stream = make_format(request, {"c", "m", 7, "f"}, {});
  Delta update = delta("éa");
  update.choice = 1;
  add_token(update, entry(1, "é", -1.0f), {});
  add_token(update, entry(2, "a", -2.0f), {entry(2, "a", -2.0f)});
  const std::string head =
      R"(data: {"id":"c","object":"text_completion","created":7,"model":"m","system_fingerprint":"f","choices":[)";
  EXPECT_EQ(
      stream->update(1, update),
      cat(head, R"({"text":"éa","index":3,"logprobs":{"tokens":["é","a"],"token_logprobs":[-1.0,-2.0],)",
          R"("top_logprobs":[{},{"a":-2.0}],"text_offset":[0,1]},"finish_reason":null}]})", "\n\n"));
  update = delta("b", true, FinishReason::length);
  update.choice = 1;
  add_token(update, entry(1, "b", -1.0f), {});
  EXPECT_NE(stream->update(1, update).find(R"("text_offset":[2]},"finish_reason":"length")"),
            std::string::npos);
}

TEST(Embeddings, Base64IsLittleEndianFloats) {
  GenerationRequest request;
  request.endpoint = Endpoint::embeddings;
  Completion done;
  done.embedding = {1.0f, -2.0f};
  done.prompt_tokens = 4;
  request.base64 = true;
  EXPECT_EQ(
      format(request)->whole({done}).dump(),
      R"({"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAMA="}],"model":"m",)"
      R"("usage":{"prompt_tokens":4,"total_tokens":4}})");
  request.base64 = false;
  EXPECT_NE(format(request)->whole({done}).dump().find("[1.0,-2.0]"), std::string::npos);
  const unsigned char bytes[] = {1, 2, 3, 4};
  EXPECT_EQ(base64(bytes, 1), "AQ==");
  EXPECT_EQ(base64(bytes, 2), "AQI=");
  EXPECT_EQ(base64(bytes, 3), "AQID");
  EXPECT_EQ(base64(bytes, 4), "AQIDBA==");
}

}  // namespace
}  // namespace llamita::server
