#!/usr/bin/env python3
"""Writes whole trajectories of guided sampling on the tiny random pipeline of the fixtures, as diffusers computes them.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
    python tools/golden_sag.py     # writes crates/tasks/tests/fixtures/sag/

Needs the fixture `sd-pipeline` of `tools/golden_sd.py`. `golden.json` lists the cases; `golden.safetensors` has the noise
they begin with, `noise` [2, c, h, w], and for each case NAME

    NAME.latents    [passes, 2, c, h, w]     after each pass
    NAME.masks      [passes, 2, rows*columns] uint8, of the guided cases: 1 where it was degraded
    NAME.pixels     [2, height, width, 3]    uint8, what the pipeline answers

Cases without guidance by attention are `StableDiffusionPipeline`'s, those with a mask `StableDiffusionSAGPipeline`'s, the
others `StableDiffusionPAGPipeline`'s. Where the mask comes from a chain, the pipeline is handed attention whose column sums are
that chain's answer, found by dense eigenvectors in float64; for SEG, of which diffusers has no pipeline, `PAGPipeline` is handed
attention with queries that diffusers' own function for SEG has blurred: everything else stays diffusers' own.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionSAGPipeline,
    UniPCMultistepScheduler,
)
from diffusers.hooks.smoothed_energy_guidance_utils import _gaussian_blur_2d
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import save_file

ROOT = Path(__file__).parent.parent
PIPELINE = ROOT / "crates/models/tests/fixtures/sd-pipeline"
OUT = ROOT / "crates/tasks/tests/fixtures/sag"
ALPHA = 0.99
SCHEDULERS = {
    "pndm": PNDMScheduler, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler,
    "dpm-solver++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler,
}
CASES = [
    {"name": "plain", "sampler": "pndm", "guidance_scale": 1.0, "prompt": ""},
    {"name": "prompted", "sampler": "ddim", "guidance_scale": 7.5, "prompt": "a photo of a cat"},
    {"name": "sag", "sampler": "pndm", "guidance_scale": 1.0, "prompt": "", "mask": "column-sum", "scale": 0.75},
    {"name": "sag-ddim", "sampler": "ddim", "guidance_scale": 1.0, "prompt": "", "mask": "column-sum", "scale": 1.5},
    {"name": "sag-prompted", "sampler": "pndm", "guidance_scale": 7.5, "prompt": "a cat", "mask": "column-sum", "scale": 0.75},
    {"name": "tokenrank", "sampler": "pndm", "guidance_scale": 1.0, "prompt": "", "mask": "tokenrank", "scale": 0.75},
    {"name": "lambda2", "sampler": "pndm", "guidance_scale": 1.0, "prompt": "", "mask": "tokenrank-lambda2", "scale": 0.75},
    {"name": "area", "sampler": "ddim", "guidance_scale": 1.0, "prompt": "", "mask": "tokenrank", "threshold": "area", "scale": 0.75},
    {"name": "euler", "sampler": "euler", "guidance_scale": 7.5, "prompt": "a cat"},
    {"name": "dpm", "sampler": "dpm-solver++", "guidance_scale": 7.5, "prompt": "a cat"},
    {"name": "sag-unipc", "sampler": "unipc", "guidance_scale": 1.0, "prompt": "", "mask": "column-sum", "scale": 0.75},
    {"name": "pag", "sampler": "euler", "guidance_scale": 1.0, "prompt": "a cat", "method": "pag", "blocks": ["mid_block"]},
    {"name": "pag-prompted", "sampler": "ddim", "guidance_scale": 7.5, "prompt": "a cat", "method": "pag", "blocks": ["mid_block", "up_blocks.1"], "scale": 1.5},
    {"name": "seg", "sampler": "pndm", "guidance_scale": 7.5, "prompt": "a cat", "method": "seg", "blocks": ["mid_block"], "scale": 3.0},
    {"name": "seg-narrow", "sampler": "ddim", "guidance_scale": 1.0, "prompt": "", "method": "seg", "blocks": ["mid_block"], "sigma": 0.7, "scale": 3.0},
    {"name": "seg-wide", "sampler": "ddim", "guidance_scale": 1.0, "prompt": "", "method": "seg", "blocks": ["mid_block"], "sigma": 4.0, "scale": 3.0},
]
STEPS = 6


def steady_state(matrix):
    n = len(matrix)
    values, vectors = np.linalg.eig((ALPHA * matrix + (1 - ALPHA) / n).T)
    pi = np.real(vectors[:, np.argmax(np.abs(values))])
    return pi / pi.sum()


def second(matrix):
    return np.sort(np.abs(np.linalg.eigvals(matrix)))[-2]


def importance(heads, mask):
    """Of tokens, mean 1, from the heads' maps (heads, n, n) in float64."""
    heads = heads / heads.sum(-1, keepdims=True)
    if mask == "column-sum":
        return heads.mean(0).sum(0)
    weights = np.array([second(head) if mask == "tokenrank-lambda2" else 1.0 for head in heads])
    mean = np.tensordot(weights / weights.sum(), heads, 1)
    return len(mean) * steady_state(mean)


class Watched(StableDiffusionSAGPipeline):
    """Hands diffusers' masking attention with the wanted column sums, and remembers the masks."""

    def watch(self, case, heads):
        self.case, self.heads, self.seen, self.margin = case, heads, [], np.inf

    def sag_masking(self, original_latents, attn_map, map_size, t, eps):
        n = attn_map.shape[-1]
        maps = attn_map.double().numpy().reshape(-1, self.heads, n, n)
        wanted = np.stack([importance(each, self.case["mask"]) for each in maps])
        if self.case.get("threshold") == "area":
            area = [int((importance(each, "column-sum") > 1).sum()) for each in maps]
            order = np.argsort(-wanted, axis=1, kind="stable")
            for row, places in enumerate(order):
                wanted[row, places[: area[row]]], wanted[row, places[area[row] :]] = 2, 0
        self.margin = min(self.margin, np.abs(wanted - 1).min())
        self.seen.append(torch.from_numpy((wanted > 1).astype(np.uint8)))
        if self.case["mask"] != "column-sum":
            rows = np.repeat(wanted[:, None, None] / n, n, axis=2)
            attn_map = torch.from_numpy(np.repeat(rows, self.heads, axis=1)).float().reshape(-1, n, n)
        return super().sag_masking(original_latents, attn_map, map_size, t, eps)


class BlurredQueries:
    """Self-attention whose last part, of as many as the pipeline stacks, has blurred queries: SEG."""

    def __init__(self, parts, sigma):
        self.parts, self.sigma, self.plain = parts, sigma, AttnProcessor2_0()

    def __call__(self, attn, hidden_states, **more):
        plain, worse = hidden_states.split([len(hidden_states) // self.parts * (self.parts - 1), len(hidden_states) // self.parts])

        def blur(_, __, queries):
            if self.sigma is None:
                return queries.mean(1, keepdim=True).expand_as(queries)
            odd = int(np.ceil(6 * self.sigma))
            # A threshold of 0, since the function mixes up the two cases: it blurs only above the threshold.
            return _gaussian_blur_2d(queries.clone(), odd + 1 - odd % 2, self.sigma, 0)

        plain = self.plain(attn, plain, **more)
        handle = attn.to_q.register_forward_hook(blur)
        worse = self.plain(attn, worse, **more)
        handle.remove()
        return torch.cat([plain, worse])


def run(case, noise):
    kind = Watched if "mask" in case else StableDiffusionPAGPipeline if "method" in case else StableDiffusionPipeline
    settings = {"safety_checker": None, "torch_dtype": torch.float32, "requires_safety_checker": False}
    if kind is Watched:
        settings["feature_extractor"] = None
    if kind is StableDiffusionPAGPipeline:
        settings["feature_extractor"] = None
        settings["pag_applied_layers"] = case["blocks"]
    pipeline = kind.from_pretrained(PIPELINE, **settings)
    pipeline.scheduler = SCHEDULERS[case["sampler"]].from_config(
        SCHEDULERS[case["sampler"]].load_config(PIPELINE / "scheduler")
    )
    pipeline.set_progress_bar_config(disable=True)
    latents, step = [], pipeline.scheduler.step

    def watched_step(*args, **kwargs):
        answer = step(*args, **kwargs)
        latents.append((answer[0] if isinstance(answer, tuple) else answer.prev_sample).clone())
        return answer

    pipeline.scheduler.step = watched_step
    more = {}
    if kind is Watched:
        heads = pipeline.unet.config.attention_head_dim
        pipeline.watch(case, heads if isinstance(heads, int) else heads[-1])
        more["sag_scale"] = case["scale"]
    if kind is StableDiffusionPAGPipeline:
        more["pag_scale"] = case.get("scale", 3.0)
        if case["method"] == "seg":
            processors = tuple(BlurredQueries(parts, case.get("sigma")) for parts in (3, 2))
            pipeline.set_pag_applied_layers(case["blocks"], processors)
    size = [side * pipeline.vae_scale_factor for side in noise.shape[-2:]]
    answer = pipeline(
        [case["prompt"]] * len(noise), height=size[0], width=size[1], num_inference_steps=STEPS,
        guidance_scale=case["guidance_scale"], latents=noise.clone(), output_type="np", **more,
    )
    found = {"latents": torch.stack(latents), "pixels": torch.from_numpy((answer.images * 255).round().astype(np.uint8))}
    if kind is Watched:
        found["masks"] = torch.stack(pipeline.seen)
        print(case["name"], "closest to the threshold:", pipeline.margin, "areas", found["masks"].float().mean(-1).flatten().tolist())
    return found


def main():
    unet = json.loads((PIPELINE / "unet/config.json").read_text())
    side = unet["sample_size"]
    sides = (side, side) if isinstance(side, int) else side
    # What `models::noise` draws for seeds 5 and 6.
    noise = [torch.randn(unet["in_channels"], *sides, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)]
    tensors = {"noise": torch.stack(noise)}
    with torch.no_grad():
        for case in CASES:
            for part, tensor in run(case, tensors["noise"]).items():
                tensors[f"{case['name']}.{part}"] = tensor.contiguous()
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT / "golden.safetensors")
    (OUT / "golden.json").write_text(json.dumps({"steps": STEPS, "alpha": ALPHA, "cases": CASES}, indent=1) + "\n")
    for file in OUT.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()
