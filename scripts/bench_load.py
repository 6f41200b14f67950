#!/usr/bin/env python3
"""Process start to first token on the CPU, packing the weights and with --packed-cache, in turn, as a table: wall-clock
time, CPU time, peak memory, and with --decode tokens per second afterwards.

    scripts/bench_load.py build/llamita [MODEL…] [--shape 1b:Q4_0] [--pairs 7] [--threads 2] [--decode]

MODEL is anything that `llamita generate` takes. --shape writes a GGUF file of the shape of Llama-3.2-1B with random
blocks of that format (Q4_0, Q4_1, Q8_0, Q4_K or Q6_K; its embedding Q6_K) and a vocabulary as large as the real one;
1b/4:Q8_0 has four of its layers. Files are in the page cache: each is read once before.
"""
import argparse
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB, LAYERS = 2048, 8192, 32, 8, 64, 128256, 16
ALIGNMENT = 32
F32 = 0
# GGUF's type id, elements and bytes of a block, and where its fp16 scales lie.
FORMATS = {"Q4_0": (2, 32, 18, [0]), "Q4_1": (3, 32, 20, [0, 2]), "Q8_0": (8, 32, 34, [0]),
           "Q4_K": (12, 256, 144, [0, 2]), "Q6_K": (14, 256, 210, [208])}
SCALE = struct.pack("<e", 2.0 ** -13)


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name, value):
    if isinstance(value, list):
        return text(name) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(name) + struct.pack("<If", 6, value)
    return text(name) + struct.pack("<II", 4, value)


def vocabulary(size):
    """A byte-level one: single bytes, then every pair of what is there with a byte until there are enough."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens, merges, known = list(letters), [], set(letters)
    for left in tokens:
        for right in letters:
            if left + right not in known and len(tokens) < size:
                tokens.append(left + right)
                known.add(left + right)
                merges.append(f"{left} {right}")
        if len(tokens) >= size:
            return tokens, merges


def keys_of(layers):
    tokens, merges = vocabulary(VOCAB)
    return [
        key("general.architecture", "llama"), key("general.name", f"random 1B shape, {layers} layers"),
        key("llama.block_count", layers), key("llama.context_length", 131072), key("llama.embedding_length", HIDDEN),
        key("llama.feed_forward_length", FFN), key("llama.attention.head_count", HEADS),
        key("llama.attention.head_count_kv", KV_HEADS), key("llama.rope.dimension_count", HEAD_DIM),
        key("llama.rope.freq_base", 500000.0), key("llama.attention.layer_norm_rms_epsilon", 1e-5),
        key("tokenizer.ggml.model", "gpt2"), key("tokenizer.ggml.pre", "llama-bpe"),
        key("tokenizer.ggml.tokens", tokens), key("tokenizer.ggml.merges", merges),
        key("tokenizer.ggml.bos_token_id", VOCAB - 1), key("tokenizer.ggml.eos_token_id", VOCAB - 2),
    ]


def tensors_of(layers, name):
    """(name, format or None for a vector, rows, cols)"""
    tensors = [("token_embd.weight", "Q6_K", VOCAB, HIDDEN), ("output_norm.weight", None, 1, HIDDEN)]
    for layer in range(layers):
        tensors += [(f"blk.{layer}.{part}.weight", None, 1, HIDDEN) for part in ("attn_norm", "ffn_norm")]
        tensors += [(f"blk.{layer}.{part}.weight", name, rows, cols) for part, rows, cols in (
            ("attn_q", HEADS * HEAD_DIM, HIDDEN), ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
            ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN), ("attn_output", HIDDEN, HEADS * HEAD_DIM),
            ("ffn_gate", FFN, HIDDEN), ("ffn_up", FFN, HIDDEN), ("ffn_down", HIDDEN, FFN))]
    return tensors


def random_blocks(name):
    """Some megabytes of random blocks, which every tensor repeats."""
    _, _, size, scales = FORMATS[name]
    count = (4 << 20) // size
    pool = bytearray(random.Random(1).randbytes(count * size))
    for at in scales:
        for byte in range(2):
            pool[at + byte::size] = bytes([SCALE[byte]]) * count
    return pool


def padded(size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def write_model(path, name, layers):
    pools = {form: random_blocks(form) for form in {name, "Q6_K"}}
    keys, tensors = keys_of(layers), tensors_of(layers, name)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys)
    offset, sizes = 0, []
    for tensor, form, rows, cols in tensors:
        dims = [cols, rows] if form else [cols]
        kind, elements, size, _ = FORMATS[form] if form else (F32, 1, 4, [])
        header += text(tensor) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        sizes.append(rows * cols // elements * size)
        offset += padded(sizes[-1])
    with open(path, "wb") as file:
        file.write(header + bytes(padded(len(header)) - len(header)))
        for (_, form, _, cols), size in zip(tensors, sizes):
            left = size
            while form and left > 0:
                left -= file.write(memoryview(pools[form])[:left])
            if not form:
                file.write(struct.pack("<f", 1.0) * cols)
            file.write(bytes(padded(size) - size))


def start(command):
    """Seconds to the first byte of text, CPU seconds and peak megabytes of the whole run."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)
    first = time.monotonic() - begin
    process.stdout.read()
    said = process.stderr.read().decode(errors="replace")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed: {said}")
    return first, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def decode_speed(command):
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)["rows"][0]["tokens_per_second"]


def measure(options, name, model, folder):
    kinds = {"packed at the start": [], "--packed-cache": [f"--packed-cache={folder}"]}
    command = [options.llamita, "generate", model, "a", "--raw", "-n", "1", "--temp", "0", "--device", "cpu", "-c", "512",
               *(["--threads", options.threads] if options.threads else [])]
    written = start(command + kinds["--packed-cache"])
    results = {kind: [] for kind in kinds}
    for _ in range(options.pairs):
        for kind, extra in kinds.items():
            results[kind].append(start(command + extra))
    speeds = {kind: [] for kind in kinds}
    for _ in range(3 if options.decode else 0):
        for kind, extra in kinds.items():
            speeds[kind].append(decode_speed(
                [options.llamita, "bench", model, "-p", "0", "-n", "64", "-r", "2", "--json", "--device", "cpu", *extra,
                 *(["--threads", options.threads] if options.threads else [])]))
    rows = [("the start that writes it", *written, [])]
    rows += [(kind, *map(statistics.median, zip(*results[kind])), speeds[kind]) for kind in kinds]
    for kind, first, cpu, peak, tokens in rows:
        spread = ""
        if kind in results:
            times = sorted(row[0] for row in results[kind])
            spread = f"{1e3 * times[0]:.0f} to {1e3 * times[-1]:.0f}"
        speed = f"{statistics.median(tokens):.1f}" if tokens else ""
        print(f"| {name} | {kind} | {1e3 * first:.0f} | {spread} | {1e3 * cpu:.0f} | {peak:.0f} | {speed} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llamita")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--shape", action="append", default=[], help="1b:FORMAT or 1b/LAYERS:FORMAT")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", default="")
    parser.add_argument("--decode", action="store_true", help="also tokens per second of decoding")
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="a folder with room for twice the model")
    options = parser.parse_args()
    shapes = []
    for shape in options.shape:
        size, _, form = shape.partition(":")
        name, _, layers = size.partition("/")
        if name != "1b" or form not in FORMATS or not (layers or "1").isdigit():
            parser.error(f"--shape {shape}: expected 1b:FORMAT or 1b/LAYERS:FORMAT with one of {', '.join(FORMATS)}")
        shapes.append((shape, form, int(layers or LAYERS)))
    print("| model | weights | first token, ms (median) | least to most | CPU ms | peak MB | decode, tokens/s |\n"
          "|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="llamita-load-", dir=options.scratch) as scratch:
        for model in options.models:
            measure(options, Path(model).name, model, Path(scratch) / "packed")
        for shape, form, layers in shapes:
            path = Path(scratch) / "random.gguf"
            write_model(path, form, layers)
            measure(options, shape, path, Path(scratch) / shape.replace("/", "-"))
            path.unlink()


if __name__ == "__main__":
    main()
