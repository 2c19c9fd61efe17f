#!/usr/bin/env python3
"""Writes the golden files of the image tests: `crates/models/tests/fixtures/image/`.

    pip install pillow==13.0.0 numpy==2.4.6 transformers==5.23.0
    python tools/golden_image.py [--photographs FOLDER]

Everything is synthetic and drawn from a seed, so the same versions write the same files.

    pictures/*        small JPEG and PNG files of every kind, and damaged ones
    golden.json       what Pillow reads from them, and what it makes of them at other sizes
    preprocess.json   preprocessor configurations, and what the Pillow-backed processors of transformers return
    scenes/*          images with the sizes and the content of photographs, and golden.json: what Pillow reads from them,
                      and what the processors of usual networks make of them

With `--photographs`, only FOLDER/golden.json is written, the same for photographs of your own:
`TOKENRANK_PHOTOGRAPHS=FOLDER cargo test -p models --test models scenes` compares them as well.
"""

import argparse
import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import transformers
from PIL import Image, ImageOps
from scenes import scenes
from transformers.image_transforms import center_crop
from transformers.image_utils import ChannelDimension, SizeDict
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

OUT = Path(__file__).resolve().parent.parent / "crates/models/tests/fixtures/image"
VERSIONS = {"pillow": PIL.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
EXPECTED_VERSIONS = {"pillow": "13.0.0", "transformers": "5.23.0", "numpy": "2.4.6"}
PROCESSORS = {
    "ViTImageProcessor": ViTImageProcessorPil,
    "DeiTImageProcessor": DeiTImageProcessorPil,
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
}
FILTERS = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def scene(rng, width: int, height: int, channels: int = 3) -> np.ndarray:
    """Smooth waves, hard edges and noise: every frequency that a decoder or a resampler can get wrong."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        fx, fy, phase = rng.uniform(0.02, 0.5, 2).tolist() + [rng.uniform(0, 6)]
        plane = 127 + 90 * np.sin(fx * x + fy * y + phase)
        plane[(x - width * 0.4) ** 2 + (y - height * 0.6) ** 2 < (min(width, height) * 0.3) ** 2] += 80 * (-1) ** c
        plane[:, width // 3 : width // 3 + 2] = 255 * (c % 2)
        planes.append(plane + rng.normal(0, 6, plane.shape))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- PNG of every kind, which Pillow alone cannot write


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack(samples: np.ndarray, depth: int) -> bytes:
    """Rows of samples [height, width × channels], each row behind a filter byte of 0."""
    rows = []
    for row in samples:
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        elif depth == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            packed = np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()
        rows.append(b"\0" + packed)
    return b"".join(rows)


def png(samples: np.ndarray, depth: int, colour: int, interlaced=False, palette=None, trns=None, before=b"") -> bytes:
    """A PNG of samples [height, width, channels]."""
    height, width, _ = samples.shape
    data = b""
    if interlaced:
        adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        for x0, y0, dx, dy in adam7:
            part = samples[y0::dy, x0::dx]
            if part.size:
                data += pack(part.reshape(part.shape[0], -1), depth)
    else:
        data = pack(samples.reshape(height, -1), depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before
    if palette is not None:
        out += chunk(b"PLTE", palette)
    if trns is not None:
        out += chunk(b"tRNS", trns)
    packed = zlib.compress(data, 9)
    half = len(packed) // 2
    return out + chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:]) + chunk(b"IEND", b"")


def png_files(rng) -> dict[str, bytes]:
    files = {}
    for interlaced in (False, True):
        tag = "-interlaced" if interlaced else ""
        for depth in (1, 2, 4, 8, 16):
            gray = rng.integers(0, 1 << depth, (11, 13, 1))
            if depth == 16:
                gray[:4] = rng.integers(0, 400, (4, 13, 1))  # around 255, where Pillow clips
            files[f"gray{depth}{tag}.png"] = png(gray, depth, 0, interlaced)
        for depth in (1, 2, 4, 8):
            index = rng.integers(0, 1 << depth, (11, 13, 1))
            colours = min(1 << depth, 200)  # with 8 bits, some indices have no entry
            palette = rng.integers(0, 256, colours * 3).astype(np.uint8).tobytes()
            files[f"palette{depth}{tag}.png"] = png(index, depth, 3, interlaced, palette)
        for depth in (8, 16):
            for name, colour, channels in (("rgb", 2, 3), ("gray-alpha", 4, 2), ("rgba", 6, 4)):
                samples = rng.integers(0, 1 << depth, (11, 13, channels))
                files[f"{name}{depth}{tag}.png"] = png(samples, depth, colour, interlaced)
    palette = rng.integers(0, 256, 48).astype(np.uint8).tobytes()
    index = rng.integers(0, 16, (11, 13, 1))
    files["palette-trns-bytes.png"] = png(index, 4, 3, palette=palette, trns=bytes(range(0, 160, 10)))
    files["palette-trns-one.png"] = png(index, 4, 3, palette=palette, trns=b"\xff\xff\x00\xff")
    files["gray-trns.png"] = png(rng.integers(0, 4, (11, 13, 1)) * 60, 8, 0, trns=struct.pack(">H", 60))
    files["rgb-trns.png"] = png(rng.integers(0, 2, (11, 13, 3)) * 255, 8, 2, trns=struct.pack(">3H", 255, 0, 0))
    files["gamma.png"] = png(scene(rng, 13, 11), 8, 2, before=chunk(b"gAMA", struct.pack(">I", 45455 // 2)))
    files["no-palette.png"] = png(index, 4, 3)
    buffer = io.BytesIO()
    frames = [Image.fromarray(scene(rng, 13, 11)) for _ in range(3)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=50)
    files["animated.png"] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(scene(rng, 37, 29)).save(buffer, "PNG", optimize=True)  # all five row filters
    files["filtered.png"] = buffer.getvalue()
    return files


def jpeg_files(rng) -> dict[str, bytes]:
    def save(picture: Image.Image, **options) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", **options)
        return buffer.getvalue()

    files = {}
    colour = Image.fromarray(scene(rng, 61, 47))
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        files[f"{name}.jpg"] = save(colour, quality=85, subsampling=subsampling)
        files[f"{name}-progressive.jpg"] = save(colour, quality=60, subsampling=subsampling, progressive=True)
    files["420-restarts.jpg"] = save(colour, quality=75, subsampling=2, restart_marker_blocks=2)
    files["rgb.jpg"] = save(colour, quality=85, keep_rgb=True)
    gray = Image.fromarray(scene(rng, 53, 31, 1)[..., 0])
    files["gray.jpg"] = save(gray, quality=80)
    files["gray-progressive.jpg"] = save(gray, quality=80, progressive=True)
    cmyk = Image.fromarray(scene(rng, 33, 29, 4), mode="CMYK")
    files["cmyk.jpg"] = save(cmyk, quality=85)
    files["ycck.jpg"] = ycck(files["cmyk.jpg"])
    for name, size in (("1x1", (1, 1)), ("1x40", (1, 40)), ("40x1", (40, 1)), ("17x9", (17, 9))):
        files[f"{name}.jpg"] = save(Image.fromarray(scene(rng, *size)), quality=90, subsampling=2)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    files["exif-rotated.jpg"] = save(colour, quality=70, exif=exif)
    # Chroma layouts that Pillow reads but does not write: the sampling factors of the header are exchanged and the scan
    # keeps its length, so the picture is scrambled but well defined.
    files["440.jpg"] = sampling(files["422.jpg"], 0x12)
    # Damage that libjpeg only warns of: bits changed inside the scan, and an end marker in the middle of it.
    whole = bytearray(files["420.jpg"])
    for position in range(len(whole) * 2 // 3, len(whole) * 2 // 3 + 12, 3):
        whole[position] = 0x55
    files["damaged-scan.jpg"] = bytes(whole)
    files["early-end-marker.jpg"] = files["444.jpg"][: len(files["444.jpg"]) // 2] + b"\xff\xd9"
    files["trailing-bytes.jpg"] = files["420.jpg"] + b"\0" * 50
    return files


def ycck(cmyk: bytes) -> bytes:
    """The same scan declared as YCCK: the transform byte of Adobe's marker."""
    at = cmyk.index(b"Adobe") + 11
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


def sampling(jpeg: bytes, factors: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 11
    return jpeg[:at] + bytes([factors]) + jpeg[at + 1 :]


# ---------------------------------------------------------------- What Pillow makes of them


def pillow(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None


def decoded(data: bytes) -> dict:
    pixels = pillow(data)
    if pixels is None:
        return {"refused": True}
    return {"width": pixels.shape[1], "height": pixels.shape[0], "sha256": sha(pixels.tobytes())}


def resizes(rng, pixels: np.ndarray) -> list[dict]:
    height, width = pixels.shape[:2]
    sizes = [(width, height // 2), (width // 2, height), (width * 2, height * 3), (1, 1), (width, height)]
    sizes += [(width - 7, 3), (5, height - 2), (width * 3, 5), (3, height * 2), (width // 2, height // 5)]
    # Around the point where Pillow starts with the other pass: twice as many rows lost as columns.
    sizes += [(width - 5, height - 10), (width - 5, height - 11), (width - 5, height - 14), (width + 9, height - 1)]
    sizes += [tuple(rng.integers(1, 130, 2).tolist()) for _ in range(6)]
    sizes = [(max(w, 1), max(h, 1)) for w, h in sizes]
    out = []
    for w, h in sizes:
        for name in FILTERS:
            resized = Image.fromarray(pixels).resize((w, h), Image.Resampling[name.upper()])
            out.append({"width": w, "height": h, "filter": name, "sha256": sha(resized.tobytes())})
    return out


def crops(pixels: np.ndarray) -> list[dict]:
    height, width = pixels.shape[:2]
    out = []
    for w in (width - 9, width - 4, width, width + 3, width + 8):
        for h in (height - 6, height - 3, height, height + 1, height + 6):
            cropped = center_crop(pixels, (h, w), input_data_format=ChannelDimension.LAST)
            assert cropped.shape == (h, w, 3)
            out.append({"width": w, "height": h, "sha256": sha(np.ascontiguousarray(cropped).tobytes())})
    return out


# ---------------------------------------------------------------- Preprocessing


def processor_for(config: dict, model_type: str | None):
    by_model = {"vit": "ViT", "deit": "DeiT", "clip": "CLIP", "dinov2": "Bit"}
    named = config.get("image_processor_type") or config.get("feature_extractor_type")
    name = named or by_model[model_type] + "ImageProcessor"
    name = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    return PROCESSORS[name].from_dict(config)


CONFIGS = [
    # As the Hub has them: ViT before and after classes were named, DINO, DeiT, CLIP, DINOv2.
    ({"do_normalize": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
      "resample": 2, "size": 48}, "vit"),
    ({"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406],
      "image_processor_type": "ViTFeatureExtractor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
      "rescale_factor": 0.00392156862745098, "size": {"height": 40, "width": 56}}, None),
    ({"feature_extractor_type": "DeiTFeatureExtractor", "size": 56, "crop_size": 48, "resample": 3,
      "do_center_crop": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}, None),
    ({"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 47, "size": 47, "resample": 3,
      "do_center_crop": True, "do_resize": True, "do_normalize": True,
      "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}, None),
    ({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 53}, "do_convert_rgb": True,
      "crop_size": {"height": 44, "width": 41}, "image_mean": [0.485, 0.456, 0.406],
      "image_std": [0.229, 0.224, 0.225]}, None),
    ({"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 51}, "resample": 3,
      "do_center_crop": True, "crop_size": {"height": 46, "width": 46}}, None),
    # Defaults alone.
    ({"image_processor_type": "ViTImageProcessor"}, None),
    ({"image_processor_type": "DeiTImageProcessorFast"}, None),
    ({"image_processor_type": "CLIPImageProcessor"}, None),
    ({"image_processor_type": None}, "dinov2"),
    # The rarer switches.
    ({"image_processor_type": "ViTImageProcessor", "do_resize": False, "do_normalize": False}, None),
    ({"image_processor_type": "ViTImageProcessor", "do_resize": False, "do_rescale": False}, None),
    ({"image_processor_type": "ViTImageProcessor", "do_resize": False, "do_rescale": False,
      "do_normalize": False}, None),
    ({"image_processor_type": "ViTImageProcessor", "size": [30, 20], "image_mean": 0.4, "image_std": 0.3,
      "rescale_factor": 0.0078}, None),
    ({"image_processor_type": "CLIPImageProcessor", "do_resize": False, "crop_size": {"height": 90, "width": 35}}, None),
    ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40, "longest_edge": 44},
      "do_center_crop": False, "resample": 0}, None),
    ({"image_processor_type": "CLIPImageProcessor", "size": {"max_height": 40, "max_width": 30},
      "do_center_crop": False, "resample": 1}, None),
    ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40, "longest_edge": None}}, None),
    # Who says how a bare size is meant.
    ({"image_processor_type": "CLIPImageProcessor", "size": 40, "do_center_crop": False,
      "default_to_square": True}, None),
    ({"image_processor_type": "ViTImageProcessor", "size": 40, "default_to_square": False}, None),
    ({"image_processor_type": "ViTImageProcessor", "size": 40, "default_to_square": None}, None),
    ({"image_processor_type": "CLIPImageProcessor", "size": 47, "crop_size": 40, "default_to_square": False}, None),
    # A switch that is null is off, which it is not where it is absent. What belongs to a step that is off may be null.
    *(({"image_processor_type": f"{name}ImageProcessor", "size": {"height": 48, "width": 40},
        "crop_size": {"height": 36, "width": 32}, key: None}, None)
      for name in ("ViT", "DeiT", "CLIP", "Bit")
      for key in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad", "pad_size", "do_convert_rgb")),
    ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": None, "crop_size": None}, None),
    ({"image_processor_type": "ViTImageProcessor", "crop_size": None}, None),
    ({"image_processor_type": "BitImageProcessor", "do_resize": None, "size": None, "resample": None}, None),
    ({"image_processor_type": "ViTImageProcessor", "do_rescale": False, "rescale_factor": None, "do_normalize": None,
      "image_mean": None, "image_std": None}, None),
]

# Refused by the processors of transformers: a step that is done lacks what it is done with.
REFUSED = [
    *({"image_processor_type": f"{name}ImageProcessor", key: None}
      for name in ("ViT", "DeiT", "CLIP", "Bit")
      for key in ("size", "resample", "rescale_factor", "image_mean", "image_std")),
    *({"image_processor_type": f"{name}ImageProcessor", "crop_size": None} for name in ("DeiT", "CLIP", "Bit")),
    {"image_processor_type": "ViTImageProcessor", "do_center_crop": True},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 40, "width": None}},
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": None}},
    {"image_processor_type": "CLIPImageProcessor", "crop_size": {"height": None, "width": 40}},
]


def preprocessing(files: dict[str, bytes]) -> list[dict]:
    out = []
    for config, model_type in CONFIGS:
        processor = processor_for(dict(config), model_type)
        for name in ("420.jpg", "1x40.jpg", "filtered.png"):
            with Image.open(io.BytesIO(files[name])) as picture:
                values = np.asarray(processor(picture.convert("RGB"), return_tensors="np")["pixel_values"][0])
            values = np.ascontiguousarray(values, dtype="<f4")
            out.append({"config": config, "model_type": model_type, "picture": name, "shape": list(values.shape),
                        "sha256": sha(values.tobytes())})
    return out


def refused(files: dict[str, bytes]) -> list[dict]:
    for config in REFUSED:
        try:
            with Image.open(io.BytesIO(files["420.jpg"])) as picture:
                processor_for(dict(config), None)(picture.convert("RGB"), return_tensors="np")
        except (ValueError, TypeError, AttributeError):
            continue
        raise SystemExit(f"transformers accepts {config}")
    return REFUSED


def targets(rng) -> list[dict]:
    """Sizes after resizing, for sides where truncation and rounding matter."""
    processor = ViTImageProcessorPil()
    out = []
    for _ in range(60):
        height, width = rng.integers(1, 900, 2).tolist()
        a, b = rng.integers(1, 300, 2).tolist()
        image = np.zeros((3, height, width), np.uint8)
        for size in ({"shortest_edge": a}, {"shortest_edge": a, "longest_edge": a + b},
                     {"max_height": a, "max_width": b}):
            try:
                shape = processor.resize(image, SizeDict(**size), resample=0).shape
            except (ValueError, MemoryError):
                continue  # a side of zero pixels
            out.append({"size": size, "from": [width, height], "to": [shape[2], shape[1]]})
    return out


# The processors of ViT (whole, and cropped as timm does), CLIP and DINOv2, at the sizes of the published networks.
NETWORKS = [
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2,
     "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 248}, "resample": 3,
     "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "image_mean": [0.5, 0.5, 0.5],
     "image_std": [0.5, 0.5, 0.5]},
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}, "resample": 3,
     "crop_size": {"height": 224, "width": 224}, "image_mean": [0.48145466, 0.4578275, 0.40821073],
     "image_std": [0.26862954, 0.26130258, 0.27577711]},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "resample": 3,
     "crop_size": {"height": 224, "width": 224}, "image_mean": [0.485, 0.456, 0.406],
     "image_std": [0.229, 0.224, 0.225]},
]


def like_photographs(files: dict[str, bytes]) -> dict:
    """What Pillow reads from whole images, and the pixels and values that the processors return."""
    out = []
    for name, data in files.items():
        with Image.open(io.BytesIO(data)) as picture:
            upright = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
            image = picture.convert("RGB")
        entry = {"file": name, **decoded(data), "upright": sha(upright.tobytes()), "networks": []}
        for config in NETWORKS:
            processor = processor_for(config, None)
            pixels = processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
            values = np.ascontiguousarray(processor(image, return_tensors="np")["pixel_values"][0], "<f4")
            resized = np.ascontiguousarray(np.asarray(pixels, np.uint8).transpose(1, 2, 0))
            entry["networks"].append({"resized": sha(resized.tobytes()), "values": sha(values.tobytes())})
        out.append(entry)
    return {"versions": VERSIONS, "networks": NETWORKS, "images": out}


def write(path: Path, content) -> None:
    path.write_text(json.dumps(content, indent=None, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="folder of JPEG photographs")
    arguments = parser.parse_args()
    if VERSIONS != EXPECTED_VERSIONS:
        raise SystemExit(f"goldens are made with {EXPECTED_VERSIONS}, found {VERSIONS}")

    if arguments.photographs:
        paths = sorted(path for path in arguments.photographs.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
        files = {path.name: path.read_bytes() for path in paths}
        write(arguments.photographs / "golden.json", like_photographs(files))
        return

    files = scenes()
    (OUT / "scenes").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (OUT / "scenes" / name).write_bytes(data)
    print(f"scenes: {sum(map(len, files.values()))} bytes")
    write(OUT / "scenes" / "golden.json", like_photographs(files))

    rng = np.random.default_rng(20)
    files = png_files(rng) | jpeg_files(rng)
    (OUT / "pictures").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (OUT / "pictures" / name).write_bytes(data)

    truncated = []
    for name in ("420.jpg", "420-progressive.jpg", "gray.jpg", "filtered.png", "rgb8-interlaced.png"):
        data = files[name]
        for length in sorted({len(data) - 1, len(data) - 2, len(data) - 3, len(data) - 13, len(data) - 30,
                              *(len(data) * k // 9 for k in range(1, 9))}):
            truncated.append({"file": name, "length": length, **decoded(data[:length])})
    whole = [
        {"file": name, **decoded(data), "resized": [], "cropped": []} for name, data in files.items()
    ]
    for entry in whole:
        if entry["file"] in ("420.jpg", "filtered.png", "40x1.jpg"):
            pixels = pillow(files[entry["file"]])
            entry["resized"] = resizes(rng, pixels)
            if min(pixels.shape[:2]) > 9:
                entry["cropped"] = crops(pixels)
    write(OUT / "golden.json", {"versions": VERSIONS, "pictures": whole, "truncated": truncated,
                                "targets": targets(rng)})
    write(OUT / "preprocess.json", {"versions": VERSIONS, "cases": preprocessing(files),
                                   "refused": refused(files)})


if __name__ == "__main__":
    main()
