#!/usr/bin/env python3
"""Converts tiny checkpoints of tests/golden/models to GGUF, as llama.cpp's own conversion would, into tests/golden/gguf.

Run: python3 scripts/make_gguf_golden.py            (pip: numpy, gguf, safetensors)
     ... --check                                    (pip: llama-cpp-python) also lets llama.cpp compute the logits of
                                                    each file and compares them with transformers' golden ones

The safetensors twins come from scripts/make_model_golden.py; a GGUF file must give the same logits as its twin.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
MODELS, OUT = ROOT / "models", ROOT / "gguf"

NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm",
    "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def read_tensors(folder):
    """Every tensor of a safetensors folder as float32; bf16 by its bits, which numpy has no type for."""
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:8 + length])
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            data = raw[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]]
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                values = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[entry["dtype"]]).astype(np.float32)
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def gguf_name(name):
    stem, suffix = name.rsplit(".", 1)
    stem = stem.removeprefix("model.").removeprefix("transformer.")
    for prefix in ("layers.", "h."):
        if stem.startswith(prefix):
            layer, rest = stem[len(prefix):].split(".", 1)
            return f"blk.{layer}.{NAMES[rest]}.{suffix}"
    return f"{NAMES[stem]}.{suffix}"


def rotary_pairs_adjacent(weight, heads):
    """The row order of GGUF's arch llama: the two halves of each head interleaved."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama3_factors(config):
    rope = config["rope_scaling"]
    dim = config["head_dim"]
    freq = config["rope_theta"] ** -(np.arange(0, dim, 2) / dim)
    wave = 2 * np.pi / freq
    trained, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = (trained / wave - low) / (high - low)
    factors = np.where(wave < trained / high, 1.0, np.where(wave > trained / low, factor,
                                                            1 / ((1 - smooth) / factor + smooth)))
    return factors.astype(np.float32)


def add_tokenizer(writer, folder, vocab):
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [None] * vocab
    types = [gguf.TokenType.UNUSED] * vocab
    for text, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = text, gguf.TokenType.NORMAL
    for token in tokenizer["added_tokens"]:
        tokens[token["id"]], types[token["id"]] = token["content"], gguf.TokenType.CONTROL
    tokens = [text if text is not None else f"[PAD{i}]" for i, text in enumerate(tokens)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(tokenizer["model"]["merges"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(False)
    writer.add_chat_template(json.loads((folder / "tokenizer_config.json").read_text())["chat_template"])


def convert(source, target, arch, quant, split=0):
    folder = MODELS / source
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(OUT / f"{target}.gguf", arch, **({"split_max_tensors": split} if split else {}))
    gpt2 = arch == "gpt2"
    get = lambda old, new: config[old if gpt2 else new]
    heads = get("n_head", "num_attention_heads")
    kv_heads = heads if gpt2 else config["num_key_value_heads"]
    writer.add_name(f"tiny {source}")
    writer.add_block_count(get("n_layer", "num_hidden_layers"))
    writer.add_context_length(get("n_positions", "max_position_embeddings"))
    writer.add_embedding_length(get("n_embd", "hidden_size"))
    writer.add_feed_forward_length(4 * config["n_embd"] if gpt2 else config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_vocab_size(config["vocab_size"])
    if gpt2:
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        rope = config.get("rope_parameters") or config
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_dimension_count(config.get("head_dim", config["hidden_size"] // heads))
        if "head_dim" in config:
            writer.add_key_length(config["head_dim"])
            writer.add_value_length(config["head_dim"])
        scaling = config.get("rope_scaling") or {}
        if scaling.get("rope_type") == "llama3":
            writer.add_tensor("rope_freqs.weight", llama3_factors(config))
        kind = scaling.get("rope_type") or scaling.get("type")
        if kind in ("linear", "yarn"):
            writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
            writer.add_rope_scaling_factor(scaling["factor"])
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
            writer.add_rope_scaling_attn_factors(1.0)  # a multiplier of the derived factor, so that 1 changes nothing
            writer.add_rope_scaling_yarn_beta_fast(32.0)
            writer.add_rope_scaling_yarn_beta_slow(1.0)
    add_tokenizer(writer, folder, config["vocab_size"])
    for name, weight in read_tensors(folder).items():
        stored = gguf_name(name)
        if gpt2 and weight.ndim == 2 and name.startswith(("transformer.h", "h.")):
            weight = weight.T
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            weight = rotary_pairs_adjacent(weight, heads if "q_proj" in name else kv_heads)
        kind = quant if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        weight = np.ascontiguousarray(weight)
        writer.add_tensor(stored, weight if kind == gguf.GGMLQuantizationType.F32 else gguf.quants.quantize(weight, kind),
                          raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


KIND = gguf.GGMLQuantizationType
FILES = [  # source, file name, architecture, format of matrices, tensors a part
    ("llama", "llama-f32", "llama", KIND.F32, 0),
    ("llama-tied-bias", "llama-tied-bias-f16", "llama", KIND.F16, 0),
    ("llama-llama3", "llama-llama3-bf16", "llama", KIND.BF16, 9),
    ("llama-linear", "llama-linear-bf16", "llama", KIND.BF16, 0),
    ("llama-yarn", "llama-yarn-bf16", "llama", KIND.BF16, 0),
    ("qwen2", "qwen2-bf16", "qwen2", KIND.BF16, 0),
    ("qwen3", "qwen3-bf16", "qwen3", KIND.BF16, 0),
    ("gpt2", "gpt2-f32", "gpt2", KIND.F32, 0),
    ("llama", "llama-q8_0", "llama", KIND.Q8_0, 0),
    ("llama", "llama-q4_1", "llama", KIND.Q4_1, 0),
]


def check(source, target, quant):
    import llama_cpp
    path = OUT / f"{target}.gguf"
    if not path.exists():
        path = next(OUT.glob(f"{target}-00001-of-*.gguf"))
    golden = {}
    raw = (MODELS / source / "golden.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(raw[8:8 + length]).items():
        begin, end = (8 + length + offset for offset in entry.get("data_offsets", (0, 0)))
        golden[name] = np.frombuffer(raw[begin:end], {"I32": np.int32, "F32": np.float32}[entry["dtype"]]).reshape(
            entry["shape"])
    model = llama_cpp.Llama(str(path), logits_all=True, n_ctx=64, verbose=False)
    model.eval(golden["ids.0"].tolist())
    logits = np.array(model.scores[:48])
    error = ((logits - golden["logits.0"]) ** 2).mean() / (golden["logits.0"] ** 2).mean()
    print(f"{target}: llama.cpp against transformers, NMSE of the logits {error:.1e}")
    assert error < (1e-3 if quant in (KIND.F32, KIND.F16, KIND.BF16) else 1e-1)  # it rounds activations to the format


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for source, target, arch, quant, split in FILES:
        convert(source, target, arch, quant, split)
        if arguments.check:
            check(source, target, quant)


if __name__ == "__main__":
    main()
