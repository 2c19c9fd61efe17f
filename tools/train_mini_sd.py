#!/usr/bin/env python3
"""Trains a miniature of Stable Diffusion 1's pipeline on scenes of the miniature data set and writes it as diffusers does.

Needs torch 2.11.0, diffusers 0.42.0, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0, numpy 2.4.6, pillow
13.0.0. The scenes, one object each, come from

    cargo run -p tasks --example mini_export -- --out DIR/train --split train --count 40000 --size 64
    cargo run -p tasks --example mini_export -- --out DIR/val --split val --count 1000 --size 64

and `results/mini/README.md` records the command that made the committed weights.

The autoencoder is the miniature FLUX's: 64 x 64 pixels are 16 x 16 latents of 4 channels. Stable Diffusion's latents have
no shift, so FLUX's goes into the biases of its 1 x 1 convolutions around the latents. UNet and text tower learn together
to predict the noise of a noised latent from it, its time and a caption; half of the captions are empty, which is what
unconditional samples are made with. A moving average of the weights is published. Training goes on from its last
checkpoint with the same batches when it was stopped.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from train_mini_flux import LATENTS, TEXT, Scenes, caption, clip_tokenizer, latents_of, rename_tower, write_report
from train_mini_vision import Muon, pace

SIZE = 64
SIDE = 16
TEXT_WIDTH = 48
TIMES = 1000
EMPTY = 0.5


def folded_autoencoder(flux, scale):
    """The miniature FLUX's autoencoder without a shift: its 1 x 1 convolutions subtract it and add it again."""
    convolutions = {"use_quant_conv": True, "use_post_quant_conv": True}
    own = {**convolutions, "sample_size": SIZE, "scaling_factor": scale, "shift_factor": None}
    vae = AutoencoderKL.from_config({k: v for k, v in flux.config.items() if not k.startswith("_")} | own)
    identity = torch.eye(2 * LATENTS)[:, :, None, None]
    shift = torch.full([LATENTS], flux.config.shift_factor).half().float()
    vae.load_state_dict({
        **flux.state_dict(),
        "quant_conv.weight": identity,
        "quant_conv.bias": torch.cat([-shift, torch.zeros(LATENTS)]),
        "post_quant_conv.weight": identity[:LATENTS, :LATENTS],
        "post_quant_conv.bias": shift,
    })
    return vae.eval().requires_grad_(False)


class Miniature(torch.nn.Module):
    """UNet and CLIP's text tower."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.unet = UNet2DConditionModel(
            sample_size=SIDE, in_channels=LATENTS, out_channels=LATENTS, block_out_channels=(48, 96), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
            cross_attention_dim=TEXT_WIDTH, attention_head_dim=4, norm_num_groups=8,
        )
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=96, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=TEXT, projection_dim=TEXT_WIDTH,
                bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )

    def forward(self, noised, times, captions):
        """The noise in `noised` (b, 4, 16, 16)."""
        settings = {"padding": "max_length", "max_length": TEXT, "truncation": True}
        ids = torch.tensor(self.tokenizer(captions, **settings)["input_ids"])
        return self.unet(noised, times, self.text(ids).last_hidden_state).sample


class Noising:
    """Stable Diffusion's schedule, and what counts how much."""

    def __init__(self):
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMES, dtype=torch.float64) ** 2
        self.alphas = (1 - betas).cumprod(0).float()

    def noised(self, latents, noise, times):
        alpha = self.alphas[times][:, None, None, None]
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise

    def weights(self, times):
        """Errors at easy times count less: min-SNR weights with gamma 5 (arXiv 2303.09556)."""
        ratio = self.alphas[times] / (1 - self.alphas[times])
        return ratio.clamp(max=5) / ratio


class Batch:
    """What one step learns from."""

    def __init__(self, scenes, latents, index, rng):
        self.latents = latents[index]
        self.noise = torch.from_numpy(rng.standard_normal(self.latents.shape, np.float32))
        # One time from each of `b` equal parts of the schedule.
        self.times = torch.from_numpy(((np.arange(len(index)) + rng.random(len(index))) * TIMES / len(index)).astype(int))
        self.captions = ["" if rng.random() < EMPTY else caption(scenes.lines[i], rng)[0] for i in index]


def lose(network, noising, batch):
    predicted = network(noising.noised(batch.latents, batch.noise, batch.times), batch.times, batch.captions)
    return (predicted - batch.noise).square().mean((1, 2, 3))


def optimisers(network, arguments):
    """Muon for matrices and kernels of the UNet's blocks, AdamW for everything else."""
    parameters = list(network.named_parameters())
    matrices = [p for name, p in parameters if ("_blocks." in name or "mid_block." in name) and p.ndim >= 2]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in parameters if id(p) not in chosen]
    found = [
        torch.optim.AdamW(rest, lr=arguments.rate, betas=(0.9, 0.99), weight_decay=0.0),
        Muon(matrices, lr=arguments.rate, weight_decay=0.01),
    ]
    for group in [group for optimiser in found for group in optimiser.param_groups]:
        group["full"] = group["lr"]
    return found


@torch.no_grad()
def evaluate(network, noising, scenes, latents):
    """Mean squared error of the noise of unseen scenes, at four parts of the schedule."""
    sums = np.zeros(4)
    starts = range(0, min(len(scenes), 512), 64)
    for start in starts:
        batch = Batch(scenes, latents, np.arange(start, start + 64), np.random.default_rng([9, start]))
        sums += lose(network, noising, batch).numpy().reshape(4, 16).mean(1)
    return (sums / len(starts)).round(4).tolist()


def train(network, scenes, latents, val, val_latents, work, arguments):
    """The moving average of the trained weights, and what was measured."""
    torch.manual_seed(arguments.seed)
    noising, average, steppers = Noising(), copy.deepcopy(network).eval(), optimisers(network, arguments)
    checkpoint, first, seconds = work / "unet.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        for stepper, saved in zip(steppers, state["steppers"], strict=True):
            stepper.load_state_dict(saved)
        first, seconds = state["step"], state["seconds"]
        print(f"goes on from step {first}", flush=True)
    per_epoch = len(scenes) // arguments.batch
    started, losses = time.time() - seconds, []
    for step in range(first, arguments.steps):
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([arguments.seed, 1, epoch]).permutation(len(scenes))
        rng = np.random.default_rng([arguments.seed, 2, step])
        batch = Batch(scenes, latents, order[position * arguments.batch : (position + 1) * arguments.batch], rng)
        errors = lose(network, noising, batch)
        (errors * noising.weights(batch.times)).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = group["full"] * pace(step, arguments.steps, 100, arguments.cooldown)
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        with torch.no_grad():
            weight = max(1 / (step + 1), 1 - arguments.average)
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, weight)
        losses.append(errors.mean().item())
        done = step + 1
        if done % 50 == 0:
            speed = (time.time() - started) / done
            print(f"step {done}: error {np.mean(losses):.4f}, {speed:.2f} s a step", flush=True)
            losses = []
        if done % arguments.every == 0 or done == arguments.steps:
            state = {
                "network": network.state_dict(), "average": average.state_dict(), "step": done,
                "steppers": [stepper.state_dict() for stepper in steppers], "seconds": time.time() - started,
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").rename(checkpoint)
            print(f"  unseen: {evaluate(average, noising, val, val_latents)}", flush=True)
    errors = evaluate(average, noising, val, val_latents)
    return average, {"unseen_error_by_quarter_of_the_schedule": errors, "seconds": round(time.time() - started)}


def publish(network, vae, out):
    """The folder as `StableDiffusionPipeline.save_pretrained` writes it; the weights in float16, under the hub's names."""
    for model in (network.unet, network.text, vae):
        model.half()
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=network.text, tokenizer=network.tokenizer, unet=network.unet, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
        # As published with Stable Diffusion 1.5; the last setting is for DDIM's class, which would clip otherwise.
        scheduler=PNDMScheduler.from_config({
            "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": TIMES,
            "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False,
        }),
    )
    kept = {file.name: file.read_bytes() for file in (out / "tokenizer").iterdir()}
    pipeline.save_pretrained(out)
    for file in (out / "tokenizer").iterdir():
        file.unlink()
    for name, content in kept.items():
        (out / "tokenizer" / name).write_bytes(content)
    rename_tower(out / "text_encoder", network.text)
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="exported scenes to learn from")
    parser.add_argument("--val", type=Path, required=True, help="exported scenes of the other split")
    parser.add_argument("--autoencoder", type=Path, required=True, help="folder `vae` of the miniature FLUX")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="the pipeline folder to write")
    parser.add_argument("--report", type=Path, help="JSON with errors, seed, versions and command")
    parser.add_argument("--scenes", type=int, default=40000, help="most scenes to read of a folder")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--cooldown", type=float, default=0.5, help="share of the steps in which the rate falls")
    parser.add_argument("--average", type=float, default=0.995, help="decay of the moving average of the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    for folder in (arguments.work, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    scenes, val = (Scenes(folder, arguments.scenes, arguments.threads) for folder in (arguments.train, arguments.val))
    print(f"{len(scenes)} scenes to learn from, {len(val)} unseen", flush=True)

    rng = np.random.default_rng([arguments.seed, 4])
    tokenizer = clip_tokenizer([caption(line, rng)[0] for line in scenes.lines[:4000]], arguments.out / "tokenizer")
    flux = AutoencoderKL.from_pretrained(arguments.autoencoder, torch_dtype=torch.float32)
    vae = folded_autoencoder(flux, 1.0)
    latents = latents_of(vae, scenes, arguments.work / "train.safetensors").float()
    val_latents = latents_of(vae, val, arguments.work / "val.safetensors").float()
    scale = 1 / latents.std().item()
    vae = folded_autoencoder(flux, scale)

    torch.manual_seed(arguments.seed)
    network = Miniature(tokenizer)
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in network.named_children()}
    print(sizes, flush=True)
    average, measured = train(network, scenes, latents * scale, val, val_latents * scale, arguments.work, arguments)
    publish(average, vae, arguments.out)
    write_report(measured, sizes, vae, scenes, arguments)


if __name__ == "__main__":
    main()
