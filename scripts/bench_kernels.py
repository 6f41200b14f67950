#!/usr/bin/env python3
"""The kernels of the lessons and of the engine beside the best libraries, on one NVIDIA GPU: `make bench-kernels`.

    scripts/bench_kernels.py build-cuda [--check] [--plots DIR] [--only PART,PART] [--json FILE]

Prints as Markdown, each a part: gemm-ladder (and the engine's kernel on its shapes), gemm-grid and gemm-skinny beside
cuBLASLt; attention-ladder and attention beside cuDNN (through PyTorch's scaled_dot_product_attention; skipped aloud
where PyTorch is missing; prefill in turns with it, TURNS times, for a card that grows hot grows slow); sampling,
microseconds alone. --plots draws the others as PNGs (needs matplotlib). --check exits with 1 when a row falls short of
its target; targets are for an H100. A wrong result or a
program that fails is always an error.
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
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
GEMM_STEP = re.compile(r"^(\d\d)_(\S+)\s+(\d+) x\s+(\d+) x\s+(\d+)\s+([\d.]+) us\s+([\d.]+) TFLOP/s"
                       r"(?:\s+cuBLASLt\s+([\d.]+) us\s+([\d.]+)\s+x ([\d.]+))?")
ATTENTION_STEP = re.compile(r"^(\d\d)_(\S+)\s+T\s+(\d+) D\s+(\d+) (\S+)\s+([\d.]+) us\s+([\d.]+) TFLOP/s")
PEER_ROW = re.compile(r"^T\s+(\d+) D\s+(\d+) (\S+)")
PEER_TIME = re.compile(r"(cuDNN|flash)\s+([\d.]+) us\s+([\d.]+) TFLOP/s")

GRID_MEAN = 0.98                   # of cuBLASLt, geometric mean
PREFILL = {64: {}, 128: {2048: 1.05}}  # x cuDNN by head dimension and tokens; else:
PREFILL_ELSE = {64: 0.95, 128: 0.98}
CHUNKED_TFLOPS = 400
TURNS, TURN_TIMEOUT = 5, 60        # of each program a row; seconds to an answer
SAMPLING_US = {1: 10, 256: 60}     # rows of 128,256 peaked logits, greedy and chat
PARTS = ("gemm-ladder", "gemm-grid", "gemm-skinny", "attention-ladder", "attention", "sampling")


class Report:
    def __init__(self):
        self.short, self.broken, self.skipped, self.data = [], [], [], {}

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
        """Standard output of a program; what it says stays visible on failure."""
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(done.stdout)
            self.broken.append(f"{Path(command[0]).name} left with {done.returncode}")
        return done.stdout

    def rows(self, command):
        """The JSON lines that a program writes with --json."""
        with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as file:
            self.run([*command, "--json", file.name])
            return [json.loads(line) for line in file]


def table(head, rows):
    print("\n| " + " | ".join(head) + " |\n|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 0.0


def gemm_ladder(report, build):
    print("\n## GEMM, step by step")
    steps = [match.groups() for line in report.run([build / "lessons/gemm_ladder"]).splitlines()
             if (match := GEMM_STEP.match(line))]
    engine = report.rows([build / "bench/kernels/bench_gemm", "--shapes", "ladder"])
    report.broken += [f"linear {r['m']} x {r['n']} x {r['k']}: wrong" for r in engine if not r["right"]]
    report.data["gemm_ladder"] = [
        {"step": f"{s[0]} {s[1]}", "m": int(s[2]), "n": int(s[3]), "k": int(s[4]), "us": float(s[5]),
         "tflops": float(s[6]), "peer_tflops": float(s[8] or 0)} for s in steps] + [
        {"step": f"engine: {r['variant']}", "m": r["m"], "n": r["n"], "k": r["k"], "us": r["us"], "tflops": r["tflops"],
         "peer_tflops": r["tflops"] * r["peer_us"] / r["us"]} for r in engine]
    table(["step", "M x N x K", "us", "TFLOP/s", "x cuBLASLt"],
          [[s["step"], f"{s['m']} x {s['n']} x {s['k']}", f"{s['us']:.1f}", f"{s['tflops']:.2f}",
            f"{s['tflops'] / s['peer_tflops']:.3f}" if s["peer_tflops"] else ""] for s in report.data["gemm_ladder"]])


def gemm_grid(report, build, parts):
    for shapes, title in (("grid", "the layers of Llama-3.2-3B and Llama-3.1-8B"), ("skinny", "few tokens")):
        if f"gemm-{shapes}" not in parts:
            continue
        rows = report.rows([build / "bench/kernels/bench_gemm", "--shapes", shapes])
        report.data[shapes] = rows
        if not rows:
            continue
        print(f"\n## linear, bf16: {title}. Matrix roof of this run (cuBLASLt, 8192 x 8192 x 8192): "
              f"{rows[0]['roof_tflops']:.0f} TFLOP/s")
        table(["M x N x K", "variant", "us", "TFLOP/s", "% of the roof", "weights, GB/s", "x cuBLASLt"],
              [[f"{r['m']} x {r['n']} x {r['k']}", r["variant"], f"{r['us']:.1f}", f"{r['tflops']:.1f}",
                f"{100 * r['tflops'] / r['roof_tflops']:.1f}" if r["roof_tflops"] else "", f"{r['weight_gbs']:.0f}",
                f"{r['peer_us'] / r['us']:.3f}" if r["peer_us"] else ""] for r in rows])
        report.broken += [f"linear {r['m']} x {r['n']} x {r['k']}: wrong" for r in rows if not r["right"]]
        ratios = {(r["m"], r["n"], r["k"]): r["peer_us"] / r["us"] for r in rows if r["peer_us"]}
        if not ratios:
            report.skipped.append(f"GEMM {shapes} beside cuBLASLt: the library is not here")
        elif shapes == "grid":
            report.must("GEMM grid, geometric mean x cuBLASLt", mean(list(ratios.values())), GRID_MEAN)
        else:
            few = {shape: ratio for shape, ratio in ratios.items() if 2 <= shape[0] <= 64}
            worst = min(few, key=few.get)
            report.must(f"skinny GEMM, M 2 to 64, the least x cuBLASLt ({worst[0]} x {worst[1]} x {worst[2]})",
                        round(few[worst], 2), 1.0)


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
        self.process.stdin.write((line + "\n").encode())
        if not select.select([self.process.stdout], [], [], TURN_TIMEOUT)[0]:
            self.process.kill()
            raise RuntimeError(f"{self.name}: no answer to '{line}' in {TURN_TIMEOUT} s")
        answer = self.process.stdout.readline().decode().strip()
        if not answer or answer == "wrong":
            raise RuntimeError(f"{self.name}: '{line}' gave {'a wrong result' if answer else 'nothing: it ended'}")
        return answer


def in_turns(own, peer, dim, tokens):
    """Median microseconds of both on a row; who begins alternates."""
    for timer in (own, peer):
        timer.ask(f"{dim} {tokens}")
    times = {own: [], peer: []}
    for turn in range(TURNS):
        for timer in (own, peer) if turn % 2 == 0 else (peer, own):
            times[timer].append(float(timer.ask("go")))
    return statistics.median(times[own]), statistics.median(times[peer])


def prefill_in_turns(report, build, rows):
    """{(dim, tokens): (our microseconds, cuDNN's)}"""
    found = {}
    try:
        with (Timer([build / "bench/kernels/bench_attention"]) as own,
              Timer([sys.executable, REPOSITORY / "lessons/attention_peer.py", "--backend", "cuDNN"]) as peer):
            for dim, tokens in rows:
                found[dim, tokens] = in_turns(own, peer, dim, tokens)
    except (OSError, RuntimeError) as error:
        report.broken.append(f"prefill in turns with cuDNN: {error}")
    return found


def attention_peer(report):
    """{(tokens, dim, mask): {"cuDNN": TFLOP/s, "flash": ...}}"""
    try:
        subprocess.run([sys.executable, "-c", "import torch; assert torch.cuda.is_available()"], check=True,
                       stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        report.skipped.append("attention beside cuDNN: no PyTorch with CUDA here (pip install torch)")
        print("\ncuDNN: SKIPPED, no PyTorch with CUDA here (pip install torch)")
        return {}
    peers = {}
    for line in report.run([sys.executable, REPOSITORY / "lessons/attention_peer.py"]).splitlines():
        if line.startswith("torch"):
            print(f"\nPeer: {line}")
        if match := PEER_ROW.match(line):
            peers[int(match[1]), int(match[2]), match[3]] = {name: float(t) for name, _, t in PEER_TIME.findall(line)}
    return peers


def attention(report, build, parts):
    peers = attention_peer(report)
    report.data["attention_peer"] = [{"tokens": t, "dim": d, "mask": m, **speeds} for (t, d, m), speeds in peers.items()]

    def times_cudnn(tflops, tokens, dim, mask):
        peer = peers.get((tokens, dim, mask), {}).get("cuDNN")
        return tflops / peer if peer else None

    def shown(ratio):
        return f"{ratio:.3f}" if ratio else ""

    if "attention-ladder" in parts:
        print("\n## Attention, step by step")
        steps = [match.groups() for line in report.run([build / "lessons/attention_ladder"]).splitlines()
                 if (match := ATTENTION_STEP.match(line))]
        table(["step", "T", "D", "mask", "us", "TFLOP/s", "x cuDNN"],
              [[f"{s[0]} {s[1]}", *s[2:7], shown(times_cudnn(float(s[6]), int(s[2]), int(s[3]), s[4]))] for s in steps])
        report.data["attention_ladder"] = [
            {"step": f"{s[0]} {s[1]}", "tokens": int(s[2]), "dim": int(s[3]), "mask": s[4], "us": float(s[5]),
             "tflops": float(s[6])} for s in steps]
    if "attention" not in parts:
        return
    print("\n## attention of the engine: paged, the variant its table chooses")
    rows = report.rows([build / "bench/kernels/bench_attention"])
    report.data["attention"] = rows
    prefill = [row for row in rows if row["what"] == "prefill"]
    turns = prefill_in_turns(report, build, [(row["dim"], row["kv"]) for row in prefill]) if peers else {}
    for row in rows:
        row["x_cudnn"] = None
    for row in prefill:
        if times := turns.get((row["dim"], row["kv"])):
            row["tflops"] *= row["us"] / times[0]
            row["us"], row["cudnn_us"] = times
            row["x_cudnn"] = times[1] / times[0]
    table(["what", "tokens", "keys", "heads", "D", "variant", "us", "TFLOP/s", "KV, GB/s", "x cuDNN"],
          [[r["what"], str(r["tokens"]), str(r["kv"]), f"{r['heads']}/{r['kv_heads']}", str(r["dim"]), r["variant"],
            f"{r['us']:.1f}", f"{r['tflops']:.1f}", f"{r['kv_gbs']:.0f}", shown(r["x_cudnn"])] for r in rows])
    report.broken += [f"attention {r['what']}: wrong" for r in rows if not r["right"]]
    for row in rows:
        if row["x_cudnn"]:
            report.must(f"prefill attention, D {row['dim']}, {row['kv']} tokens, x cuDNN", row["x_cudnn"],
                        PREFILL[row["dim"]].get(row["kv"], PREFILL_ELSE[row["dim"]]))
        if row["what"].startswith("chunk"):
            report.must("chunked prefill, 512 tokens over 32k keys", row["tflops"], CHUNKED_TFLOPS, " TFLOP/s")


def sampling(report, build):
    rows = report.rows([build / "bench/kernels/bench_sampling"])
    report.data["sampling"] = rows
    settings = list(dict.fromkeys(r["settings"] for r in rows))
    times = {(r["vocab"], r["logits"], r["rows"], r["settings"]): r["us"] for r in rows}
    print("\n## sampling on the card, microseconds of a launch")
    table(["V", "logits", "rows", *settings],
          [[str(v), logits, str(n), *(f"{times[v, logits, n, each]:.1f}" for each in settings)]
           for v, logits, n in dict.fromkeys(key[:3] for key in times)])
    report.broken += [f"sampling {r['settings']}, {r['rows']} rows: wrong" for r in rows if not r["right"]]
    for n, wanted in SAMPLING_US.items():
        for each in ("greedy", "chat"):
            if us := times.get((128256, "peaked", n, each)):
                report.must_take_at_most(f"sampling, {each}, {n} rows of 128256 peaked logits", us, wanted)


def plot(report, folder):
    try:
        import matplotlib
    except ImportError:
        report.skipped.append("plots: no matplotlib here (pip install matplotlib)")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    folder.mkdir(parents=True, exist_ok=True)

    def save(figure, name):
        figure.tight_layout()
        figure.savefig(folder / name, dpi=80, pil_kwargs={"optimize": True})
        pyplot.close(figure)
        print(f"wrote {folder / name}")

    if ladder := [s for s in report.data.get("gemm_ladder", []) if (s["m"], s["n"], s["k"]) == (4096, 4096, 4096)]:
        figure, axis = pyplot.subplots(figsize=(8, 3.6))
        axis.barh([s["step"] for s in ladder], [s["tflops"] for s in ladder], color="#4878a8")
        axis.axvline(max(s["peer_tflops"] for s in ladder), color="#c44", label="cuBLASLt, its best in this run")
        axis.invert_yaxis()
        axis.set_xlabel("TFLOP/s, bf16, 4096 x 4096 x 4096")
        axis.legend()
        save(figure, "gemm_ladder.png")
    if grid := [r for r in report.data.get("grid", []) if r["peer_us"]]:
        figure, axis = pyplot.subplots(figsize=(8, 3.6))
        layers = sorted({(r["n"], r["k"]) for r in grid})
        for m in sorted({r["m"] for r in grid}):
            ratios = {(r["n"], r["k"]): r["peer_us"] / r["us"] for r in grid if r["m"] == m}
            axis.plot([f"{n}\nx {k}" for n, k in layers], [ratios.get(layer) for layer in layers], "o-", label=f"M = {m}")
        axis.axhline(1, color="#888", linewidth=0.8)
        axis.set_ylabel("x cuBLASLt")
        axis.set_xlabel("N x K")
        axis.legend(ncol=5, fontsize=8)
        save(figure, "gemm_grid.png")
    if own := [r for r in report.data.get("attention", []) if r["what"] == "prefill"]:
        figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.4), sharey=True)
        for axis, dim in zip(axes, (64, 128)):
            series = {"engine (paged)": {r["kv"]: r["tflops"] for r in own if r["dim"] == dim}}
            for r in report.data["attention_peer"]:
                if r["dim"] == dim and r["mask"] == "causal":
                    for name in ("cuDNN", "flash"):
                        if name in r:
                            series.setdefault({"flash": "FlashAttention-2"}.get(name, name), {})[r["tokens"]] = r[name]
            for name, line in series.items():
                axis.plot([f"{t // 1024}k" for t in sorted(line)], [line[t] for t in sorted(line)], "o-", label=name)
            axis.set_title(f"head dimension {dim}, causal", fontsize=10)
            axis.set_xlabel("tokens a sequence, 16 heads, 16,384 tokens in all")
        axes[0].set_ylabel("TFLOP/s")
        axes[0].legend(fontsize=8)
        save(figure, "attention_prefill.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    build, parts = arguments.build.resolve(), arguments.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    report = Report()
    if "gemm-ladder" in parts:
        gemm_ladder(report, build)
    gemm_grid(report, build, parts)
    if {"attention-ladder", "attention"} & set(parts):
        attention(report, build, parts)
    if "sampling" in parts:
        sampling(report, build)
    if arguments.plots:
        plot(report, arguments.plots)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.data, indent=1))
    for line in report.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    for line in report.broken:
        print(f"broken: {line}", file=sys.stderr)
    for line in report.short:
        print(f"short of the target: {line}", file=sys.stderr)
    return 1 if report.broken or (arguments.check and report.short) else 0


if __name__ == "__main__":
    sys.exit(main())
