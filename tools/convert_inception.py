"""The Inception-v3 of the FID literature as safetensors: `tokenrank` reads no pickles.

    pip install torch==2.11.0 safetensors==0.8.0 numpy
    curl -LO https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth
    python tools/convert_inception.py pt_inception-2015-12-05-6726825d.pth pt_inception-2015-12-05.safetensors

pytorch-fid and torch-fidelity (`weights-inception-2015-12-05-6726825d.pth`) publish the same file, byte for byte; any other
is refused by its SHA-256, since numbers from another network are no FID. Tensor names stay those of the state dict.
"""

import argparse
import hashlib
import sys

import torch
from safetensors.torch import save_file

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pth")
    parser.add_argument("safetensors")
    args = parser.parse_args()
    with open(args.pth, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        sys.exit(
            f"{args.pth}: its SHA-256 is {found} where the published file has {SHA256}; it is another file or was not "
            "downloaded to the end. The address is at the head of this script."
        )
    state = torch.load(args.pth, map_location="cpu", weights_only=True)
    # Counters of training steps, which newer versions of torch add.
    tensors = {name: tensor.contiguous() for name, tensor in state.items() if tensor.is_floating_point()}
    save_file(tensors, args.safetensors, metadata={"format": "pt", "source_sha256": SHA256})
    print(f"{args.safetensors}: {len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers")


if __name__ == "__main__":
    main()
