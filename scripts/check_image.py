#!/usr/bin/env python3
"""Compares src/image with Pillow and transformers: decoded pixels, resized pixels, prepared values.

Run: cmake --build build --target image_pixels
     python3 scripts/check_image.py [BUILD_FOLDER]       (pip: pillow, numpy, transformers >= 5; no torch)

The oracles are transformers' own image_utils.load_image and its PIL-backed CLIPImageProcessor and LlavaImageProcessor,
which import without torch. Decoding may differ by 1 of 255 in a channel (other versions of the JPEG library); resizing
the same pixels and preparing them must be equal to the last bit.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image
from transformers import logging
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

import image_files

SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (3, 5), (1, 90), (17, 31), (64, 64), (101, 57), (333, 250)]
MOST_DECODING_DIFFERENCE = 1


def write_files(folder):
    rng = np.random.default_rng(7)
    files = []

    def add(name, data):
        path = folder / name
        path.write_bytes(data)
        files.append(path)

    for width, height in SIZES:
        for suffix, kinds in (("png", image_files.pngs), ("jpg", image_files.jpegs), ("webp", image_files.webps)):
            for name, data in kinds(rng, width, height):
                add(f"{name}_{width}x{height}.{suffix}", data)
    for name, data in image_files.turned(rng):
        add(name, data)
    add("offset.webp", image_files.offset_animation(rng))
    return files


def ask(tool, arguments, files):
    """The tool's answer for each file: an array, or the message of an error."""
    run = subprocess.run([tool, *map(str, arguments)], input="".join(f"{f}\n" for f in files).encode(),
                         stdout=subprocess.PIPE, check=True)
    data, at = run.stdout, 0
    for _ in files:
        height, width = struct.unpack_from("<ii", data, at)
        at += 8
        if height < 0:
            yield data[at:at + width].decode()
            at += width
            continue
        count = 3 * height * width
        if arguments[0] == "process":
            yield np.frombuffer(data, "<f4", count, at).reshape(3, height, width)
            at += 4 * count
        else:
            yield np.frombuffer(data, np.uint8, count, at).reshape(height, width, 3)
            at += count


class Tally:
    def __init__(self):
        self.failures = 0

    def compare(self, what, ours, theirs, allowed):
        if isinstance(ours, str):
            difference = f"refused: {ours}"
        elif ours.shape != theirs.shape:
            difference = f"{ours.shape} and not {theirs.shape}"
        else:
            worst = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()
            if worst <= allowed:
                return worst
            difference = f"differs by {worst}"
        self.failures += 1
        print(f"{what}: {difference}", file=sys.stderr)
        return np.inf


def check_decoding(tool, files, tally):
    differences = [tally.compare(path.name, ours, np.asarray(load_image(str(path))), MOST_DECODING_DIFFERENCE)
                   for path, ours in zip(files, ask(tool, ["decode"], files))]
    exact = sum(d == 0 for d in differences)
    print(f"decoding: {len(files)} files, {exact} equal bit for bit, worst difference {max(differences):g} of 255")


def hash_of(name):
    return sum(name.encode())


def lossless(files):
    """Files whose pixels are the same in any decoder, so that what follows can be compared exactly."""
    return [f for f in files if f.suffix == ".png" and ("key" in f.name or hash_of(f.name) % 3 == 0)]


def check_resizing(tool, files, tally):
    count = 0
    sizes = [(1, 1), (5, 300), (56, 56), (40, 7), (16, 12), (333, 250), (336, 448)]
    for resample in range(6):
        for width, height in sizes:
            for path, ours in zip(files, ask(tool, ["resize", width, height, resample], files)):
                theirs = np.asarray(load_image(str(path)).resize((width, height), resample))
                tally.compare(f"{path.name} to {width}x{height} by filter {resample}", ours, theirs, 0)
                count += 1
    print(f"resizing: {count} compared")


CONFIGS = [
    # what llava-hf/llava-1.5-7b-hf has, as far as it bears on pixels
    {"image_processor_type": "CLIPImageProcessor", "crop_size": {"height": 336, "width": 336}, "do_center_crop": True,
     "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3,
     "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
     "processor_class": "LlavaProcessor", "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 336}},
    {"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 30, "size": 40, "resample": 2},
    {"image_processor_type": "CLIPImageProcessor"},
    {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": False, "do_center_crop": False},
    {"image_processor_type": "CLIPImageProcessorFast", "size": {"height": 57, "width": 41}, "do_center_crop": False},
    {"image_processor_type": "CLIPImageProcessor", "do_resize": False, "crop_size": {"height": 51, "width": 64}},
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 30, "longest_edge": 50},
     "do_center_crop": False, "do_normalize": False, "resample": 1},
    {"image_processor_type": "CLIPImageProcessor", "size": {"max_height": 100, "max_width": 80}, "do_rescale": False,
     "crop_size": {"height": 97, "width": 60}, "resample": 4},
    {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "size": {"shortest_edge": 56},
     "crop_size": {"height": 56, "width": 56}},
    {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "do_resize": False, "do_center_crop": False,
     "do_rescale": False, "do_normalize": False, "image_mean": [0.9, 0.5, 0.1]},
    {"image_processor_type": "LlavaImageProcessorFast", "size": {"height": 33, "width": 33}, "resample": 0,
     "do_center_crop": False, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 2.0], "rescale_factor": 0.01},
]


def check_processing(tool, files, folder, tally):
    count = 0
    for number, config in enumerate(CONFIGS):
        nested = number % 2 == 1  # both places that transformers reads it from
        model = folder / f"model{number}"
        model.mkdir()
        (model / ("processor_config.json" if nested else "preprocessor_config.json")).write_text(
            json.dumps({"image_processor": config} if nested else config))
        kind = LlavaImageProcessorPil if "Llava" in config.get("image_processor_type", "") else CLIPImageProcessorPil
        processor = kind.from_pretrained(model)
        chosen = files
        if "longest_edge" in str(config) or "max_height" in str(config):
            chosen = [f for f in files if "1x" not in f.name]  # thin strips would lose their width, which both refuse
        for path, ours in zip(chosen, ask(tool, ["process", model], chosen)):
            theirs = processor(load_image(str(path)))["pixel_values"][0]
            tally.compare(f"{path.name} by config {number}", ours, theirs, 0)
            count += 1
    print(f"processing: {len(CONFIGS)} configurations, {count} compared")


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    build = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "build"
    tool = build / "tests" / "image_pixels"
    logging.set_verbosity_error()
    Image.MAX_IMAGE_PIXELS = None
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = write_files(folder)
        check_decoding(tool, files, tally)
        check_resizing(tool, lossless(files), tally)
        check_processing(tool, lossless(files), folder, tally)
    print(f"check_image: {tally.failures} failures")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
