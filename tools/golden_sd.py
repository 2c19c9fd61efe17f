"""Golden fixtures for the UNet of Stable Diffusion: tiny random networks built by diffusers, with every stage they pass
through.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0
    python tools/golden_sd.py [NAME...]    # writes crates/models/tests/fixtures/NAME/, all of them by default

Each fixture is a model directory as diffusers saves it (config.json, safetensors) plus `golden.safetensors`, of two inputs:

    input.sample       [2, in_channels, h, w]
    input.context      [2, text, cross_attention_dim]
    input.timestep     [1]
    time               [1, d]                   the time embedding
    conv_in            [2, channels, h, w]
    down_blocks.{i}    [2, channels, h, w]      what a block returns
    mid_block, up_blocks.{i}                    the same
    {module}.logits    [2, heads, n, keys]      what enters the softmax of every `attn1` (keys: the n image tokens) and
                                                `attn2` (keys: text tokens), by the module's path
    output             [2, out_channels, h, w]
    output.bf16        computed in bfloat16 throughout, where the weights are stored so

Maps are the softmax of their logits and not stored. The configurations differ in everything the reader must take from
config.json.
"""

import argparse
import math
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from golden_vae import randomise
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent.parent / "crates/models/tests/fixtures"

NETWORKS = {
    # As Stable Diffusion 1: convolutions around the transformers, one number of heads; three levels, f16, even sides.
    "unet-sd1": dict(
        config=dict(
            sample_size=8, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(8, 12, 12),
            layers_per_block=2, norm_num_groups=4, cross_attention_dim=10, attention_head_dim=2,
        ),
        size=(8, 4),
        text=5,
        timestep=981,
        dtype=torch.float16,
    ),
    # As Stable Diffusion 2: dense layers around the transformers, heads by level; and what neither has: sines first, other
    # frequencies, more transformer layers at the coarser level, blocks by level, other channels out than in. bf16, odd sides.
    "unet-sd2": dict(
        config=dict(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(6, 12, 8),
            layers_per_block=(1, 1, 2), norm_num_groups=2, norm_eps=1e-4, cross_attention_dim=6,
            attention_head_dim=(2, 3, 4), transformer_layers_per_block=(1, 2, 1), use_linear_projection=True,
            flip_sin_to_cos=False, freq_shift=1, center_input_sample=True, downsample_padding=0, in_channels=3, out_channels=5,
            time_embedding_dim=14,
        ),
        size=(11, 6),
        text=3,
        timestep=37,
        dtype=torch.bfloat16,
    ),
}


def stages(model, arguments):
    """One pass with hooks on the blocks, and a look at what each attention hands to the kernel."""
    golden, handles, seen = {}, [], []
    kernel = F.scaled_dot_product_attention

    def attention(query, key, value, *args, **kwargs):
        seen.append(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]))
        output = kernel(query, key, value, *args, **kwargs)
        assert torch.allclose(seen[-1].softmax(-1) @ value, output, atol=1e-5), "these are not the maps of this output"
        return output

    def keep(name, of):
        return lambda module, args, output: golden.__setitem__(name, of(output))

    first = lambda output: output[0] if isinstance(output, tuple) else output
    handles.append(model.time_embedding.register_forward_hook(keep("time", lambda output: output[:1])))
    handles.append(model.conv_in.register_forward_hook(keep("conv_in", first)))
    handles.append(model.mid_block.register_forward_hook(keep("mid_block", first)))
    for part in ("down_blocks", "up_blocks"):
        for i, block in enumerate(getattr(model, part)):
            handles.append(block.register_forward_hook(keep(f"{part}.{i}", first)))
    for name, module in model.named_modules():
        if name.endswith(("attn1", "attn2")):
            handles.append(module.register_forward_hook(keep(f"{name}.logits", lambda output: seen.pop())))
    with torch.no_grad(), mock.patch.object(F, "scaled_dot_product_attention", attention):
        golden["output"] = model(**arguments).sample
    for handle in handles:
        handle.remove()
    assert not seen, "an attention outside attn1 and attn2"
    return golden


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed, (name, spec) in enumerate(NETWORKS.items()):
        if given.names and name not in given.names:
            continue
        generator = torch.Generator().manual_seed(200 + seed)
        model = UNet2DConditionModel(**spec["config"]).eval()
        randomise(model, generator)
        dtype = spec["dtype"]
        model.to(dtype)
        folder = FIXTURES / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        model.save_pretrained(folder)
        inputs = {
            "sample": torch.randn((2, model.config.in_channels, *spec["size"]), generator=generator),
            "encoder_hidden_states": torch.randn((2, spec["text"], model.config.cross_attention_dim), generator=generator),
        }
        golden = {}
        if dtype == torch.bfloat16:
            with torch.no_grad():
                narrow = {key: value.to(dtype) for key, value in inputs.items()}
                golden["output.bf16"] = model(**narrow, timestep=spec["timestep"]).sample
        # The golden pass runs in f32 on the weights as they are after storage.
        model.float()
        golden |= stages(model, inputs | {"timestep": spec["timestep"]}) | {
            "input.sample": inputs["sample"],
            "input.context": inputs["encoder_hidden_states"],
            "input.timestep": torch.tensor([float(spec["timestep"])]),
        }
        golden = {key: value.float().contiguous().clone() for key, value in golden.items()}
        for key, value in golden.items():
            assert value.isfinite().all(), key
        save_file(golden, folder / "golden.safetensors")
        size = sum(file.stat().st_size for file in folder.iterdir())
        peak = max(value.softmax(-1).max() for key, value in golden.items() if key.endswith("logits"))
        print(
            f"{name}: {size / 1024:.0f} KiB, {len(golden)} tensors, largest probability {peak:.2f}, "
            f"output up to {golden['output'].abs().max():.1f}"
        )


if __name__ == "__main__":
    main()
