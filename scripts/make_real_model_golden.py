#!/usr/bin/env python3
"""Makes tests/golden/smollm2: what transformers computes in fp32 with a real model's GGUF file, which it unpacks.

Run: python3 scripts/make_real_model_golden.py MODEL.gguf [FOLDER]     (pip: torch, transformers >= 5, gguf, accelerate,
     safetensors). MODEL is the SmolLM2-135M-Instruct.Q4_1.gguf that `llamita pull smollm2-135m-instruct` fetches.

Reads FOLDER/text.txt and writes beside it
  model.sha256         of MODEL, so that the tests take no other file for it
  golden.safetensors   ids (T); of each position the 64 most probable next tokens: top_ids (T, 64), top_logits (T, 64), and
                       log_sum (T), the logarithm of the sum over all tokens of exp(logit)
"""

import hashlib
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP = 64


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    path = pathlib.Path(sys.argv[1])
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else ROOT / "tests" / "golden" / "smollm2"
    where = dict(pretrained_model_name_or_path=str(path.parent), gguf_file=path.name)
    text = (folder / "text.txt").read_text(encoding="utf-8")
    ids = AutoTokenizer.from_pretrained(**where).encode(text, add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    top = logits.topk(TOP)
    save_file({"ids": torch.tensor(ids, dtype=torch.int32), "top_ids": top.indices.to(torch.int32).contiguous(),
               "top_logits": top.values.contiguous(), "log_sum": logits.double().logsumexp(-1).float().contiguous()},
              folder / "golden.safetensors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "model.sha256").write_text(f"{digest}  {path.name}\n")
    print(f"{folder}: {len(ids)} positions")


if __name__ == "__main__":
    main()
