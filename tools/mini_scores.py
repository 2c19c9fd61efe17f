"""Writes datasets/mini/scores/contrast.safetensors: scores for `tokenrank run configs/examples/scores-mini.toml`, computed from
pixels alone, and an example of how scores of any origin enter a table (docs/scores.md).

    cargo run -p tasks --example mini_export -- --out DIR --split val --count 100
    python tools/mini_scores.py DIR datasets/mini/scores/contrast.safetensors

Needs numpy, pillow and safetensors. The score of a patch is the mean distance of its colours from the colour of the frame of the
image, that is, of the background in most scenes.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

PATCH = 8


def contrast(pixels: np.ndarray) -> np.ndarray:
    """The score of every patch of an image `[height, width, 3]`."""
    frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    distance = np.linalg.norm(pixels - np.median(frame, axis=0), axis=-1) / 255
    rows, columns = (side // PATCH for side in distance.shape)
    return distance.reshape(rows, PATCH, columns, PATCH).mean(axis=(1, 3))


def main(scenes: Path, out: Path) -> None:
    scores = {}
    for path in sorted((scenes / "images").glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.float64)
        # The name of the image in [dataset.mini].
        scores[f"val-{path.stem}"] = contrast(pixels).astype(np.float16)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(scores, out, {"format": "tokenrank scores 1", "task": "masking", "name": "colour contrast"})
    print(f"{len(scores)} images in {out}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
