"""What `tokenrank attend` wrote for pictures, beside transformers on the same checkpoint.

    pip install torch==2.11.0 transformers==5.23.0 pillow==13.0.0 numpy==2.4.6 safetensors==0.8.0
    python tools/check_attend.py --model DIR --tokenrank target/release/tokenrank [--out FILE.json] IMAGE...

transformers looks with eager attention in float32 at what ViTImageProcessorPil made of the picture as Pillow read it.
Printed is the largest absolute difference of each stage over all pictures; exit code 1 beyond 1e-6 for pixels, 2e-5 for
probabilities or 1e-4 for the output logits.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from transformers import ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

LIMITS = {"input.pixels": 1e-6, "block.probs": 2e-5, "output.logits": 1e-4}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokenrank", default="target/release/tokenrank")
    parser.add_argument("--out", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    model = ViTForImageClassification.from_pretrained(given.model, attn_implementation="eager", dtype=torch.float32).eval()
    processor = ViTImageProcessorPil.from_pretrained(given.model)
    largest = dict.fromkeys(LIMITS, 0.0)
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        out = Path(scratch) / "attention.safetensors"
        for image in given.images:
            command = [given.tokenrank, "attend", "--model", given.model, "--image", image, "--out", out]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            ours = load_file(out)
            pixels = processor(Image.open(image).convert("RGB"), return_tensors="pt")["pixel_values"]
            peer = model(pixels, output_attentions=True)
            pairs = [
                ("input.pixels", ours["input.pixels"], pixels[0]),
                ("output.logits", ours["output.logits"], peer.logits[0]),
            ]
            pairs += [("block.probs", ours[f"block.{i}.probs"], maps[0]) for i, maps in enumerate(peer.attentions)]
            for stage, mine, theirs in pairs:
                largest[stage] = max(largest[stage], (mine - theirs).abs().max().item())
    report = {
        "images": len(given.images),
        "largest_difference": largest,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(report))
    if given.out:
        given.out.write_text(json.dumps(report) + "\n")
    sys.exit(any(largest[stage] > limit for stage, limit in LIMITS.items()))


if __name__ == "__main__":
    main()
