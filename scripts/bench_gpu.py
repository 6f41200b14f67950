#!/usr/bin/env python3
"""Speed on one NVIDIA GPU: known shapes with made-up weights, beside the targets, in one table.

    scripts/bench_gpu.py build-cuda/llamita [--check] [--peers] [--shapes llama-3.2-1b,…] [--rows decode,load,…]

Rows: decode (batch 1, 128 tokens in the cache, made-up tokens), sampled (the same with the tokens chosen, as chat does
and greedily), served (batch 12 and 64, prompt 25, 256 new tokens), prefill (8 x 2048 tokens), image (first token of an
image and 32 words, decoding after it), load (process start to first token, a folder of safetensors in the page
cache). Not every shape has every row. --peers runs bench/peers/transformers_gpu.py (pip install torch transformers) on
the same shapes in between. The whole table takes about four minutes, peers another five; --rows and --shapes run parts.

Exits with 1 when a program fails, with 2 when nothing was measured (no GPU, no program, none of the rows in these
shapes). --check: with 1 when a row falls short of its target. Targets are for an H100.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = Path(__file__).resolve().parent.parent / "bench" / "peers" / "transformers_gpu.py"

# name -> arguments of llamita bench
ROWS = {
    "decode": ["-p", "0", "-n", "128", "-d", "128", "-b", "1"],
    "sampled": ["-p", "0", "-n", "128", "-d", "128", "-b", "1", "--sample"],
    "served": ["-p", "0", "-n", "256", "-d", "25", "-b", "12,64", "-r", "3"],
    "prefill": ["-p", "2048", "-n", "0", "-d", "0", "-b", "8"],
    "image": ["-p", "0", "-n", "128", "-d", "0", "-b", "1"],
}
# shape -> row -> test -> tokens per second that it must reach; a test of FIRST: milliseconds that it may take
PLAN = {
    "llama-3.2-1b": {"decode": {"tg128 @ d128": 950}, "sampled": {}, "prefill": {}},
    "llama-3.2-3b": {"decode": {"tg128 @ d128": 405}, "sampled": {},
                     "served": {"tg256 x 12 @ d25": 4500, "tg256 x 64 @ d25": 19000},
                     "prefill": {"pp2048 x 8": 85000}, "load": {}},
    "qwen2.5-3b": {"decode": {"tg128 @ d128": 410}, "prefill": {}},
    "llama-3.1-8b": {"decode": {"tg128 @ d128": 182}, "prefill": {"pp2048 x 8": 38000}},
    "llava-1.5-7b": {"image": {"first token, image + 32": 22, "tg128 after an image": 195}},
}
FIRST = "first token, image + 32"
PREFILL = "pp2048 x 8"
LOAD_SECONDS = 3.0
# times as fast as transformers at batch 1: eager, compiled
RATIOS = {"llama-3.2-1b": (9.0, 2.3), "llama-3.2-3b": (6.5, 2.15)}


class Failed(Exception):
    """A program could not be started or left with an error."""


class Table:
    def __init__(self):
        self.everything, self.short, self.rows = [], [], 0

    def row(self, shape, test, speed, milliseconds, note, target):
        if self.rows == 0:
            print("| shape | test | tokens/s | ms | of the roof | target |\n|---|---|---:|---:|---:|---:|")
        self.rows += 1
        print(f"| {shape} | {test} | {speed} | {milliseconds:.3f} | {note} | {target or ''} |", flush=True)


def run(command, **more):
    """Standard output of a program. Raises Failed."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, **more)
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}: build it (make bench-gpu does)") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} failed with exit code {done.returncode}")
    return done.stdout


def bench(llamita, shape, arguments, targets, table):
    """The rows of one run: test -> row."""
    result = json.loads(run([llamita, "bench", "--shape", shape, "--device", "cuda", "--json", *arguments]))
    table.everything.append(result)
    for row in result["rows"]:
        target, speed = targets.get(row["test"]), row["tokens_per_second"]
        at_most = row["test"] == FIRST
        table.row(shape, row["test"], f"{speed:.1f}", row["milliseconds"],
                  f"{100 * row['achieved'] / row['roof']:.1f} %", f"{target} ms" if at_most else target)
        if target and at_most and row["milliseconds"] > target:
            table.short.append(f"{shape} {row['test']}: {row['milliseconds']:.2f} ms, at most {target}")
        if target and not at_most and speed < target:
            table.short.append(f"{shape} {row['test']}: {speed:.1f} tokens/s of {target}")
    return {row["test"]: row for row in result["rows"]}


def write_tokenizer(path, tokens):
    """A byte-level tokenizer as large as a real one, since reading it is part of a start."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    vocabulary, merges = {letter: i for i, letter in enumerate(letters)}, []
    words = list(letters)
    for left in words:
        for right in letters:
            if left + right not in vocabulary and len(vocabulary) < tokens:
                vocabulary[left + right] = len(vocabulary)
                words.append(left + right)
                merges.append(f"{left} {right}")
        if len(vocabulary) >= tokens:
            break
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "pre_tokenizer": level, "decoder": level,
                                "model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}))


def load(llamita, shape, scratch, table):
    """Seconds from the start of the process to its first byte of text."""
    if table.rows == 0:  # before gigabytes are written: is there a card at all?
        run([llamita, "bench", "--shape", "llama-3.2-1b", "--device", "cuda", "--json", "-p", "1", "-n", "0", "-r", "1"])
    folder = Path(tempfile.mkdtemp(prefix="llamita-load-", dir=scratch))
    try:
        write_tokenizer(folder / "tokenizer.json", 128000)
        run([llamita, "bench", "--shape", shape, "--save", folder / "model", "--tokenizer", folder / "tokenizer.json"])
        command = [llamita, "generate", folder / "model", "a", "--raw", "-n", "1", "--temp", "0", "--device", "cuda"]
        seconds, phases = [], ""
        for _ in range(4):
            begin = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env={**os.environ, "LLAMITA_LOG": "info"})
            process.stdout.read(1)
            seconds.append(time.monotonic() - begin)
            said = process.communicate()[1].decode(errors="replace")
            phases = [line for line in said.splitlines() if "info: loaded" in line]
            if process.returncode != 0:
                print(said, end="", file=sys.stderr)
                raise Failed(f"{' '.join(map(str, command))} failed with exit code {process.returncode}")
        median = statistics.median(seconds[1:])  # the first one may find the kernels' file cold
    finally:
        shutil.rmtree(folder)
    table.everything.append({"model": shape, "test": "load", "seconds": seconds})
    table.row(shape, "process start to first token", "", 1e3 * median, "", f"{1e3 * LOAD_SECONDS:.0f} ms")
    for line in phases:
        print(line, file=sys.stderr)
    if median > LOAD_SECONDS:
        table.short.append(f"{shape}: {median:.2f} s to the first token, at most {LOAD_SECONDS}")


def peers(shape, ours, table):
    """Prints transformers' rows beside ours (test -> row), measured in the same run."""
    prefill = ["--prefill", "8x2048"] if PREFILL in ours else []
    peer = json.loads(run([sys.executable, PEER, "--shape", shape, "--compile", "--json", "--new", "128", *prefill]))
    table.everything.append(peer)
    wanted = dict(zip(("eager decode", "compiled decode"), RATIOS.get(shape, ())))
    same = {"eager decode": "tg128 @ d128", "compiled decode": "tg128 @ d128", "prefill 2048": PREFILL, FIRST: FIRST,
            "eager decode after an image": "tg128 after an image"}
    for row in peer["rows"]:
        mine, least = ours.get(same.get(row["test"])), wanted.get(row["test"])
        ratio = row["milliseconds"] / mine["milliseconds"] if mine else None
        table.row(shape, f"transformers, {row['test']}", f"{row['tokens_per_second']:.1f}", row["milliseconds"],
                  f"ours {ratio:.2f}x" if ratio else "", f"{least}x" if least else "")
        if least and ratio is not None and ratio < least:
            table.short.append(f"{shape}: {ratio:.2f}x transformers ({row['test']}) of {least}x")


def measure(arguments, shapes, wanted, table):
    """Every wanted row that the shapes have. Raises Failed."""
    for shape in shapes:
        ours = {}
        for name, targets in PLAN[shape].items():
            if name not in wanted:
                continue
            if name == "load":
                load(arguments.llamita, shape, arguments.scratch, table)
                continue
            for how in (["chat"], ["greedy"]) if name == "sampled" else ([],):
                rows = bench(arguments.llamita, shape, ROWS[name] + how, targets, table)
                ours.update(rows if name in ("decode", "prefill", "image") else {})
        if arguments.peers and ours:
            peers(shape, ours, table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llamita")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--shapes", default=",".join(PLAN))
    parser.add_argument("--rows", default=",".join([*ROWS, "load"]))
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="a folder with 7 GB for the load row")
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    arguments = parser.parse_args()
    wanted, shapes = arguments.rows.split(","), arguments.shapes.split(",")
    for name in wanted:
        if name not in ROWS and name != "load":
            parser.error(f"there is no row {name}; there are {', '.join(ROWS)} and load")
    for shape in shapes:
        if shape not in PLAN:
            parser.error(f"there is no plan for {shape}; there is one for {', '.join(PLAN)}")
    if not Path(arguments.scratch).is_dir():
        parser.error(f"--scratch {arguments.scratch} is no folder")
    if not any(name in PLAN[shape] for shape in shapes for name in wanted):
        have = "; ".join(f"{shape} has {', '.join(PLAN[shape])}" for shape in shapes)
        print(f"bench_gpu: nothing was measured: no shape has a row of {arguments.rows}: {have}", file=sys.stderr)
        return 2
    table, failed = Table(), False
    try:
        measure(arguments, shapes, wanted, table)
    except Failed as error:
        print(f"bench_gpu: {'' if table.rows else 'nothing was measured: '}{error}", file=sys.stderr)
        failed = True
    if arguments.json and table.rows:
        arguments.json.write_text(json.dumps(table.everything, indent=1))
    for line in table.short:
        print(f"short of the target: {line}", file=sys.stderr)
    if table.rows == 0:
        return 2
    return 1 if failed or (arguments.check and table.short) else 0


if __name__ == "__main__":
    sys.exit(main())
