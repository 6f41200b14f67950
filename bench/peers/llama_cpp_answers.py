#!/usr/bin/env python3
"""Llamita's answers against llama.cpp's on the same GGUF file: mean KL of the logits, and greedy continuations.

Run: python3 bench/peers/llama_cpp_answers.py MODEL.gguf       (pip: llama-cpp-python, numpy, gguf)

Teacher-forced over English text (--text FILE; by default this tree's own documents and the licence texts that every
Debian has), in windows of 512 tokens, at least 4,096 positions. Both engines round activations to eight bits where
weights are in blocks, so a third opinion is asked: llama.cpp on the same weights unpacked to F32, with an F32 cache.
Prints a table and exits 1 when the mean KL to llama.cpp on the same file is above 1e-3 and Llamita is further from the F32
model than 1.1 times what llama.cpp is, or when a greedy continuation leaves llama.cpp's where its own two best logits are
further apart than --margin. LLAMITA_KERNEL=linear=cpu_panel_avx2 (or cpu_panel_avx512) runs Llamita without the rounding.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np

from teacher_forcing import TOOL, WINDOW, divergence, english_text, llamita_logits, log_softmax, windows_of

POSITIONS, GREEDY = 4096, 48

PROMPTS = [
    "The capital of France is", "Once upon a time there was a little llama who", "def fibonacci(n):\n    ",
    "Water boils at a temperature of", "The three laws of thermodynamics say that", "To be, or not to be,",
    "1, 1, 2, 3, 5, 8, 13,", "Dear Sir or Madam,\n\nI am writing to", "In the year 1969, mankind",
    "The recipe needs two eggs, a cup of flour and", "Photosynthesis is the process by which",
    "SELECT name, count(*) FROM", "My favourite colour is", "Breaking news: scientists have discovered",
    "Q: What is the largest planet?\nA:", "The quick brown fox", "import numpy as np\n\n", "Der schnelle braune Fuchs",
    "If x + 3 = 7, then x =", "Grandmother opened the old wooden box and found",
]


def llamita_greedy(tool, model, prompts):
    ids = "".join(" ".join(map(str, prompt)) + "\n" for prompt in prompts)
    out = subprocess.run([tool, model, "--greedy", str(GREEDY)], input=ids.encode(), stdout=subprocess.PIPE, check=True)
    return [list(map(int, line.split())) for line in out.stdout.splitlines()]


def unpacked_twin(path, target):
    """The same model with every tensor in F32."""
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(field.name, field.contents())
        else:
            writer.add_key_value(field.name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def forced(model, window):
    model.reset()
    model.eval(window)
    return log_softmax(np.array(model.scores[:len(window)]))


def compare_logits(model, twin, path, tool, text):
    ids = model.tokenize(text.encode(), add_bos=False)
    windows = windows_of(ids, POSITIONS)
    rows = {"llama.cpp to Llamita": [], "llama.cpp in F32 to Llamita": [], "llama.cpp in F32 to llama.cpp": []}
    same = []
    for logits, window in zip(llamita_logits(tool, path, windows, model.n_vocab()), windows):
        theirs, exact, ours = forced(model, window), forced(twin, window), log_softmax(logits)
        rows["llama.cpp to Llamita"].extend(divergence(theirs, ours))
        rows["llama.cpp in F32 to Llamita"].extend(divergence(exact, ours))
        rows["llama.cpp in F32 to llama.cpp"].extend(divergence(exact, theirs))
        same.extend(theirs.argmax(axis=-1) == ours.argmax(axis=-1))
    for name, values in rows.items():
        print(f"| KL from {name} over {len(values)} positions: mean; 99.9 % below | "
              f"{np.mean(values):.2e}; {np.quantile(values, 0.999):.2e} |", flush=True)
    print(f"| same most probable token as llama.cpp | {100 * np.mean(same):.2f} % |", flush=True)
    direct, to_exact, peer = (float(np.mean(values)) for values in rows.values())
    return direct <= 1e-3 or to_exact <= 1.1 * peer


def compare_greedy(model, path, tool, margin):
    prompts = [model.tokenize(prompt.encode(), add_bos=False) for prompt in PROMPTS]
    equal, close, wrong = 0, 0, 0
    for prompt, reply in zip(prompts, llamita_greedy(tool, path, prompts)):
        model.reset()
        model.eval(prompt)
        for i, token in enumerate(reply):
            logits = np.array(model.scores[len(prompt) + i - 1])
            if int(logits.argmax()) != token:
                gap = logits.max() - logits[token]
                close, wrong = (close + 1, wrong) if gap <= margin else (close, wrong + 1)
                if gap > margin:
                    print(f"differs after {model.detokenize(prompt + reply[:i])!r} by {gap:.3f}")
                break
            model.eval([token])
        else:
            equal += 1
    print(f"| greedy continuations of {GREEDY} tokens: equal; parted within {margin} of a tie; wrong | "
          f"{equal}; {close}; {wrong} of {len(prompts)} |")
    return wrong == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tool", default=TOOL)
    parser.add_argument("--text")
    parser.add_argument("--margin", type=float, default=0.5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        twin_path = str(pathlib.Path(folder) / "f32.gguf")
        unpacked_twin(arguments.model, twin_path)
        model = llama_cpp.Llama(arguments.model, n_ctx=WINDOW, logits_all=True, verbose=False)
        twin = llama_cpp.Llama(twin_path, n_ctx=WINDOW, logits_all=True, verbose=False, type_k=0, type_v=0)
        print(f"| {pathlib.Path(arguments.model).name}, llama-cpp-python {llama_cpp.__version__} | |\n|---|---|")
        alike = compare_logits(model, twin, arguments.model, arguments.tool, english_text(arguments.text))
        alike &= compare_greedy(model, arguments.model, arguments.tool, arguments.margin)
    sys.exit(0 if alike else 1)


if __name__ == "__main__":
    main()
