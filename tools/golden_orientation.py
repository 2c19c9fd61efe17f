#!/usr/bin/env python3
"""Writes `crates/models/tests/fixtures/image/orientation.json`: small pictures that note an orientation, and what Pillow makes of
them when it turns them upright.

    pip install pillow==13.0.0 numpy==2.4.6
    python tools/golden_orientation.py

Everything is drawn from a seed, so the same versions write the same file.
"""

import io
import json
import re
import struct
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps, PngImagePlugin

OUT = Path(__file__).resolve().parent.parent / "crates/models/tests/fixtures/image/orientation.json"
SIZE = (5, 3)


def tiff(number: int, order: str = "<", kind: int = 3) -> bytes:
    """A TIFF file of two entries: the resolution unit and the orientation."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([number, 0] if kind == 3 else [number]))
    unit = struct.pack(order + "HHIHH", 0x0100, 3, 1, 5, 0)
    return head + struct.pack(order + "H", 2) + unit + struct.pack(order + "HHI", 0x0112, kind, 1) + value + bytes(4)


def xmp(number: int) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{number}"/></x:xmpmeta>'.encode()


def app1(data: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


def main() -> None:
    rng = np.random.default_rng(16)
    image = Image.fromarray(rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8))

    def jpeg(*segments: bytes) -> bytes:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
        plain = out.getvalue()
        return plain[:2] + b"".join(app1(segment) for segment in segments) + plain[2:]

    def png(exif: bytes | None = None, text: bytes | None = None) -> bytes:
        out, info = io.BytesIO(), PngImagePlugin.PngInfo()
        if text is not None:
            info.add_itxt("XML:com.adobe.xmp", text.decode())
        image.save(out, "PNG", exif=b"" if exif is None else b"Exif\0\0" + exif, pnginfo=info)
        return out.getvalue()

    exif = b"Exif\0\0"
    adobe = b"http://ns.adobe.com/xap/1.0/\0"
    files = {}
    for number in range(0, 10):
        files[f"jpeg-{number}"] = jpeg(exif + tiff(number))
        files[f"png-{number}"] = png(tiff(number))
    files |= {
        "jpeg-none": jpeg(),
        "jpeg-big-endian-6": jpeg(exif + tiff(6, ">")),
        "jpeg-long-5": jpeg(exif + tiff(5, "<", 4)),
        "jpeg-xmp-8": jpeg(adobe + xmp(8)),
        "jpeg-xmp-8-exif-2": jpeg(adobe + xmp(8), exif + tiff(2)),
        "jpeg-exif-in-two-segments-7": jpeg(exif + tiff(7)[:20], exif + tiff(7)[20:]),
        "png-big-endian-6": png(tiff(6, ">")),
        "png-xmp-3": png(None, xmp(3)),
    }
    golden = []
    for name, data in files.items():
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        golden.append(
            {
                "name": name,
                "file": data.hex(),
                "number": int(m.group(1)) if (m := re.search(r"-([1-8])$", name)) else 1,
                "width": upright.width,
                "height": upright.height,
                "pixels": upright.tobytes().hex(),
            }
        )
    lines = ",\n".join(json.dumps(one) for one in golden)
    OUT.write_text(f'{{"pillow": "{PIL.__version__}", "pictures": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
