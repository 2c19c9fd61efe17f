"""Times guided sampling with a Stable Diffusion 1.5 UNet of full size and random weights in diffusers, and `sd_bench` beside it.

    cargo build --release -p tasks --example sd_bench
    python tools/bench_sd_diffusers.py --device cuda:0 --ours target/release/examples/sd_bench --out results/gpu/NAME-sd.json
    python tools/bench_sd_diffusers.py --tiny --ours target/debug/examples/sd_bench

`plain` is `StableDiffusionPipeline`, `sag` is `StableDiffusionSAGPipeline`, both eager, from noise to latents. TokenRank's mask
has no counterpart there: it is compared with diffusers' `sag`. With `--ours` the two programs take turns.

Pinned: torch 2.11.0, diffusers 0.42.0.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, StableDiffusionSAGPipeline, UNet2DConditionModel

ROOT = Path(__file__).parent.parent
MINI = ROOT / "datasets/mini/models/sd"
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def components(tiny, dtype, device):
    """Random weights made where they are used."""
    config = json.loads((MINI / "unet/config.json").read_text()) if tiny else {"cross_attention_dim": 768, "sample_size": 64}
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            unet = UNet2DConditionModel(**{key: value for key, value in config.items() if not key.startswith("_")}).eval()
            # Never run: latents are what is asked for.
            vae = AutoencoderKL(block_out_channels=(32,) * (3 if tiny else 4), down_block_types=("DownEncoderBlock2D",) * (3 if tiny else 4),
                                up_block_types=("UpDecoderBlock2D",) * (3 if tiny else 4)).eval()
    finally:
        torch.set_default_dtype(default)
    return unet, vae


def pipelines(args, dtype, device):
    unet, vae = components(args.tiny, dtype, device)
    shared = dict(
        vae=vae, text_encoder=None, tokenizer=None, unet=unet, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )
    found = {}
    for mode, kind in (("plain", StableDiffusionPipeline), ("sag", StableDiffusionSAGPipeline)):
        # Each its own: a scheduler remembers where it is.
        found[mode] = kind(scheduler=PNDMScheduler.from_pretrained(MINI / "scheduler"), **shared)
        found[mode].set_progress_bar_config(disable=True)
    return found


def run(pipeline, mode, args, dtype, device):
    unet = pipeline.unet.config
    side = unet.sample_size
    make = dict(device=device, dtype=dtype)
    more = {"sag_scale": 0.75} if mode == "sag" else {}
    text = torch.randn(args.batch, 24 if args.tiny else 77, unet.cross_attention_dim, **make)
    noise = torch.randn(args.batch, unet.in_channels, side, side, **make)
    start = time.perf_counter()
    with torch.no_grad():
        pipeline(
            prompt_embeds=text, latents=noise, num_inference_steps=args.steps, guidance_scale=1.0, output_type="latent",
            height=side * pipeline.vae_scale_factor, width=side * pipeline.vae_scale_factor, **more,
        )
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def ours(args):
    """One report of `sd_bench`, a single repetition after its own warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ours.json"
        command = [args.ours, "--device", args.device, "--dtype", args.dtype, "--batch", args.batch, "--steps", args.steps,
                   "--repeat", 1, "--out", out, *(["--tiny"] if args.tiny else [])]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the miniature's shape, for a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--ours", type=Path, help="the built sd_bench")
    parser.add_argument("--name", help="of the device; CUDA tells it otherwise")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device, dtype = torch.device(args.device), DTYPES[args.dtype]
    name = args.name or (torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu")
    torch.manual_seed(0)
    found = pipelines(args, dtype, device)
    seconds, theirs = {}, {}
    for turn in range(args.repeat + 1):
        for mode, pipeline in found.items():
            took = run(pipeline, mode, args, dtype, device)
            if turn:
                seconds.setdefault(f"diffusers {mode}", []).append(took)
        if args.ours and turn:
            theirs = ours(args)
            for one in theirs["runs"]:
                seconds.setdefault(f"tokenrank {one['mode']}", []).append(one["seconds"])
    runs = []
    print(f"{'program and mode':<26} {'s':>9} {'pictures per s':>15} {'ratio':>7}")
    for mode, all_seconds in seconds.items():
        median = statistics.median(all_seconds)
        peer = statistics.median(seconds["diffusers plain" if mode.endswith("plain") else "diffusers sag"])
        runs.append({"mode": mode, "seconds": median, "all_seconds": all_seconds,
                     "pictures_per_second": args.batch / median, "times_as_fast_as_diffusers": peer / median})
        print(f"{mode:<26} {median:>9.4f} {args.batch / median:>15.4f} {peer / median:>6.2f}x")
    report = {
        "programs": [f"diffusers {diffusers.__version__}", *([theirs["program"]] if theirs else [])],
        "torch": torch.__version__, "device": name, "dtype": args.dtype, "batch": args.batch, "steps": args.steps,
        "repeat": args.repeat, "runs": runs,
    }
    if "tokenrank sag-tokenrank" in seconds:
        sag, ranked = (statistics.median(seconds[f"tokenrank {mode}"]) for mode in ("sag", "sag-tokenrank"))
        report["tokenrank_mask_share_of_a_step"] = ranked / sag - 1
        print(f"TokenRank's mask in place of the column sum's: {100 * (ranked / sag - 1):+.2f} % of a guided step")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
