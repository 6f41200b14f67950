"""The plots of scripts/bench_kernels.py, drawn from the rows of its report (needs matplotlib)."""

FLASH = "FlashAttention-2"


def draw(data, folder):
    """Writes into `folder` (a Path) a PNG for each part that has rows. False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot
    folder.mkdir(parents=True, exist_ok=True)

    def save(figure, name):
        figure.tight_layout()
        figure.savefig(folder / name, dpi=80, pil_kwargs={"optimize": True})
        pyplot.close(figure)
        print(f"wrote {folder / name}")

    if steps := [s for s in data.get("gemm_ladder", []) if (s["m"], s["n"], s["k"]) == (4096, 4096, 4096)]:
        save(gemm_ladder(pyplot, steps), "gemm_ladder.png")
    if rows := [r for r in data.get("grid", []) if r["peer_us"]]:
        save(gemm_ratios(pyplot, rows, 8), "gemm_grid.png")
    if rows := [r for r in data.get("skinny", []) if r["peer_us"]]:
        save(gemm_ratios(pyplot, rows, 10), "gemm_skinny.png")
    if data.get("attention_ladder"):
        save(attention_ladder(pyplot, data["attention_ladder"], data.get("attention_peer", [])), "attention_ladder.png")
    if rows := [r for r in data.get("attention", []) if r["what"] == "prefill"]:
        save(attention_prefill(pyplot, rows), "attention_prefill.png")
    return True


def gemm_ladder(pyplot, steps):
    figure, axis = pyplot.subplots(figsize=(8, 4))
    names = [s["step"] for s in steps]
    axis.barh(names, [s["tflops"] for s in steps], color="#4878a8")
    peers = [s for s in steps if s["peer_tflops"]]
    axis.plot([s["peer_tflops"] for s in peers], [s["step"] for s in peers], "|", color="#c44", markersize=16,
              markeredgewidth=2, label="cuBLASLt, in turn with the step")
    for step in steps:
        axis.annotate(f"{step['tflops']:.3g}", (step["tflops"], step["step"]), va="center", fontsize=8,
                      xytext=(4, 0) if step["tflops"] < 500 else (-26, 0), textcoords="offset points",
                      color="black" if step["tflops"] < 500 else "white")
    axis.invert_yaxis()
    axis.set_xlabel("TFLOP/s, bf16, 4096 x 4096 x 4096")
    axis.legend(loc="upper center", fontsize=8)
    return figure


def gemm_ratios(pyplot, rows, width):
    """x cuBLASLt by layer, a line for each M."""
    figure, axis = pyplot.subplots(figsize=(width, 3.6))
    layers = sorted({(r["n"], r["k"]) for r in rows})
    for m in sorted({r["m"] for r in rows}):
        ratios = {(r["n"], r["k"]): r["peer_us"] / r["us"] for r in rows if r["m"] == m}
        axis.plot([f"{n}\nx {k}" for n, k in layers], [ratios.get(layer) for layer in layers], "o-", label=f"M = {m}",
                  markersize=4)
    axis.axhline(1, color="#888", linewidth=0.8)
    axis.set_ylabel("x cuBLASLt")
    axis.set_xlabel("N x K")
    axis.legend(ncol=5, fontsize=8)
    return figure


def attention_ladder(pyplot, steps, peers):
    """TFLOP/s by tokens, a panel for each head dimension and mask; on a log scale, since steps differ by hundreds."""
    figure, axes = pyplot.subplots(2, 2, figsize=(8, 6), sharex=True, sharey=True)
    colors = {"cuDNN": "black", f"{FLASH} in PyTorch": "#888"}
    colors |= {step: f"C{i}" for i, step in enumerate(sorted({s["step"] for s in steps}))}
    for row, dim in zip(axes, (64, 128)):
        for axis, mask in zip(row, ("causal", "full")):
            series = {}
            for s in steps:
                if (s["dim"], s["mask"]) == (dim, mask):
                    series.setdefault(s["step"], {})[s["tokens"]] = s["tflops"]
            for name, shown in (("cuDNN", "cuDNN"), ("flash", f"{FLASH} in PyTorch")):
                if line := {r["tokens"]: r[name] for r in peers if (r["dim"], r["mask"]) == (dim, mask) and name in r}:
                    series[shown] = line
            for name, line in sorted(series.items()):
                axis.plot([t // 1024 for t in sorted(line)], [line[t] for t in sorted(line)],
                          "o-" if name[0].isdigit() else "x--", color=colors[name], label=name, markersize=4, linewidth=1.2)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks([2, 4, 8, 16], ["2k", "4k", "8k", "16k"])
            axis.grid(axis="y", color="#ddd", linewidth=0.6)
            axis.set_title(f"head dimension {dim}, {mask}", fontsize=10)
    for axis in axes[1]:
        axis.set_xlabel("tokens a sequence, 16 heads, 16,384 in all", fontsize=9)
    for row in axes:
        row[0].set_ylabel("TFLOP/s")
    axes[1][1].legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, loc="lower right")
    return figure


def attention_prefill(pyplot, rows):
    """The engine and its peers, measured in turns."""
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    for axis, dim in zip(axes, (64, 128)):
        own = {r["kv"]: r for r in rows if r["dim"] == dim}
        series = {"engine (paged)": {tokens: r["tflops"] for tokens, r in own.items()}}
        for name, shown in (("cuDNN", "cuDNN"), ("flash", FLASH)):
            series[shown] = {tokens: r["tflops"] * r["us"] / r["turns"][name] for tokens, r in own.items() if "turns" in r}
        for name, line in series.items():
            if line:
                axis.plot([f"{t // 1024}k" for t in sorted(line)], [line[t] for t in sorted(line)], "o-", label=name)
        axis.set_title(f"head dimension {dim}, causal", fontsize=10)
        axis.set_xlabel("tokens a sequence, 16 heads, 16,384 tokens in all")
    axes[0].set_ylabel("TFLOP/s")
    axes[0].legend(fontsize=8)
    return figure
