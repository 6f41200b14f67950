#!/usr/bin/env python3
"""Llamita's answers against llama.cpp's on the same GGUF file: mean KL of the logits, and greedy continuations.

Run: python3 bench/peers/llama_cpp_answers.py MODEL.gguf       (pip: llama-cpp-python, numpy)

Teacher-forced over English text (--text FILE; by default the licence texts that every Debian has and this tree's own
documents), in windows of 512 tokens, at least 4,096 positions. Prints a table and exits 1 when the mean KL is above
1e-3 or a greedy continuation differs where llama.cpp's own two best logits are further apart than 0.1.
"""

import argparse
import pathlib
import subprocess
import sys

import llama_cpp
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WINDOW, POSITIONS, GREEDY = 512, 4096, 48

PROMPTS = [
    "The capital of France is", "Once upon a time there was a little llama who", "def fibonacci(n):\n    ",
    "Water boils at a temperature of", "The three laws of thermodynamics say that", "To be, or not to be,",
    "1, 1, 2, 3, 5, 8, 13,", "Dear Sir or Madam,\n\nI am writing to", "In the year 1969, mankind",
    "The recipe needs two eggs, a cup of flour and", "Photosynthesis is the process by which",
    "SELECT name, count(*) FROM", "My favourite colour is", "Breaking news: scientists have discovered",
    "Q: What is the largest planet?\nA:", "The quick brown fox", "import numpy as np\n\n", "Der schnelle braune Fuchs",
    "If x + 3 = 7, then x =", "Grandmother opened the old wooden box and found",
]


def english_text(path):
    if path:
        return pathlib.Path(path).read_text(encoding="utf-8")
    files = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")),
             pathlib.Path("/usr/share/common-licenses/GPL-3"), pathlib.Path("/usr/share/common-licenses/Apache-2.0")]
    return "\n\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def llamita(tool, model, lines, *options):
    ids = "".join(" ".join(map(str, line)) + "\n" for line in lines)
    return subprocess.run([tool, model, *options], input=ids.encode(), stdout=subprocess.PIPE, check=True).stdout


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def compare_logits(model, path, tool, text):
    ids = model.tokenize(text.encode(), add_bos=False)
    windows = [ids[i:i + WINDOW] for i in range(0, len(ids) - WINDOW + 1, WINDOW)][:-(-POSITIONS // WINDOW)]
    if len(windows) * WINDOW < POSITIONS:
        sys.exit(f"the text has only {len(ids)} tokens, expected at least {POSITIONS}")
    kl, same, worst = [], [], 0.0
    for window in windows:
        model.reset()
        model.eval(window)
        theirs = np.array(model.scores[:WINDOW])
        ours = np.frombuffer(llamita(tool, path, [window]), np.float32).reshape(WINDOW, -1)
        p, q = log_softmax(theirs), log_softmax(ours)
        kl.extend((np.exp(p) * (p - q)).sum(axis=-1))
        same.extend(theirs.argmax(axis=-1) == ours.argmax(axis=-1))
        worst = max(worst, float(np.abs(theirs - ours).max()))
    print(f"| mean KL(llama.cpp, Llamita) over {len(kl)} positions | {np.mean(kl):.2e} |")
    print(f"| 99.9 % of positions below | {np.quantile(kl, 0.999):.2e} |")
    print(f"| same most probable token | {100 * np.mean(same):.2f} % |")
    print(f"| largest difference of a logit | {worst:.3f} |")
    return float(np.mean(kl))


def compare_greedy(model, path, tool):
    prompts = [model.tokenize(prompt.encode(), add_bos=False) for prompt in PROMPTS]
    ours = [list(map(int, line.split())) for line in llamita(tool, path, prompts, "--greedy", str(GREEDY)).splitlines()]
    equal, close, wrong = 0, 0, 0
    for prompt, reply in zip(prompts, ours):
        model.reset()
        model.eval(prompt)
        for i, token in enumerate(reply):
            logits = np.array(model.scores[len(prompt) + i - 1])
            if int(logits.argmax()) != token:
                if logits.max() - logits[token] <= 0.1:
                    close += 1
                else:
                    wrong += 1
                    print(f"differs after {model.detokenize(prompt + reply[:i])!r} by {logits.max() - logits[token]:.3f}")
                break
            model.eval([token])
        else:
            equal += 1
    print(f"| greedy continuations of {GREEDY} tokens equal | {equal} of {len(prompts)} |")
    print(f"| parted at a tie (llama.cpp's two best within 0.1) | {close} |")
    print(f"| wrong | {wrong} |")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tool", default=str(ROOT / "build" / "tests" / "teacher_forced"))
    parser.add_argument("--text")
    arguments = parser.parse_args()
    model = llama_cpp.Llama(arguments.model, n_ctx=1024, logits_all=True, verbose=False)
    print(f"| {pathlib.Path(arguments.model).name}, llama-cpp-python {llama_cpp.__version__} | |\n|---|---|")
    kl = compare_logits(model, arguments.model, arguments.tool, english_text(arguments.text))
    wrong = compare_greedy(model, arguments.model, arguments.tool)
    sys.exit(kl > 1e-3 or wrong > 0)


if __name__ == "__main__":
    main()
