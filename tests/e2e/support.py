"""What the end-to-end tests share: running the binary, alone and in a pseudo-terminal, and the tiny checkpoint in
tests/golden/models/llama. Nothing but Python's standard library."""
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BINARY = ""
TINY = Path(__file__).resolve().parent.parent / "golden" / "models" / "llama"
PATIENCE = 60  # seconds for anything; sanitizers on a busy machine are slow


def main():
    """Runs the calling file's tests: FILE BINARY [unittest options]."""
    global BINARY
    BINARY = str(Path(sys.argv[1]).resolve())
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])


def command_line(*arguments):
    return [BINARY, *map(str, arguments)]


def llamita(*arguments, stdin=b"", environment=None):
    return subprocess.run(command_line(*arguments), input=stdin, capture_output=True, timeout=PATIENCE,
                          env={**os.environ, **(environment or {})})


@contextlib.contextmanager
def changed_model(files=None, config=None):
    """The tiny model with other `files` (name: text) and entries of config.json."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        shutil.copytree(TINY, model)
        content = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**content, **(config or {})}))
        for name, text in (files or {}).items():
            (model / name).write_text(text)
        yield model


def seeded_text(token):
    """The text of one token of the tiny model."""
    run = llamita("generate", TINY, "x", "--raw", "-n", 1, "--logit-bias", f"{token}:100", "--temp", 0, "--json")
    return json.loads(run.stdout)["text"]


class Terminal:
    """llamita in a pseudo-terminal."""

    def __init__(self, *arguments, environment=None):
        self.seen = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", **(environment or {})})
            os.execv(BINARY, command_line(*arguments))

    def read(self, seconds):
        """Reads what comes within `seconds`; False at the end."""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.terminal, 65536)
        except OSError:
            data = b""
        self.seen += data
        return bool(data)

    def wait_for(self, pattern):
        """Reads until `pattern` was seen; returns everything up to its end and forgets it."""
        end = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.seen)):
            if time.monotonic() > end or not self.read(0.2):
                raise AssertionError(f"{pattern} was not seen, but {self.seen[-2000:]!r}")
        before, self.seen = self.seen[:match.end()], self.seen[match.end():]
        return before

    def prompt(self):
        escapes = rb"(\033\[\??[0-9;]*[a-zA-Z])*"
        return self.wait_for(rb"[\r\n]" + escapes + rb">" + escapes + rb" " + escapes + rb"$")

    def type(self, text):
        os.write(self.terminal, text)

    def exit_code(self):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("the chat did not end")
