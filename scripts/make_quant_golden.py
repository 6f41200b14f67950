"""Writes tests/golden/quant: blocks of every weight format with the floats they mean, and floats with the blocks
they become, as the Python package gguf has it.

Run from the top of the tree: python3 scripts/make_quant_golden.py   (pip install gguf==0.19.0 numpy)

<type>.bin       u32 elements, the packed bytes, the floats they unpack to
<type>_pack.bin  u32 elements, floats, the bytes they pack to
"""

import struct
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

OUT = Path("tests/golden/quant")
# The offsets of the fp16 scales in a block.
SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.IQ4_NL: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}  # fmt: skip
# fp16 bits of scales: zeros, the smallest and largest subnormals, the smallest normal, the largest numbers.
EXTREMES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF]
PACKED = [Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]


def unpack_golden(kind, rng):
    elems, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (len(EXTREMES) + 4, size), dtype=np.uint8)
    blocks[-2:, :] = [[0x00], [0xFF]]  # all bits clear, all set
    for i, block in enumerate(blocks):
        for at, offset in enumerate(SCALES[kind]):
            usual = np.float16(rng.normal() * 0.05).view(np.uint16)
            bits = EXTREMES[(i + 3 * at) % len(EXTREMES)] if i < len(EXTREMES) else int(usual)
            block[offset : offset + 2] = np.frombuffer(struct.pack("<H", bits), dtype=np.uint8)
    floats = dequantize(blocks, kind).astype("<f4")
    assert np.isfinite(floats).all()
    (OUT / f"{kind.name.lower()}.bin").write_bytes(struct.pack("<I", floats.size) + blocks.tobytes() + floats.tobytes())


def pack_golden(kind, rng):
    rows = rng.normal(size=(12, 32)).astype(np.float32)
    rows[0] = 0
    rows[1] = 0.75
    rows[2] = -3
    rows[3] *= 1e-7  # subnormal scales
    rows[4] *= 1e4
    rows[5] = np.arange(32) - 16  # exact in most formats
    rows[6] = (np.arange(32) % 16) * 0.5 - 4  # ties
    rows[7, 5] = 60
    rows[8, 5], rows[8, 20] = -9, 9  # the first of equal extremes counts
    packed = quantize(rows, kind)
    name = f"{kind.name.lower()}_pack.bin"
    (OUT / name).write_bytes(struct.pack("<I", rows.size) + rows.astype("<f4").tobytes() + packed.tobytes())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20)
    with np.errstate(all="ignore"):
        for kind in SCALES:
            unpack_golden(kind, rng)
        for kind in PACKED:
            pack_golden(kind, rng)


if __name__ == "__main__":
    main()
