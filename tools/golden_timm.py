"""Golden fixtures for the vision transformers of timm: tiny random networks with every stage they pass through.

    pip install torch==2.11.0 torchvision==0.26.0 transformers==5.23.0 timm==1.0.31 safetensors==0.8.0 pillow==13.0.0
    python tools/golden_timm.py [NAME...]    # writes crates/models/tests/fixtures/NAME/, all of them by default

Each fixture is a model directory plus `golden.safetensors`, with the stages of tools/golden_vision.py. `timm-hub-*` is saved by
timm as in the repositories timm/… on the hub. `timm-wrapper-*` is such a directory, read and saved again by transformers:
TimmWrapperForImageClassification if it has classes, otherwise TimmWrapperModel. `picture.pixels` is the picture through
transformers' TimmWrapperImageProcessor.

`image/timm.json`: images of many sizes through the transforms of timm, as SHA-256 of the float32 values. The sample of column x, row
y and channel c is 31x + 17y² + 57c + xy, modulo 256.

The attention is computed without fused kernels (TIMM_FUSED_ATTN=0), and its probabilities are what enters `attn_drop`.
"""

import argparse
import hashlib
import itertools
import json
import math
import os
import tempfile
from pathlib import Path

os.environ["TIMM_FUSED_ATTN"] = "0"

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from transformers import TimmWrapperForImageClassification, TimmWrapperModel
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

FIXTURES = {
    # The plain case, as published: CLS, classes, a crop of nine tenths.
    "timm-hub-vit": dict(
        architecture="vit_tiny_patch16_224",
        args=dict(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4, mlp_ratio=2.0, num_classes=5),
        data=dict(crop_pct=0.9, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    ),
    # DeiT III saved by transformers: LayerScale, no position of CLS, no bias of queries, keys and values; a resolution other
    # than the trained one and not square; bilinear; bf16 storage.
    "timm-wrapper-deit3": dict(
        architecture="deit3_small_patch16_224",
        args=dict(
            img_size=40, patch_size=10, embed_dim=48, depth=2, num_heads=3, num_classes=7, qkv_bias=False,
            dynamic_img_size=True,
        ),
        data=dict(input_size=(3, 50, 70), crop_pct=1.0, interpolation="bilinear"),
        pixels=(50, 70),
        dtype=torch.bfloat16,
    ),
    # DINOv2 with registers and SwiGLU, without classes; f16 storage; resized without regard to proportions.
    "timm-hub-dinov2": dict(
        architecture="vit_giant_patch14_reg4_dinov2",
        args=dict(img_size=28, patch_size=7, embed_dim=24, depth=3, num_heads=3, num_classes=0, mlp_ratio=4.0, reg_tokens=3),
        data=dict(crop_pct=0.8, crop_mode="squash"),
        dtype=torch.float16,
    ),
    # DINO saved by transformers without classes, and a linear head on CLS of the last four of five blocks.
    "timm-wrapper-dino": dict(
        architecture="vit_small_patch8_224",
        args=dict(img_size=24, patch_size=8, embed_dim=16, depth=5, num_heads=2, mlp_ratio=2.0, num_classes=0),
        data=dict(crop_pct=0.875),
        head="last four",
    ),
    # No CLS, the mean of the patches before the last norm, a register without position; an image that is not square.
    "timm-hub-gap": dict(
        architecture="vit_medium_patch16_reg1_gap_256",
        args=dict(img_size=(30, 40), patch_size=10, embed_dim=24, depth=2, num_heads=2, mlp_ratio=2.0, num_classes=3),
        data=dict(crop_pct=0.95),
    ),
    # CLS, registers with positions, and the mean of the patches after the last norm; norms of queries and keys; saved by
    # transformers; the whole image within borders.
    "timm-wrapper-registers": dict(
        architecture="vit_so150m_patch16_reg4_gap_256",
        args=dict(
            img_size=24, patch_size=6, embed_dim=24, depth=2, num_heads=3, num_classes=4, class_token=True, qk_norm=True,
            reg_tokens=2, act_layer="gelu_tanh", proj_bias=False,
        ),
        data=dict(crop_pct=0.9, crop_mode="border", mean=(0.3, 0.5, 0.7)),
    ),
    # The image tower of CLIP: a norm before the blocks, patches without bias, quick_gelu, another epsilon, one head.
    "timm-hub-clip": dict(
        architecture="vit_base_patch32_clip_quickgelu_224",
        args=dict(img_size=24, patch_size=8, embed_dim=24, depth=2, num_heads=1, num_classes=6),
        data=dict(crop_pct=1.0),
    ),
    # The image tower of SigLIP: a learned query attends to the patches; patches with a remainder at the edge.
    "timm-wrapper-siglip": dict(
        architecture="vit_base_patch32_siglip_256",
        args=dict(img_size=31, patch_size=7, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5, num_classes=0),
        data=dict(crop_pct=0.9, crop_mode="squash"),
    ),
    # No norm after the blocks, and neither CLS nor registers.
    "timm-hub-bare": dict(
        architecture="vit_base_patch16_gap_224",
        args=dict(img_size=24, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3, final_norm=False),
        data=dict(crop_pct=0.7),
    ),
}


def randomise(model, generator):
    """Weights far from the initial ones, so that no stage is trivially right (biases 0, norms 1, flat attention)."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1 and ("weight" in name or "gamma" in name):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.2 * noise)
            else:
                fan_in = parameter[0].numel() if parameter.dim() in (2, 4) else 1
                parameter.copy_(1.5 * noise / math.sqrt(fan_in))


def stages(model, pixels, head):
    """`model` is timm's."""
    golden, inputs, outputs, maps = {"pixels": pixels}, {}, {}, {}

    def watch(block):
        def hook(module, args, output):
            inputs[block], outputs[block] = args[0], output
        return hook

    def watch_probs(block):
        def hook(module, args, output):
            maps[block] = args[0]
        return hook

    handles = []
    for i, block in enumerate(model.blocks):
        assert not block.attn.fused_attn
        handles.append(block.register_forward_hook(watch(i)))
        handles.append(block.attn.attn_drop.register_forward_hook(watch_probs(i)))
    with torch.no_grad():
        encoded = model.forward_features(pixels)
        for handle in handles:
            handle.remove()
        answered = model.forward_head(encoded)
        assert torch.equal(answered, model(pixels))
        golden["embeddings"] = inputs[0]
        for i, block in enumerate(model.blocks):
            golden[f"block.{i}.probs"] = maps[i]
            golden[f"block.{i}.logits"] = logits_of(block, inputs[i])
            check = golden[f"block.{i}.logits"].softmax(-1)
            assert torch.allclose(check, maps[i], atol=1e-6), f"block {i}: these are not the logits of these probs"
        golden["encoded"] = encoded
        if head is not None:
            features = torch.cat([model.norm(outputs[i])[:, 0] for i in range(len(model.blocks))[-4:]], dim=-1)
            golden["logits"] = features @ head["weight"].T + head["bias"]
        else:
            golden["logits" if model.num_classes else "embedding"] = answered
    return {name: value.float().contiguous().clone() for name, value in golden.items()}


def logits_of(block, x):
    """The scaled products of a block, from its own projections."""
    attention = block.attn
    qkv = attention.qkv(block.norm1(x))
    batch, n, _ = qkv.shape
    query, key, _ = qkv.view(batch, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query), attention.k_norm(key)
    return query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])


def of_picture(model, head, folder, generator):
    """What the network says of a picture, preprocessed as its configuration says."""
    noise = torch.randint(0, 256, (31, 45, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(noise.numpy()).resize((91, 62), Image.Resampling.BICUBIC).save(folder / "picture.png")
    picture = Image.open(folder / "picture.png")
    pixels = TimmWrapperImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    output = stages(model, pixels, head)
    output = output.get("logits", output.get("embedding"))
    return {"picture.pixels": pixels[0].contiguous(), "picture.output": output[0].contiguous()}


def store(model, spec, folder):
    """Saves the network as the hub has it, or through transformers, and returns it as it is after storage, in f32."""
    options = dict(model_args=spec["args"], data_config=spec["data"], safe_serialization=True)
    if not folder.name.startswith("timm-wrapper-"):
        save_for_hf(model, folder, **options)
        return model.float()
    with tempfile.TemporaryDirectory() as published:
        save_for_hf(model, published, **options)
        # timm 1.0.31 says the number of classes a second time, which TimmWrapper does not accept.
        config = Path(published) / "config.json"
        told = json.loads(config.read_text())
        del told["model_args"]["num_classes"]
        config.write_text(json.dumps(told))
        network = TimmWrapperForImageClassification if model.num_classes else TimmWrapperModel
        network.from_pretrained(published, dtype=spec.get("dtype", torch.float32)).save_pretrained(folder)
    read = network.from_pretrained(folder, dtype=torch.float32).eval()
    for name, tensor in model.float().state_dict().items():
        assert torch.equal(tensor, read.timm_model.state_dict()[name]), name
    return read.timm_model


SIZES = [(60, 40), (61, 40), (62, 41), (63, 42), (64, 43), (37, 65), (50, 50), (20, 17), (23, 90), (9, 9), (5, 150)]
TRANSFORMS = [
    dict(tag="defaults"),
    dict(input_size=(3, 32, 32), crop_pct=0.9, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    dict(input_size=(3, 33, 33), crop_pct=0.95, interpolation="bilinear"),
    dict(input_size=(3, 30, 30), crop_pct=1.0, crop_mode="center", interpolation="nearest"),
    dict(input_size=(3, 24, 36), crop_pct=0.875, interpolation="lanczos"),
    dict(input_size=(3, 37, 22), crop_pct=0.7, interpolation="hamming"),
    dict(input_size=(3, 32, 32), crop_pct=0.9, crop_mode="squash"),
    dict(input_size=(3, 21, 34), crop_pct=0.85, crop_mode="squash", interpolation="box"),
    dict(input_size=(3, 32, 32), crop_pct=0.9, crop_mode="border"),
    dict(input_size=(3, 25, 44), crop_pct=1.0, crop_mode="border", mean=(0.1, 0.62745098, 0.9)),
    dict(input_size=(3, 31, 31), crop_pct=0.8, crop_mode="border", interpolation="bilinear", mean=(0.5,), std=(0.25,)),
    # Larger than the resized image.
    dict(input_size=(3, 33, 33), crop_pct=1.3),
    dict(input_size=(3, 33, 40), crop_pct=1.2, crop_mode="squash"),
]


def transforms(path):
    cases = []
    for (width, height), cfg in itertools.product(SIZES, TRANSFORMS):
        y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
        image = Image.fromarray(((31 * x + 17 * y * y + 57 * c + x * y) % 256).astype(np.uint8))
        processor = TimmWrapperImageProcessor(pretrained_cfg=cfg)
        values = processor(image, return_tensors="pt")["pixel_values"][0].contiguous().numpy()
        assert values.dtype == np.float32
        digest = hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
        cases.append(dict(pretrained_cfg=cfg, width=width, height=height, shape=values.shape, sha256=digest))
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{path.name}: {len(cases)} images")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "crates/models/tests/fixtures")
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.names:
        transforms(given.out / "image/timm.json")
    for seed, (name, spec) in enumerate(FIXTURES.items(), start=100):
        if given.names and name not in given.names:
            continue
        generator = torch.Generator().manual_seed(seed)
        model = timm.create_model(spec["architecture"], **spec["args"]).eval()
        randomise(model, generator)
        # The golden pass runs in f32 on the weights as they are after storage.
        model.to(spec.get("dtype", torch.float32))
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        model = store(model, spec, folder)
        size = spec["args"]["img_size"]
        height, width = spec.get("pixels", size if isinstance(size, tuple) else (size, size))
        pixels = torch.randn((2, 3, height, width), generator=generator)
        head = None
        if "head" in spec:
            features = 4 * model.embed_dim
            head = {
                "weight": torch.randn((6, features), generator=generator) / math.sqrt(features),
                "bias": torch.randn(6, generator=generator),
            }
            save_file(head, folder / "head.safetensors")
        golden = stages(model, pixels, head) | of_picture(model, head, folder, generator)
        save_file(golden, folder / "golden.safetensors")
        names = sorted(load_file(folder / "model.safetensors"))
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size / 1024:.0f} KiB, {len(names)} tensors such as {names[0]}")


if __name__ == "__main__":
    main()
