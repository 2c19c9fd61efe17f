#!/usr/bin/env python3
"""Writes the fixture of the samplers: times of many runs, and every step of a few, as diffusers computes them.

    python tools/golden_diffusion.py crates/models/tests/fixtures/diffusion

Needs torch 2.11.0, diffusers 0.42.1, safetensors 0.8.0, numpy 2.4.6.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
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
    # As pipelines that were fine-tuned from Stable Diffusion 1 and 2 have them.
    "euler": {
        "_class_name": "EulerDiscreteScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "clip_sample": False, "interpolation_type": "linear", "num_train_timesteps": 1000,
        "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        "timestep_spacing": "leading", "timestep_type": "discrete", "trained_betas": None, "use_karras_sigmas": False,
    },
    "deis": {
        "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "deis", "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "lambda_min_clipped": -float("inf"),
        "lower_order_final": True, "num_train_timesteps": 1000, "sample_max_value": 1.0, "solver_order": 2,
        "solver_type": "logrho", "steps_offset": 1, "thresholding": False, "timestep_spacing": "leading",
        "final_sigmas_type": "sigma_min",
        "use_karras_sigmas": True, "variance_type": None,
    },
    "third": SD15 | {
        "_class_name": "UniPCMultistepScheduler", "solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min",
    },
    "third-velocity": SD15 | {
        "_class_name": "DPMSolverMultistepScheduler", "solver_order": 3, "prediction_type": "v_prediction",
        "timestep_spacing": "trailing", "euler_at_final": True,
    },
    "heun": SD15 | {"_class_name": "DPMSolverMultistepScheduler", "solver_type": "heun", "final_sigmas_type": "sigma_min"},
    "first": SD15 | {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 1, "lower_order_final": False},
    "uncorrected": SD15 | {
        "_class_name": "UniPCMultistepScheduler", "disable_corrector": [0, 1], "lower_order_final": False,
        "final_sigmas_type": "sigma_min", "timestep_spacing": "leading",
    },
}
CLASSES = {
    "pndm": PNDMScheduler, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler,
    "dpm-solver++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler,
}
OLDER = ["sd15", "velocity", "linspace", "bare", "runge-kutta"]
STEPS = [1, 2, 3, 4, 5, 7, 10, 20, 25, 27, 30, 50, 99, 100, 200, 250]
FEWER = [1, 2, 7, 20, 27, 50, 99]


def kinds(name):
    """The samplers that are run with a configuration: PNDM and DDIM read nothing of those of the others."""
    return list(CLASSES) if name in OLDER else list(CLASSES)[2:]


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
        for kind in kinds(name):
            fewest = 4 if kind == "pndm" and name in ("runge-kutta", "bare") else 1
            for steps in STEPS if kind in ("pndm", "ddim") else FEWER:
                if steps >= fewest:
                    made = scheduler(name, kind, steps, out)
                    times.append({"config": name, "kind": kind, "steps": steps, "times": made.timesteps.tolist()})
            alphas[name] = [made.alphas_cumprod[t].item() for t in (0, 1, 77, -1)]
            long = [] if kind in ("pndm", "ddim") else [(17, torch.float32)]
            for steps, dtype in ((7, torch.float32), (5, torch.bfloat16), *long):
                made = scheduler(name, kind, steps, out)
                generator = torch.Generator().manual_seed(steps)
                key = f"{name}.{kind}.{steps}"
                sample = torch.randn(3, 5, generator=generator).to(dtype)
                outputs = torch.randn(len(made.timesteps), 3, 5, generator=generator).to(dtype)
                tensors[f"{key}.outputs"], samples = outputs, [sample]
                if kind == "euler":
                    tensors[f"{key}.noise"], samples = sample, [sample * made.init_noise_sigma]
                for time, output in zip(made.timesteps, outputs, strict=True):
                    # A network's answer depends on what it is shown.
                    shown = made.scale_model_input(samples[-1], time)
                    samples.append(made.step(output + shown / 4, time, samples[-1]).prev_sample)
                tensors[f"{key}.samples"] = torch.stack(samples)
                if kind in ("pndm", "ddim"):
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
