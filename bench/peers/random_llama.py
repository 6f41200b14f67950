"""A GGUF file of the shape of Llama-3.2-1B with random BF16 weights and no vocabulary: for speed, which does not depend on
the values. `layers` below 16 makes a smaller one. The weights repeat every 2^22 elements: random enough for a quantiser.

Run: python3 bench/peers/random_llama.py OUT.gguf [LAYERS]       (pip: numpy)
"""

import struct
import sys

import numpy as np

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 2048, 8192, 32, 8, 64, 128256
F32, BF16, ALIGNMENT = 0, 30, 32


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def key(name, value):
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(name) + struct.pack("<If", 6, value)
    return text(name) + struct.pack("<II", 4, value)


def keys_of(layers):
    return [
        key("general.architecture", "llama"), key("general.name", f"random 1B shape, {layers} layers"),
        key("general.file_type", 32), key("llama.block_count", layers), key("llama.context_length", 131072),
        key("llama.embedding_length", HIDDEN), key("llama.feed_forward_length", FFN),
        key("llama.attention.head_count", HEADS), key("llama.attention.head_count_kv", KV_HEADS),
        key("llama.attention.key_length", HEAD_DIM), key("llama.attention.value_length", HEAD_DIM),
        key("llama.rope.dimension_count", HEAD_DIM), key("llama.rope.freq_base", 500000.0),
        key("llama.attention.layer_norm_rms_epsilon", 1e-5), key("llama.vocab_size", VOCAB),
        key("tokenizer.ggml.model", "no_vocab"),
    ]


def tensors_of(layers):
    """(name, rows or 0 for a vector, cols)"""
    tensors = [("token_embd.weight", VOCAB, HIDDEN), ("output_norm.weight", 0, HIDDEN)]
    for layer in range(layers):
        tensors += [(f"blk.{layer}.{name}.weight", rows, cols) for name, rows, cols in (
            ("attn_norm", 0, HIDDEN), ("attn_q", HEADS * HEAD_DIM, HIDDEN), ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
            ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN), ("attn_output", HIDDEN, HEADS * HEAD_DIM), ("ffn_norm", 0, HIDDEN),
            ("ffn_gate", FFN, HIDDEN), ("ffn_up", FFN, HIDDEN), ("ffn_down", HIDDEN, FFN))]
    return tensors


def padded(size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def write(path, layers=16):
    pool = (np.random.default_rng(1).standard_normal(1 << 22, dtype=np.float32) * 0.02).view(np.uint32)
    pool = (pool >> 16).astype(np.uint16)
    keys, tensors = keys_of(layers), tensors_of(layers)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys)
    offset, sizes = 0, []
    for name, rows, cols in tensors:
        dims = [cols, rows] if rows else [cols]
        header += text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        header += struct.pack("<IQ", BF16 if rows else F32, offset)
        sizes.append(rows * cols * 2 if rows else cols * 4)
        offset += padded(sizes[-1])
    with open(path, "wb") as file:
        file.write(header + bytes(padded(len(header)) - len(header)))
        for (_, rows, cols), size in zip(tensors, sizes):
            if not rows:
                file.write(np.ones(cols, np.float32).tobytes())
            for begin in range(0, rows * cols, len(pool)):
                file.write(pool[: rows * cols - begin].tobytes())
            file.write(bytes(padded(size) - size))


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 16)
