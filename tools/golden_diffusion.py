#!/usr/bin/env python3
"""Writes the fixture of the samplers: times of many runs, and every step of a few, as diffusers computes them.

    python tools/golden_diffusion.py crates/models/tests/fixtures/diffusion

Needs torch 2.11.0, diffusers 0.42.0, safetensors 0.8.0, numpy 2.4.6.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import DDIMScheduler, PNDMScheduler
from safetensors.torch import save_file

# As published with Stable Diffusion 1.5.
SD15 = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
    "steps_offset": 1, "trained_betas": None, "clip_sample": False,
}
CONFIGS = {
    "sd15": SD15,
    "velocity": SD15 | {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "steps_offset": 0},
    "linspace": SD15 | {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "bare": {"_class_name": "DDIMScheduler", "num_train_timesteps": 300},
    "runge-kutta": SD15 | {"skip_prk_steps": False},
}
CLASSES = {"pndm": PNDMScheduler, "ddim": DDIMScheduler}
STEPS = [1, 2, 3, 4, 5, 7, 10, 20, 25, 27, 30, 50, 99, 100, 200, 250]


def scheduler(name, kind, steps, out):
    made = CLASSES[kind].from_config(CLASSES[kind].load_config(out / name))
    made.set_timesteps(steps)
    return made


def main():
    out = Path(sys.argv[1])
    for name, config in CONFIGS.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        (out / name / "scheduler_config.json").write_text(json.dumps(config, indent=2) + "\n")
    times, alphas, tensors, runs = [], {}, {}, []
    for name in CONFIGS:
        for kind in CLASSES:
            fewest = 4 if kind == "pndm" and name in ("runge-kutta", "bare") else 1
            for steps in STEPS:
                if steps >= fewest:
                    made = scheduler(name, kind, steps, out)
                    times.append({"config": name, "kind": kind, "steps": steps, "times": made.timesteps.tolist()})
            alphas[name] = [made.alphas_cumprod[t].item() for t in (0, 1, 77, -1)]
            for steps, dtype in ((7, torch.float32), (5, torch.bfloat16)):
                made = scheduler(name, kind, steps, out)
                generator = torch.Generator().manual_seed(steps)
                key = f"{name}.{kind}.{steps}"
                sample = torch.randn(3, 5, generator=generator).to(dtype)
                outputs = torch.randn(len(made.timesteps), 3, 5, generator=generator).to(dtype)
                tensors[f"{key}.outputs"], samples = outputs, [sample]
                for time, output in zip(made.timesteps, outputs, strict=True):
                    # A network's answer depends on what it is shown.
                    samples.append(made.step(output + samples[-1] / 4, time, samples[-1]).prev_sample)
                tensors[f"{key}.samples"] = torch.stack(samples)
                noised = [made.add_noise(samples[0], outputs[0], time[None]) for time in made.timesteps[:3]]
                tensors[f"{key}.noised"] = torch.stack(noised)
                runs.append({"config": name, "kind": kind, "steps": steps})
    golden = {"times": times, "alphas": alphas, "runs": runs}
    (out / "golden.json").write_text(json.dumps(golden) + "\n")
    save_file({name: tensor.float() for name, tensor in tensors.items()}, out / "golden.safetensors")
    for file in out.rglob("*"):
        if file.is_file():
            file.chmod(0o644)


if __name__ == "__main__":
    main()
