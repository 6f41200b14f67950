"""What the comparisons of answers share: the text, Llamita's logits for it, and how far distributions are apart."""

import pathlib
import subprocess
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOOL = str(ROOT / "build" / "tests" / "teacher_forced")
WINDOW = 512


def english_text(path=None):
    """The file's text, or this tree's own documents and the licence texts that every Debian has."""
    if path:
        return pathlib.Path(path).read_text(encoding="utf-8")
    files = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")),
             pathlib.Path("/usr/share/common-licenses/GPL-3"), pathlib.Path("/usr/share/common-licenses/Apache-2.0")]
    return "\n\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def windows_of(ids, positions):
    """As many windows of WINDOW ids as hold `positions`."""
    windows = [ids[i:i + WINDOW] for i in range(0, len(ids) - WINDOW + 1, WINDOW)][:-(-positions // WINDOW)]
    if len(windows) * WINDOW < positions:
        raise SystemExit(f"the text has only {len(ids)} tokens, expected at least {positions}")
    return windows


def llamita_logits(tool, model, windows, vocab, *options):
    """Yields (WINDOW, V) for each window."""
    with tempfile.TemporaryFile() as ids:
        ids.write("".join(" ".join(map(str, window)) + "\n" for window in windows).encode())
        ids.seek(0)
        process = subprocess.Popen([tool, model, *options], stdin=ids, stdout=subprocess.PIPE)
        for window in windows:
            data = process.stdout.read(len(window) * vocab * 4)
            if len(data) < len(window) * vocab * 4:
                raise SystemExit(f"{tool} {' '.join(options)} ended early, with {process.wait()}")
            yield np.frombuffer(data, np.float32).reshape(-1, vocab)
        if process.wait() != 0:
            raise SystemExit(f"{tool} failed")


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def divergence(p, q):
    """KL(p || q) of each row of log probabilities, in nats."""
    return (np.exp(p) * (p - q)).sum(axis=-1)
