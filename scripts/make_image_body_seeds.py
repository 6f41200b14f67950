#!/usr/bin/env python3
"""Makes the seeds of the fuzz target image_body (tests/fuzz/image_body_fuzz.cc) from tests/golden/image/files.

Run: python3 scripts/make_image_body_seeds.py [ROOT]     (standard library only)
"""

import base64
import json
import pathlib
import shutil
import struct
import sys
import zlib

PNG, JPEG, WEBP, HTML = 0, 1, 2, 4  # media types as the target numbers them
END, TEXT, SHORT, OBJECT, DETAIL, NESTED, ARRAY, LITERAL = range(8)  # kinds of parts
UNPADDED, BROKEN_LINE, OVERPADDED, OTHER_SCHEME, NO_BASE64 = (flaw << 4 for flaw in range(1, 6))


def huge_png():
    """A header of 2^31 - 1 pixels a side, and a few bytes that would decode to them."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def huge_jpeg(small):
    at = small.index(b"\xff\xc0") + 5  # the frame header: height, width
    return small[:at] + b"\xff\xff\xff\xff" + small[at + 4:]


def huge_webp(small):
    at = small.index(b"\x2f") + 1  # VP8L: 14 bits each of width - 1 and height - 1
    bits = struct.unpack("<I", small[at:at + 4])[0] | 0xFFFFFFF
    return small[:at] + struct.pack("<I", bits) + small[at + 4:]


def program(*parts):
    return b"".join(bytes([kind, media]) + struct.pack(">H", len(data)) + data for kind, media, data in parts)


def body(*content):
    return json.dumps({"messages": [{"role": "user", "content": list(content)}]}).encode()


def image(value):
    return {"type": "image_url", "image_url": value}


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    files = root / "tests" / "golden" / "image" / "files"
    png, jpeg, webp = ((files / name).read_bytes() for name in ("grey1.png", "grey.jpg", "lossless.webp"))
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    seeds = {
        "png": program((TEXT, 0, b"What is this?"), (OBJECT, PNG, png)),
        "jpeg": program((SHORT, JPEG, jpeg)),
        "webp": program((DETAIL, WEBP, webp)),
        "other_type": program((OBJECT, JPEG, png), (TEXT, 0, b"and"), (OBJECT, HTML, webp)),
        "two_messages": program((OBJECT, PNG, png), (END, 0, b""), (OBJECT, PNG, png), (TEXT, 0, b"The same?")),
        "four": program(*[(OBJECT, PNG, png)] * 4),
        "five": program(*[(OBJECT, PNG, png)] * 5),
        "too_large": program((OBJECT, PNG, png + bytes(4097 - len(png)))),
        "largest": program((OBJECT, PNG, png + bytes(4096 - len(png)))),
        "huge_png": program((OBJECT, PNG, huge_png())),
        "huge_jpeg": program((OBJECT, JPEG, huge_jpeg(jpeg))),
        "huge_webp": program((OBJECT, WEBP, huge_webp(webp))),
        "unpadded": program((OBJECT | UNPADDED, PNG, png), (OBJECT | UNPADDED, PNG, png[:-1]), (OBJECT | UNPADDED, PNG, png[:-2])),
        "broken_line": program((OBJECT | BROKEN_LINE, PNG, png)),
        "overpadded": program((OBJECT | OVERPADDED, PNG, png)),
        "other_scheme": program((OBJECT | OTHER_SCHEME, PNG, png)),
        "no_base64": program((OBJECT | NO_BASE64, PNG, png)),
        "nested": program((NESTED, PNG, png), (ARRAY, PNG, png), (ARRAY, 8, png), (LITERAL, PNG, b"https://example.org/a.png")),
        "empty": program((OBJECT, PNG, b""), (TEXT, 0, b"")),
        "body": body({"type": "text", "text": "What is this?"}, image({"url": url, "detail": "high"})),
        "body_short": body(image(url), {"type": "text", "text": "?"}),
        "body_escaped": body(image({"url": url})).replace(b"data:", b"\\u0064ata\\u003a"),
        "body_deep": body({"type": "image_url", "image_url": [[{"url": [image({"url": url})]}]]}),
        "body_twice": b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,","url":"data:,"}}]}]}',
        "body_assistant": json.dumps({"messages": [{"role": "assistant", "content": [image({"url": url})]}]}).encode(),
    }
    corpus = root / "tests" / "fuzz" / "corpus" / "image_body"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    for name, data in seeds.items():
        (corpus / name).write_bytes(data)


if __name__ == "__main__":
    main()
