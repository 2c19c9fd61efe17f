"""The pickled weights of a model directory as safetensors, for `tokenrank`, which reads no pickles.

    pip install torch==2.11.0 safetensors==0.8.0
    python tools/convert_pickle.py DIR [--out DIR]

Writes `model.safetensors` from `pytorch_model.bin`, or `diffusion_pytorch_model.safetensors` from
`diffusion_pytorch_model.bin`, each with its shards if it has some and with its variant (`pytorch_model.fp16.bin`), beside the
pickle or in another folder. Every tensor is kept under its name, in its type; tensors that share memory are written as copies.
No other file is touched and none is overwritten: config.json stays as it is, and so do the classifier and whatever else
`AutoModel.from_pretrained(DIR).save_pretrained(DIR)` drops.

The pickle is opened with `weights_only=True`, which loads tensors and runs no code.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

STEMS = {"pytorch_model": "model", "diffusion_pytorch_model": "diffusion_pytorch_model", "model": "model"}


def pickles(folder):
    """For each safetensors file that can be made, the pickles that it is made of."""
    found = {}
    for stem, safe in STEMS.items():
        for index in sorted(folder.glob(f"{stem}.bin.index*.json")):
            variant = index.name.removeprefix(f"{stem}.bin.index").removesuffix(".json")
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            if any(Path(shard).name != shard for shard in shards):
                sys.exit(f"{index} names files that are not beside it")
            found.setdefault(f"{safe}{variant}.safetensors", [folder / shard for shard in shards])
        for end in (".bin", ".pt", ".pth"):
            for file in sorted(folder.glob(f"{stem}*{end}")):
                variant = file.name.removeprefix(stem).removesuffix(end)
                if "-of-" not in variant and (not variant or variant.startswith(".")):
                    found.setdefault(f"{safe}{variant}.safetensors", [file])
    return found


def state_dict(file):
    state = torch.load(file, map_location="cpu", weights_only=True)
    # What training scripts wrap around it.
    for wrapper in ("state_dict", "model"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return state


def convert(files, target):
    tensors, left_out = {}, []
    for file in files:
        for name, value in state_dict(file).items():
            if name in tensors:
                sys.exit(f"{name} is in two of {', '.join(map(str, files))}")
            if torch.is_tensor(value):
                tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
            else:
                left_out.append(name)
    if not tensors:
        sys.exit(f"{files[0]} holds no tensors by name")
    # Under another name first: a file that is half written has no name that anybody reads.
    partial = target.with_name(f".{target.name}.partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    with safe_open(partial, "pt") as written:
        assert sorted(written.keys()) == sorted(tensors)
        for name, tensor in tensors.items():
            bits = [t.contiguous().flatten().view(torch.uint8) if t.numel() else t for t in (written.get_tensor(name), tensor)]
            assert torch.equal(*bits), f"{name} was not written as it was read"
    os.rename(partial, target)
    print(f"{target}: {len(tensors)} tensors of {', '.join(file.name for file in files)}")
    if left_out:
        print(f"left out, since they are no tensors: {', '.join(left_out)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, help="write there and not beside the pickle")
    given = parser.parse_args()
    found = pickles(given.folder)
    if not found:
        sys.exit(f"{given.folder}: no pytorch_model.bin, diffusion_pytorch_model.bin or index of such files")
    out = given.out or given.folder
    out.mkdir(parents=True, exist_ok=True)
    for name, files in found.items():
        if (out / name).exists():
            print(f"{out / name} is there already and stays as it is")
        else:
            convert(files, out / name)


if __name__ == "__main__":
    main()
