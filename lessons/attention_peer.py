#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention on the shapes of attention_ladder, with the cuDNN and the flash
backend: python3 lessons/attention_peer.py [--causal] [--backend cuDNN]. Needs a CUDA build of torch, and exits with 77
without one. Two sets of tensors in turn, so that none is in L2 from the run before; medians; causal counted as half the
products.

--turns: causal rows of one backend in turns with another program: a line `D T` prepares a row and answers `ready`, a
line `go` times it for a moment and answers with microseconds."""

import argparse
import statistics
import sys
import time

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention
except ImportError:
    torch = None
if torch is None or not torch.cuda.is_available():
    print("attention_peer.py: skipped, no PyTorch with CUDA here (pip install torch)", file=sys.stderr)
    sys.exit(77)

HEADS = 16
ALL_TOKENS = 16384
TURN_WARM_UP, TURN_SECONDS = 0.1, 0.15  # as in bench/kernels/bench_attention.cc
BACKENDS = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def microseconds(sets, causal, launches):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for i in range(launches):
        scaled_dot_product_attention(*sets[i % 2], is_causal=causal)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3 / launches


def tensors(tokens, dim):
    # Memory order (B, T, H, D), as the ladder; SDPA names the axes (B, H, T, D).
    shape = (ALL_TOKENS // tokens, tokens, HEADS, dim)
    return [[(torch.rand(shape, device="cuda") * 2 - 1).bfloat16().transpose(1, 2) for _ in range(3)] for _ in range(2)]


def take_turns():
    sets, launches = None, 0
    for line in sys.stdin:
        if line.strip() == "go":
            values, start = [], time.monotonic()
            while (now := time.monotonic() - start) < TURN_WARM_UP + TURN_SECONDS or len(values) < 3:
                us = microseconds(sets, True, launches)
                if now > TURN_WARM_UP:
                    values.append(us)
            print(f"{statistics.median(values):.3f}", flush=True)
        else:
            dim, tokens = map(int, line.split())
            sets = None
            sets = tensors(tokens, dim)
            microseconds(sets, True, 2)
            launches = max(2, int(4000 / microseconds(sets, True, 2)))
            print("ready", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--causal", action="store_true", help="causal rows alone")
    parser.add_argument("--backend", choices=BACKENDS, help="one backend alone")
    parser.add_argument("--turns", action="store_true")
    args = parser.parse_args()
    if args.turns:
        with sdpa_kernel(BACKENDS[args.backend or "cuDNN"]):
            return take_turns()
    backends = {args.backend: BACKENDS[args.backend]} if args.backend else BACKENDS
    print(f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name()}")
    for dim in (64, 128):
        for causal in (True,) if args.causal else (True, False):
            for tokens in (2048, 4096, 8192, 16384):
                sets = tensors(tokens, dim)
                flop = 4 * ALL_TOKENS * HEADS * tokens * dim * (0.5 if causal else 1)
                row = f"T {tokens:5d} D {dim:3d} {'causal' if causal else 'full':6s}"
                for name, backend in backends.items():
                    try:
                        with sdpa_kernel(backend):
                            launches = max(2, int(5000 / max(1, microseconds(sets, causal, 2))))
                            microseconds(sets, causal, launches * 10)
                            us = statistics.median(microseconds(sets, causal, launches) for _ in range(25))
                        row += f"   {name} {us:9.1f} us {flop / us * 1e-6:7.1f} TFLOP/s"
                    except RuntimeError as error:
                        row += f"   {name}: {str(error).splitlines()[0]}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
