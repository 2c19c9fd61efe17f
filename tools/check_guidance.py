#!/usr/bin/env python3
"""Draws the first pictures of a guidance run again with diffusers and compares them pixel by pixel.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6 pillow==13.0.0
    tokenrank run configs/mini/guidance.toml --set task.guidance.count=40 --out DIR
    python tools/check_guidance.py --run DIR --report results/precision/guidance-mini.json

`StableDiffusionPipeline` draws the unguided pictures and `StableDiffusionSAGPipeline` the guided ones, picture k from
torch's noise of seed `seed + k`; where the mask comes from a chain, dense eigenvectors in float64 decide it. A token whose
importance is within float noise of the average may be masked by one and left alone by the other: the report says how near
the nearest came. Settings are those of the run's `results.json`; unguided prompts only.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from golden_sag import Watched
from PIL import Image


def pipeline_of(folder, method):
    settings = {"safety_checker": None, "torch_dtype": torch.float32, "requires_safety_checker": False}
    if method == "none":
        return StableDiffusionPipeline.from_pretrained(folder, **settings)
    return Watched.from_pretrained(folder, feature_extractor=None, **settings)


def draw(pipeline, seeds, task):
    unet = pipeline.unet.config
    side = unet.sample_size
    noise = [torch.randn(unet.in_channels, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    more = {"sag_scale": task["scale"]} if isinstance(pipeline, Watched) else {}
    pixels = side * pipeline.vae_scale_factor
    answer = pipeline(
        [task["prompt"]] * len(seeds), height=pixels, width=pixels, num_inference_steps=task["steps"],
        guidance_scale=task["guidance_scale"], latents=torch.stack(noise), output_type="np", **more,
    )
    return (answer.images * 255).round().astype(np.int16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    experiment = json.loads((args.run / "results.json").read_text())["experiment"]
    task = experiment["task"]["guidance"]
    numbers = range(task["first"], task["first"] + min(args.limit, task["count"]))
    report = {"pictures": len(numbers), "steps": task["steps"], "methods": {}}
    for method in task["methods"]:
        mask = method if isinstance(method, str) else method["sag"]["mask"]
        if not isinstance(method, str) and method["sag"].get("weight") == "lambda2":
            mask += "-lambda2"
        name = {"none": "none", "column-sum": "sag"}.get(mask, f"sag-{mask}")
        pipeline = pipeline_of(experiment["model"]["path"], mask)
        pipeline.set_progress_bar_config(disable=True)
        if isinstance(pipeline, Watched):
            heads = pipeline.unet.config.attention_head_dim
            pipeline.watch({"mask": mask, "threshold": task["threshold"]}, heads if isinstance(heads, int) else heads[-1])
        theirs, started = [], time.time()
        with torch.no_grad():
            for first in range(0, len(numbers), args.batch):
                theirs.append(draw(pipeline, [experiment["seed"] + k for k in numbers[first : first + args.batch]], task))
        took = time.time() - started
        ours = [np.asarray(Image.open(args.run / "pictures" / name / f"{k:08}.png"), np.int16) for k in numbers]
        apart = np.abs(np.stack(ours) - np.concatenate(theirs))
        nearest = getattr(pipeline, "margin", None)
        report["methods"][name] = {
            "largest_difference_in_levels": int(apart.max()),
            "samples_that_differ": float((apart > 0).mean()),
            "pictures_apart_by_more_than_a_level": int((apart > 1).any(axis=(1, 2, 3)).sum()),
            "importance_nearest_to_the_average": None if nearest is None else float(nearest),
            "seconds_of_diffusers": round(took, 1),
        }
        print(name, report["methods"][name])
    args.report.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
