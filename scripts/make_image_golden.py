#!/usr/bin/env python3
"""Makes tests/golden/image (small images and what transformers makes of them) and the seeds of the image fuzz targets.

Run: python3 scripts/make_image_golden.py [ROOT]     (pip: pillow >= 13, numpy, transformers >= 5, safetensors; no torch)

  files/*             the images
  golden.safetensors  pixels.FILE: U8 (H,W,3), load_image's; prepared.N.FILE: F32 (3,H,W), the processor's of configs.json's
                      Nth; resized.FILTER.WxH.FILE: U8 (H,W,3), Pillow's
  configs.json        preprocessor_config.json contents
"""

import json
import pathlib
import shutil
import sys

import numpy as np
from safetensors.numpy import save_file
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

import image_files

PNGS = ["grey1", "grey2_key1", "grey16", "grey16_dark", "palette2", "palette4_alpha", "palette8_key", "rgb8", "rgb16",
        "grey8_alpha", "grey16_alpha", "rgb16_alpha", "rgb8_key", "adam7_8_2", "adam7_4_3"]
JPEGS = ["grey", "rgb_444", "rgb_420", "progressive_420", "restarts", "cmyk", "ycck"]
WEBPS = ["lossy", "lossless", "lossy_alpha", "lossless_alpha", "animated"]
TURNED = [f"exif{way}.png" for way in range(1, 9)] + ["exif6.jpg", "exif8.webp", "late3.png", "xmp6.png", "xmp3.jpg",
                                                      "xmp8.webp", "profile6.png", "both.jpg"]
SEEDS = {"png": ["grey1.png", "grey16_dark.png", "palette4_alpha.png", "rgb8_key.png", "adam7_4_3.png", "exif6.png",
                 "xmp6.png", "profile6.png"],
         "jpeg": ["grey.jpg", "rgb_420.jpg", "progressive_420.jpg", "restarts.jpg", "cmyk.jpg", "exif6.jpg", "xmp3.jpg"],
         "webp": ["lossy.webp", "lossless.webp", "lossy_alpha.webp", "animated.webp", "exif8.webp", "offset.webp"]}

CONFIGS = [
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16},
     "resample": 3},
    {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "size": {"shortest_edge": 12},
     "crop_size": {"height": 12, "width": 12}},
    {"image_processor_type": "CLIPImageProcessor", "do_resize": False, "crop_size": {"height": 9, "width": 20}},
    {"image_processor_type": "CLIPImageProcessor", "size": {"height": 8, "width": 6}, "do_center_crop": False,
     "do_normalize": False, "resample": 2},
]
PREPARED = ["rgb8.png", "rgb8_key.png", "palette8_key.png", "exif6.png", "exif1.png"]


def write_images(folder):
    rng = np.random.default_rng(3)
    for suffix, kinds, wanted in (("png", image_files.pngs, PNGS), ("jpg", image_files.jpegs, JPEGS),
                                  ("webp", image_files.webps, WEBPS)):
        for name, data in kinds(rng, 13, 9):
            if name in wanted:
                (folder / f"{name}.{suffix}").write_bytes(data)
    for name, data in image_files.turned(rng, 11, 7):
        if name in TURNED:
            (folder / name).write_bytes(data)
    (folder / "offset.webp").write_bytes(image_files.offset_animation(rng))


def false_length(png):
    at = png.index(b"zTXt") - 4
    return png[:at] + b"\x28\0\0\x4e" + png[at + 4:]


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    target = root / "tests" / "golden" / "image"
    shutil.rmtree(target, ignore_errors=True)
    files = target / "files"
    files.mkdir(parents=True)
    write_images(files)

    out = {}
    for path in sorted(files.iterdir()):
        image = load_image(str(path))
        out[f"pixels.{path.name}"] = np.array(image)
    for number, config in enumerate(CONFIGS):
        kind = LlavaImageProcessorPil if config["image_processor_type"].startswith("Llava") else CLIPImageProcessorPil
        processor = kind(**{k: v for k, v in config.items() if k != "image_processor_type"})
        for name in PREPARED:
            values = processor(load_image(str(files / name)))["pixel_values"][0]
            out[f"prepared.{number}.{name}"] = np.ascontiguousarray(values, np.float32)
    for resample in range(6):
        for name, width, height in (("rgb8.png", 7, 4), ("rgb8.png", 16, 11), ("exif6.png", 20, 5), ("exif1.png", 3, 30)):
            resized = load_image(str(files / name)).resize((width, height), resample)
            out[f"resized.{resample}.{width}x{height}.{name}"] = np.array(resized)
    save_file(out, str(target / "golden.safetensors"))
    (target / "configs.json").write_text(json.dumps(CONFIGS, indent=1) + "\n")

    for name, seeds in SEEDS.items():
        corpus = root / "tests" / "fuzz" / "corpus" / name
        shutil.rmtree(corpus, ignore_errors=True)
        corpus.mkdir(parents=True)
        for seed in seeds:
            shutil.copyfile(files / seed, corpus / pathlib.Path(seed).stem)
    # A chunk that claims more than the file has, which a reader must not believe.
    (root / "tests/fuzz/corpus/png/false_length").write_bytes(false_length((files / "profile6.png").read_bytes()))


if __name__ == "__main__":
    main()
