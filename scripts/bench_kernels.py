#!/usr/bin/env python3
"""The kernels of the lessons and of the engine beside the best libraries, on one NVIDIA GPU: `make bench-kernels`.

    scripts/bench_kernels.py build-cuda [--check] [--plots DIR] [--only PART,PART] [--json FILE]

Prints as Markdown, each a part with the seconds it took: gemm-ladder (and the engine's kernel on its shapes), gemm-grid
and gemm-skinny beside cuBLASLt; attention-ladder and attention beside cuDNN (through PyTorch's
scaled_dot_product_attention; prefill in turns with it, for a card that grows hot grows slow); sampling, microseconds
alone. % of the matrix roof: of what cuBLASLt reaches on 8192 x 8192 x 8192 in the same run. --plots draws all parts but
sampling as PNGs (needs matplotlib).

Exits with 1 when a result is wrong or a program fails, with 2 when there was nothing to measure (no GPU, a part without
rows). --check: with 1 when a row falls short of its target, with 2 when one could not be judged (no cuBLASLt, no
PyTorch). Targets are for an H100.
"""
import argparse
import json
import math
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kernel_plots

REPOSITORY = Path(__file__).resolve().parent.parent
GEMM_STEP = re.compile(r"^(\d\d)_(\S+)\s+(\d+) x\s+(\d+) x\s+(\d+)\s+([\d.]+) us\s+([\d.]+) TFLOP/s"
                       r"(?:\s+cuBLASLt\s+([\d.]+) us\s+([\d.]+)\s+x ([\d.]+))?")
ATTENTION_STEP = re.compile(r"^(\d\d)_(\S+)\s+T\s+(\d+) D\s+(\d+) (\S+)\s+([\d.]+) us\s+([\d.]+) TFLOP/s")
PEER_ROW = re.compile(r"^T\s+(\d+) D\s+(\d+) (\S+)")
PEER_TIME = re.compile(r"(cuDNN|flash)\s+([\d.]+) us\s+([\d.]+) TFLOP/s")
NO_CARD = re.compile(r"^\w+: skipped, .*", re.MULTILINE)

GRID_MEAN = 0.98                   # of cuBLASLt, geometric mean
PREFILL = {64: {}, 128: {2048: 1.05}}  # x cuDNN by head dimension and tokens; else:
PREFILL_ELSE = {64: 0.95, 128: 0.98}
CHUNKED_TFLOPS = 400
SAMPLING_US = {1: 10, 256: 60}     # rows of 128,256 peaked logits, greedy and chat
SKINNY_ROW_SECONDS = 0.2           # 117 rows and what each needs to start: some 45 s
# Prefill in turns: rounds of a row, of the first one, and the fewest where the part's time runs out.
TURNS, FIRST_TURNS, FEWEST_TURNS = 5, 7, 3
TURN_WARM_UP = 2                   # seconds of load before the first row: clocks fall, programs still start
TURN_TIMEOUT = 60                  # seconds to an answer
ATTENTION_SECONDS = 54
NO_TORCH = 77                      # how attention_peer.py leaves where there is no PyTorch with CUDA


class NoCard(Exception):
    """A program says that it cannot run here."""


class Report:
    def __init__(self):
        self.short, self.broken, self.skipped, self.unjudged, self.empty, self.data = [], [], [], [], [], {}
        self.roof = None  # TFLOP/s of cuBLASLt, 8192 x 8192 x 8192; 0: no such library

    def must(self, what, got, wanted, unit=""):
        verdict = "" if got >= wanted else "  SHORT"
        print(f"\n{what}: {got:.3f}{unit}, must {wanted}{unit}{verdict}")
        if got < wanted:
            self.short.append(f"{what}: {got:.3f}{unit} of {wanted}{unit}")

    def must_take_at_most(self, what, us, wanted):
        print(f"\n{what}: {us:.1f} us, at most {wanted} us{'' if us <= wanted else '  SHORT'}")
        if us > wanted:
            self.short.append(f"{what}: {us:.1f} us of {wanted} us")

    def run(self, command):
        """Standard output of a program; what it says stays visible on failure. Raises NoCard."""
        try:
            done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        except OSError as error:
            self.broken.append(f"{error.strerror}: {command[0]}: build it (make bench-kernels does)")
            return ""
        if match := NO_CARD.search(done.stdout):
            raise NoCard(match[0])
        if done.returncode == NO_TORCH:
            self.no_torch()
        elif done.returncode != 0:
            print(done.stdout)
            self.broken.append(f"{Path(command[0]).name} left with {done.returncode}")
        return done.stdout

    def rows(self, command):
        """The JSON lines that a program writes with --json. Raises NoCard."""
        with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as file:
            self.run([*command, "--json", file.name])
            return [json.loads(line) for line in file]

    def measured(self, part, rows):
        """Keeps the rows of a part; a part without any is an error."""
        self.data[part] = rows
        if not rows:
            self.empty.append(part)
        return rows

    def no_torch(self):
        line = "attention beside cuDNN: no PyTorch with CUDA here (pip install torch)"
        if line not in self.skipped:
            print(f"\ncuDNN: SKIPPED, {line.split(': ')[1]}")
            self.skipped.append(line)

    def of_roof(self, tflops):
        return f"{100 * tflops / self.roof:.1f}" if self.roof else ""

    def roof_line(self):
        return (f"Matrix roof of this run (cuBLASLt, 8192 x 8192 x 8192): {self.roof:.0f} TFLOP/s" if self.roof
                else "Matrix roof: none, cuBLASLt is not here")


def table(head, rows):
    print("\n| " + " | ".join(head) + " |\n|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 0.0


def matches(pattern, text):
    """The groups of each line that begins like `pattern`."""
    return [match.groups() for line in text.splitlines() if (match := pattern.match(line))]


def gemm_steps(text):
    """What gemm_ladder prints, a row each."""
    return [{"step": f"{s[0]} {s[1]}", "m": int(s[2]), "n": int(s[3]), "k": int(s[4]), "us": float(s[5]),
             "tflops": float(s[6]), "peer_tflops": float(s[8] or 0)}
            for s in matches(GEMM_STEP, text)]


def attention_steps(text):
    """What attention_ladder prints, a row each."""
    return [{"step": f"{s[0]} {s[1]}", "tokens": int(s[2]), "dim": int(s[3]), "mask": s[4], "us": float(s[5]),
             "tflops": float(s[6])}
            for s in matches(ATTENTION_STEP, text)]


def peer_rows(text):
    """What attention_peer.py prints, a row each with the TFLOP/s of "cuDNN" and "flash", and with "cuDNN us"."""
    return [{"tokens": int(match[1]), "dim": int(match[2]), "mask": match[3],
             **{name: float(tflops) for name, _, tflops in PEER_TIME.findall(line)},
             **{f"{name} us": float(us) for name, us, _ in PEER_TIME.findall(line)}}
            for line in text.splitlines() if (match := PEER_ROW.match(line))]


def gemm_ladder(report, build):
    steps = report.measured("gemm_ladder", gemm_steps(report.run([build / "lessons/gemm_ladder"])))
    engine = report.rows([build / "bench/kernels/bench_gemm", "--shapes", "ladder"])
    report.roof = engine[0]["roof_tflops"] if engine else 0
    report.broken += [f"linear {r['m']} x {r['n']} x {r['k']}: wrong" for r in engine if not r["right"]]
    steps += [{"step": f"engine: {r['variant']}", "m": r["m"], "n": r["n"], "k": r["k"], "us": r["us"],
               "tflops": r["tflops"], "peer_tflops": r["tflops"] * r["us"] / r["peer_us"] if r["peer_us"] else 0}
              for r in engine]
    print(f"\n## GEMM, step by step. {report.roof_line()}")
    table(["step", "M x N x K", "us", "TFLOP/s", "% of the roof", "x cuBLASLt"],
          [[s["step"], f"{s['m']} x {s['n']} x {s['k']}", f"{s['us']:.1f}", f"{s['tflops']:.2f}",
            report.of_roof(s["tflops"]), f"{s['tflops'] / s['peer_tflops']:.3f}" if s["peer_tflops"] else ""]
           for s in steps])


def gemm(report, build, shapes):
    """linear on the grid, or with few tokens."""
    title = {"grid": "the layers of Llama-3.2-3B and Llama-3.1-8B", "skinny": "few tokens"}[shapes]
    seconds = ["--seconds", SKINNY_ROW_SECONDS] if shapes == "skinny" else []
    rows = report.measured(shapes, report.rows([build / "bench/kernels/bench_gemm", "--shapes", shapes, *seconds]))
    if not rows:
        return
    report.roof = rows[0]["roof_tflops"]
    print(f"\n## linear, bf16: {title}. {report.roof_line()}")
    table(["M x N x K", "variant", "us", "TFLOP/s", "% of the roof", "weights, GB/s", "x cuBLASLt"],
          [[f"{r['m']} x {r['n']} x {r['k']}", r["variant"], f"{r['us']:.1f}", f"{r['tflops']:.1f}",
            report.of_roof(r["tflops"]), f"{r['weight_gbs']:.0f}",
            f"{r['peer_us'] / r['us']:.3f}" if r["peer_us"] else ""] for r in rows])
    report.broken += [f"linear {r['m']} x {r['n']} x {r['k']}: wrong" for r in rows if not r["right"]]
    judged = rows if shapes == "grid" else [r for r in rows if 2 <= r["m"] <= 64]
    ratios = {(r["m"], r["n"], r["k"]): r["peer_us"] / r["us"] for r in judged if r["peer_us"]}
    if len(ratios) < len(judged) or not judged:
        report.unjudged.append(f"GEMM {shapes} beside cuBLASLt")
        report.skipped.append(f"GEMM {shapes}: cuBLASLt timed {len(ratios)} of {len(judged)} rows")
    elif shapes == "grid":
        report.must("GEMM grid, geometric mean x cuBLASLt", mean(list(ratios.values())), GRID_MEAN)
    else:
        worst = min(ratios, key=ratios.get)
        report.must(f"skinny GEMM, M 2 to 64, the least x cuBLASLt ({worst[0]} x {worst[1]} x {worst[2]})",
                    round(ratios[worst], 2), 1.0)


def find_roof(report, build):
    """The matrix roof of this run, measured now where no part before has."""
    if report.roof is None:
        rows = report.rows([build / "bench/kernels/bench_gemm", "--tokens", "1", "--seconds", "0.01"])
        report.roof = rows[0]["roof_tflops"] if rows else 0


class Timer:
    """A program that takes turns (--turns): a line `D T` prepares a row, `go` times it."""

    def __init__(self, command):
        self.name = Path(str(command[-1])).name
        self.process = subprocess.Popen([str(part) for part in command] + ["--turns"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, bufsize=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(TURN_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def ask(self, line):
        try:
            self.process.stdin.write((line + "\n").encode())
        except BrokenPipeError:
            pass  # it ended, and what it says last is to be read
        if not select.select([self.process.stdout], [], [], TURN_TIMEOUT)[0]:
            self.process.kill()
            raise RuntimeError(f"{self.name}: no answer to '{line}' in {TURN_TIMEOUT} s")
        answer = self.process.stdout.readline().decode().strip()
        if not answer or answer == "wrong":
            raise RuntimeError(f"{self.name}: '{line}' gave {'a wrong result' if answer else 'nothing: it ended'}")
        return answer


def in_turns(timers, most, fewest, end):
    """Median microseconds of each, and how many rounds; who begins alternates. Stops at `end` (time.monotonic) behind
    the fewest rounds."""
    times = [[] for _ in timers]
    rounds = 0
    while rounds < most and (rounds < fewest or time.monotonic() < end):
        for i in range(len(timers)) if rounds % 2 == 0 else reversed(range(len(timers))):
            times[i].append(float(timers[i].ask("go")))
        rounds += 1
    return [statistics.median(each) for each in times], rounds


def prefill_in_turns(report, build, rows, end):
    """{(dim, tokens): {"own": microseconds, "cuDNN": ..., "flash": ..., "rounds": turns of the first two}}, until
    `end`. Empty where there is no PyTorch."""
    found = {}
    peer = [sys.executable, REPOSITORY / "lessons/attention_peer.py", "--backend"]
    try:
        with (Timer([build / "bench/kernels/bench_attention"]) as own, Timer([*peer, "cuDNN"]) as cudnn,
              Timer([*peer, "flash"]) as flash):
            timers = (own, cudnn, flash)
            try:
                for i, (dim, tokens) in enumerate(rows):
                    for timer in timers:
                        timer.ask(f"{dim} {tokens}")
                    if i == 0:
                        warm = time.monotonic() + TURN_WARM_UP
                        while time.monotonic() < warm:
                            for timer in timers:
                                timer.ask("go")
                    most, fewest = (FIRST_TURNS, FIRST_TURNS) if i == 0 else (TURNS, FEWEST_TURNS)
                    now = time.monotonic()
                    times, rounds = in_turns((own, cudnn), most, fewest, now + (end - now) / (len(rows) - i))
                    found[dim, tokens] = {"own": times[0], "cuDNN": times[1], "flash": float(flash.ask("go")),
                                          "rounds": rounds}
            except RuntimeError:
                if NO_TORCH not in (cudnn.process.poll(), flash.process.poll()):
                    raise
                report.no_torch()
    except (OSError, RuntimeError) as error:
        report.broken.append(f"prefill in turns with cuDNN: {error}")
    return found


def attention_ladder(report, build):
    steps = report.measured("attention_ladder", attention_steps(report.run([build / "lessons/attention_ladder"])))
    find_roof(report, build)
    said = report.run([sys.executable, REPOSITORY / "lessons/attention_peer.py"])
    report.data["attention_peer"] = peers = peer_rows(said)
    cudnn = {(r["tokens"], r["dim"], r["mask"]): r["cuDNN"] for r in peers if "cuDNN" in r}
    print(f"\n## Attention, step by step. {report.roof_line()}")
    for line in said.splitlines():
        if line.startswith("torch"):
            print(f"\nPeer: {line}")

    def row(name, r, us, tflops):
        peer = cudnn.get((r["tokens"], r["dim"], r["mask"]))
        return [name, str(r["tokens"]), str(r["dim"]), r["mask"], f"{us:.1f}", f"{tflops:.2f}", report.of_roof(tflops),
                f"{tflops / peer:.3f}" if peer else ""]

    table(["step", "T", "D", "mask", "us", "TFLOP/s", "% of the roof", "x cuDNN"],
          [row(r["step"], r, r["us"], r["tflops"]) for r in steps] +
          [row(name, r, r[f"{name} us"], r[name]) for name in ("cuDNN", "flash") for r in peers if name in r])


def attention(report, build):
    end = time.monotonic() + ATTENTION_SECONDS
    rows = report.measured("attention", report.rows([build / "bench/kernels/bench_attention"]))
    find_roof(report, build)
    prefill = [row for row in rows if row["what"] == "prefill"]
    turns = prefill_in_turns(report, build, [(row["dim"], row["kv"]) for row in prefill], end) if prefill else {}
    for row in rows:
        row["x_cudnn"] = None
    for row in prefill:
        if times := turns.get((row["dim"], row["kv"])):
            slower = times["own"] / row["us"]
            row.update(us=times["own"], tflops=row["tflops"] / slower, kv_gbs=row["kv_gbs"] / slower, turns=times,
                       x_cudnn=times["cuDNN"] / times["own"])
    print(f"\n## attention of the engine: paged, the variant its table chooses. {report.roof_line()}")
    if turns:
        rounds = [times["rounds"] for times in turns.values()]
        print(f"\nPrefill: medians of {min(rounds)} to {max(rounds)} rounds in turns with cuDNN")

    def is_decode(row):
        return row["what"].startswith("decode")

    table(["what", "tokens", "keys", "heads", "D", "variant", "us", "TFLOP/s", "% of the matrix roof", "KV, GB/s",
           "% of the read roof", "x cuDNN"],
          [[r["what"], str(r["tokens"]), str(r["kv"]), f"{r['heads']}/{r['kv_heads']}", str(r["dim"]), r["variant"],
            f"{r['us']:.1f}", f"{r['tflops']:.1f}", "" if is_decode(r) else report.of_roof(r["tflops"]),
            f"{r['kv_gbs']:.0f}", f"{100 * r['kv_gbs'] / r['read_roof_gbs']:.1f}" if is_decode(r) else "",
            f"{r['x_cudnn']:.3f}" if r["x_cudnn"] else ""] for r in rows])
    report.broken += [f"attention {r['what']}: wrong" for r in rows if not r["right"]]
    for row in prefill:
        what = f"prefill attention, D {row['dim']}, {row['kv']} tokens, x cuDNN"
        if row["x_cudnn"]:
            report.must(what, row["x_cudnn"], PREFILL[row["dim"]].get(row["kv"], PREFILL_ELSE[row["dim"]]))
        else:
            report.unjudged.append(what)
    chunks = [row for row in rows if row["what"].startswith("chunk")]
    for row in chunks:
        report.must("chunked prefill, 512 tokens over 32k keys", row["tflops"], CHUNKED_TFLOPS, " TFLOP/s")
    if not prefill or not chunks:
        report.unjudged.append("prefill attention" if chunks else "chunked prefill")


def sampling(report, build):
    rows = report.measured("sampling", report.rows([build / "bench/kernels/bench_sampling"]))
    settings = list(dict.fromkeys(r["settings"] for r in rows))
    times = {(r["vocab"], r["logits"], r["rows"], r["settings"]): r["us"] for r in rows}
    print("\n## sampling on the card, microseconds of a launch")
    table(["V", "logits", "rows", *settings],
          [[str(v), logits, str(n), *(f"{times[v, logits, n, each]:.1f}" for each in settings)]
           for v, logits, n in dict.fromkeys(key[:3] for key in times)])
    report.broken += [f"sampling {r['settings']}, {r['rows']} rows: wrong" for r in rows if not r["right"]]
    for n, wanted in SAMPLING_US.items():
        for each in ("greedy", "chat"):
            what = f"sampling, {each}, {n} rows of 128256 peaked logits"
            if us := times.get((128256, "peaked", n, each)):
                report.must_take_at_most(what, us, wanted)
            else:
                report.unjudged.append(what)


PARTS = {"gemm-ladder": gemm_ladder, "gemm-grid": lambda *to: gemm(*to, "grid"),
         "gemm-skinny": lambda *to: gemm(*to, "skinny"), "attention-ladder": attention_ladder, "attention": attention,
         "sampling": sampling}


def verdict(report, check):
    """The exit status; what is amiss goes to standard error."""
    for line in report.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    for line in report.broken:
        print(f"broken: {line}", file=sys.stderr)
    for line in report.short:
        print(f"short of the target: {line}", file=sys.stderr)
    if report.broken or (check and report.short):
        return 1
    if report.empty:
        print(f"bench_kernels: nothing was measured of {', '.join(report.empty)}", file=sys.stderr)
        return 2
    if check and report.unjudged:
        print(f"bench_kernels: could not be judged: {'; '.join(report.unjudged)}", file=sys.stderr)
        return 2
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    report = Report()
    try:
        for name, part in PARTS.items():
            if name in parts:
                begin = time.monotonic()
                part(report, arguments.build.resolve())
                print(f"\n{name}: {time.monotonic() - begin:.0f} s", flush=True)
    except NoCard as error:
        print(f"bench_kernels: nothing was measured: {error}", file=sys.stderr)
        return 2
    if arguments.plots and not kernel_plots.draw(report.data, arguments.plots):
        report.skipped.append("plots: no matplotlib here (pip install matplotlib)")
    if arguments.json:
        arguments.json.write_text(json.dumps(report.data, indent=1))
    return verdict(report, arguments.check)


if __name__ == "__main__":
    sys.exit(main())
