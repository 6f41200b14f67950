#!/usr/bin/env python3
"""The chat in a pseudo-terminal and out of it.

    tests/e2e/chat_test.py BINARY [unittest options]
"""
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import PATIENCE, TINY, Terminal, changed_model, command_line, llamita, main, seeded_text

ROOM = {"max_position_embeddings": 32768}  # for a very long reply


class Chat(unittest.TestCase):
    def test_without_a_terminal(self):
        for prompt in [b"Hello\n", b""]:
            run = llamita("chat", TINY, "-n", 8, "--logit-bias", "65:20", stdin=prompt)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertTrue(run.stdout.strip())
        with open(os.devnull, "rb") as nothing:
            run = subprocess.run(command_line("chat", TINY, "-n", 8), stdin=nothing, capture_output=True,
                                 timeout=PATIENCE)
        self.assertEqual(run.returncode, 0, run.stderr)

    @staticmethod
    def give(chat, line):
        """Types a line and returns what comes back, up to the next prompt."""
        chat.type(line + b"\r")
        chat.wait_for(re.escape(line) + rb"[^\n]*\n")
        return chat.prompt()

    def saved(self, chat, path):
        """The messages of the conversation, by /save."""
        self.assertIn(b"Saved", self.give(chat, b"/save " + bytes(path)))
        return json.loads(path.read_text())["messages"]

    def test_settings_and_refusals(self):
        chat = Terminal("chat", TINY, environment={"NO_COLOR": "1"})
        self.assertIn(b"parameters", chat.prompt())
        for line, answer in [
                (b"/help", rb"/regen"),
                (b"/set", rb"temp = 0\.7"),
                (b"/set temp 0", rb"is set"),
                (b"/set", rb"temp = 0\r"),
                (b"/set temp warm", rb"expected a number"),
                (b"/regen", rb"no reply yet"),
                (b"/stats", rb"no reply yet"),
                (b"/nonsense", rb"no command /nonsense"),
                (b"/load /no/such/talk.json", rb"/no/such/talk\.json"),
        ]:
            self.assertRegex(self.give(chat, line), answer, line)
        chat.type(b"/quit\r")
        self.assertEqual(chat.exit_code(), 0)

    def test_conversations(self):
        with tempfile.TemporaryDirectory() as folder:
            talk, copy = Path(folder) / "talk.json", Path(folder) / "copy.json"
            chat = Terminal("chat", TINY, "-n", 8, "--seed", 1, "--temp", 2, "--ignore-eos",
                            environment={"NO_COLOR": "1"})
            chat.prompt()
            self.assertIn(b"is set", self.give(chat, b"/system Be kind"))
            system = [{"role": "system", "content": "Be kind"}]
            self.assertEqual(self.saved(chat, talk), system)
            self.give(chat, b"hi")
            first = self.saved(chat, talk)
            self.assertEqual([message["role"] for message in first], ["system", "user", "assistant"])
            self.assertEqual(first[:2], [*system, {"role": "user", "content": "hi"}])
            self.assertTrue(first[2]["content"])
            self.assertRegex(self.give(chat, b"/stats"), rb"reply:  8 tokens(.|\s)*context: \d+ of")
            # Another reply in the place of the first.
            self.give(chat, b"/regen")
            second = self.saved(chat, talk)
            self.assertEqual(second[:2], first[:2])
            self.assertEqual([message["role"] for message in second[2:]], ["assistant"])
            self.assertNotEqual(second[2]["content"], first[2]["content"])
            self.assertIn(b"forgotten", self.give(chat, b"/clear"))
            self.assertEqual(self.saved(chat, copy), system)
            self.assertIn(b"Loaded 3 messages", self.give(chat, b"/load " + bytes(talk)))
            self.assertEqual(self.saved(chat, copy), second)
            chat.type(b"/quit\r")
            self.assertEqual(chat.exit_code(), 0)

    def test_blocks_and_characters(self):
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "talk.json"
            chat = Terminal("chat", TINY, "-n", 1, environment={"LC_ALL": "C"})
            chat.prompt()
            chat.type(b'"""one\r')
            chat.wait_for(rb"[\r\n](\033\[1m)?\.(\033\[0m)? ")
            chat.type("/zwei ä🦙\"\"\"\r".encode())
            chat.wait_for(rb"\n")
            chat.prompt()
            chat.type(b"/save " + bytes(saved) + b"\r")
            chat.wait_for(rb"Saved")
            chat.prompt()
            chat.type(b"\x04")
            self.assertEqual(chat.exit_code(), 0)
            self.assertEqual(json.loads(saved.read_text())["messages"][0]["content"], "one\n/zwei ä🦙")

    def test_no_color(self):
        for environment, colours in [({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]:
            chat = Terminal("chat", TINY, environment=environment)
            greeting = chat.prompt()
            chat.type(b"\x04")
            self.assertEqual(chat.exit_code(), 0)
            self.assertEqual(b"\033[1m" in greeting, colours, greeting)

    def test_interrupts(self):
        with changed_model(config=ROOM) as model:
            chat = Terminal("chat", model, "-n", -1, "--ignore-eos", "--logit-bias", "65:100")
            chat.prompt()
            chat.type(b"hi\r")
            letter = re.escape(seeded_text(65).encode())
            chat.wait_for(letter * 5)
            chat.type(b"\x03")
            chat.wait_for(rb"\[stopped\]")
            chat.prompt()
            chat.type(b"half a question\x03")
            chat.prompt()
            chat.type(b"\x03")
            chat.wait_for(rb"/quit")
            chat.prompt()
            chat.type(b"/stats\r")  # it still listens
            chat.wait_for(rb"context: ")
            chat.type(b"/quit\r")
            self.assertEqual(chat.exit_code(), 0)


if __name__ == "__main__":
    main()
