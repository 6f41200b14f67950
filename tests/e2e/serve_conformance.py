"""The official `openai` client against a running `llamita serve`: chat, streams, tools, JSON schema, logprobs, errors,
cancelling, embeddings. scripts/check_serve.sh installs the client and runs this:

    serve_conformance.py http://127.0.0.1:8000
"""
import concurrent.futures
import json
import math
import sys
import time
import unittest
import urllib.request

import openai
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

BASE = ""
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
        "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather now.", "parameters": CITY}},
         {"type": "function", "function": {"name": "time", "parameters": CITY}}]
HELLO = [{"role": "user", "content": "Name three colours."}]


def get(path):
    with urllib.request.urlopen(BASE + path, timeout=30) as reply:
        return reply.read().decode()


class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = OpenAI(base_url=BASE + "/v1", api_key="none", timeout=60, max_retries=0)
        cls.model = cls.client.models.list().data[0].id

    def chat(self, **more):
        return self.client.chat.completions.create(**{"model": self.model, "messages": HELLO, "max_tokens": 12, **more})

    def test_models(self):
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    def test_chat(self):
        reply = self.chat(temperature=0)
        self.assertEqual(reply.object, "chat.completion")
        self.assertEqual(reply.choices[0].message.role, "assistant")
        self.assertTrue(reply.choices[0].message.content)
        self.assertIn(reply.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens)
        self.assertGreaterEqual(reply.usage.prompt_tokens_details.cached_tokens, 0)

    def test_stream_is_the_whole_in_pieces(self):
        whole = self.chat(temperature=0)
        chunks = list(self.chat(temperature=0, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        self.assertEqual(text, whole.choices[0].message.content)
        reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
        self.assertEqual([reason for reason in reasons if reason], [whole.choices[0].finish_reason])
        self.assertIsNotNone(reasons[-1])
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)

    def test_choices_and_seed(self):
        first = self.chat(n=3, seed=7, temperature=1.5)
        second = self.chat(n=3, seed=7, temperature=1.5)
        texts = [choice.message.content for choice in first.choices]
        self.assertEqual(texts, [choice.message.content for choice in second.choices])
        self.assertEqual([choice.index for choice in first.choices], [0, 1, 2])
        self.assertGreater(len(set(texts)), 1)

    def test_stop_is_left_out(self):
        text = self.chat(temperature=0).choices[0].message.content
        stop = text[len(text) // 2:len(text) // 2 + 2]
        reply = self.chat(temperature=0, stop=[stop])
        self.assertEqual(reply.choices[0].message.content, text[:text.index(stop)])
        self.assertEqual(reply.choices[0].finish_reason, "stop")

    def test_logprobs(self):
        reply = self.chat(temperature=0, logprobs=True, top_logprobs=3, max_tokens=4)
        content = reply.choices[0].logprobs.content
        self.assertEqual(len(content), reply.usage.completion_tokens)
        for token in content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].token, token.token)
            self.assertEqual(bytes(token.bytes).decode(), token.token)
        self.assertEqual("".join(token.token for token in content), reply.choices[0].message.content)

    def test_logit_bias(self):
        token = json.loads(self.post("/tokenize", {"content": "yes"}))["tokens"][0]
        reply = self.chat(logit_bias={str(token): 100}, max_tokens=3, temperature=0)
        self.assertEqual(reply.choices[0].message.content, "yesyesyes")

    def post(self, path, body):
        request = urllib.request.Request(BASE + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read().decode()

    def test_json_schema(self):
        schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
                                                   "age": {"type": "integer", "minimum": 0, "maximum": 120}},
                  "required": ["name", "age"], "additionalProperties": False}
        for seed in range(2):
            reply = self.chat(max_tokens=60, seed=seed, temperature=1.5, response_format={
                "type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}})
            value = json.loads(reply.choices[0].message.content)
            self.assertEqual(set(value), {"name", "age"})
            self.assertTrue(0 <= value["age"] <= 120)

    def test_bad_schema_is_a_400(self):
        with self.assertRaises(openai.BadRequestError):
            self.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wrong"}}})

    def test_forced_tool(self):
        choice = {"type": "function", "function": {"name": "time"}}
        for tool_choice, names in ((choice, {"time"}), ("required", {"time", "weather"})):
            reply = self.chat(tools=TOOLS, tool_choice=tool_choice, max_tokens=100)
            call = reply.choices[0].message.tool_calls[0]
            self.assertIn(call.function.name, names)
            self.assertEqual(set(json.loads(call.function.arguments)), {"city"})
            self.assertEqual(reply.choices[0].finish_reason, "tool_calls")

    def test_streamed_tool_call(self):
        name, arguments, ids = "", "", set()
        for chunk in self.chat(tools=TOOLS, tool_choice="required", max_tokens=100, stream=True, temperature=0):
            for call in chunk.choices[0].delta.tool_calls or []:
                self.assertEqual(call.index, 0)
                ids |= {call.id} - {None}
                name += call.function.name or ""
                arguments += call.function.arguments or ""
        self.assertIn(name, ("time", "weather"))
        self.assertEqual(set(json.loads(arguments)), {"city"})
        self.assertEqual(len(ids), 1)

    def test_a_conversation_with_a_tool_goes_on(self):
        messages = HELLO + [
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Lima"}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"}]
        if self.client.models.list().data[0].takes_tools:
            self.assertTrue(self.chat(messages=messages, tools=TOOLS).choices[0].finish_reason)
            return
        with self.assertRaisesRegex(openai.BadRequestError, "no place for them"):  # nothing is left out in silence
            self.chat(messages=messages, tools=TOOLS)

    def test_completions(self):
        reply = self.client.completions.create(model=self.model, prompt=["One two three", "Hello"], max_tokens=4, n=2,
                                               logprobs=2, temperature=0)
        self.assertEqual([choice.index for choice in reply.choices], [0, 1, 2, 3])
        self.assertEqual(reply.choices[0].text, reply.choices[1].text)
        self.assertEqual(len(reply.choices[0].logprobs.tokens), 4)
        pieces = [chunk.choices[0].text for chunk in self.client.completions.create(
            model=self.model, prompt="One two three", max_tokens=4, temperature=0, stream=True)]
        self.assertEqual("".join(pieces), reply.choices[0].text)

    def test_embeddings(self):
        reply = self.client.embeddings.create(model=self.model, input=["A llama.", "A llama.", "Tax law"])
        first, second, third = (entry.embedding for entry in reply.data)
        self.assertEqual(first, second)
        self.assertNotEqual(first, third)
        self.assertAlmostEqual(math.fsum(x * x for x in first), 1, places=4)

    def test_errors(self):
        cases = [
            (openai.NotFoundError, {"model": "gpt-17"}, "model"),
            (openai.BadRequestError, {"temperature": 3}, "temperature"),
            (openai.BadRequestError, {"messages": []}, "messages"),
            (openai.BadRequestError, {"extra_body": {"nonsense": 1}}, "nonsense"),
            (openai.BadRequestError, {"n": 1000}, "n"),
        ]
        for kind, more, param in cases:
            with self.assertRaises(kind) as caught:
                self.chat(**more)
            self.assertEqual(caught.exception.body["param"], param)
        with self.assertRaises(openai.BadRequestError):
            self.chat(messages=[{"role": "user", "content": "word " * 100_000}])

    def gauge(self, name):
        for family in text_string_to_metric_families(get("/metrics")):
            for sample in family.samples:
                if sample.name == name:
                    return sample.value
        raise AssertionError(f"{name} is not at /metrics")

    def test_leaving_frees_the_engine(self):
        stream = self.chat(stream=True, max_tokens=4000, logit_bias={}, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        end = time.monotonic() + 20
        while self.gauge("vllm:num_requests_running") and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(self.gauge("vllm:num_requests_running"), 0)

    def test_alone_or_in_company_the_same(self):
        asks = [dict(messages=[{"role": "user", "content": f"Say {i} words about llamas."}], seed=i, temperature=0.9)
                for i in range(4)]
        alone = [self.chat(**ask).choices[0].message.content for ask in asks]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda ask: self.chat(**ask).choices[0].message.content, asks))
        self.assertEqual(alone, together)

    def test_metrics_have_the_known_names(self):
        self.chat(max_tokens=3)
        names = {sample.name for family in text_string_to_metric_families(get("/metrics")) for sample in family.samples}
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
                     "generation_tokens_total", "request_success_total", "time_to_first_token_seconds_bucket",
                     "inter_token_latency_seconds_count", "e2e_request_latency_seconds_sum",
                     "request_queue_time_seconds_bucket", "prefix_cache_hits_total", "num_preemptions_total"):
            self.assertIn("vllm:" + name, names)


if __name__ == "__main__":
    BASE = sys.argv.pop(1).rstrip("/")
    unittest.main()
