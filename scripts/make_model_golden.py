#!/usr/bin/env python3
"""Makes the tiny random checkpoints under tests/golden/models and what transformers computes with them.

Run: python3 scripts/make_model_golden.py OUT_DIR      (pip: torch, transformers >= 5, safetensors)

Each folder is a complete model: config.json, model.safetensors (or shards), tokenizer.json, tokenizer_config.json, and
golden.safetensors with, for two prompts, token ids, every hidden state and the logits in fp32 on the CPU. Dynamic rope
is decoded token by token, because its prefill rotates a token by the length of whatever came in the same call.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = 256
VOCAB = 288  # rows of the embedding; the tokenizer has fewer, as Qwen's does

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=BYTES, eos_token_id=BYTES + 2,
            pad_token_id=BYTES)
ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def llama(**changes):
    return LlamaForCausalLM, LlamaConfig(**{**BASE, "rope_parameters": dict(ROPE), **changes})


def scaled(kind, **values):
    return {"rope_type": kind, "rope_theta": 10000.0, **values}


# name: (class and config, stored dtype, config.json in the style before transformers 5, shard size)
MODELS = {
    "llama": (llama(), torch.float32, True, None),
    "llama-tied-bias": (llama(tie_word_embeddings=True, attention_bias=True, mlp_bias=True), torch.float16, False, None),
    "llama-linear": (llama(rope_parameters=scaled("linear", factor=4.0)), torch.bfloat16, True, None),
    "llama-dynamic": (llama(max_position_embeddings=24, rope_parameters=scaled("dynamic", factor=4.0)), torch.bfloat16,
                      True, None),
    "llama-llama3": (llama(rope_parameters=scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                  original_max_position_embeddings=32)), torch.bfloat16, True, 60_000),
    "llama-yarn": (llama(rope_parameters=scaled("yarn", factor=4.0, original_max_position_embeddings=32)),
                   torch.bfloat16, True, None),
    "mistral": ((MistralForCausalLM, MistralConfig(**BASE, sliding_window=8, rope_parameters=dict(ROPE), head_dim=16)),
                torch.bfloat16, True, None),
    "qwen2": ((Qwen2ForCausalLM, Qwen2Config(**BASE, tie_word_embeddings=True, rope_parameters=scaled("default"))),
              torch.bfloat16, True, None),
    "qwen2-window": ((Qwen2ForCausalLM, Qwen2Config(**BASE, use_sliding_window=True, sliding_window=8,
                                                    max_window_layers=1, rope_parameters=dict(ROPE))),
                     torch.bfloat16, False, None),
    "qwen3": ((Qwen3ForCausalLM, Qwen3Config(**BASE, head_dim=32, rope_parameters=dict(ROPE))), torch.bfloat16, False,
              None),
    "gpt2": ((GPT2LMHeadModel, GPT2Config(vocab_size=VOCAB, n_positions=128, n_embd=64, n_layer=2, n_head=4,
                                          bos_token_id=BYTES, eos_token_id=BYTES)), torch.float32, False, None),
}


def byte_alphabet():
    """The printable stand-in of each byte in byte-level vocabularies."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    moved = [b for b in range(256) if b not in keep]
    return {b: chr(b) for b in keep} | {b: chr(256 + i) for i, b in enumerate(moved)}


def write_tokenizer(folder):
    vocab = {char: byte for byte, char in sorted(byte_alphabet().items())}
    vocab["ĠĠ"] = BYTES + len(SPECIAL)  # one merge, because llama.cpp wants a byte-pair vocabulary to have some
    added = [{"id": BYTES + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, text in enumerate(SPECIAL)]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": ["Ġ Ġ"]},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[2],
              "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def old_style(path):
    """config.json as transformers before 5 wrote it: rope_theta beside rope_scaling."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope["rope_type"]
    config["rope_scaling"] = None if kind == "default" else rope
    if kind == "linear":
        config["rope_scaling"] = {"type": kind, "factor": rope["factor"]}  # the oldest spelling
    path.write_text(json.dumps(config, indent=2) + "\n")


def randomise(model, generator):
    """Every parameter counts: biases far from 0, norm weights far from 1, no two heads alike."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 2:
            scale = 1.0 if "embed" in name or "wte" in name or "wpe" in name else parameter.shape[-1] ** -0.5
            parameter.data = noise * scale
        elif "norm" in name or "ln_" in name:
            parameter.data = 1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise
        else:
            parameter.data = 0.3 * noise


def run(model, ids, token_by_token):
    """Logits (T, V) and hidden states (L+1, T, C)."""
    if not token_by_token:
        out = model(ids[None], output_hidden_states=True, use_cache=False)
        return out.logits[0], torch.stack(out.hidden_states)[:, 0]
    logits, hidden, cache = [], [], None
    for t in range(len(ids)):
        out = model(ids[None, t:t + 1], past_key_values=cache, use_cache=True, output_hidden_states=True,
                    position_ids=torch.tensor([[t]]))
        cache = out.past_key_values
        logits.append(out.logits[0])
        hidden.append(torch.stack(out.hidden_states)[:, 0])
    return torch.cat(logits), torch.cat(hidden, dim=1)


@torch.no_grad()
def main():
    root = pathlib.Path(sys.argv[1])
    for seed, (name, ((cls, config), dtype, old, shard)) in enumerate(MODELS.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(seed)
        config._attn_implementation = "eager"
        model = cls(config).eval()
        randomise(model, generator)
        model.tie_weights()
        model = model.to(dtype)
        config.dtype = dtype
        model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
        if old:
            old_style(folder / "config.json")
        write_tokenizer(folder)
        # Read back as anyone would: casting the model in place would also round its rotary frequencies.
        model = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        golden = {}
        for i, length in enumerate((48, 7)):
            ids = torch.randint(0, VOCAB, (length,), generator=generator)
            logits, hidden = run(model, ids, "dynamic" in name)
            golden |= {f"ids.{i}": ids.to(torch.int32), f"logits.{i}": logits.contiguous(),
                       f"hidden.{i}": hidden.contiguous()}
        save_file(golden, folder / "golden.safetensors")
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: {size // 1024} KiB, logits {golden['logits.0'].std():.3f} sd")


if __name__ == "__main__":
    main()
