"""Golden fixtures for the FLUX transformer: tiny random networks built by diffusers, with every stage they pass through.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0
    python tools/golden_flux.py [NAME...]    # writes crates/models/tests/fixtures/NAME/, all of them by default

Each fixture is a model directory as diffusers saves it (config.json, safetensors) plus `golden.safetensors`, of two inputs:

    input.unpacked     [2, channels/4, h, w]    latents as the autoencoder gives them
    input.latents      [2, rows*columns, channels]   the same, packed
    input.text         [2, text, joint_attention_dim]
    input.pooled       [2, pooled_projection_dim]
    input.timestep     [1]                      noise level, 0 to 1
    input.guidance     [1]                      where the network takes one
    embedded           [2, n, d]                what enters the first block, text tokens first
    conditioning       [2, d]                   timestep, guidance and pooled text
    dual.{i}.logits    [2, heads, n, n]         what enters the softmax: scale, norms and RoPE are in it
    dual.{i}.probs     [2, heads, n, n]
    dual.{i}.hidden    [2, n, d]                what the block returns, text tokens first
    single.{i}.*                                the same
    output             [2, rows*columns, channels]
    output.bf16        [2, rows*columns, channels]   computed in bfloat16 throughout, where the weights are stored so

The configurations differ in everything the reader must take from config.json.
"""

import argparse
import math
from pathlib import Path
from unittest import mock

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.models.transformers import transformer_flux
from safetensors.torch import save_file

FIXTURES = {
    # As FLUX.1-schnell: no guidance, one file, f32; a square picture.
    "flux-schnell": dict(
        config=dict(
            num_layers=2, num_single_layers=2, attention_head_dim=6, num_attention_heads=2, joint_attention_dim=10,
            pooled_projection_dim=8, in_channels=8, guidance_embeds=False, axes_dims_rope=(2, 2, 2),
        ),
        text=5,
        grid=(3, 3),
        timestep=1.0,
    ),
    # As FLUX.1-dev: guidance, several bf16 shards; axes of unlike width, a picture wider than high, other widths.
    "flux-dev": dict(
        config=dict(
            num_layers=1, num_single_layers=3, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=6,
            pooled_projection_dim=12, in_channels=4, guidance_embeds=True, axes_dims_rope=(2, 4, 2),
        ),
        text=7,
        grid=(2, 5),
        timestep=0.37,
        guidance=3.5,
        dtype=torch.bfloat16,
        shard="24KB",
    ),
}


def randomise(model, generator):
    """Weights far from the initial ones, so that no stage is trivially right (biases 0, norms 1, flat attention)."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1 and "weight" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(1.2 * noise / math.sqrt(parameter.shape[1]))


def inputs(model, spec, generator):
    """What a pipeline would hand to the network, as keyword arguments."""
    config, (rows, columns) = model.config, spec["grid"]
    channels = config.in_channels // 4
    unpacked = torch.randn((2, channels, 2 * rows, 2 * columns), generator=generator)
    arguments = {
        "hidden_states": FluxPipeline._pack_latents(unpacked, 2, channels, 2 * rows, 2 * columns),
        "encoder_hidden_states": torch.randn((2, spec["text"], config.joint_attention_dim), generator=generator),
        "pooled_projections": torch.randn((2, config.pooled_projection_dim), generator=generator),
        "timestep": torch.full((2,), spec["timestep"]),
        "img_ids": FluxPipeline._prepare_latent_image_ids(2, rows, columns, "cpu", torch.float32),
        "txt_ids": torch.zeros(spec["text"], 3),
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.full((2,), spec["guidance"])
    return unpacked, arguments


def stages(model, arguments):
    """One pass with hooks on the blocks, and a look at what each hands to the attention kernel."""
    golden, maps, handles = {}, [], []

    def attention(query, key, value, *args, **kwargs):
        # [b, n, heads, head dim] -> [b, heads, n, head dim]
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        probs = logits.softmax(-1)
        output = original(query, key, value, *args, **kwargs)
        assert torch.allclose((probs @ v).transpose(1, 2), output, atol=1e-5), "these are not the maps of this output"
        maps.append((logits, probs))
        return output

    def before_the_first(module, args, kwargs):
        golden["embedded"] = torch.cat([kwargs["encoder_hidden_states"], kwargs["hidden_states"]], dim=1)
        golden["conditioning"] = kwargs["temb"]

    def after(name):
        def hook(module, args, kwargs, output):
            golden[f"{name}.logits"], golden[f"{name}.probs"] = maps.pop()
            golden[f"{name}.hidden"] = torch.cat(output, dim=1)
        return hook

    handles.append(model.transformer_blocks[0].register_forward_pre_hook(before_the_first, with_kwargs=True))
    for stream, blocks in (("dual", model.transformer_blocks), ("single", model.single_transformer_blocks)):
        for i, block in enumerate(blocks):
            handles.append(block.register_forward_hook(after(f"{stream}.{i}"), with_kwargs=True))
    original = transformer_flux.dispatch_attention_fn
    with torch.no_grad(), mock.patch.object(transformer_flux, "dispatch_attention_fn", attention):
        golden["output"] = model(**arguments).sample
    for handle in handles:
        handle.remove()
    assert not maps, "an attention outside the blocks"
    return golden


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "crates/models/tests/fixtures")
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed, (name, spec) in enumerate(FIXTURES.items()):
        if given.names and name not in given.names:
            continue
        generator = torch.Generator().manual_seed(seed)
        model = FluxTransformer2DModel(**spec["config"]).eval()
        randomise(model, generator)
        dtype = spec.get("dtype", torch.float32)
        model.to(dtype)
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        model.save_pretrained(folder, max_shard_size=spec.get("shard", "5GB"))
        unpacked, arguments = inputs(model, spec, generator)
        golden = {}
        if dtype != torch.float32:
            with torch.no_grad():
                golden["output.bf16"] = model(**{key: value.to(dtype) for key, value in arguments.items()}).sample
        # The golden pass runs in f32 on the weights as they are after storage.
        model.float()
        golden |= stages(model, arguments) | {
            "input.unpacked": unpacked,
            "input.latents": arguments["hidden_states"],
            "input.text": arguments["encoder_hidden_states"],
            "input.pooled": arguments["pooled_projections"],
            "input.timestep": arguments["timestep"][:1],
        }
        if "guidance" in arguments:
            golden["input.guidance"] = arguments["guidance"][:1]
        golden = {key: value.float().contiguous().clone() for key, value in golden.items()}
        for key, value in golden.items():
            assert value.isfinite().all(), key
        save_file(golden, folder / "golden.safetensors")
        size = sum(file.stat().st_size for file in folder.iterdir())
        peak = max(value.max() for key, value in golden.items() if key.endswith("probs"))
        print(f"{name}: {size / 1024:.0f} KiB, largest probability {peak:.2f}, output up to {golden['output'].abs().max():.1f}")


if __name__ == "__main__":
    main()
