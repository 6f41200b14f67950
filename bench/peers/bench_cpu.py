#!/usr/bin/env python3
"""Llamita against llama.cpp on this machine's CPU: same files, same threads, runs in turn, one table.

Run: make bench-cpu      (pip: numpy; a C++ compiler and CMake; the network once, for llama-cpp-python's source archive)

llama.cpp comes out of llama-cpp-python's source archive and is built for this processor. Files: SmolLM2-135M Q4_1, and the
shape of Llama-3.2-1B with random weights, quantised by llama-quantize of the same archive. By default that shape has four of
its sixteen layers, so that all rows have their nine pairs in 45 minutes: the output matrix is then half of what a token reads
and attention a smaller part, neither of which is where Llamita gains most.

A round of a row starts both programs one after the other, who is first takes turns, and each runs three times: three pairs,
and what disturbs the machine for longer disturbs both. A row is the median of the pairs' ratios. One whose ratios spread
(interquartile range over median) by more than 10 % is no result and says so; while there is time, such rows go on. A/A is
what ratios of a program to itself, a round earlier, spread by: a row meets its target when it is above it, less half of
that. best / best is what a busy machine disturbs least. "matmul N" is one product of N tokens with 4096 x 4096 weights out of DRAM, by bench_ops and ggml_linear: tokens a
second through it.

  FILES=Q4_0,Q6_K  ROWS=pp512,tg128  THREADS=1,2  PAIRS=3   less of it, for a quick look
  LAYERS=16        the whole model; takes about three times as long
  MINUTES=45       when no further round begins; FULL=1: every row, no limit
  CHECK=1          exit 1 when a row with a target falls short of it, is refused, or has fewer pairs than PAIRS
  PREPARE=1        build and make what the run needs (files, contexts of llama.cpp), and stop
  PEER=DIR         a folder with llama-bench, llama-batched-bench, llama-quantize, llama_depth and ggml_linear, all built already
"""

import json
import statistics
import subprocess
import sys
import time

from llama_cpp_build import ROOT, WORK, build, build_beside, default_model, option, run

QUANTISED = ["Q4_0", "Q4_K_M", "Q5_K", "Q6_K", "Q8_0", "BF16"]
BINARIES = ["llama-bench", "llama-batched-bench", "llama-quantize"]
TYPES = {"Q4_0": "q4_0", "Q4_K_M": "q4_K", "Q5_K": "q5_K", "Q6_K": "q6_K", "Q8_0": "q8_0", "BF16": "bf16"}  # as ggml spells them
MATMUL = "matmul 4+16+512"
TARGETS = {  # (file, test): the least ratio, at 2 threads; with 1 thread where it says so
    **{(file, "pp512", 2): ratio for file, ratio in
       {"Q4_0": 1.5, "Q4_K_M": 1.5, "Q8_0": 1.7, "Q6_K": 2.0, "Q5_K": 2.5, "BF16": 1.0, "SmolLM2": 1.5}.items()},
    **{(file, "tg128", 2): 1.0 for file in QUANTISED}, ("SmolLM2", "tg128", 2): 1.2, ("SmolLM2", "tg128", 1): 1.2,
    **{(file, "tg128", 1): ratio for file, ratio in
       {"Q4_0": 1.2, "Q4_K_M": 1.1, "Q5_K": 1.1, "Q8_0": 1.3, "Q6_K": 1.0, "BF16": 1.0}.items()},
    **{(file, "tg32 x 8", 2): ratio for file, ratio in
       {"Q4_0": 1.5, "Q4_K_M": 1.5, "Q5_K": 1.5, "Q6_K": 1.5, "Q8_0": 1.4, "BF16": 1.2}.items()},
    **{(file, "matmul 512", 2): ratio for file, ratio in
       {"Q4_0": 1.8, "Q4_K_M": 1.5, "Q8_0": 2.0, "Q6_K": 2.5, "Q5_K": 3.5, "BF16": 1.05}.items()},
    **{(file, f"matmul {tokens}", 2): ratio for tokens in (4, 16) for file, ratio in
       {"Q4_0": 1.5, "Q4_K_M": 1.5, "Q5_K": 1.5, "Q6_K": 1.5, "Q8_0": 1.4, "BF16": 1.2}.items()},
    **{("Q4_K_M", f"tg32 @ d{depth}", 2): ratio for depth, ratio in {4096: 1.1, 8192: 1.3, 16384: 1.6}.items()},
    **{("BF16", f"tg32 @ d{depth}", 2): ratio for depth, ratio in {4096: 1.05, 8192: 1.2, 16384: 1.4}.items()},
}
MOST_SPREAD = 0.10
REPETITIONS = 3  # of a program that has been started
DEPTHS = (4096, 8192, 16384)


def listed(name, default):
    return [item for item in option(name, default).split(",") if item]


def layers():
    return int(option("LAYERS", "4"))


def model_file(name, peer):
    if name == "SmolLM2":
        return default_model()
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"random-1b-{layers()}-{name}.gguf"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    if name == "BF16":
        run(sys.executable, ROOT / "bench" / "peers" / "random_llama.py", partial, layers())
    else:
        run(peer / "llama-quantize", model_file("BF16", peer), partial, name, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
    return partial.rename(path)


class Test:
    """"pp512", "tg128", "tg32 x 8", "tg32 @ d4096+8192" or "matmul 4+512": one start of a program, a row for each depth or
    count of tokens."""

    def __init__(self, text):
        self.counts = [int(count) for count in text.removeprefix("matmul ").split("+")] if text.startswith("matmul ") else []
        self.base, _, depths = text.partition(" @ d")
        kind, _, batch = self.base.partition(" x ")
        self.decodes, self.tokens, self.batch = kind.startswith("tg"), kind[2:], int(batch or 1)
        self.depths = [int(depth) for depth in depths.split("+")] if depths else []

    def rows(self):
        if self.counts:
            return [f"matmul {count}" for count in self.counts]
        return [f"{self.base} @ d{depth}" for depth in self.depths] or [self.base]


def our_products(file, counts, threads):
    pattern = f"^linear/{TYPES[file].upper()}/chosen/T:({'|'.join(map(str, counts))})/threads:{threads}/"
    out = run(ROOT / "build" / "bench" / "bench_ops", f"--benchmark_filter={pattern}", f"--benchmark_repetitions={REPETITIONS}",
              "--benchmark_min_time=0.3", "--benchmark_format=json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    runs = [one for one in json.loads(out)["benchmarks"] if one["run_type"] == "iteration"]
    results = {}
    for count in counts:
        same = [one for one in runs if f"/T:{count}/" in one["name"]]
        if not same:
            sys.exit(f"bench_ops has no product of {count} tokens by {threads} threads: 1, 2, 4, 8, 16 or 512 tokens, and 1, 2, 4, ... "
                     "threads up to the cores")
        of_roof = statistics.median(one["%roof"] for one in same) / 100
        flops = 1e9 * statistics.median(one["GFLOP/s"] for one in same)
        results[f"matmul {count}"] = ([count / (1e-3 * one["real_time"]) for one in same], of_roof, flops / of_roof)
    return results


def ours(file, path, test, threads):
    """{row: ([tokens a second], part of the roof, roof)}"""
    if test.counts:
        return our_products(file, test.counts, threads)
    out = run(ROOT / "build" / "llamita", "bench", path, "-p", "0" if test.decodes else test.tokens, "-n",
              test.tokens if test.decodes else "0", "-d", ",".join(map(str, test.depths)) or "0", "-r", REPETITIONS, "-b", test.batch,
              "-t", threads, "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return {name: (row["samples"], row["achieved"] / row["roof"], row["roof"])
            for name, row in zip(test.rows(), json.loads(out)["rows"], strict=True)}


class Peer:
    def __init__(self, folder):
        self.folder, self.depth_program = folder, build_beside(folder, "llama_depth")
        self.product_program = build_beside(folder, "ggml_linear")
        self.better_flash = {}  # of a file and row: which was faster the first time

    def json_lines(self, *command):
        out = run(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    def measure(self, file, path, test, threads):
        """{row: [tokens a second]}"""
        if test.counts:
            lines = self.json_lines(self.product_program, TYPES[file], threads, REPETITIONS, *test.counts)
            return {f"matmul {line['tokens']}": [1e6 * line["tokens"] / us for us in line["samples"]] for line in lines}
        if test.depths:
            return self.at_depths(path, test, threads)
        if test.batch > 1:
            lines = self.json_lines(self.folder / "llama-batched-bench", "-m", path, "-npp", "1", "-ntg", test.tokens, "-npl",
                                    ",".join([str(test.batch)] * REPETITIONS), "-t", threads, "-c",
                                    test.batch * (int(test.tokens) + 2), "--output-format", "jsonl")
            return {test.base: [line["speed_tg"] for line in lines if "speed_tg" in line]}
        lines = self.json_lines(self.folder / "llama-bench", "-m", path, "-p", "0" if test.decodes else test.tokens, "-n",
                                test.tokens if test.decodes else "0", "-t", threads, "-r", REPETITIONS, "-o", "jsonl")
        return {test.base: lines[-1]["samples_ts"]}

    def at_depths(self, path, test, threads):
        """With flash attention or without it, whichever is faster: both the first time, then the better one of each depth."""
        results = {}
        for flash in (0, 1):
            depths = [depth for depth in test.depths if self.better_flash.get((path, depth), flash) == flash]
            for depth, samples in self.run_depths(path, test.tokens, threads, flash, depths).items():
                row = f"{test.base} @ d{depth}"
                if row not in results or statistics.median(samples) > statistics.median(results[row][1]):
                    results[row] = (flash, samples)
        for depth in test.depths:
            self.better_flash[path, depth] = results[f"{test.base} @ d{depth}"][0]
        return {row: samples for row, (_, samples) in results.items()}

    def run_depths(self, path, tokens, threads, flash, depths):
        if not depths:
            return {}
        contexts = WORK / (f"random-1b-{layers()}" if path.name.startswith("random-1b") else path.stem)
        lines = self.json_lines(self.depth_program, path, threads, flash, tokens, REPETITIONS, contexts, *depths)
        return {line["depth"]: line["samples"] for line in lines}


def cases():
    """(file, test, threads)"""
    full, files = option("FULL", "") == "1", option("FILES", "")
    deep = "tg32 @ d" + "+".join(map(str, DEPTHS))
    rows = option("ROWS", "")
    tests = rows.split(",") if rows else ["pp512", "tg128", "tg32 x 8", MATMUL, deep]
    for test in tests:
        for file in listed("FILES", "SmolLM2," + ",".join(QUANTISED)):
            default = "1,2" if test == "tg128" or full else "2"
            if Test(test).counts and file not in TYPES:
                continue
            without_target = all((file, row, 2) not in TARGETS for row in Test(test).rows())
            if without_target and not (full or files):
                continue
            for threads in listed("THREADS", default):
                yield file, test, int(threads)


class Measurement:
    """{(file, row, threads): [(ours, theirs, part of the roof, roof)]}, a row's rounds in order."""

    def __init__(self, peer):
        self.peer, self.cases, self.rounds, self.seconds = peer, list(cases()), {}, {}
        self.results = {(file, row, threads): [] for file, test, threads in self.cases for row in Test(test).rows()}
        self.files = {file: model_file(file, peer.folder) for file in dict.fromkeys(case[0] for case in self.cases)}
        self.begin = time.monotonic()
        self.limit = float("inf") if option("FULL", "") == "1" else float(option("MINUTES", "45")) * 60

    def rows_of(self, case):
        return [(case[0], row, case[2]) for row in Test(case[1]).rows()]

    def has_time(self, case):
        return time.monotonic() - self.begin + self.seconds.get(case, 0) < self.limit

    def run_round(self, case):
        file, text, threads = case
        test, begin, rates = Test(text), time.monotonic(), {}
        first = self.rounds.get(case, 0) % 2
        for who in (first, 1 - first):
            measure = ours if who == 0 else self.peer.measure
            rates[who] = measure(file, self.files[file], test, threads)
        for row in test.rows():
            samples, of_roof, roof = rates[0][row]
            pairs = list(zip(samples, rates[1][row], strict=True))
            self.results[file, row, threads] += [(a, b, of_roof, roof) for a, b in pairs]
            print(f"{self.rounds.get(case, 0) + 1} {file} {row} {threads}: " +
                  ", ".join(f"{a:.2f} / {b:.2f} = {a / b:.2f}" for a, b in pairs), file=sys.stderr, flush=True)
        self.rounds[case] = self.rounds.get(case, 0) + 1
        self.seconds[case] = time.monotonic() - begin

    def run(self, pairs):
        for _ in range((pairs + REPETITIONS - 1) // REPETITIONS):
            for case in self.cases:
                if self.has_time(case):
                    self.run_round(case)
        # More rounds for what spreads too much to be a result, and only for that: which way it fell plays no part.
        while True:
            noisy = [case for case in self.cases if self.has_time(case) and self.rounds.get(case, 0) < 4 * pairs / REPETITIONS and
                     any(spread(ratios_of(self.results[row])) > MOST_SPREAD for row in self.rows_of(case))]
            if pairs < 9 or not noisy:
                return self.results
            for case in noisy:
                if self.has_time(case):
                    self.run_round(case)


def ratios_of(pairs):
    return [a / b for a, b, _, _ in pairs]


def spread(values):
    if len(values) < 3:
        return 1.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


def spread_of_same(pairs):
    """What each program's ratio to itself spreads by, a round earlier and so in another process."""
    ratios = [later[who] / earlier[who] for who in (0, 1) for earlier, later in zip(pairs, pairs[REPETITIONS:])]
    return spread(ratios) if len(ratios) >= 3 else 0.0


def report(results, wanted):
    """Prints the table; returns the rows that fall short of their target or are no result."""
    short = []
    print("| file | test | threads | llamita tok/s | llama.cpp tok/s | ratio | spread | A/A | best / best | pairs | of the roof | roof | must | |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for row, pairs in results.items():
        file, test, threads = row
        must = TARGETS.get(row)
        if not pairs:
            print(f"| {file} | {test} | {threads} | | | | | | | 0 | | | {must or ''} | no time |")
            short += [row] if must else []
            continue
        ratios = ratios_of(pairs)
        middle, width, same = statistics.median(ratios), spread(ratios), spread_of_same(pairs)
        refused = "refused: spread" if width > MOST_SPREAD else "too few pairs" if len(pairs) < wanted else ""
        passed = not refused and (must is None or middle >= must * (1 - same / 2))
        unit = "GB/s" if test.startswith("tg") else "GFLOP/s"
        columns = [file, test, threads, f"{statistics.median(p[0] for p in pairs):.2f}",
                   f"{statistics.median(p[1] for p in pairs):.2f}", f"{middle:.2f}", f"{100 * width:.0f} %", f"{100 * same:.0f} %",
                   f"{max(p[0] for p in pairs) / max(p[1] for p in pairs):.2f}", len(pairs),
                   f"{100 * statistics.median(p[2] for p in pairs):.0f} %",
                   f"{statistics.median(p[3] for p in pairs) / 1e9:.1f} {unit}", must or "",
                   refused or ("" if must is None else "met" if passed else "short")]
        print("| " + " | ".join(map(str, columns)) + " |")
        if must is not None and not passed:
            short.append(row)
    return short


def prepare(peer):
    """Contexts of llama.cpp at each depth, which take minutes to compute: the files of a shape share them."""
    for file, test, threads in cases():
        for flash in (0, 1):
            peer.run_depths(model_file(file, peer.folder), "1", threads, flash, Test(test).depths)


def main():
    peer, pairs = Peer(build(*BINARIES)), int(option("PAIRS", "9"))
    measurement = Measurement(peer)
    prepare(peer)
    if option("PREPARE", "") == "1":
        return
    measurement.begin = time.monotonic()
    short = report(measurement.run(pairs), pairs)
    if option("CHECK", "") == "1" and short:
        sys.exit("short of the target or no result: " + ", ".join(" ".join(map(str, row)) for row in short))


if __name__ == "__main__":
    main()
