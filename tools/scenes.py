"""Images like photographs in size and content, painted from a seed, for `tools/golden_image.py`: gradients, shadows, edges at
all angles, texture, noise, and lines of something like text."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SEED = 1


def paint(rng, width: int, height: int, noise: float, strokes: int) -> Image.Image:
    """A sky, hills, bodies with soft shadows, a page of strokes, and grain."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    low, high = rng.uniform(20, 120, 3), rng.uniform(120, 250, 3)
    sky = (y / height)[..., None] * (low - high) + high
    for _ in range(3):  # hills
        top = height * rng.uniform(0.4, 0.9) + height * 0.1 * np.sin(x[0] * rng.uniform(2, 9) / width + rng.uniform(0, 6))
        grain = 12 * np.sin(x * rng.uniform(0.3, 1.2)) * np.sin(y * rng.uniform(0.3, 1.2))
        sky = np.where((y > top)[..., None], rng.uniform(10, 200, 3) + grain[..., None], sky)
    image = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))
    shadow = Image.new("L", image.size)
    draw, dark = ImageDraw.Draw(image), ImageDraw.Draw(shadow)
    for _ in range(9):  # bodies
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.04, 0.2) * min(width, height)
        box = [cx - r, cy - 0.7 * r, cx + r, cy + 0.7 * r]
        dark.ellipse([box[0] + r / 3, box[1] + r / 3, box[2] + r / 3, box[3] + r / 3], fill=110)
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        corners = [(cx + r * np.cos(a), cy + r * np.sin(a)) for a in rng.uniform(0, 6.28, 3)]
        draw.ellipse(box, fill=colour) if rng.integers(2) else draw.polygon(corners, fill=colour)
    image = Image.composite(Image.new("RGB", image.size), image, shadow.filter(ImageFilter.GaussianBlur(min(width, height) / 40)))
    draw = ImageDraw.Draw(image)
    left, top, line = width * 0.55, height * 0.1, max(6, height // 40)
    draw.rectangle([left, top, width * 0.95, top + line * (strokes // 12 + 2)], fill=(248, 246, 240))
    for i in range(strokes):  # something like text
        px, py = left + 4 + (i % 12) * (width * 0.38 / 12), top + line * (1 + i // 12)
        points = [(px + rng.uniform(0, line * 0.6), py + rng.uniform(0, line * 0.7)) for _ in range(4)]
        draw.line(points, fill=(20, 20, 30), width=1 + i % 2)
    pixels = np.asarray(image).astype(np.float64) + rng.normal(0, noise, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Width, height, grain, and options of the JPEG encoder.
JPEG = {
    "usual": (500, 375, 4, {"quality": 88, "subsampling": 2}),
    "upright": (375, 500, 4, {"quality": 75, "subsampling": 1}),
    "fine": (263, 197, 5, {"quality": 97, "subsampling": 0}),
    "coarse": (500, 333, 8, {"quality": 22, "subsampling": 2}),
    "progressive-420": (640, 427, 3, {"quality": 80, "subsampling": 2, "progressive": True}),
    "progressive-444": (401, 299, 3, {"quality": 70, "subsampling": 0, "progressive": True}),
    "progressive-422": (299, 401, 2, {"quality": 50, "subsampling": 1, "progressive": True}),
    "restarts": (427, 321, 3, {"quality": 70, "subsampling": 2, "restart_marker_rows": 2}),
    "small": (97, 131, 5, {"quality": 90, "subsampling": 2}),
    "tall": (187, 1031, 2, {"quality": 65, "subsampling": 2}),
    "wide": (1021, 163, 2, {"quality": 65, "subsampling": 1}),
    "large": (1600, 1067, 1, {"quality": 45, "subsampling": 2, "optimize": True}),
}


def scenes() -> dict[str, bytes]:
    """The files by name."""
    rng = np.random.default_rng(SEED)
    files = {}
    for name, (width, height, noise, options) in JPEG.items():
        files[f"{name}.jpg"] = saved(paint(rng, width, height, noise, 96), "JPEG", **options)
    files["gray.jpg"] = saved(paint(rng, 427, 321, 4, 96).convert("L"), "JPEG", quality=80)
    files["cmyk.jpg"] = saved(paint(rng, 241, 321, 2, 96).convert("CMYK"), "JPEG", quality=70)
    for number in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        files[f"exif-{number}.jpg"] = saved(paint(rng, 251, 187, 2, 48), "JPEG", quality=70, exif=exif)
    files["rgb.png"] = saved(paint(rng, 251, 187, 0, 48), "PNG", optimize=True)
    files["gray.png"] = saved(paint(rng, 333, 250, 0, 96).convert("L"), "PNG", optimize=True)
    files["palette.png"] = saved(paint(rng, 375, 281, 0, 96).quantize(64), "PNG", optimize=True)
    rgba = paint(rng, 131, 175, 0, 48)
    rgba.putalpha(rgba.convert("L").filter(ImageFilter.GaussianBlur(9)))
    files["rgba.png"] = saved(rgba, "PNG", optimize=True)
    wide = np.asarray(paint(rng, 151, 113, 0, 24).convert("L")).astype(np.uint16)
    # Around 255, where Pillow clips 16 bits.
    files["gray-16.png"] = saved(Image.fromarray(wide * 2), "PNG", optimize=True)
    return files
