#!/usr/bin/env python3
"""Pictures in, right words out: the tiny LLaVA through the command line and over HTTP.

    tests/e2e/llava_test.py BINARY [unittest options]

LLAMITA_TEST_DEVICE names the device (default cpu).
"""
import base64
import json
import os
import tempfile
import unittest
from pathlib import Path

from serve_test import Served
from support import Terminal, llamita, main

MODEL = Path(__file__).resolve().parent.parent / "golden" / "tiny-llava"
PICTURES = MODEL / "pictures"
SHOWN = json.loads((PICTURES / "expected.json").read_text())
DEVICE = os.environ.get("LLAMITA_TEST_DEVICE", "cpu")
COUNTING = "How many red circles are there?"  # 01.png: three, 03.png: one


def data_url(path):
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()


class CommandLine(unittest.TestCase):
    def generate(self, *arguments, **keywords):
        return llamita("generate", MODEL, "--temp", 0, "--device", DEVICE, *arguments, **keywords)

    def test_generate_says_what_is_on_a_picture(self):
        for shown in SHOWN[:4]:
            run = self.generate(shown["question"], "--image", PICTURES / shown["file"])
            self.assertEqual((run.returncode, run.stdout.decode().strip()), (0, shown["answer"]), run)

    def test_a_raw_prompt_and_several_pictures(self):
        run = self.generate("\n" + COUNTING + " ASSISTANT:", "--raw", "--image", PICTURES / "01.png", "-n", 4)
        self.assertEqual(run.returncode, 0, run)
        run = self.generate(COUNTING, "--image", PICTURES / "01.png", "--image", PICTURES / "03.png", "--json")
        self.assertGreater(json.loads(run.stdout)["usage"]["prompt_tokens"], 128)

    def test_bad_pictures_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "a.png"
            text.write_text("no image")
            for path, part in [(text, f"{text}: no PNG, JPEG or WebP"), ("/no/such.png", "/no/such.png"),
                               (folder, folder), ("/dev/zero", "/dev/zero has more than 16777216 bytes")]:
                run = self.generate(COUNTING, "--image", path)
                self.assertEqual(run.returncode, 1, run)
                self.assertIn(part, run.stderr.decode())
            # Before a model is loaded.
            for command in (["generate", "--model"], ["chat"]):
                run = llamita(*command, Path(folder) / "no-model.gguf", "--image", text, stdin=b"hi")
                self.assertIn("a.png: no PNG", run.stderr.decode())

    def test_inspect_tells_of_the_tower(self):
        self.assertIn("64 x 64 pixels in patches of 8: 64 tokens each", llamita("inspect", MODEL).stdout.decode())
        vision = json.loads(llamita("inspect", MODEL, "--json").stdout)["vision"]
        self.assertEqual((vision["image_size"], vision["patch_size"], vision["image_tokens"]), (64, 8, 64))

    def test_a_model_without_eyes(self):
        run = llamita("generate", MODEL.parent / "models" / "llama", "hi", "--image", PICTURES / "01.png")
        self.assertEqual(run.returncode, 1)
        self.assertIn("takes no images", run.stderr.decode())

    def test_chat_takes_pictures(self):
        chat = Terminal("chat", MODEL, "--temp", "0", "--device", DEVICE, "--image", str(PICTURES / "01.png"))
        chat.prompt()
        chat.type(COUNTING.encode() + b"\r")
        self.assertIn(b"three", chat.prompt())
        chat.type(b"/clear\r")
        chat.prompt()
        chat.type(f"/image {PICTURES / '03.png'}\r".encode())
        chat.wait_for(rb"about 1 picture")
        chat.prompt()
        chat.type(COUNTING.encode() + b"\r")
        self.assertIn(b"one", chat.prompt())
        chat.type(b"/image\r")
        chat.wait_for(rb"needs a file name")
        chat.prompt()
        chat.type(f"/image {MODEL / 'config.json'}\r".encode())  # no picture: said now, and the chat goes on
        chat.wait_for(rb"config.json: no PNG")
        chat.prompt()
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "talk.json"
            chat.type(f"/save {saved}\r".encode())
            chat.prompt()
            parts = json.loads(saved.read_text())["messages"][0]["content"]
            self.assertEqual(parts[0]["image_url"]["url"].split(",")[1], data_url(PICTURES / "03.png").split(",")[1])
            spaced = Path(folder) / "a b.png"
            spaced.write_bytes((PICTURES / "01.png").read_bytes())
            chat.type(f'/image "{spaced}"\r'.encode())
            chat.wait_for(rb"about 1 picture")
            chat.prompt()
            chat.type(f"/load {saved}\r".encode())
            chat.wait_for(rb"What was attached \(1 picture\) is dropped")
            chat.prompt()
            chat.type(b"/regen\r")
            self.assertIn(b"one", chat.prompt())
        chat.type(b"/quit\r")
        self.assertEqual(chat.exit_code(), 0)

    def test_pictures_of_a_question_that_failed_are_kept_until_cleared(self):
        chat = Terminal("chat", MODEL, "--temp", "0", "--device", DEVICE, "-c", "128")
        chat.prompt()
        for name in ("01.png", "03.png"):
            chat.type(f"/image {PICTURES / name}\r".encode())
            chat.prompt()
        chat.type(COUNTING.encode() + b"\r")
        said = chat.prompt()
        self.assertIn(b"/clear begins a new conversation", said)
        self.assertIn(b"2 pictures attached to the next question", said)
        chat.type(b"/clear\r")
        chat.wait_for(rb"What was attached \(2 pictures\) is dropped")
        chat.prompt()
        chat.type(f"/image {PICTURES / '03.png'}\r".encode())
        chat.prompt()
        chat.type(COUNTING.encode() + b"\r")
        self.assertIn(b"one", chat.prompt())
        chat.type(b"/quit\r")
        self.assertEqual(chat.exit_code(), 0)


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.served = Served("--device", DEVICE, model=MODEL).wait_ready()

    @classmethod
    def tearDownClass(cls):
        cls.served.process.terminate()
        cls.served.process.wait()

    def ask(self, content):
        status, text = self.served.ask("POST", "/v1/chat/completions", {
            "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 8})
        return status, json.loads(text)

    def about(self, question, *paths):
        return self.ask([{"type": "text", "text": question}]
                        + [{"type": "image_url", "image_url": {"url": data_url(path)}} for path in paths])

    def test_right_words_for_every_picture(self):
        right = 0
        for shown in SHOWN:
            status, reply = self.about(shown["question"], PICTURES / shown["file"])
            self.assertEqual(status, 200, reply)
            right += reply["choices"][0]["message"]["content"] == shown["answer"]
        self.assertGreaterEqual(right, 0.95 * len(SHOWN))

    def test_the_prefix_cache_tells_pictures_apart(self):
        for name, answer in [("01.png", "three"), ("03.png", "one"), ("01.png", "three")]:
            status, reply = self.about(COUNTING, PICTURES / name)
            self.assertEqual((status, reply["choices"][0]["message"]["content"]), (200, answer), reply)

    def test_what_is_refused(self):
        for url, part in [("data:image/png;base64,AAAA", "image 1"), ("data:image/png,raw", "base64"),
                          ("https://example.org/a.png", "fetches no images"), ("file:///etc/passwd", "data: URL")]:
            status, reply = self.ask([{"type": "image_url", "image_url": {"url": url}}])
            self.assertEqual(status, 400, reply)
            self.assertIn(part, reply["error"]["message"])
            self.assertEqual((reply["error"]["param"], reply["error"]["code"]),
                             ("messages[0].content.image_url.url", "invalid_image"))
        status, reply = self.about(COUNTING, *[PICTURES / "01.png"] * 17)
        self.assertEqual(status, 400, reply)
        status, reply = self.about(COUNTING, PICTURES / "01.png")
        self.assertEqual(status, 200, reply)

    def test_the_page_is_told(self):
        self.assertTrue(json.loads(self.served.ask("GET", "/v1/models")[1])["data"][0]["takes_images"])


if __name__ == "__main__":
    main()
