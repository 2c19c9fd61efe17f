#!/usr/bin/env python3
"""Trains a miniature of one architecture on scenes of the miniature data set and writes it as a Hugging Face folder.

Needs torch 2.11.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6, pillow 13.0.0. The scenes come from

    cargo run -p tasks --example mini_export -- --out DIR/train --split train --count 60000
    cargo run -p tasks --example mini_export -- --out DIR/val --split val --count 2000
    cargo run -p tasks --example mini_export -- --out DIR/check --split val --count 2000 --seed 1

and `results/mini/README.md` records the command that made the committed weights.

`mini_networks.py` has the architectures: vit, clip, dino, dinov2, dinov2-no-registers. All learn from labels, also those whose
namesakes learned without: what is miniature here is the network. Three things help them to learn from few scenes:

* Scenes are turned by quarter turns, mirrored, and have their colour channels permuted and scaled at random: every
  class is closed under these.
* Two auxiliary heads, thrown away at the end, read the patch tokens: after half of the layers one says which parts of
  the patch the object covers (4 x 4 cells, from the exact masks), after all layers another says the class, on patches
  that the object touches. They give every token a lesson where the image's label gives one to the class head alone.
* In half of the batches a random share of 0 to 60 % of the patch tokens is removed after the embedding, so that
  accuracy falls gently when tokens are masked.

Training is cut into steps whose random numbers depend on (seed, step) only; a run that is stopped goes on from its
last checkpoint with the same batches.
"""

import argparse
import json
import math
import os
import platform
import shlex
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image

from mini_networks import CLASSES, PATCH, SIZE, WIDTH, Clip, Dino, Dinov2, Dinov2NoRegisters, Vit

SIDE = SIZE // PATCH
CELLS = 4
WITHOUT_CAPTIONS = {"vit": Vit, "dino": Dino, "dinov2": Dinov2, "dinov2-no-registers": Dinov2NoRegisters}


def decode(paths):
    """The pixels of an image and of its mask, both uint8."""
    image, mask = paths
    return np.asarray(Image.open(image).convert("RGB")), np.asarray(Image.open(mask))


def load(folder, workers):
    """Images (n, 64, 64, 3), masks (n, 64, 64) and labels (n,) of an exported split."""
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().split("\n")[1:] if line]
    paths = [(folder / file, folder / "masks" / Path(file).name) for file, _ in rows]
    with ProcessPoolExecutor(workers) as pool:
        pixels = list(pool.map(decode, paths, chunksize=256))
    images = np.stack([image for image, _ in pixels])
    masks = np.stack([mask > 0 for _, mask in pixels])
    return images, masks, np.array([int(label) for _, label in rows], dtype=np.int64)


def coverage(masks):
    """(b, 64, 64) of 0 and 1 to (b, 64 patches, 16 cells): the share of each cell that the object covers."""
    cell = PATCH // CELLS
    shares = F.avg_pool2d(masks[:, None].float(), cell)[:, 0]
    shares = shares.reshape(-1, SIDE, CELLS, SIDE, CELLS).permute(0, 1, 3, 2, 4)
    return shares.reshape(-1, SIDE * SIDE, CELLS * CELLS)


def augment(network, images, masks, rng):
    """Quarter turns and mirrors (one of the eight for each eighth of the batch); channels permuted, scaled, shifted."""
    images, masks = images.copy(), masks.copy()
    for part, index in enumerate(np.array_split(np.arange(len(images)), 8)):
        turned, mask = np.rot90(images[index], part % 4, (1, 2)), np.rot90(masks[index], part % 4, (1, 2))
        if part >= 4:
            turned, mask = turned[:, :, ::-1], mask[:, :, ::-1]
        images[index], masks[index] = turned[..., rng.permutation(3)], mask
    pixels = network.normalise(torch.from_numpy(images))
    gain = torch.from_numpy(rng.uniform(0.75, 1.25, (len(images), 3, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.2, 0.2, (len(images), 3, 1, 1)).astype(np.float32))
    return pixels * gain + shift, torch.from_numpy(masks)


class Heads(torch.nn.Module):
    """The auxiliary heads over patch tokens."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.cover = torch.nn.Linear(WIDTH, CELLS * CELLS)
        self.label = torch.nn.Linear(WIDTH, len(CLASSES))


def keep(network, hidden, kept):
    """The tokens that stay: all special ones and the patches listed in `kept`, (b, k)."""
    special, patches = hidden[:, : network.special], hidden[:, network.special :]
    return torch.cat([special, torch.gather(patches, 1, kept[..., None].expand(-1, -1, hidden.shape[-1]))], 1)


def encode(network, hidden):
    """The hidden states after every layer."""
    states = []
    for layer in network.layers():
        hidden = layer(hidden)
        states.append(hidden)
    return states


def draw(rng, count, share):
    """For each of `count` images the patches that stay when a share of them is removed at random."""
    left = round(SIDE * SIDE * (1 - share))
    return torch.from_numpy(rng.random((count, SIDE * SIDE)).argsort(1)[:, :left].copy())


def lose(network, heads, pixels, masks, labels, kept):
    """The loss of a batch, and the share of it that is classified rightly.

    `kept` lists, for each image, the patch tokens that stay: (b, k), or None for all.
    """
    hidden = network.tokens(pixels)
    cover = coverage(masks)
    if kept is not None:
        hidden = keep(network, hidden, kept)
        cover = torch.gather(cover, 1, kept[..., None].expand(-1, -1, cover.shape[-1]))
    states = encode(network, hidden)
    covered = heads.cover(heads.norm(states[len(states) // 2 - 1][:, network.special :]))
    logits = network.logits(states)

    mask = F.binary_cross_entropy_with_logits(covered, cover)
    touched = cover.mean(-1) > 0.05
    votes = heads.label(network.norm(states[-1])[:, network.special :][touched])
    vote = F.cross_entropy(votes, labels[:, None].expand(touched.shape)[touched])
    right = (logits.argmax(-1) == labels).float().mean()
    return network.loss(logits, labels) + mask + 0.5 * vote, right.item()


@torch.no_grad()
def accuracy(network, images, labels, share=0.0, seed=0):
    """Share of images classified rightly in float32, a random share of the patch tokens removed after the embedding."""
    network.eval()
    network.draw_captions()
    rng = np.random.default_rng(seed)
    right = 0
    for start in range(0, len(labels), 250):
        hidden = network.tokens(network.normalise(torch.from_numpy(images[start : start + 250])))
        if share > 0:
            hidden = keep(network, hidden, draw(rng, len(hidden), share))
        logits = network.logits(encode(network, hidden))
        right += (logits.argmax(-1).numpy() == labels[start : start + 250]).sum()
    network.train()
    return float(right) / len(labels)


def build(arguments):
    """The network to train; CLIP's tokenizer is learned from the captions of the scenes and from the templates."""
    if arguments.architecture != "clip":
        return WITHOUT_CAPTIONS[arguments.architecture]()
    templates = tomllib.loads(Path("datasets/mini/mini.toml").read_text())["templates"]
    captions = [json.loads(line)["caption"] for line in (arguments.train / "scenes.jsonl").open()]
    return Clip(templates, "\n".join(captions[:2000] + templates))


def pace(step, steps, warmup, cooldown):
    """Share of the full learning rate: linear warm-up, constant, then linear to zero over the last share of the steps."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (cooldown * steps))


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by Newton-Schulz steps (K. Jordan and others, 2024), for matrices and, a row for each
    output channel, kernels of convolutions.

    Matrices of one shape are treated as a batch and in float32: torch's own Muon works in bfloat16, one matrix after
    the other, which takes longer than the rest of a training step on a small CPU. The learning rate counts as in AdamW:
    an update is scaled to a root mean square of 0.2 a number, AdamW's usual size.
    """

    def __init__(self, matrices, lr, weight_decay, momentum=0.95):
        shapes = {}
        for matrix in matrices:
            shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__([{"params": group} for group in shapes.values()], defaults)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            directions = []
            for matrix in group["params"]:
                state = self.state[matrix]
                momentum = state.setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                directions.append(matrix.grad.lerp(momentum, group["momentum"]).flatten(1))
            x = torch.stack(directions)
            tall = x.shape[1] > x.shape[2]
            x = x.mT if tall else x
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                square = x @ x.mT
                x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
            x = x.mT if tall else x
            scale = 0.2 * math.sqrt(max(x.shape[1:]))
            for matrix, update in zip(group["params"], x, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(update.view_as(matrix), alpha=group["lr"] * scale)


def optimisers(network, heads, arguments):
    """Muon for the layers' matrices, AdamW for everything else."""
    parameters = list(network.named_parameters()) + list(heads.named_parameters())
    matrices = [p for name, p in parameters if (".layers." in name or ".layer." in name) and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in parameters if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": arguments.decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    found = [
        torch.optim.AdamW(groups, lr=arguments.rate, betas=(0.9, 0.98)),
        Muon(matrices, lr=arguments.muon_rate, weight_decay=arguments.decay),
    ]
    for group in [group for optimiser in found for group in optimiser.param_groups]:
        group["full"] = group["lr"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("architecture", choices=["clip", *WITHOUT_CAPTIONS])
    parser.add_argument("--train", type=Path, required=True, help="exported scenes to learn from")
    parser.add_argument("--val", type=Path, required=True, help="exported scenes of the other split")
    parser.add_argument("--check", type=Path, help="exported scenes that nothing was decided by")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--report", type=Path, help="JSON with accuracy, seed, versions and command")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--muon-rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--cooldown", type=float, default=0.35, help="share of the steps in which the rate falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    transformers.utils.logging.disable_progress_bar()
    network, heads = build(arguments), Heads()
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters} parameters", flush=True)
    steppers = optimisers(network, heads, arguments)

    arguments.work.mkdir(parents=True, exist_ok=True)
    checkpoint, first, seconds = arguments.work / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        network.load_state_dict(state["network"])
        heads.load_state_dict(state["heads"])
        for stepper, saved in zip(steppers, state["steppers"], strict=True):
            stepper.load_state_dict(saved)
        first, seconds = state["step"], state["seconds"]
        print(f"goes on from step {first}", flush=True)

    images, masks, labels = load(arguments.train, arguments.threads)
    val_images, _, val_labels = load(arguments.val, arguments.threads)
    print(f"{len(labels)} scenes to learn from, {len(val_labels)} unseen", flush=True)

    per_epoch = len(labels) // arguments.batch
    order, order_epoch = None, -1
    network.train()
    started, losses, rights = time.time() - seconds, [], []
    for step in range(first, arguments.steps):
        epoch, position = divmod(step, per_epoch)
        if epoch != order_epoch:
            order, order_epoch = np.random.default_rng([arguments.seed, 1, epoch]).permutation(len(labels)), epoch
        rng = np.random.default_rng([arguments.seed, 2, step])
        index = order[position * arguments.batch : (position + 1) * arguments.batch]
        pixels, mask = augment(network, images[index], masks[index], rng)
        kept = None
        if rng.random() < 0.5:
            kept = draw(rng, len(index), rng.uniform(0.0, 0.6))
        network.draw_captions(rng)
        loss, right = lose(network, heads, pixels, mask, torch.from_numpy(labels[index]), kept)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = group["full"] * pace(step, arguments.steps, arguments.warmup, arguments.cooldown)
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        losses.append(loss.item())
        rights.append(right)
        done = step + 1
        if done % 50 == 0:
            speed = (time.time() - started) / done
            print(f"step {done}: loss {np.mean(losses):.3f}, right {np.mean(rights):.3f}, {speed:.2f} s a step", flush=True)
            losses, rights = [], []
        if done % arguments.every == 0 or done == arguments.steps:
            state = {
                "network": network.state_dict(),
                "heads": heads.state_dict(),
                "steppers": [stepper.state_dict() for stepper in steppers],
                "step": done,
                "seconds": time.time() - started,
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            os.replace(checkpoint.with_suffix(".part"), checkpoint)
            print(f"step {done}: {accuracy(network, val_images, val_labels):.4f} of the unseen scenes", flush=True)

    network.publish(arguments.out)
    network.reload(arguments.out)
    shares = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    masked = {f"{share:.1f}": accuracy(network, val_images, val_labels, share) for share in shares}
    report = {
        "model": f"datasets/mini/models/{arguments.architecture}",
        "accuracy": masked["0.0"],
        "scenes": len(val_labels),
        "accuracy_by_share_of_patches_removed_at_random": masked,
        "parameters": parameters,
        "bytes": sum(file.stat().st_size for file in arguments.out.glob("*.safetensors")),
        "train_scenes": len(labels),
        "steps": arguments.steps,
        "batch": arguments.batch,
        "seed": arguments.seed,
        "seconds": round(time.time() - started),
        "command": "python " + shlex.join(portable(word) for word in sys.argv),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
    }
    print(json.dumps(report, indent=2), flush=True)
    if arguments.check:
        images, _, labels = load(arguments.check, arguments.threads)
        report["accuracy_on_fresh_scenes"] = accuracy(network, images, labels)
        report["fresh_scenes"] = len(labels)
        print(f"{report['accuracy_on_fresh_scenes']:.4f} of the fresh scenes", flush=True)
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")


def portable(word):
    """A word of the command line without the machine's own folders."""
    path = Path(word)
    if not path.is_absolute():
        return word
    root = Path(__file__).resolve().parent.parent
    return str(path.relative_to(root)) if path.is_relative_to(root) else f"DIR/{path.name}"


if __name__ == "__main__":
    main()
