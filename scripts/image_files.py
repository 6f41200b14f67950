"""Image files of every kind that src/image reads, drawn and written with numpy and Pillow (pip: pillow, numpy).

Used by check_image.py and make_image_golden.py. What Pillow cannot write (16-bit colour, interlaced rows, YCCK) is put
together here byte by byte.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]  # x, y, steps


def picture(rng, width, height, channels=3):
    """(H, W, channels) uint8: smooth waves, hard edges and some noise, so that filters and codecs have work."""
    y, x = np.mgrid[0:height, 0:width]
    layers = []
    for _ in range(channels):
        a, b, c = rng.uniform(0.01, 0.4, 3)
        wave = 127 + 90 * np.sin(a * x + 3 * c) * np.cos(b * y)
        edge = 60 * ((x * 3 + y * 2) % int(rng.integers(5, 40)) < 3)
        layers.append(wave + edge + rng.normal(0, 6, (height, width)))
    return np.clip(np.stack(layers, -1), 0, 255).astype(np.uint8)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(samples, depth, color, palette=None, transparency=None, interlaced=False, extra=b"", late=b""):
    """A PNG of `samples` (H, W, channels) at `depth` bits; rows unfiltered; `extra` chunks before, `late` behind."""
    height, width, _ = samples.shape
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))
    out += extra
    if palette is not None:
        out += chunk(b"PLTE", bytes(list(palette)))
    if transparency is not None:
        out += chunk(b"tRNS", bytes(list(transparency)))
    rows = bytearray()
    for x, y, step_x, step_y in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        for row in samples[y::step_y, x::step_x]:
            if row.size:
                rows += b"\0" + pack_row(row.ravel(), depth)
    return out + chunk(b"IDAT", zlib.compress(bytes(rows))) + late + chunk(b"IEND", b"")


def pack_row(row, depth):
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def save(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def exif(orientation, big=False, kind=3):
    """A TIFF structure whose only entry is the orientation, as a byte (1), 2 bytes (3) or 4 (4)."""
    order = ">" if big else "<"
    value = {1: struct.pack(order + "B3x", orientation), 3: struct.pack(order + "H2x", orientation),
             4: struct.pack(order + "I", orientation)}[kind]
    return ((b"MM" if big else b"II") + struct.pack(order + "HI", 42, 8) +
            struct.pack(order + "HHHI", 1, 0x112, kind, 1) + value + struct.pack(order + "I", 0))


def xmp(orientation, element=False):
    field = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if element else f' tiff:Orientation="{orientation}"'
    return f"<x:xmpmeta><rdf:Description{field}/></x:xmpmeta>".encode()


def as_ycck(jpeg):
    """A CMYK JPEG as Pillow writes it, with the Adobe marker saying that its samples are YCCK."""
    at = jpeg.index(b"Adobe")
    return jpeg[:at + 11] + b"\x02" + jpeg[at + 12:]


def pngs(rng, width, height):
    """(name, bytes) of PNGs of this size in every colour type and depth."""
    for depth in (1, 2, 4, 8, 16):
        yield f"grey{depth}", png(rng.integers(0, 2**depth, (height, width, 1)), depth, 0)
    shallow = rng.integers(0, 300, (height, width, 1))  # 16-bit grey whose values are small
    yield "grey16_dark", png(shallow, 16, 0, transparency=[0, 7])
    for depth in (1, 2, 4, 8):
        colors = rng.integers(0, 256, 3 * 2**depth)
        indices = rng.integers(0, 2**depth, (height, width, 1))
        alpha = rng.integers(0, 256, 2**depth)
        yield f"palette{depth}", png(indices, depth, 3, colors)
        yield f"palette{depth}_alpha", png(indices, depth, 3, colors, alpha)
    yield "palette8_short", png(rng.integers(0, 256, (height, width, 1)), 8, 3, rng.integers(0, 256, 30))
    yield "palette8_key", png(indices, 8, 3, colors, [255, 255, 0])
    for depth in (8, 16):
        top = 2**depth
        yield f"rgb{depth}", png(rng.integers(0, top, (height, width, 3)), depth, 2)
        yield f"grey{depth}_alpha", png(rng.integers(0, top, (height, width, 2)), depth, 4)
        yield f"rgb{depth}_alpha", png(rng.integers(0, top, (height, width, 4)), depth, 6)
    for depth, keys in ((1, (0, 1)), (2, (1, 3)), (8, (0, 200, 300)), (16, (0, 3, 256))):
        for key in keys:  # a transparent grey
            grey = rng.choice([0, 1, key] if depth == 16 else [0, 2**depth - 1, key % 2**depth], (height, width, 1))
            yield f"grey{depth}_key{key}", png(grey, depth, 0, transparency=[key // 256, key % 256])
    deep = rng.choice([0, 0x1234, 0x3412, 0xffff], (height, width, 3))
    yield "rgb16_key", png(deep, 16, 2, transparency=[0x34, 0x12] * 3)
    yield "rgb8_key", png(rng.integers(1, 3, (height, width, 3)), 8, 2, transparency=[0, 1, 0, 2, 0, 2])
    for depth, color, channels in ((1, 0, 1), (4, 3, 1), (8, 2, 3), (16, 6, 4), (16, 0, 1)):
        palette = rng.integers(0, 256, 48) if color == 3 else None
        samples = rng.integers(0, 2**depth, (height, width, channels))
        yield f"adam7_{depth}_{color}", png(samples, depth, color, palette, interlaced=True)


def jpegs(rng, width, height):
    rgb = Image.fromarray(picture(rng, width, height))
    cmyk = Image.frombytes("CMYK", (width, height), picture(rng, width, height, 4).tobytes())
    yield "grey", save(rgb.convert("L"), "JPEG", quality=80)
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"rgb_{name}", save(rgb, "JPEG", quality=85, subsampling=sampling)
        yield f"progressive_{name}", save(rgb, "JPEG", quality=60, subsampling=sampling, progressive=True)
    yield "kept_rgb", save(rgb, "JPEG", quality=90, keep_rgb=True)
    yield "optimized_coarse", save(rgb, "JPEG", quality=5, optimize=True)
    yield "restarts", save(rgb, "JPEG", quality=75, restart_marker_blocks=3)
    yield "cmyk", save(cmyk, "JPEG", quality=85)
    yield "cmyk_progressive", save(cmyk, "JPEG", quality=85, progressive=True)
    yield "ycck", as_ycck(save(cmyk, "JPEG", quality=85))


def webps(rng, width, height):
    rgb = Image.fromarray(picture(rng, width, height))
    rgba = Image.fromarray(picture(rng, width, height, 4))
    yield "lossy", save(rgb, "WEBP", quality=80)
    yield "lossy_coarse", save(rgb, "WEBP", quality=5)
    yield "lossless", save(rgb, "WEBP", lossless=True)
    yield "lossy_alpha", save(rgba, "WEBP", quality=70)
    yield "lossless_alpha", save(rgba, "WEBP", lossless=True)
    yield "lossless_alpha_exact", save(rgba, "WEBP", lossless=True, exact=True)
    yield "animated", save(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], lossless=True)


def turned(rng, width=23, height=14):
    """One picture in all eight orientations and all the places that say so."""
    image = Image.fromarray(picture(rng, width, height))
    samples = np.asarray(image)
    for way in range(10):  # 0 and 9 mean nothing
        yield f"exif{way}.jpg", save(image, "JPEG", quality=90, exif=b"Exif\0\0" + exif(way, big=way % 2 == 1))
        yield f"exif{way}.webp", save(image, "WEBP", lossless=True, exif=exif(way))
        yield f"exif{way}.png", png(samples, 8, 2, extra=chunk(b"eXIf", exif(way, kind=4)))
    for way in (3, 6, 8):
        yield f"late{way}.png", png(samples, 8, 2, late=chunk(b"eXIf", exif(way, big=True)))
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(way)
        yield f"xmp{way}.png", png(samples, 8, 2, extra=chunk(b"iTXt", text))
        profile = b"\nexif\n" + b"%8d\n" % 32 + (b"Exif\0\0" + exif(way)).hex().encode() + b"\n"
        packed = b"Raw profile type exif\0\0" + zlib.compress(profile)
        yield f"profile{way}.png", png(samples, 8, 2, extra=chunk(b"zTXt", packed))
        yield f"xmp{way}.jpg", save(image, "JPEG", quality=90, xmp=xmp(way))
        yield f"xmp{way}.webp", save(image, "WEBP", lossless=True, xmp=xmp(way, element=True))
    yield "byte.png", png(samples, 8, 2, extra=chunk(b"eXIf", exif(6, kind=1)))
    both = dict(exif=b"Exif\0\0" + exif(6), xmp=xmp(3))
    yield "both.jpg", save(image, "JPEG", quality=90, **both)


def offset_animation(rng):
    """A WebP animation whose first frame covers a part of the canvas: one lossless frame at (4, 2) of 20 x 11."""
    still = save(Image.fromarray(picture(rng, 9, 7)), "WEBP", lossless=True)
    payload = still[12:]  # its VP8L chunk
    u24 = lambda n: struct.pack("<I", n)[:3]
    part = lambda name, data: name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    frame = u24(4 // 2) + u24(2 // 2) + u24(8) + u24(6) + u24(100) + b"\0" + payload
    body = b"WEBP" + part(b"VP8X", b"\x02\0\0\0" + u24(19) + u24(10)) + part(b"ANIM", b"\xff\x80\x40\x20\0\0")
    body += part(b"ANMF", frame)
    return b"RIFF" + struct.pack("<I", len(body)) + body
