"""Times λ₂ and TokenRank of attention heads in torch and in our program, on the same maps, and prints the ratios.

    python tools/bench_peer.py --ours target/release/examples/bench_heads \\
        [--model DIR --image FILE [--size 480]] [--threads 1] [--out FILE.json]

With a Hugging Face ViT and a picture the maps are those of all its heads, CLS dropped and rows renormalised; otherwise
36 random softmax maps of 900 tokens. torch does per head what people write: `torch.linalg.eigvals` and the second
largest modulus; the power method with `torch.mv` (alpha 0.99, L1 change below 1e-5, at most 200 steps), whose
teleported matrix is formed before the clock starts. `cargo xtask bench` calls this.

Pinned: torch 2.11.0, transformers 5.23.0, pillow 13.0.0, numpy.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch


def save(path, model_dir, image_file, size):
    from PIL import Image
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(model_dir, attn_implementation="eager").float().eval()
    image = Image.open(image_file).convert("RGB").resize((size, size), Image.BICUBIC)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        maps = torch.stack(model(pixels, output_attentions=True, interpolate_pos_encoding=True).attentions)
    maps = maps.flatten(0, 2)[:, 1:, 1:]  # [blocks * 1 * heads, patches, patches]
    maps = maps / maps.sum(-1, keepdim=True)
    np.save(path, maps.numpy().astype("<f4"))


def lambda2(matrix):
    return torch.linalg.eigvals(matrix).abs().sort(descending=True).values[1].item()


def power_method(matrix, tolerance=1e-5, limit=200):
    """Steady state and the number of steps; the matrix is [n, n], already teleported."""
    n = matrix.shape[0]
    state = torch.full((n,), 1 / n)
    transposed = matrix.T
    for step in range(1, limit + 1):
        moved = torch.mv(transposed, state)
        moved = moved / moved.sum()
        if torch.norm(moved - state, p=1) < tolerance:
            return moved, step
        state = moved
    return state, limit


def clock(run, maps):
    start = time.perf_counter()
    out = [run(matrix) for matrix in maps]
    return (time.perf_counter() - start) * 1e3 / len(maps), out


def draw(heads=36, n=900):
    """Random maps from flat heads to peaky ones, with a smooth part."""
    generator = torch.Generator().manual_seed(0)
    near = torch.linspace(0, 0.02, heads).view(-1, 1, 1)
    peak = torch.linspace(1, 5, heads).view(-1, 1, 1)
    distance = (torch.arange(n)[:, None] - torch.arange(n)[None, :]).abs()
    return (peak * torch.rand((heads, n, n), generator=generator) - near * distance).softmax(-1)


def time_torch(maps, repeat):
    with torch.no_grad():
        lambda2(maps[0])
        eigvals_ms, moduli = clock(lambda2, maps)
        teleported = [0.99 * matrix + 0.01 / matrix.shape[0] for matrix in maps]
        power_method(teleported[0])
        power_ms, states = min((clock(power_method, teleported) for _ in range(repeat)), key=lambda run: run[0])
    return {
        "torch": torch.__version__,
        "eigvals_ms": eigvals_ms,
        "eigvals_lambda2": moduli,
        "power_ms": power_ms,
        "power_steps": [steps for _, steps in states],
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--ours", required=True, help="the example bench_heads of markov-core")
    arguments.add_argument("--model")
    arguments.add_argument("--image")
    arguments.add_argument("--size", type=int, default=480)
    arguments.add_argument("--threads", type=int, default=1, help="for both sides")
    arguments.add_argument("--repeat", type=int, default=5, help="the shortest run of this many counts")
    arguments.add_argument("--out", type=Path, help="where the numbers go as JSON")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/maps.npy"
        if given.model and given.image:
            save(path, given.model, given.image, given.size)
            source = f"a real ViT at {given.size} pixels"
        else:
            np.save(path, draw().numpy().astype("<f4"))
            source = "random softmax maps"
        maps = torch.from_numpy(np.load(path))
        command = [given.ours, path, "--threads", str(given.threads), "--repeat", str(given.repeat)]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        theirs = time_torch(maps, given.repeat)
    pairs = zip(ours["lambda2"], theirs["eigvals_lambda2"])
    result = {
        "maps": source,
        "heads": len(maps),
        "tokens": maps.shape[1],
        "threads": given.threads,
        "lambda2_ratio": theirs["eigvals_ms"] / ours["lambda2_ms"],
        "lambda2_1e-10_ratio": theirs["eigvals_ms"] / ours["lambda2_1e-10_ms"],
        "tokenrank_power_ratio": theirs["power_ms"] / ours["power_ms"],
        "tokenrank_accelerated_ratio": theirs["power_ms"] / ours["accelerated_ms"],
        "largest_lambda2_difference": max(abs(a - b) for a, b in pairs),
        "ours": ours,
        "torch": theirs,
    }
    print(f"{len(maps)} heads of {maps.shape[1]} tokens, {source}; {given.threads} thread(s) each; ms per head")
    rows = [
        ("λ₂ to 1e-4", ours["lambda2_ms"], "torch.linalg.eigvals", theirs["eigvals_ms"]),
        ("λ₂ to 1e-10", ours["lambda2_1e-10_ms"], "torch.linalg.eigvals", theirs["eigvals_ms"]),
        ("TokenRank, power method", ours["power_ms"], "torch.mv", theirs["power_ms"]),
        ("TokenRank, accelerated", ours["accelerated_ms"], "torch.mv", theirs["power_ms"]),
    ]
    for what, mine, peer, other in rows:
        print(f"  {what:<24} {mine:9.3f}   {peer:<21} {other:9.2f}   {other / mine:7.1f} x")
    print(f"  largest relative error of λ₂ at 1e-4: {ours['lambda2_error']:.1e}")
    if given.out:
        given.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
