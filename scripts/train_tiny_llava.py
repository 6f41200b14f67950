#!/usr/bin/env python3
"""Trains a tiny LLaVA that really sees, in LLaVA-1.5's exact format, on pictures made by tiny_llava_pictures.py.

Run: python3 scripts/train_tiny_llava.py --out FOLDER [--minutes 4]
     (one GPU, no network; pip: torch, transformers >= 5, tokenizers, safetensors, pillow, numpy)
     Making the pictures takes CPU time alone: --prepare FILE does that and stops, --pool FILE takes what it made.

FOLDER becomes a model folder as published ones are (weights in float16, under 4 MiB) with, beside it:
  pictures/*.png, pictures/expected.json   unseen pictures, a question and the true answer for each, and what the model says
  golden.safetensors, golden.json          what transformers computes in fp32 for two prompts. .0 has one image: ids.0 (T),
                                           pixel_values.0 (1,3,S,S), tower.0 (1,1+P,C) = hidden state -2, projected.0
                                           (1,P,C), logits.0 (16,V) of the last 16 tokens; .1 has two: ids.1, logits.1
The last lines print the accuracy on unseen pictures, measured on the weights as they were written; the exit code is 1 when
it is below 95 %.

While it learns, a linear head on the projector's input is also asked which shape lies over each patch. That gives the
tower something to learn from before the language model looks at it; the head is thrown away.
"""

import argparse
import collections
import json
import math
import multiprocessing
import os
import pathlib
import pickle
import shutil
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # worker processes are forked

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import LlavaConfig, LlavaForConditionalGeneration

import tiny_llava_files as files
import tiny_llava_pictures as pictures

LENGTH = 112          # tokens of a training sequence: the image and about four turns
TURNS, VARIANTS = 4, 3  # conversations about each picture
PART = 500            # pictures a worker makes at a time
BATCH = 512
PEAK_RATE, WARM_UP, WEIGHT_DECAY = 1.5e-3, 200, 0.05
ACCURACY = 0.95
MOST_PICTURE_BYTES = 6144
TRAINING_SEED, CHECK_SEED, TEST_SEED, SHOWN_SEED, COUNT_SEED = 1, 2, 3, 4, 5  # streams of pictures that share none

TOKENIZER = files.make_tokenizer()
CONVERSATIONS = files.Conversations(TOKENIZER)


# ---- pictures -------------------------------------------------------------------------------------------------------

def make_part(job):
    """Pictures with conversations about them: pixels, patch labels, ids, targets; for worker processes."""
    stream, number = job
    rng = np.random.default_rng([stream, number])
    pixels, labels, ids, targets = [], [], [], []
    for _ in range(PART):
        image, things, main = pictures.picture(rng)
        pixels.append(pictures.prepare(image, files.IMAGE_SIZE))
        labels.append(pictures.patch_labels(things, image.size, files.IMAGE_SIZE, files.PATCH))
        for _ in range(VARIANTS):
            turns = [pictures.ask(rng, things, main)[1:] for _ in range(TURNS)]
            one_ids, one_targets = CONVERSATIONS.training(turns, LENGTH)
            ids.append(one_ids)
            targets.append(one_targets)
    shape = (PART, VARIANTS, LENGTH)
    return (np.stack(pixels), np.stack(labels).astype(np.uint8), np.array(ids, np.int16).reshape(shape),
            np.array(targets, np.int16).reshape(shape))


def make_question_part(job):
    """PART single questions about fresh pictures: [(pixels, kind of question, question, answer)]."""
    stream, number, only = job
    rng = np.random.default_rng([stream, number])
    out = []
    while len(out) < PART:
        image, things, main = pictures.picture(rng)
        asked = pictures.ask(rng, things, main, only)
        if asked:
            out.append((pictures.prepare(image, files.IMAGE_SIZE), *asked))
    return out


def make_pool(count):
    """(training pictures as arrays, {"check", "test", "counts": unseen pictures with single questions})."""
    started = time.time()
    workers = len(os.sched_getaffinity(0))
    wanted = {"check": (CHECK_SEED, 1000, None), "test": (TEST_SEED, 4000, None), "counts": (COUNT_SEED, 2000, "count")}
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        parts = pool.map(make_part, [(TRAINING_SEED, number) for number in range(math.ceil(count / PART))], 1)
        questions = {}
        for name, (stream, many, only) in wanted.items():
            jobs = [(stream, number, only) for number in range(many // PART)]
            questions[name] = [question for part in pool.map(make_question_part, jobs, 1) for question in part]
    arrays = [np.concatenate(column) for column in zip(*parts)]
    print(f"{len(arrays[0])} pictures made by {workers} processes in {time.time() - started:.0f} s", flush=True)
    return arrays, questions


def pixel_values(pixels):
    """uint8 (N, S, S, 3) -> what the processor gives, float32 (N, 3, S, S), in its order of operations."""
    scaled = (pixels.double() * files.PREPROCESSOR["rescale_factor"]).float()
    mean, std = (torch.tensor(v, device=pixels.device) for v in (files.MEAN, files.STD))
    return ((scaled - mean) / std).permute(0, 3, 1, 2).contiguous()


def varied(pixels):
    """The same pictures in a little different light and with grain, so that none is ever seen twice."""
    tint = 5 * torch.randn(len(pixels), 1, 1, 3, device=pixels.device)
    return (pixels + tint + 2 * torch.randn(pixels.shape, device=pixels.device)).round().clamp(0, 255)


# ---- model ----------------------------------------------------------------------------------------------------------

def new_model():
    config = files.model_config(TOKENIZER)
    config.pop("torch_dtype")  # trained in float32, stored in float16
    config["text_config"].pop("torch_dtype")
    return LlavaForConditionalGeneration(LlavaConfig.from_dict(config)).float()


def module(model, ending):
    return next(m for name, m in model.named_modules() if name.endswith(ending))


class Tap:
    """Keeps what last went into the projector and what came out."""

    def __init__(self, model):
        self.features = self.projected = None
        self.hook = module(model, "multi_modal_projector").register_forward_hook(self.keep)

    def keep(self, _, inputs, output):
        self.features, self.projected = inputs[0], output


def evaluate(model, questions, device):
    """[bool]: for each question whether greedy decoding gives the answer and then ends.

    One pass over prompt and answer tells: greedy decoding follows it exactly when each of its tokens is the likeliest.
    """
    right = []
    for at in range(0, len(questions), 1000):
        part = questions[at:at + 1000]
        sequences = [CONVERSATIONS.training([(question, answer)], LENGTH) for _, _, question, answer in part]
        ids, targets = (torch.tensor([s[i] for s in sequences], device=device) for i in (0, 1))
        pixels = torch.from_numpy(np.stack([q[0] for q in part])).to(device)
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixel_values(pixels), use_cache=False).logits
        fine = (logits.argmax(-1) == targets) | (targets == -100)
        right += fine.all(1).tolist()
    return right


def report(questions, right):
    by_kind = collections.defaultdict(list)
    for question, fine in zip(questions, right):
        by_kind[question[1]].append(fine)
    return ", ".join(f"{kind} {np.mean(v):.3f}" for kind, v in sorted(by_kind.items()))


def train(model, pool, check, minutes, device):
    pixels, labels, ids, targets = (torch.from_numpy(array).to(device) for array in pool)
    tap = Tap(model)
    head = nn.Linear(files.model_config(TOKENIZER)["vision_config"]["hidden_size"], 1 + len(pictures.KINDS)).to(device)
    parameters = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
                                   {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}],
                                  lr=PEAK_RATE, betas=(0.9, 0.98), fused=device.type == "cuda")
    started = last_shown = time.time()
    step = 0
    while (progress := (time.time() - started) / (60 * minutes)) < 1:
        rate = PEAK_RATE * min((step + 1) / WARM_UP, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        pick = torch.randint(len(pixels), (BATCH,), device=device)
        variant = torch.randint(VARIANTS, (BATCH,), device=device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(input_ids=ids[pick, variant].long(), pixel_values=pixel_values(varied(pixels[pick])),
                           use_cache=False).logits
            seen = head(tap.features)
        loss = cross_entropy(logits.float().flatten(0, 1), targets[pick, variant].long().flatten(), ignore_index=-100)
        hint = cross_entropy(seen.float().flatten(0, 1), labels[pick].long().flatten())
        optimizer.zero_grad(set_to_none=True)
        (loss + max(0.0, 1 - 1.5 * progress) * hint).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step == 1 or time.time() - last_shown > 20:
            last_shown = time.time()
            right = evaluate(model, check, device)
            print(f"{progress:4.0%} step {step}: loss {loss.item():.4f}, patches {hint.item():.4f}, unseen "
                  f"{np.mean(right):.3f} ({report(check, right)})", flush=True)
    tap.hook.remove()
    print(f"{step} steps in {minutes} minutes", flush=True)


# ---- what is written ------------------------------------------------------------------------------------------------

def write_weights(model, folder):
    """model.safetensors under the published names; what is read back must be what was written."""
    state = {files.published_name(name): value.detach().cpu().to(torch.float16).contiguous()
             for name, value in model.state_dict().items() if not name.endswith("position_ids")}
    for name in ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight",
                 "language_model.model.layers.0.self_attn.q_proj.weight", "language_model.model.norm.weight",
                 "multi_modal_projector.linear_1.bias", "vision_tower.vision_model.embeddings.class_embedding",
                 "vision_tower.vision_model.pre_layrnorm.weight",
                 "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"):
        assert name in state, (name, sorted(state))
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    again = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for name, value in again.state_dict().items():
        if not name.endswith("position_ids"):
            assert torch.equal(value, state[files.published_name(name)].float()), name
    return again


def greedy(model, ids, pixels, most=8):
    """The reply as text, by the plainest loop there is."""
    ids, reply = list(ids), []
    while len(reply) < most:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), pixel_values=pixels, use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token == files.EOS:
            break
        reply.append(token)
        ids.append(token)
    return TOKENIZER.decode(reply).strip()


def write_pictures(model, folder, count):
    """Unseen pictures as PNG files. They are chosen by their size in bytes, never by what the model says."""
    target = folder / "pictures"
    target.mkdir()
    rng = np.random.default_rng([SHOWN_SEED, 0])
    kinds = ["count"] * (count // 2) + list(pictures.QUESTIONS)
    shown = []
    while len(shown) < count:
        image, things, main = pictures.picture(rng)
        asked = pictures.ask(rng, things, main, kinds[len(shown) % len(kinds)])
        path = target / f"{len(shown):02d}.png"
        image.save(path, optimize=True)
        if not asked or path.stat().st_size > MOST_PICTURE_BYTES:
            path.unlink()
            continue
        _, question, answer = asked
        reply = greedy(model, CONVERSATIONS.prompt(question), read_picture(path))
        shown.append({"file": path.name, "question": question, "answer": answer, "model": reply})
    right = sum(s["answer"] == s["model"] for s in shown)
    (target / "expected.json").write_text(json.dumps(shown, indent=1) + "\n")
    print(f"{right} of the {count} pictures that are kept are answered rightly")
    return [target / s["file"] for s in shown]


def read_picture(path):
    """(1, 3, S, S), from the file as a user's program would."""
    pixels = pictures.prepare(Image.open(path).convert("RGB"), files.IMAGE_SIZE)
    return pixel_values(torch.from_numpy(pixels.copy())[None])


def golden_entries(model, number, question, paths):
    text = "USER: " + "<image>\n" * len(paths) + f"{question} ASSISTANT:"
    ids = []
    for token in TOKENIZER.encode(text).ids:
        ids += [token] * (files.IMAGE_TOKENS if token == CONVERSATIONS.image else 1)
    pixels = torch.cat([read_picture(p) for p in paths])
    tap = Tap(model)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), pixel_values=pixels, use_cache=False).logits[0]
        tower = module(model, "vision_tower")(pixels, output_hidden_states=True).hidden_states[-2]
    tap.hook.remove()
    assert torch.allclose(tower[:, 1:], tap.features, atol=1e-5), "hidden state -2 is not what the projector takes"
    out = {"ids": torch.tensor(ids, dtype=torch.int32), "pixel_values": pixels, "tower": tower,
           "projected": tap.projected.reshape(len(paths), files.IMAGE_TOKENS, -1), "logits": logits[-16:]}
    if number > 0:  # the same code again: only its end is kept
        out = {"ids": out["ids"], "logits": out["logits"]}
    tensors = {f"{name}.{number}": value.clone() for name, value in out.items()}
    return tensors, {"text": text, "files": [p.name for p in paths]}


def write_golden(model, folder, paths):
    one, said_one = golden_entries(model, 0, "How many red circles are there?", paths[:1])
    two, said_two = golden_entries(model, 1, "What is at the center?", paths[1:3])
    save_file({**one, **two}, str(folder / "golden.safetensors"))
    (folder / "golden.json").write_text(json.dumps([said_one, said_two], indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--prepare", type=pathlib.Path, help="only make the pictures and write them to this file")
    parser.add_argument("--pool", type=pathlib.Path, help="what --prepare wrote")
    parser.add_argument("--minutes", type=float, default=4, help="of training proper; making the pictures comes before")
    parser.add_argument("--pictures", type=int, default=200_000, help="to train on")
    parser.add_argument("--shown", type=int, default=40, help="test pictures to keep")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if (arguments.out is None) == (arguments.prepare is None):
        parser.error("one of --out and --prepare is needed")
    if arguments.out and arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("train_tiny_llava: there is no GPU; --device cpu takes hours")
    if arguments.pool:
        pool, unseen = pickle.loads(arguments.pool.read_bytes())
    else:
        pool, unseen = make_pool(arguments.pictures)  # before CUDA starts, which does not survive a fork
    if arguments.prepare:
        arguments.prepare.write_bytes(pickle.dumps((pool, unseen), protocol=5))
        return 0

    torch.manual_seed(0)
    device = torch.device(arguments.device)
    torch.set_float32_matmul_precision("high")
    model = new_model().to(device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    files.write_files(arguments.out, TOKENIZER)
    write_weights(model, arguments.out)  # what cannot be read back is better known before the training
    train(model, pool, unseen["check"], arguments.minutes, device)
    written = write_weights(model, arguments.out)
    paths = write_pictures(written, arguments.out, arguments.shown)
    write_golden(written, arguments.out, paths)

    torch.set_float32_matmul_precision("highest")
    questions, counts = unseen["test"], unseen["counts"]
    on_device = written.to(device)
    right, right_counts = evaluate(on_device, questions, device), evaluate(on_device, counts, device)
    size = sum(f.stat().st_size for f in arguments.out.rglob("*") if f.is_file())
    print(f"accuracy on {len(questions)} unseen pictures: {np.mean(right):.4f} ({report(questions, right)})")
    print(f"accuracy of counting on {len(counts)} unseen pictures: {np.mean(right_counts):.4f}")
    print(f"{arguments.out}: {size / 2**20:.2f} MiB in all")
    return 0 if min(np.mean(right), np.mean(right_counts)) >= ACCURACY else 1


if __name__ == "__main__":
    sys.exit(main())
