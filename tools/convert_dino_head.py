"""A published linear classifier of DINO, from the pickle it is published as to safetensors.

    pip install torch==2.11.0 safetensors==0.8.0
    python tools/convert_dino_head.py dino_deitsmall16_linearweights.pth dino-vits16-head.safetensors

The pickle is opened with `weights_only=True`, which loads tensors and runs no code. Name the result as `model.head` of an
experiment; the backbone is a directory such as facebook/dino-vits16. Its rows tell what the classifier looks at: CLS of the
last four blocks (ViT-S, 4 x 384 features), or CLS beside the mean patch of the last one (ViT-B, 2 x 768).
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pickle", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    state = torch.load(given.pickle, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    tensors = {}
    for kind in ("weight", "bias"):
        found = [name for name in state if name == kind or name.endswith(f"linear.{kind}")]
        if len(found) != 1:
            sys.exit(f"{given.pickle}: expected one tensor named linear.{kind}, found {found or list(state)[:5]}")
        tensors[kind] = state[found[0]].float().contiguous()
    save_file(tensors, given.out)
    print(f"{given.out}: {tuple(tensors['weight'].shape)}")


if __name__ == "__main__":
    main()
