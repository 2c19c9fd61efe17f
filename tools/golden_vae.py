"""Golden fixtures for the autoencoder: tiny random networks built by diffusers, a picture there and back.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0
    python tools/golden_vae.py     # writes crates/models/tests/fixtures/vae-*/

Each fixture is a model directory as diffusers saves it (config.json, safetensors) plus `golden.safetensors`:

    input.pixels     [2, 3, h, w]     -1 to 1
    input.noise      [2, c, h/f, w/f]
    mean             [2, c, h/f, w/f]
    logvar           [2, c, h/f, w/f]
    sample           [2, c, h/f, w/f]   drawn with the noise
    scaled           [2, c, h/f, w/f]   the sample as a diffusion model reads it
    decoded          [2, 3, h, w]       of the sample
    mean.bf16, logvar.bf16, decoded.bf16   computed in bfloat16 throughout, where the weights are stored so

`vae-sd` has the attention names of Stable Diffusion 1's time: `query`, `key`, `value`, `proj_attn`, in the decoder stored as
convolutions of one pixel, as the files were that diffusers' converters read.
"""

import math
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parent.parent / "crates/models/tests/fixtures"
WEIGHTS = "diffusion_pytorch_model.safetensors"

NETWORKS = {
    # As FLUX.1: a shift, no convolutions around the latents, bf16; a picture wider than high.
    "vae-flux": dict(
        config=dict(
            block_out_channels=(8, 8, 12), layers_per_block=1, latent_channels=5, norm_num_groups=4,
            scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
        ),
        size=(12, 20),
        dtype=torch.bfloat16,
    ),
    # As Stable Diffusion 1: convolutions around the latents, no shift, more blocks a level, f32, old names; two levels.
    "vae-sd": dict(
        config=dict(
            block_out_channels=(6, 10), layers_per_block=2, latent_channels=4, norm_num_groups=2, scaling_factor=0.18215,
        ),
        size=(10, 6),
        dtype=torch.float32,
        old_names=True,
    ),
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def randomise(model, generator):
    """Weights far from the initial ones, so that no stage is trivially right."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(("weight" in name) + 0.2 * noise)
            else:
                parameter.copy_(1.2 * noise / math.sqrt(parameter[0].numel()))


def renamed(folder):
    """Gives the attention its old names, in the decoder with weights of convolutions."""
    tensors = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        for today, old in OLD_NAMES.items():
            name = name.replace(f"attentions.0.{today}.", f"attentions.0.{old}.")
        tensors[name] = tensor
    save_file(tensors, folder / WEIGHTS)
    # diffusers reads these names; the shapes were changed by its converters before.
    read = AutoencoderKL.from_pretrained(folder)
    for name, tensor in tensors.items():
        if name.startswith("decoder") and name.endswith("weight") and any(f".{old}." in name for old in OLD_NAMES.values()):
            tensors[name] = tensor[:, :, None, None].contiguous()
    save_file(tensors, folder / WEIGHTS)
    return read


def there_and_back(model, pixels, noise):
    with torch.no_grad():
        posterior = model.encode(pixels).latent_dist
        sample = posterior.mean + posterior.std * noise
        return posterior.mean, posterior.logvar, sample, model.decode(sample).sample


def main():
    torch.set_num_threads(1)
    for seed, (name, spec) in enumerate(NETWORKS.items()):
        generator = torch.Generator().manual_seed(100 + seed)
        levels = len(spec["config"]["block_out_channels"])
        model = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, **spec["config"]
        ).eval()
        randomise(model, generator)
        with torch.no_grad():
            # One channel's logarithm of the variance is cut from below.
            last = model.quant_conv or model.encoder.conv_out
            last.bias[model.config.latent_channels] -= 29.5
        model.to(spec["dtype"])
        folder = FIXTURES / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        model.save_pretrained(folder)
        if spec.get("old_names"):
            model = renamed(folder).eval()
        height, width = spec["size"]
        factor = 2 ** (levels - 1)
        pixels = torch.rand((2, 3, height, width), generator=generator) * 2 - 1
        noise = torch.randn((2, model.config.latent_channels, height // factor, width // factor), generator=generator)
        golden = {}
        if spec["dtype"] != torch.float32:
            mean, logvar, _, decoded = there_and_back(model, pixels.to(spec["dtype"]), noise.to(spec["dtype"]))
            golden = {"mean.bf16": mean, "logvar.bf16": logvar, "decoded.bf16": decoded}
        # The golden pass runs in f32 on the weights as they are after storage.
        model.float()
        mean, logvar, sample, decoded = there_and_back(model, pixels, noise)
        scaled = (sample - (model.config.shift_factor or 0.0)) * model.config.scaling_factor
        golden |= {
            "input.pixels": pixels, "input.noise": noise, "mean": mean, "logvar": logvar, "sample": sample,
            "scaled": scaled, "decoded": decoded,
        }
        cut = (logvar == -30).float().mean()
        assert 0 < cut < 0.5, cut
        golden = {key: value.float().contiguous().clone() for key, value in golden.items()}
        assert all(value.isfinite().all() for value in golden.values())
        save_file(golden, folder / "golden.safetensors")
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size / 1024:.0f} KiB, decoded up to {decoded.abs().max():.1f}, {cut:.0%} of the variances are cut")


if __name__ == "__main__":
    main()
