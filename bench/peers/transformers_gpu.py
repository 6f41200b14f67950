#!/usr/bin/env python3
"""transformers on one GPU, on the shapes that `llamita bench --shape` measures, with random bf16 weights.

    pip install torch transformers
    bench/peers/transformers_gpu.py --shape llama-3.2-3b --batch 1,12,64 --prompt 25 --new 256 [--compile] [--json]

Prints one row a measurement: decode (every key length met once before the clock starts, since a first meeting
costs tens of milliseconds a step), prefill of --prefill tokens a sequence, and with --compile also decode with a
static cache under torch.compile, batch 1. Weights are random: neither speed depends on their values.
"""
import argparse
import json
import statistics
import sys
import time

LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}


def shape(kind, hidden, layers, heads, kv, ffn, vocab, theta, eps, tied, factor=0.0):
    return {"kind": kind, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv, "intermediate_size": ffn, "vocab_size": vocab, "rms_norm_eps": eps,
            "tie_word_embeddings": tied, "theta": theta, "factor": factor}


# The same numbers as in cli/shapes.cc.
SHAPES = {
    "llama-3.2-1b": shape("llama", 2048, 16, 32, 8, 8192, 128256, 5e5, 1e-5, True, 32.0),
    "llama-3.2-3b": shape("llama", 3072, 28, 24, 8, 8192, 128256, 5e5, 1e-5, True, 32.0),
    "llama-3.1-8b": shape("llama", 4096, 32, 32, 8, 14336, 128256, 5e5, 1e-5, False, 8.0),
    "llama-2-7b": shape("llama", 4096, 32, 32, 32, 11008, 32000, 1e4, 1e-5, False),
    "qwen2.5-3b": shape("qwen2", 2048, 36, 16, 2, 11008, 151936, 1e6, 1e-6, True),
    "qwen2.5-7b": shape("qwen2", 3584, 28, 28, 4, 18944, 152064, 1e6, 1e-6, False),
}


def build(name):
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
    values = dict(SHAPES[name])
    kind, theta, factor = values.pop("kind"), values.pop("theta"), values.pop("factor")
    rope = {"rope_type": "default", "rope_theta": theta}
    if factor:
        rope = {**LLAMA3, "factor": factor, "rope_theta": theta}
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](
        **values, max_position_embeddings=32768, rope_parameters=rope)
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval()


LLAVA = "llava-1.5-7b"
IMAGE_TOKEN, IMAGE_TOKENS, WORDS = 32000, 576, 32


def build_llava():
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    text = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
                       intermediate_size=11008, vocab_size=32064, max_position_embeddings=4096, rms_norm_eps=1e-5)
    tower = CLIPVisionConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
                             image_size=336, patch_size=14, projection_dim=768)
    config = LlavaConfig(text_config=text, vision_config=tower, image_token_index=IMAGE_TOKEN)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    return model.eval()


def llava_first_token(model, batch, new):
    """(seconds to the first token of a prompt of an image and some words, from pixels that are on the card; seconds a
    step of `new` greedy ones behind it)."""
    import torch
    words = torch.randint(0, IMAGE_TOKEN, (batch, WORDS), device="cuda")
    ids = torch.cat([torch.full((batch, IMAGE_TOKENS), IMAGE_TOKEN, device="cuda"), words], 1)
    pixels = torch.randn(batch, 3, 336, 336, device="cuda", dtype=torch.bfloat16)
    state = {}

    def first():
        out = model(input_ids=ids, pixel_values=pixels, use_cache=True, logits_to_keep=1)
        state["token"], state["cache"] = out.logits[:, -1:].argmax(-1), out.past_key_values
        state["token"].cpu()

    def steps():
        for _ in range(new):
            out = model(input_ids=state["token"], past_key_values=state["cache"], use_cache=True)
            state["token"] = out.logits[:, -1:].argmax(-1)

    with torch.inference_mode():
        firsts, decodes = [], []
        for _ in range(4):
            firsts.append(timed(first))
            decodes.append(timed(steps) / new)
        return statistics.median(firsts[1:]), statistics.median(decodes[1:])


def timed(work):
    import torch
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def prefill_ids(model, batch, tokens):
    import torch
    return torch.randint(0, model.config.vocab_size, (batch, tokens), device="cuda")


def eager_decode(model, batch, prompt, new):
    """Seconds a step of greedy decoding, again and again over the same key lengths."""
    import torch

    def generate():
        out = model(prefill_ids(model, batch, prompt), use_cache=True)
        cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)

        def steps():
            nonlocal token
            for _ in range(new):
                token = model(token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
        return timed(steps) / new

    with torch.inference_mode():
        generate()  # meets every key length once
        return statistics.median(generate() for _ in range(3))


def compiled_decode(model, prompt, new):
    """Seconds a step of generate() with a static cache, which compiles the step. The prompt's part is taken out by
    the difference of two lengths."""
    import torch
    ids = prefill_ids(model, 1, prompt)
    model.generation_config.pad_token_id = 0

    def generate(tokens):
        return timed(lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                                            min_new_tokens=tokens, do_sample=False, cache_implementation="static"))
    short = new // 4
    for tokens in (new, short, new, short):  # compiles, then records its graphs
        generate(tokens)
    return statistics.median((generate(new) - generate(short)) / (new - short) for _ in range(5))


def prefill(model, batch, tokens):
    import torch
    ids = prefill_ids(model, batch, tokens)
    with torch.inference_mode():
        def once():
            model(ids, use_cache=True, logits_to_keep=1)
        once()
        once()
        return statistics.median(timed(once) for _ in range(5))


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama-3.2-1b,llama-3.2-3b", help=", ".join([*SHAPES, LLAVA]))
    parser.add_argument("--batch", type=numbers, default=[1])
    parser.add_argument("--prompt", type=int, default=128, help="tokens in the cache before decoding")
    parser.add_argument("--new", type=int, default=128, help="tokens to decode")
    parser.add_argument("--prefill", default="", help="BATCHxTOKENS,… to measure, say 8x2048")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    import torch
    import transformers
    rows = []

    def report(name, test, batch, seconds, tokens):
        rows.append({"model": name, "test": test, "batch": batch, "milliseconds": 1e3 * seconds,
                     "tokens_per_second": tokens / seconds})
        if not arguments.json:
            print(f"| {name} | {test} | {batch} | {tokens / seconds:.1f} | {1e3 * seconds:.3f} |", flush=True)

    if not arguments.json:
        print(f"transformers {transformers.__version__}, torch {torch.__version__}, {torch.cuda.get_device_name()}")
        print("| model | test | batch | tokens/s | ms |\n|---|---|---:|---:|---:|")
    for name in arguments.shape.split(","):
        if name == LLAVA:
            model = build_llava()
            for batch in arguments.batch:
                first, step = llava_first_token(model, batch, arguments.new)
                report(name, f"first token, image + {WORDS}", batch, first, batch * (IMAGE_TOKENS + WORDS))
                report(name, "eager decode after an image", batch, step, batch)
            del model
            torch.cuda.empty_cache()
            continue
        if name not in SHAPES:
            sys.exit(f"there is no shape {name}; there are {', '.join([*SHAPES, LLAVA])}")
        model = build(name)
        for batch in arguments.batch:
            report(name, "eager decode", batch, eager_decode(model, batch, arguments.prompt, arguments.new), batch)
        for part in filter(None, arguments.prefill.split(",")):
            batch, tokens = map(int, part.split("x"))
            report(name, f"prefill {tokens}", batch, prefill(model, batch, tokens), batch * tokens)
        if arguments.compile:
            report(name, "compiled decode", 1, compiled_decode(model, arguments.prompt, arguments.new), 1)
        del model
        torch.cuda.empty_cache()
    if arguments.json:
        print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__,
                          "gpu": torch.cuda.get_device_name(), "rows": rows}))


if __name__ == "__main__":
    main()
