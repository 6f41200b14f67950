#!/usr/bin/env python3
"""Makes the tiny random LLaVA checkpoints under tests/golden/llava and what transformers computes with them.

Run: python3 scripts/make_llava_golden.py OUT_DIR      (pip: torch, transformers >= 5, safetensors)

Each folder has config.json, model.safetensors and golden.safetensors with, in fp32 on the CPU, for a prompt with one image
and one with two: ids.N (T) with the image token in every place of an image, pixel_values.N (n,3,S,S), tower.N
(n,1+P,C) = the wanted hidden state, projected.N (n,P or 1+P,C), logits.N (T,V). An image takes more than one page of 64
keys. The folders differ in what published ones differ in: how weights are named, and whether the class token is dropped.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

VOCAB, IMAGE = 96, 90
TEXT = dict(vocab_size=VOCAB, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=3, max_position_embeddings=512, bos_token_id=1, eos_token_id=2)
VISION = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=63, patch_size=7,
              projection_dim=32)

# name: (how weights are called, changes of the configuration, stored dtype)
MODELS = {
    "old-names": ("old", {}, torch.float32),
    "new-names": ("new", {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}, torch.float16),
}


def stripped(name):
    """A weight's name without what differs between versions of transformers."""
    for prefix in ("model.language_model.", "language_model.model."):
        if name.startswith(prefix):
            return "text", name.removeprefix(prefix)
    for prefix in ("language_model.lm_head.", "lm_head."):
        if name.startswith(prefix):
            return "head", name.removeprefix(prefix)
    name = name.removeprefix("model.")
    if name.startswith("vision_tower."):
        return "tower", name.removeprefix("vision_tower.").removeprefix("vision_model.")
    return "projector", name.removeprefix("multi_modal_projector.")


PREFIXES = {
    "old": {"text": "language_model.model.", "head": "language_model.lm_head.",
            "tower": "vision_tower.vision_model.", "projector": "multi_modal_projector."},
    "new": {"text": "model.language_model.", "head": "lm_head.",
            "tower": "model.vision_tower.vision_model.", "projector": "model.multi_modal_projector."},
}


def randomise(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or "layrnorm" in name:
            parameter.data = 1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise
        elif parameter.dim() >= 2 and "embed" not in name:
            parameter.data = noise * parameter[0].numel() ** -0.5
        elif "patch_embedding" in name:
            parameter.data = noise * parameter[0].numel() ** -0.5
        else:
            parameter.data = 0.3 * noise if parameter.dim() < 2 else noise


def part(model, ending):
    return next(m for name, m in model.named_modules() if name.endswith(ending))


@torch.no_grad()
def main():
    root = pathlib.Path(sys.argv[1])
    for seed, (name, (naming, changes, dtype)) in enumerate(MODELS.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(seed)
        config = LlavaConfig(text_config=LlamaConfig(**TEXT), vision_config=CLIPVisionConfig(**VISION),
                             image_token_index=IMAGE, **changes)
        model = LlavaForConditionalGeneration(config).float().eval()
        randomise(model, generator)
        model = model.to(dtype)
        model.save_pretrained(folder)
        state = {}
        for key, value in load_file(folder / "model.safetensors").items():
            kind, rest = stripped(key)
            state[PREFIXES[naming][kind] + rest] = value
        if naming == "old":  # a buffer that old checkpoints carry
            state["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(82)[None]
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32,
                                                              attn_implementation="eager").eval()
        rows = 81 + (config.vision_feature_select_strategy == "full")
        golden = {}
        for number, images in enumerate((1, 2)):
            ids = torch.randint(3, IMAGE, (9,), generator=generator).tolist()
            for at in range(images):
                ids += [IMAGE] * rows + torch.randint(3, IMAGE, (5,), generator=generator).tolist()
            pixels = torch.randn(images, 3, 63, 63, generator=generator)
            taken = {}
            hook = part(model, "multi_modal_projector").register_forward_hook(
                lambda _, given, out: taken.update(features=given[0], projected=out))
            logits = model(input_ids=torch.tensor([ids]), pixel_values=pixels, use_cache=False).logits[0]
            hook.remove()
            states = part(model, "vision_tower")(pixels, output_hidden_states=True).hidden_states
            tower = states[config.vision_feature_layer]
            assert torch.allclose(tower[:, -rows:], taken["features"], atol=1e-5)
            golden |= {f"ids.{number}": torch.tensor(ids, dtype=torch.int32), f"pixel_values.{number}": pixels,
                       f"tower.{number}": tower.contiguous(), f"logits.{number}": logits.contiguous(),
                       f"projected.{number}": taken["projected"].reshape(images, rows, -1).contiguous()}
        save_file(golden, folder / "golden.safetensors")
        written = json.loads((folder / "config.json").read_text())
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: {size // 1024} KiB, {written['architectures']}, logits {logits.std():.3f} sd")


if __name__ == "__main__":
    main()
