"""Golden fixtures for the ViT: tiny random networks built by transformers, with every stage they pass through.

    pip install torch==2.11.0 transformers==5.23.0 safetensors==0.8.0 pillow==13.0.0
    python tools/golden_vit.py            # writes crates/models/tests/fixtures/vit-*/

Each fixture is a model directory as transformers saves it (config.json, safetensors) plus `golden.safetensors`:

    pixels             [2, 3, h, w]
    embeddings         [2, n, d]
    block.{i}.logits   [2, heads, n, n]    what enters the softmax
    block.{i}.probs    [2, heads, n, n]
    block.{i}.hidden   [2, n, d]           what the block returns
    encoded            [2, n, d]           after the last layer norm
    logits             [2, classes]        classifiers only
    picture.pixels     [3, h, w]           picture.png through ViTImageProcessorPil
    picture.output     [classes] or [d]    logits, or CLS after the last layer norm

The configurations differ in everything the reader must take from config.json.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

FIXTURES = {
    # The plain case: square, one file, f32.
    "vit-plain": dict(
        model=ViTForImageClassification,
        config=dict(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=32,
            patch_size=8, num_labels=5,
        ),
        pixels=(32, 32),
    ),
    # No qkv bias, other activation and eps, a resolution other than the trained one and not square, bf16 storage.
    "vit-resized": dict(
        model=ViTForImageClassification,
        config=dict(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=80, image_size=40,
            patch_size=10, num_labels=7, qkv_bias=False, hidden_act="gelu_new", layer_norm_eps=1e-6,
        ),
        pixels=(50, 70),
        dtype=torch.bfloat16,
    ),
    # Several shards, f16 storage, one head, relu, a remainder at the edge that the patches do not cover.
    "vit-sharded": dict(
        model=ViTForImageClassification,
        config=dict(
            hidden_size=24, num_hidden_layers=4, num_attention_heads=1, intermediate_size=48, image_size=30,
            patch_size=7, num_labels=3, hidden_act="relu", layer_norm_eps=1e-3,
        ),
        pixels=(30, 30),
        dtype=torch.float16,
        shard="12KB",
    ),
    # A bare backbone: other names, a pooler that nobody needs, quick_gelu.
    "vit-backbone": dict(
        model=ViTModel,
        config=dict(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16,
            patch_size=4, hidden_act="quick_gelu",
        ),
        pixels=(16, 16),
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
                fan_in = parameter[0].numel() if parameter.dim() in (2, 4) else 1
                parameter.copy_(1.5 * noise / math.sqrt(fan_in))


def stages(model, config, pixels):
    golden = {"pixels": pixels}
    backbone = model.vit if hasattr(model, "vit") else model
    inputs = {}

    def watch(block):
        def hook(module, args, kwargs, output):
            x = args[0] if args else kwargs["hidden_states"]
            inputs[block] = x
        return hook

    layers = backbone.layers if hasattr(backbone, "layers") else backbone.encoder.layer
    handles = [layer.register_forward_hook(watch(i), with_kwargs=True) for i, layer in enumerate(layers)]
    interpolate = tuple(pixels.shape[-2:]) != (config.image_size, config.image_size)
    with torch.no_grad():
        out = model(
            pixels, output_attentions=True, output_hidden_states=True, interpolate_pos_encoding=interpolate
        )
    for handle in handles:
        handle.remove()
    golden["embeddings"] = inputs[0]
    for i, probs in enumerate(out.attentions):
        golden[f"block.{i}.probs"] = probs
        golden[f"block.{i}.logits"] = logits_of(layers[i], inputs[i], config)
        check = golden[f"block.{i}.logits"].softmax(-1)
        assert torch.allclose(check, probs, atol=1e-6), f"block {i}: these are not the logits of these probs"
        if i + 1 < len(out.attentions):
            golden[f"block.{i}.hidden"] = inputs[i + 1]
    with torch.no_grad():
        golden["encoded"] = backbone(pixels, interpolate_pos_encoding=interpolate).last_hidden_state
    if hasattr(out, "logits"):
        golden["logits"] = out.logits
    return {name: value.float().contiguous().clone() for name, value in golden.items()}


def of_picture(model, folder, generator):
    """What the network says of a picture, preprocessed as preprocessor_config.json of its folder says."""
    noise = torch.randint(0, 256, (31, 45, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(noise.numpy()).resize((90, 62), Image.Resampling.BICUBIC).save(folder / "picture.png")
    picture = Image.open(folder / "picture.png")
    pixels = ViTImageProcessorPil.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model(pixels, interpolate_pos_encoding=True)
    output = out.logits if hasattr(out, "logits") else out.last_hidden_state[:, 0]
    return {"picture.pixels": pixels[0].contiguous(), "picture.output": output[0].contiguous()}


def logits_of(layer, x, config):
    """The scaled products of a block, from its own projections."""
    linears = {name.rsplit(".", 1)[-1]: module for name, module in layer.named_modules()}
    query = linears.get("query") or linears.get("q_proj")
    key = linears.get("key") or linears.get("k_proj")
    with torch.no_grad():
        normed = layer.layernorm_before(x)
        batch, n, width = normed.shape
        heads = config.num_attention_heads

        def split(linear):
            return linear(normed).view(batch, n, heads, width // heads).transpose(1, 2)

        return split(query) @ split(key).transpose(2, 3) / math.sqrt(width // heads)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "crates/models/tests/fixtures")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    for seed, (name, spec) in enumerate(FIXTURES.items()):
        generator = torch.Generator().manual_seed(seed)
        config = ViTConfig(attn_implementation="eager", **spec["config"])
        model = spec["model"](config).eval()
        randomise(model, generator)
        # The golden pass runs in f32 on the weights as they are after storage.
        dtype = spec.get("dtype", torch.float32)
        model.to(dtype)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        model.save_pretrained(folder, max_shard_size=spec.get("shard", "5GB"))
        model.float()
        height, width = spec["pixels"]
        pixels = torch.randn((2, 3, height, width), generator=generator)
        processor = {
            "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": height, "width": width},
            "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")
        golden = stages(model, config, pixels) | of_picture(model, folder, generator)
        save_file(golden, folder / "golden.safetensors")
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
