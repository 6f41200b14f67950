#!/usr/bin/env python3
"""Llamita's logits against those of transformers in fp32 on the same GGUF file, which transformers unpacks.

Run: python3 bench/peers/transformers_answers.py MODEL.gguf [--device cuda]
     (pip: torch, transformers >= 5, gguf, accelerate, numpy)

Teacher-forced over English text (--text FILE; by default this tree's own documents and licence texts) in windows of 512
tokens, --positions in all, by build/tests/teacher_forced (--tool; of a build with CUDA for --device cuda). One row a way:

  CPU, f32            weights in blocks multiplied in f32, an f32 cache
  CPU, as it comes    the default kernels, which round activations to eight bits, and an f16 cache
  GPU, bf16 and f16   with --device cuda or cuda:N; in steps of 64 tokens, and of one: decoding's kernels

and one of transformers in bf16, to tell what that rounding costs. Prints mean KL from transformers in fp32, RMS of the next
token's difference in log probability, the largest difference of a logit, and how often the most probable token is the
same. Exits 1 beyond the bounds: f32 an RMS of 0.005 and a logit of 0.02; on a GPU a mean KL of 1e-3 and of 1.5 times
that of transformers in bf16; in both the same most probable token wherever transformers' margin is 0.5. Rounding to eight
bits has no bound here: llama_cpp_answers.py holds it against llama.cpp's.
"""

import argparse
import pathlib
import sys

try:
    import numpy as np
    import torch
    import transformers
except ImportError as error:
    sys.exit(f"transformers_answers: {error}: pip install torch transformers gguf accelerate numpy")

from teacher_forcing import TOOL, WINDOW, divergence, english_text, llamita_logits, log_softmax, windows_of

MARGIN = 0.5


class Row:
    """What one way's logits are beside transformers' in fp32, over all positions."""

    def __init__(self, name, limits):
        self.name, self.limits = name, limits  # limits: figure -> the most it may be
        self.kl, self.next, self.logit, self.same, self.clear = [], [], 0.0, [], []

    def add(self, window, exact, exact_log, logits):
        """window: (T) ids. exact, logits: (T, V). exact_log: log_softmax(exact)."""
        log = log_softmax(logits)
        self.kl.extend(divergence(exact_log, log))
        rows, following = np.arange(len(window) - 1), np.array(window[1:])
        self.next.extend(log[rows, following] - exact_log[rows, following])
        self.logit = max(self.logit, float(np.abs(logits - exact).max()))
        best = np.partition(exact, -2, axis=-1)[:, -2:]
        self.same.extend(exact.argmax(axis=-1) == logits.argmax(axis=-1))
        self.clear.extend(best[:, 1] - best[:, 0] >= MARGIN)

    def figures(self):
        same, clear = np.array(self.same), np.array(self.clear)
        return {"mean KL": np.mean(self.kl), "RMS": np.sqrt(np.mean(np.square(self.next))), "logit": self.logit,
                "clear choices missed": int((clear & ~same).sum())}

    def print(self):
        """The row of the table; what is beyond its limits is returned."""
        figures = self.figures()
        beyond = [f"{self.name}: {what} {figures[what]:.3g}, at most {most:.3g}"
                  for what, most in self.limits.items() if not figures[what] <= most]
        verdict = "beyond" if beyond else "within" if self.limits else "no bounds"
        print(f"| {self.name} | {figures['mean KL']:.2e} | {np.quantile(self.kl, 0.999):.2e} | {figures['RMS']:.2e} | "
              f"{figures['logit']:.2e} | {sum(self.clear) - figures['clear choices missed']} of {sum(self.clear)} | "
              f"{100 * np.mean(self.same):.2f} % | {verdict} |", flush=True)
        return beyond


class Peer:
    """A GGUF model as transformers unpacks it, in fp32 at first."""

    def __init__(self, path):
        where = dict(pretrained_model_name_or_path=str(path.parent), gguf_file=path.name)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32,
                                                                       attn_implementation="eager").eval()

    def logits(self, window):
        with torch.inference_mode():
            return self.model(torch.tensor([window])).logits[0].float().numpy()


def ways(device):
    """name -> (teacher_forced's options, limits) of each way that Llamita computes."""
    rows = {"CPU, f32": (["--exact", "--kv-dtype", "f32"], {"RMS": 0.005, "logit": 0.02, "clear choices missed": 0}),
            "CPU, as it comes": ([], {})}
    if device != "cpu":
        for dtype in ("bf16", "f16"):
            for step, name in ((64, "64 tokens a step"), (1, "one token a step")):
                rows[f"GPU, {dtype}, {name}"] = (["--device", device, "--gpu-dtype", dtype, "--step", str(step)],
                                                 {"mean KL": 1e-3, "clear choices missed": 0})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda or cuda:N for the GPU's rows too")
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--tool", default=TOOL)
    parser.add_argument("--text")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    peer = Peer(arguments.model)
    windows = windows_of(peer.tokenizer.encode(english_text(arguments.text), add_special_tokens=False), arguments.positions)
    truth = [peer.logits(window) for window in windows]  # (WINDOW, V) each
    vocab = truth[0].shape[-1]
    print(f"{arguments.model.name}, {len(windows) * WINDOW} positions, beside transformers {transformers.__version__} "
          f"(torch {torch.__version__}) in fp32\n\n| | mean KL | 99.9 % below | RMS of the next token's log probability | largest "
          f"difference of a logit | same first where the margin is {MARGIN} | same first | bounds |\n"
          "|---|---:|---:|---:|---:|---:|---:|---|", flush=True)
    rounded = Row("transformers, bf16", {})
    peer.model.to(torch.bfloat16)
    for window, logits in zip(windows, truth):
        rounded.add(window, logits, log_softmax(logits), peer.logits(window))
    del peer
    beyond = rounded.print()
    for name, (options, limits) in ways(arguments.device).items():
        if "mean KL" in limits:
            limits["mean KL"] = min(limits["mean KL"], 1.5 * float(np.mean(rounded.kl)))
        row = Row(name, limits)
        ours = llamita_logits(arguments.tool, str(arguments.model), windows, vocab, *options)
        for logits, window, theirs in zip(ours, windows, truth):
            row.add(window, theirs, log_softmax(theirs), logits)
        beyond += row.print()
    for line in beyond:
        print(line, file=sys.stderr)
    sys.exit(1 if beyond else 0)


if __name__ == "__main__":
    main()
