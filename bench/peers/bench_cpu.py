#!/usr/bin/env python3
"""Llamita against llama.cpp on this machine's CPU: same files, same threads, runs in turn, one table.

Run: make bench-cpu      (pip: numpy; a C++ compiler and CMake; the network once, for llama-cpp-python's source archive)

llama.cpp comes out of llama-cpp-python's source archive and is built for this processor. Files: SmolLM2-135M Q4_1, and the
shape of Llama-3.2-1B with random weights, quantised by llama-quantize of the same archive. Each row is the median of pairs:
A and B one after the other, so that what disturbs the machine disturbs both. A row whose ratios spread (interquartile range
over median) by more than 10 % is no result and says so; best / best, over all rounds, is what a busy machine disturbs
least.

  FILES=Q4_0,Q6_K  ROWS=pp512,tg128  THREADS=1,2  PAIRS=3   less of it, for a quick look; LAYERS=4 cuts the random model
  MINUTES=45       rounds go on while there is time; FULL=1: every row, no limit
  CHECK=1          exit 1 when a row with a target falls short of it or is missing
  PEER=DIR         a folder with llama-bench, llama-batched-bench and llama-quantize that are built already
"""

import json
import statistics
import subprocess
import sys
import time

from llama_cpp_build import ROOT, WORK, build, default_model, option, run

QUANTISED = ["Q4_0", "Q4_K_M", "Q5_K", "Q6_K", "Q8_0", "BF16"]
BINARIES = ["llama-bench", "llama-batched-bench", "llama-quantize"]
TARGETS = {  # (file, test): the least ratio, at 2 threads; with 1 thread where it says so
    **{(file, "pp512", 2): ratio for file, ratio in
       {"Q4_0": 1.5, "Q4_K_M": 1.5, "Q8_0": 1.7, "Q6_K": 2.0, "Q5_K": 2.5, "BF16": 1.0, "SmolLM2": 1.5}.items()},
    **{(file, "tg128", 2): 1.0 for file in QUANTISED}, ("SmolLM2", "tg128", 2): 1.2, ("SmolLM2", "tg128", 1): 1.2,
    **{(file, "tg128", 1): ratio for file, ratio in
       {"Q4_0": 1.2, "Q4_K_M": 1.1, "Q5_K": 1.1, "Q8_0": 1.3, "Q6_K": 1.0, "BF16": 1.0}.items()},
    **{(file, "tg32 x 8", 2): ratio for file, ratio in
       {"Q4_0": 1.5, "Q4_K_M": 1.5, "Q5_K": 1.5, "Q6_K": 1.5, "Q8_0": 1.4, "BF16": 1.2}.items()},
    **{("Q4_K_M", f"tg32 @ d{depth}", 2): ratio for depth, ratio in {4096: 1.1, 8192: 1.3, 16384: 1.6}.items()},
    **{("BF16", f"tg32 @ d{depth}", 2): ratio for depth, ratio in {4096: 1.05, 8192: 1.2, 16384: 1.4}.items()},
}
MOST_SPREAD = 0.10


def listed(name, default):
    return [item for item in option(name, default).split(",") if item]


def model_file(name, peer):
    if name == "SmolLM2":
        return default_model()
    layers = int(option("LAYERS", "16"))
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"random-1b-{layers}-{name}.gguf"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    if name == "BF16":
        run(sys.executable, ROOT / "bench" / "peers" / "random_llama.py", partial, layers)
    else:
        run(peer / "llama-quantize", model_file("BF16", peer), partial, name, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
    return partial.rename(path)


def batch_of(test):
    """Sequences at once: 8 in "tg32 x 8"."""
    return int(test.partition(" x ")[2] or 1)


def arguments_of(test):
    """-p, -n, -d and the repetitions: at a depth the filled cache serves several."""
    base, _, depth = test.partition(" @ d")
    tokens = base.partition(" x ")[0][2:]
    return ["-p", tokens if base.startswith("pp") else "0", "-n", tokens if base.startswith("tg") else "0",
            "-d", depth or "0", "-r", "3" if depth else "1"]


def ours(path, test, threads):
    out = run(ROOT / "build" / "llamita", "bench", path, *arguments_of(test), "-b", batch_of(test), "-t", threads,
              "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    row = json.loads(out)["rows"][0]
    return row["tokens_per_second"], row["achieved"] / row["roof"], row["roof"]


def theirs(peer, path, test, threads):
    """The better of flash attention on and off where there is a depth."""
    if batch_of(test) > 1:
        tokens, batch = arguments_of(test)[3], batch_of(test)
        out = run(peer / "llama-batched-bench", "-m", path, "-npp", "1", "-ntg", tokens, "-npl", batch, "-t", threads, "-c",
                  batch * (int(tokens) + 2), "--output-format", "jsonl", stdout=subprocess.PIPE,
                  stderr=subprocess.DEVNULL, text=True).stdout
        return json.loads([line for line in out.splitlines() if line.startswith("{")][-1])["speed_tg"]
    best = 0.0
    for flash in (["0", "1"] if " @ d" in test else ["auto"]):
        out = run(peer / "llama-bench", "-m", path, *arguments_of(test), "-t", threads, "-fa", flash, "-o", "json",
                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        best = max(best, json.loads(out)[-1]["avg_ts"])
    return best


def cases():
    full = option("FULL", "") == "1"
    tests = ["pp512", "tg128", "tg32 x 8"] + [f"tg32 @ d{depth}" for depth in (4096, 8192, 16384)]
    for test in listed("ROWS", ",".join(tests)):
        for file in listed("FILES", "SmolLM2," + ",".join(QUANTISED)):
            for threads in listed("THREADS", "1,2" if test == "tg128" or full else "2"):
                deep = " @ d" in test
                if deep and not full and file not in ("Q4_K_M", "BF16") and not option("FILES", ""):
                    continue
                yield file, test, int(threads)


def measure(peer):
    """{case: [(ours, theirs, of the roof, roof)]}, round after round while there is time."""
    pairs, limit = int(option("PAIRS", "9")), float(option("MINUTES", "45")) * 60
    wanted = list(cases())
    results = {case: [] for case in wanted}
    files = {file: model_file(file, peer) for file in dict.fromkeys(case[0] for case in wanted)}
    begin = time.monotonic()
    for round_number in range(pairs):
        for case in wanted:
            file, test, threads = case
            if " @ d" in test and round_number % 3 != 0:
                continue  # each has three repetitions
            if option("FULL", "") != "1" and time.monotonic() - begin > limit:
                return results
            first = round_number % 2  # who goes first takes turns
            rates = {}
            for who in (first, 1 - first):
                rates[who] = ours(files[file], test, threads) if who == 0 else theirs(peer, files[file], test, threads)
            results[case].append((rates[0][0], rates[1], *rates[0][1:]))
            print(f"{round_number + 1} {file} {test} {threads}: {rates[0][0]:.2f} / {rates[1]:.2f} = "
                  f"{rates[0][0] / rates[1]:.2f}", file=sys.stderr, flush=True)
    return results


def spread(values):
    if len(values) < 3:
        return 1.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


def report(results):
    """Prints the table; returns the cases that fall short of their target or are no result."""
    short = []
    print("| file | test | threads | llamita tok/s | llama.cpp tok/s | ratio | spread | best / best | pairs | of the roof | roof | must | |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for case, pairs in results.items():
        file, test, threads = case
        must = TARGETS.get(case)
        if not pairs:
            print(f"| {file} | {test} | {threads} | | | | | | 0 | | | {must or ''} | no time |")
            short += [case] if must else []
            continue
        ratios = [a / b for a, b, _, _ in pairs]
        middle, width = statistics.median(ratios), spread(ratios)
        refused = width > MOST_SPREAD
        passed = not refused and (must is None or middle >= must * (1 - width / 2))
        unit = "GB/s" if test.startswith("tg") else "GFLOP/s"
        columns = [file, test, threads, f"{statistics.median(p[0] for p in pairs):.2f}",
                   f"{statistics.median(p[1] for p in pairs):.2f}", f"{middle:.2f}", f"{100 * width:.0f} %",
                   f"{max(p[0] for p in pairs) / max(p[1] for p in pairs):.2f}", len(pairs),
                   f"{100 * statistics.median(p[2] for p in pairs):.0f} %",
                   f"{statistics.median(p[3] for p in pairs) / 1e9:.1f} {unit}", must or "",
                   "refused: spread" if refused else "" if must is None else "met" if passed else "short"]
        print("| " + " | ".join(map(str, columns)) + " |")
        if must is not None and not passed:
            short.append(case)
    return short


def main():
    short = report(measure(build(*BINARIES)))
    if option("CHECK", "") == "1" and short:
        sys.exit("short of the target or no result: " + ", ".join(" ".join(map(str, case)) for case in short))


if __name__ == "__main__":
    main()
