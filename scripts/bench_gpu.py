#!/usr/bin/env python3
"""Speed on one NVIDIA GPU: known shapes with made-up weights, beside the targets, in one table.

    scripts/bench_gpu.py build-cuda/llamita [--check] [--peers] [--shapes llama-3.2-1b,…] [--json FILE]

--check exits with 1 when a row falls short of its target; targets are for an H100. --peers runs
bench/peers/transformers_gpu.py (pip install torch transformers) on the same shapes in between.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

PEER = Path(__file__).resolve().parent.parent / "bench" / "peers" / "transformers_gpu.py"

# shape -> (arguments of llamita bench, test, tokens per second that it must reach, or None)
DECODE = ["-p", "0", "-n", "128", "-d", "128", "-b", "1"]
SERVED = ["-p", "0", "-n", "256", "-d", "25", "-b", "12,64"]
PREFILL = ["-p", "2048", "-n", "0", "-d", "0", "-b", "8"]
PLAN = {
    "llama-3.2-1b": [(DECODE, {"tg128 @ d128": 950})],
    "llama-3.2-3b": [(DECODE, {"tg128 @ d128": 405}),
                     (SERVED, {"tg256 x 12 @ d25": 4500, "tg256 x 64 @ d25": 19000}),
                     (PREFILL, {"pp2048 x 8": 85000})],
    "qwen2.5-3b": [(DECODE, {"tg128 @ d128": 410})],
    "llama-3.1-8b": [(DECODE, {"tg128 @ d128": 182}), (PREFILL, {"pp2048 x 8": 38000})],
}
# times as fast as transformers at batch 1: eager, compiled
RATIOS = {"llama-3.2-1b": (9.0, 2.3), "llama-3.2-3b": (6.5, 2.15)}


def run_json(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llamita")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--shapes", default=",".join(PLAN))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    everything, short = [], []
    print("| shape | test | tokens/s | ms | of the roof | target |\n|---|---|---:|---:|---:|---:|")
    for shape in arguments.shapes.split(","):
        alone = None
        for options, targets in PLAN[shape]:
            result = run_json([arguments.llamita, "bench", "--shape", shape, "--device", "cuda", "--json", *options])
            everything.append(result)
            for row in result["rows"]:
                target = targets.get(row["test"])
                speed = row["tokens_per_second"]
                if row["batch"] == 1 and row["test"].startswith("tg"):
                    alone = speed
                print(f"| {shape} | {row['test']} | {speed:.1f} | {row['milliseconds']:.3f} | "
                      f"{100 * row['achieved'] / row['roof']:.1f} % | {target or ''} |", flush=True)
                if target and speed < target:
                    short.append(f"{shape} {row['test']}: {speed:.1f} tokens/s of {target}")
        if not arguments.peers:
            continue
        peer = run_json([sys.executable, str(PEER), "--shape", shape, "--compile", "--json"])
        everything.append(peer)
        for row, wanted in zip([row for row in peer["rows"] if "decode" in row["test"]], RATIOS.get(shape, (0, 0))):
            ratio = alone / row["tokens_per_second"]
            print(f"| {shape} | transformers, {row['test']} | {row['tokens_per_second']:.1f} | "
                  f"{row['milliseconds']:.3f} | ours {ratio:.2f}x | {wanted or ''}x |", flush=True)
            if wanted and ratio < wanted:
                short.append(f"{shape}: {ratio:.2f}x transformers ({row['test']}) of {wanted}x")
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))
    for line in short:
        print(f"short of the target: {line}", file=sys.stderr)
    return 1 if arguments.check and short else 0


if __name__ == "__main__":
    sys.exit(main())
