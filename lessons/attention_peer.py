#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention on the shapes of attention_ladder, with the cuDNN and the flash
backend: python3 lessons/attention_peer.py [--causal] [--backend cuDNN]. Needs a CUDA build of torch. Two sets of tensors in turn, so that none is
in L2 from the run before; medians; causal counted as half the products."""

import argparse
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

HEADS = 16
ALL_TOKENS = 16384
BACKENDS = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def microseconds(sets, causal, launches):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for i in range(launches):
        scaled_dot_product_attention(*sets[i % 2], is_causal=causal)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3 / launches


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--causal", action="store_true", help="causal rows alone")
    parser.add_argument("--backend", choices=BACKENDS, help="one backend alone")
    args = parser.parse_args()
    backends = {args.backend: BACKENDS[args.backend]} if args.backend else BACKENDS
    print(f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name()}")
    for dim in (64, 128):
        for causal in (True,) if args.causal else (True, False):
            for tokens in (2048, 4096, 8192, 16384):
                shape = (ALL_TOKENS // tokens, tokens, HEADS, dim)
                # Memory order (B, T, H, D), as the ladder; SDPA names the axes (B, H, T, D).
                sets = [
                    [(torch.rand(shape, device="cuda") * 2 - 1).bfloat16().transpose(1, 2) for _ in range(3)]
                    for _ in range(2)
                ]
                flop = 4 * shape[0] * HEADS * tokens * tokens * dim * (0.5 if causal else 1)
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
