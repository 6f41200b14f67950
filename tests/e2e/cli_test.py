#!/usr/bin/env python3
"""The command line as people meet it: exit codes, messages, JSON.

    tests/e2e/cli_test.py BINARY [unittest options]
"""
import json
import os
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import PATIENCE, TINY, changed_model, command_line, llamita, main, seeded_text

COMMANDS = ["chat", "generate", "pull", "ls", "inspect", "tokenize", "bench"]
ROOM = {"max_position_embeddings": 32768}  # for a very long reply


def gguf_of_nothing():
    """A well-formed GGUF file without keys and tensors."""
    return b"GGUF" + (3).to_bytes(4, "little") + bytes(16)


class CommandLine(unittest.TestCase):
    def fails(self, code, *arguments, **keywords):
        """Fails with `code` and one line on standard error, which is returned."""
        run = llamita(*arguments, **keywords)
        self.assertEqual(run.returncode, code, run)
        lines = run.stderr.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith("llamita: error: "), lines)
        self.assertEqual(run.stdout, b"")
        return lines[0]

    def test_help_names_every_command(self):
        overview = llamita()
        self.assertEqual(overview.returncode, 0)
        self.assertEqual(overview.stdout, llamita("--help").stdout)
        for command in COMMANDS:
            self.assertRegex(overview.stdout.decode(), rf"(?m)^  {command} ")
            text = llamita(command, "--help")
            self.assertEqual(text.returncode, 0)
            self.assertIn(f"Usage: llamita {command}", text.stdout.decode())
            self.assertIn("Examples:", text.stdout.decode())
            self.assertEqual(llamita("help", command).stdout, text.stdout)
        self.assertEqual(llamita("help").stdout, overview.stdout)
        self.assertIn("no command 'dance'", self.fails(2, "help", "dance"))

    def test_version(self):
        self.assertRegex(llamita("--version").stdout.decode(), r"^llamita \d+\.\d+\.\d+\n$")

    def test_usage_errors(self):
        self.assertIn("no command 'dance'", self.fails(2, "dance"))
        self.assertIn("--nonsense", self.fails(2, "chat", "--nonsense"))
        self.assertIn("temp: expected a number", self.fails(2, "generate", TINY, "hi", "--temp", "warm"))
        self.assertIn("int8", self.fails(2, "chat", "--kv-dtype", "q4"))
        self.assertIn("--pin: expected auto, on or off", self.fails(2, "generate", TINY, "hi", "--pin", "1"))
        self.assertIn("--threads", self.fails(2, "bench", "--threads", "0"))
        self.fails(2, "generate", TINY, "hi", "--temp")
        self.fails(2, "generate", TINY, "hi", "and more", "and more")

    def test_models_that_are_not_there(self):
        self.assertIn("/no/such/model", self.fails(1, "generate", "/no/such/model", "hi"))
        self.assertIn("absent.gguf", self.fails(1, "inspect", "absent.gguf"))

    def test_models_that_are_not_downloaded(self):
        with tempfile.TemporaryDirectory() as folder:
            empty = {"LLAMITA_CACHE": folder, "HF_HUB_CACHE": folder, "HF_HUB_OFFLINE": "1"}
            self.assertIn(b"no models yet", llamita("ls", environment=empty).stdout)
            self.assertEqual(json.loads(llamita("ls", "--json", environment=empty).stdout), [])
            self.assertIn("org/name", self.fails(1, "pull", "org/name", environment=empty))
            self.assertIn("org/name", self.fails(1, "chat", "org/name:Q4_K_M", environment=empty))
            self.assertIn("smollm2-135m-instruct", self.fails(1, "pull", "no-such-model", environment=empty))
            nowhere = {**empty, "HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "http_proxy": ""}
            self.assertIn("http://127.0.0.1:9 cannot be reached", self.fails(1, "pull", "org/name", environment=nowhere))

    def test_broken_gguf_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "broken.gguf"
            for content in [b"", b"GGUF", b"not a model at all", gguf_of_nothing()[:20], gguf_of_nothing()]:
                path.write_bytes(content)
                self.assertIn("broken.gguf", self.fails(1, "generate", path, "hi"), content)

    def test_options_the_model_refuses(self):
        self.assertIn("device", self.fails(1, "generate", TINY, "hi", "--device", "abacus"))
        self.assertIn("context", self.fails(1, "generate", TINY, "x" * 500))

    def test_prompts_that_are_missing_or_double(self):
        self.assertIn("no prompt", self.fails(2, "generate", TINY))
        self.assertIn("two arguments", self.fails(2, "generate", "--model", TINY, "one", "two"))
        self.assertIn("--file", self.fails(2, "generate", TINY, "hi", "--file", "question.txt"))

    def test_an_argument_that_may_be_model_or_prompt(self):
        with tempfile.TemporaryDirectory() as folder:
            empty = {"LLAMITA_CACHE": folder, "HF_HUB_CACHE": folder, "HF_HUB_OFFLINE": "1"}
            for command in ["generate", "tokenize"]:
                message = self.fails(2, command, "yes/no", environment=empty)
                self.assertIn(f"`llamita {command} --model yes/no`", message)
                self.assertIn("--model smollm2-135m-instruct yes/no", message)
            self.assertEqual(llamita("generate", "-m", TINY, "yes/no", "-n", 1, environment=empty).returncode, 0)

    def test_the_default_model(self):
        """Commands without MODEL look for it in the cache, where this one is broken."""
        with tempfile.TemporaryDirectory() as folder:
            default = Path(folder) / "models" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
            default.parent.mkdir(parents=True)
            with open(default, "wb") as file:
                file.truncate(98362432)  # as large as the real one, so that it is not fetched
            for arguments in [["generate", "hi"], ["inspect"], ["tokenize", "hi"], ["bench"], ["chat"]]:
                self.assertIn(default.name, self.fails(1, *arguments, environment={"LLAMITA_CACHE": folder}))

    def test_a_template_that_cannot_be_used(self):
        with changed_model({"chat_template.jinja": "{% if %}"}) as model:
            for arguments in [["generate", model, "hi"], ["chat", model]]:
                message = self.fails(1, *arguments)
                self.assertIn("chat template cannot be used", message)
                self.assertIn("--raw", message)
            run = llamita("generate", model, "hi", "--raw", "-n", 1)
            self.assertEqual((run.returncode, run.stderr), (0, b""))

    def test_closed_and_full_output(self):
        with open("/dev/full", "wb") as full:
            run = subprocess.run(command_line("--help"), stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"cannot write to standard output", run.stderr)
        reader, writer = os.pipe()
        os.close(reader)
        run = subprocess.run(command_line("--help"), stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE)
        os.close(writer)
        self.assertEqual((run.returncode, run.stderr), (0, b""))


class Generate(unittest.TestCase):
    def json(self, *arguments, **keywords):
        run = llamita("generate", TINY, *arguments, "--json", **keywords)
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)

    def test_json(self):
        reply = self.json("Hello", "--temp", 0, "-n", 8, "--ignore-eos", "--logprobs", 2)
        self.assertEqual(len(reply["tokens"]), 8)
        self.assertEqual(reply["finish_reason"], "length")
        self.assertEqual(reply["usage"]["completion_tokens"], 8)
        self.assertEqual(reply["usage"]["total_tokens"], 8 + reply["usage"]["prompt_tokens"])
        self.assertGreater(reply["timings"]["prefill_seconds"], 0)
        self.assertEqual([len(token["top"]) for token in reply["logprobs"]], [2] * 8)
        # At temperature 0 the chosen token is the likeliest.
        for token in reply["logprobs"]:
            self.assertEqual(token["chosen"], token["top"][0])

    def test_where_the_prompt_comes_from(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"Hello")
            file.flush()
            options = ["--temp", "0", "-n", "6", "--ignore-eos"]
            argument = self.json("Hello", *options)
            self.assertEqual(self.json("--file", file.name, *options)["tokens"], argument["tokens"])
            self.assertEqual(self.json(*options, stdin=b"Hello\n")["tokens"], argument["tokens"])
            named = llamita("generate", "--model", TINY, "Hello", *options, "--json")
            self.assertEqual(json.loads(named.stdout)["tokens"], argument["tokens"])
            self.assertNotEqual(self.json("Hello", "--raw", *options)["usage"]["prompt_tokens"],
                                argument["usage"]["prompt_tokens"])
            self.assertGreater(self.json("Hello", "--system", "Be kind", *options)["usage"]["prompt_tokens"],
                               argument["usage"]["prompt_tokens"])

    def test_sampling_options_do_something(self):
        options = ["Hello", "--raw", "-n", "12", "--ignore-eos"]
        seeded = self.json(*options, "--seed", 7)
        self.assertEqual(seeded["seed"], "7")
        self.assertEqual(self.json(*options, "--seed", 7)["tokens"], seeded["tokens"])
        self.assertNotEqual(self.json(*options, "--seed", 8)["tokens"], seeded["tokens"])
        greedy = self.json(*options, "--temp", 0)
        self.assertEqual(self.json(*options, "--top-k", 1)["tokens"], greedy["tokens"])
        self.assertEqual(self.json(*options, "--min-p", 1)["tokens"], greedy["tokens"])
        self.assertEqual(self.json(*options, "--top-p", 0.0001)["tokens"], greedy["tokens"])
        first = greedy["tokens"][0]
        self.assertNotIn(first, self.json(*options, "--temp", 0, "--logit-bias", f"{first}:-100")["tokens"])
        self.assertEqual(self.json(*options, "--logit-bias", "65:100")["tokens"], [65] * 12)
        self.assertNotEqual(self.json(*options, "--temp", 0, "--repeat-penalty", 5)["tokens"], greedy["tokens"])
        # Two tokens far ahead of the others: without penalties one of them may come again and again.
        pair = [*options, "--logit-bias", "65:80", "--logit-bias", "66:80"]
        alternating = self.json(*pair, "--temp", 0, "--frequency-penalty", 2)["tokens"]
        self.assertEqual(set(alternating), {65, 66})
        self.assertNotEqual(self.json(*pair, "--temp", 0)["tokens"], alternating)
        self.assertNotEqual(self.json(*pair, "--seed", 7, "--presence-penalty", 2)["tokens"],
                            self.json(*pair, "--seed", 7, "--presence-penalty", -2)["tokens"])
        stopped = self.json("Hello", "--raw", "-n", 12, "--ignore-eos", "--logit-bias", "65:100", "--stop", "aa",
                            "--stop", seeded_text(65) * 3)
        self.assertEqual((stopped["text"], stopped["finish_reason"]), ("", "stop"))

    def test_several_replies(self):
        reply = self.json("Hello", "-n", 5, "--n", 3, "--seed", 1, "--temp", 2, "--ignore-eos")
        self.assertEqual(len(reply["choices"]), 3)
        self.assertEqual(reply["usage"]["completion_tokens"], 15)
        self.assertEqual(len({tuple(choice["tokens"]) for choice in reply["choices"]}), 3)
        text = llamita("generate", TINY, "Hello", "-n", 5, "--n", 2)
        self.assertEqual(text.stdout.count(b"--- reply "), 2)

    def test_bytes_that_are_no_utf8(self):
        reply = self.json("--raw", "-n", 3, stdin=b"a\xff\xfe\xc3(\x00b")
        self.assertGreater(reply["usage"]["prompt_tokens"], 0)

    def test_threads_and_cache_formats(self):
        options = ["Hello", "--temp", "0", "-n", "6", "--ignore-eos"]
        one = self.json(*options, "--threads", 1)
        self.assertEqual(self.json(*options, "--threads", 2)["tokens"], one["tokens"])
        sizes = {}
        for kv_dtype in ["f32", "f16", "bf16", "int8"]:
            self.assertEqual(len(self.json(*options, "--kv-dtype", kv_dtype)["tokens"]), 6)
            # The size that a loaded model takes, measured and not computed from the headers.
            card = json.loads(llamita("inspect", TINY, "--json", "--context", 64, "--kv-dtype", kv_dtype).stdout)
            sizes[kv_dtype] = card["memory"]["kv_bytes"]
        self.assertEqual(sizes["f32"], 2 * sizes["f16"])
        self.assertEqual(sizes["bf16"], sizes["f16"])
        self.assertEqual(sizes["int8"], sizes["f32"] // 4 + sizes["f32"] // (2 * card["head_dim"]),
                         "a byte a value, and a scale of two bytes a row")

    def test_packed_weights_are_kept(self):
        # GPT-2's matrices lie transposed in its files.
        with tempfile.TemporaryDirectory() as folder:
            def start(*options, **environment):
                run = llamita("generate", *options, TINY.parent / "gpt2", "Hello", "--raw", "--temp", "0", "-n", "6",
                              "--json", "--device", "cpu", environment={"LLAMITA_LOG": "info", **environment})
                self.assertEqual(run.returncode, 0, run.stderr)
                return json.loads(run.stdout)["tokens"], run.stderr.decode()

            tokens, _ = start()
            self.assertEqual(os.listdir(folder), [])
            kept = Path(folder) / "kept"
            first, said = start(f"--packed-cache={kept}")
            self.assertIn("MB written to", said)
            second, said = start(f"--packed-cache={kept}")
            self.assertRegex(said, r"packed weights: \d+ matrices from ")
            self.assertEqual(len(os.listdir(kept)), 1)
            by_default, said = start("--packed-cache", LLAMITA_CACHE=folder)
            self.assertEqual(os.listdir(Path(folder) / "packed"), os.listdir(kept))
            in_the_way = Path(folder) / "file"
            in_the_way.write_text("")
            without, said = start(f"--packed-cache={in_the_way}/below", LLAMITA_LOG="warning")
            self.assertRegex(said, "^llamita: warning: packed weights are not kept, .*below")
            self.assertEqual([first, second, by_default, without], [tokens] * 4)

    def test_plain_output_is_the_text(self):
        options = ["Hello", "--seed", "3", "-n", "10"]
        text = llamita("generate", TINY, *options).stdout.decode()
        self.assertEqual(text.rstrip("\n"), self.json(*options)["text"].rstrip("\n"))
        self.assertNotIn("\033[", llamita("generate", "--help").stdout.decode())

    def test_interrupts(self):
        with changed_model(config=ROOM) as model:
            run = subprocess.Popen(command_line("generate", model, "hi", "-n", -1, "--ignore-eos"),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            run.stdout.read(1)
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=PATIENCE)
            self.assertEqual(run.returncode, 130)


class Files(unittest.TestCase):
    def test_inspect(self):
        run = llamita("inspect", TINY, "--json", "--tensors", "--context", 64)
        self.assertEqual(run.returncode, 0, run.stderr)
        card = json.loads(run.stdout)
        config = json.loads((TINY / "config.json").read_text())
        self.assertEqual(card["family"], "llama")
        self.assertEqual(card["layers"], config["num_hidden_layers"])
        self.assertEqual(sum(entry["tensors"] for entry in card["formats"]), len(card["tensors"]))
        self.assertTrue(card["memory"]["exact"])
        self.assertGreater(card["memory"]["activation_bytes"], 0)
        # Keys and values, two bytes each, of every layer and head.
        self.assertEqual(card["memory"]["kv_bytes_per_token"],
                         2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"])
        text = llamita("inspect", TINY).stdout.decode()
        self.assertIn("llama", text)
        self.assertIn("F32", text)

    def test_tokenize(self):
        text = "Hello, llama!"
        ids = llamita("tokenize", TINY, text, "--ids").stdout.decode().split()
        self.assertEqual(json.loads(llamita("tokenize", TINY, text, "--ids", "--json").stdout), [int(i) for i in ids])
        pieces = json.loads(llamita("tokenize", TINY, text, "--json").stdout)
        self.assertEqual([piece["id"] for piece in pieces], [int(i) for i in ids])
        table = llamita("tokenize", TINY, text).stdout.decode().splitlines()
        self.assertEqual([row.split("\t")[0] for row in table], ids)
        lines = llamita("tokenize", TINY, "--lines", "--ids", "--json", stdin=f"{text}\n\n{text}\n".encode())
        rows = [json.loads(line) for line in lines.stdout.splitlines()]
        self.assertEqual(len(rows), 3)
        self.assertEqual(rows[0], rows[2])

    def test_control_tokens_only_when_asked(self):
        plain = json.loads(llamita("tokenize", TINY, "<|im_end|>", "--ids", "--json").stdout)
        control = json.loads(llamita("tokenize", TINY, "<|im_end|>", "--ids", "--json", "--control").stdout)
        self.assertNotIn(258, plain)
        self.assertIn(258, control)

    def test_bench(self):
        run = llamita("bench", TINY, "-p", "8", "-n", "4", "-d", "0,64", "-r", 2, "-t", 1, "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        rows = json.loads(run.stdout)["rows"]
        self.assertEqual([row["test"] for row in rows], ["pp8", "tg4", "pp8 @ d64", "tg4 @ d64"])
        for row in rows:
            self.assertGreater(row["tokens_per_second"], 0)
            self.assertGreater(row["roof"], 0)


if __name__ == "__main__":
    main()
