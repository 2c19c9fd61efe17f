"""Golden fixtures for the vision transformers: tiny random networks built by transformers, with every stage they pass through.

    pip install torch==2.11.0 torchvision==0.26.0 transformers==5.23.0 safetensors==0.8.0 pillow==13.0.0
    python tools/golden_vision.py [NAME...]    # writes crates/models/tests/fixtures/NAME/, all of them by default

Each fixture is a model directory as transformers saves it (config.json, safetensors) plus `golden.safetensors`:

    pixels             [2, 3, h, w]
    embeddings         [2, n, d]
    block.{i}.logits   [2, heads, n, n]    what enters the softmax
    block.{i}.probs    [2, heads, n, n]
    block.{i}.hidden   [2, n, d]           what the block returns
    encoded            [2, n, d]           after the last layer norm
    logits             [2, classes]        classifiers only
    embedding          [2, d]              the others: CLS after the last layer norm (`pooler_output` of CLIP's image tower
                                           alone), or what CLIP projects it to; SigLIP's `pooler_output`, without
                                           its head the mean of the patches
    classes            [3, d]              embeddings of texts by SigLIP's text tower, and the cosines of
    class_logits       [2, 3]              the images' embeddings with them
    zero_shot          [3, d]              the classifier of ZERO_SHOT's names and templates
    text.*                                 the text tower where there is one: ids, embedding, block.{i}.probs
    prompt.{k}.*                           the k-th of PROMPTS: ids [n], embedding [d], block.{i}.logits and .probs [heads, n, n]
    picture.pixels     [3, h, w]           picture.png through ViTImageProcessorPil, SiglipImageProcessorPil, or for DINOv3
                                           torchvision's DINOv3ViTImageProcessor
    picture.output     [classes] or [d]    logits or embedding

`head.safetensors` beside a `dino-*` backbone is a linear classifier: `weight` [classes, features] and `bias`.

The configurations differ in everything the reader must take from config.json.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)
from transformers.models.dinov3_vit.image_processing_dinov3_vit import DINOv3ViTImageProcessor
from transformers.models.dinov3_vit.modeling_dinov3_vit import apply_rotary_pos_emb
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

# The made-up vocabulary of tools/golden_clip_tokenizer.py.
TOKENIZER = Path(__file__).parent.parent / "crates/models/tests/fixtures/clip-tokenizer"

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
    # DINO ViT-S: a bare backbone at another resolution, a head on CLS of the last four of five blocks.
    "dino-small": dict(
        model=ViTModel,
        config=dict(
            hidden_size=16, num_hidden_layers=5, num_attention_heads=2, intermediate_size=32, image_size=24,
            patch_size=8, layer_norm_eps=1e-6,
        ),
        pixels=(40, 32),
        head="last four",
    ),
    # DINO ViT-B: CLS beside the mean patch.
    "dino-base": dict(
        model=ViTModel,
        config=dict(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=24,
            patch_size=8, layer_norm_eps=1e-6,
        ),
        pixels=(24, 24),
        head="mean patch",
    ),
    # Trained size, square.
    "dinov2-plain": dict(
        model=Dinov2ForImageClassification,
        config=dict(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=42, patch_size=14,
            num_labels=5,
        ),
        pixels=(42, 42),
    ),
    # Registers, SwiGLU, no qkv bias, a grid finer one way and coarser the other, bf16 storage.
    "dinov2-registers": dict(
        model=Dinov2WithRegistersForImageClassification,
        config=dict(
            hidden_size=24, num_hidden_layers=3, num_attention_heads=3, mlp_ratio=4, image_size=28, patch_size=7,
            num_labels=4, num_register_tokens=3, use_swiglu_ffn=True, qkv_bias=False, layer_norm_eps=1e-5,
        ),
        pixels=(21, 42),
        dtype=torch.bfloat16,
    ),
    # A bare backbone with SwiGLU, smaller than trained, a remainder at the edge, f16 storage in shards.
    "dinov2-backbone": dict(
        model=Dinov2Model,
        config=dict(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=1, mlp_ratio=4, image_size=56, patch_size=8,
            use_swiglu_ffn=True,
        ),
        pixels=(43, 26),
        dtype=torch.float16,
        shard="12KB",
    ),
    # The image tower in a directory of its own.
    "clip-vision": dict(
        model=CLIPVisionModelWithProjection,
        config=dict(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32,
            patch_size=8, projection_dim=12,
        ),
        pixels=(32, 32),
    ),
    # Both towers, as published; another resolution, gelu, bf16 storage.
    "clip-both": dict(
        model=CLIPModel,
        config=dict(
            vision_config=dict(
                hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40, image_size=30,
                patch_size=10, hidden_act="gelu", layer_norm_eps=1e-6,
            ),
            text_config=dict(
                hidden_size=20, num_hidden_layers=2, num_attention_heads=2, intermediate_size=30, vocab_size=674,
                max_position_embeddings=14, bos_token_id=672, eos_token_id=673, pad_token_id=673,
            ),
            projection_dim=10,
        ),
        pixels=(50, 40),
        dtype=torch.bfloat16,
    ),
    # The image tower without a projection, as networks that read images beside text have it; f16 storage.
    "clip-tower": dict(
        model=CLIPVisionModel,
        config=dict(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=36, image_size=24,
            patch_size=6, projection_dim=20, layer_norm_eps=4e-5,
        ),
        pixels=(24, 36),
        dtype=torch.float16,
    ),
}

# Behind the others, since a fixture's place in the list is its seed.
FIXTURES |= {
    # The usual biases (none for keys), registers, another resolution than the configured one, not square.
    "dinov3-plain": dict(
        model=DINOv3ViTModel,
        config=dict(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32,
            patch_size=8, num_register_tokens=4,
        ),
        pixels=(24, 40),
    ),
    # A gated MLP, no registers, keys with a bias and the others without, another base of the periods, bf16 storage, a
    # remainder at the edge, a linear head on CLS.
    "dinov3-gated": dict(
        model=DINOv3ViTModel,
        config=dict(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=24,
            patch_size=6, use_gated_mlp=True, hidden_act="silu", query_bias=False, key_bias=True, value_bias=False,
            proj_bias=False, mlp_bias=False, rope_theta=20.0, layer_norm_eps=1e-6,
        ),
        pixels=(20, 29),
        dtype=torch.bfloat16,
        head="cls",
        processor=dict(size={"shortest_edge": 20}, resample=3),
    ),
    # One head, shards of f16, one register, a square image, and a linear head on CLS and the mean patch.
    "dinov3-sharded": dict(
        model=DINOv3ViTModel,
        config=dict(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=1, intermediate_size=32, image_size=224,
            patch_size=12, num_register_tokens=1, use_gated_mlp=True, hidden_act="gelu",
        ),
        pixels=(48, 48),
        dtype=torch.float16,
        shard="12KB",
        head="mean patch",
        processor=dict(size={"height": 96, "width": 72}),
    ),
    # The image tower alone with its pooling head, square, of the trained size.
    "siglip-vision": dict(
        model=SiglipVisionModel,
        config=dict(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8,
        ),
        pixels=(32, 32),
    ),
    # Both towers, as published, of which only the image tower is read; another resolution, not square, bf16 storage.
    "siglip-both": dict(
        model=SiglipModel,
        config=dict(
            vision_config=dict(
                hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, image_size=30,
                patch_size=10, layer_norm_eps=1e-5,
            ),
            text_config=dict(
                hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=30, vocab_size=50,
                max_position_embeddings=6, bos_token_id=None, eos_token_id=None,
            ),
        ),
        pixels=(50, 40),
        dtype=torch.bfloat16,
    ),
    # A classifier on the mean patch; its pooling head is not read. A remainder at the edge, f16 storage in shards.
    "siglip-classifier": dict(
        model=SiglipForImageClassification,
        config=dict(
            vision_config=dict(
                hidden_size=16, num_hidden_layers=3, num_attention_heads=1, intermediate_size=24, image_size=28,
                patch_size=7, hidden_act="gelu",
            ),
            num_labels=5,
        ),
        pixels=(31, 45),
        dtype=torch.float16,
        shard="12KB",
    ),
    # A tower without pooling head, as networks that read images beside text have it.
    "siglip-headless": dict(
        model=SiglipVisionModel,
        config=dict(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=36, image_size=24, patch_size=6,
            vision_use_head=False,
        ),
        pixels=(24, 36),
    ),
}

CONFIGS = {
    ViTForImageClassification: ViTConfig,
    ViTModel: ViTConfig,
    Dinov2ForImageClassification: Dinov2Config,
    Dinov2Model: Dinov2Config,
    Dinov2WithRegistersForImageClassification: Dinov2WithRegistersConfig,
    DINOv3ViTModel: DINOv3ViTConfig,
    SiglipVisionModel: SiglipVisionConfig,
    SiglipModel: SiglipConfig,
    SiglipForImageClassification: SiglipConfig,
    CLIPVisionModel: CLIPVisionConfig,
    CLIPVisionModelWithProjection: CLIPVisionConfig,
    CLIPModel: CLIPConfig,
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


def parts(model):
    """Backbone, its blocks and its last layer norm, whatever the architecture calls them."""
    names = ("vit", "dinov2", "dinov2_with_registers", "vision_model")
    backbone = next((getattr(model, name) for name in names if hasattr(model, name)), model)
    if hasattr(backbone, "vision_model"):
        backbone = backbone.vision_model
    encoder = getattr(backbone, "encoder", getattr(backbone, "model", backbone))
    layers = next(getattr(encoder, name) for name in ("layer", "layers") if hasattr(encoder, name))
    norm = next(getattr(backbone, name) for name in ("layernorm", "post_layernorm", "norm") if hasattr(backbone, name))
    return backbone, layers, norm


def stages(model, config, pixels, head):
    golden = {"pixels": pixels}
    backbone, layers, norm = parts(model)
    clip = norm is getattr(backbone, "post_layernorm", None)
    vision = getattr(config, "vision_config", config)
    rotation = backbone.rope_embeddings(pixels) if hasattr(backbone, "rope_embeddings") else None
    inputs, outputs, maps = {}, {}, {}

    def watch(block):
        def hook(module, args, kwargs, output):
            inputs[block] = args[0] if args else kwargs["hidden_states"]
            outputs[block] = output[0] if isinstance(output, tuple) else output
        return hook

    def watch_attention(block):
        def hook(module, args, kwargs, output):
            maps[block] = output[1]
        return hook

    handles = [layer.register_forward_hook(watch(i), with_kwargs=True) for i, layer in enumerate(layers)]
    for i, layer in enumerate(layers):
        attention = next(getattr(layer, name) for name in ("attention", "self_attn") if hasattr(layer, name))
        handles.append(attention.register_forward_hook(watch_attention(i), with_kwargs=True))
    with torch.no_grad():
        golden |= {name: value for name, value in answer(model, config, pixels, head).items()}
    for handle in handles:
        handle.remove()
    golden["embeddings"] = inputs[0]
    for i, layer in enumerate(layers):
        golden[f"block.{i}.probs"] = maps[i]
        golden[f"block.{i}.logits"] = logits_of(layer, inputs[i], vision, rotation)
        check = golden[f"block.{i}.logits"].softmax(-1)
        assert torch.allclose(check, maps[i], atol=1e-6), f"block {i}: these are not the logits of these probs"
        if i + 1 < len(layers):
            golden[f"block.{i}.hidden"] = outputs[i]
            assert torch.equal(outputs[i], inputs[i + 1])
    with torch.no_grad():
        golden["encoded"] = norm(outputs[len(layers) - 1])
    assert clip or torch.equal(golden["encoded"], backbone(pixels, **interpolate(backbone)).last_hidden_state)
    return {name: value.float().contiguous().clone() for name, value in golden.items()}


def text_stages(model, generator):
    """Three texts of unlike length: start, words, end of text, padding with the same."""
    config = model.config.text_config
    length, end = config.max_position_embeddings, config.eos_token_id
    ids = torch.randint(0, config.bos_token_id, (3, length), generator=generator)
    ids[:, 0] = config.bos_token_id
    for text, at in enumerate((3, length // 2, length - 1)):
        ids[text, at:] = end
    golden, handles = {}, []
    for i, layer in enumerate(model.text_model.encoder.layers):
        def watch(module, args, kwargs, output, i=i, layer=layer):
            golden[f"text.block.{i}.probs"] = output[1]
        handles.append(layer.self_attn.register_forward_hook(watch, with_kwargs=True))
    with torch.no_grad():
        features = model.get_text_features(ids)
    for handle in handles:
        handle.remove()
    golden["text.ids"] = ids
    golden["text.embedding"] = features if torch.is_tensor(features) else features.pooler_output
    return {name: value.float().contiguous().clone() for name, value in golden.items()}


ZERO_SHOT = (["circle", "Half Moon", "star"], ["a photo of a {}", "the {}", "a {} on a textured ground"])


def text_classes(model, pixels, generator):
    """Three texts as classes: cosines from the logits of SigLIP, which scales and shifts them."""
    config = model.config.text_config
    ids = torch.randint(0, config.vocab_size, (3, config.max_position_embeddings), generator=generator)
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=pixels, interpolate_pos_encoding=True)
        cosines = (out.logits_per_image - model.logit_bias) / model.logit_scale.exp()
        return {"classes": model.get_text_features(ids).pooler_output, "class_logits": cosines.contiguous()}


def zero_shot(model, folder):
    """Mean of a class's normalised prompts, normalised."""
    names, templates = ZERO_SHOT
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    rows = []
    for name in names:
        texts = [template.format(name) for template in templates]
        length = model.config.text_config.max_position_embeddings
        ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            features = model.get_text_features(**ids)
        features = features if torch.is_tensor(features) else features.pooler_output
        mean = torch.nn.functional.normalize(features, dim=-1).mean(dim=0)
        rows.append(torch.nn.functional.normalize(mean, dim=-1))
    return {"zero_shot": torch.stack(rows)}


PROMPTS = ["a Photo of a star", "", "a photo of a half moon on a textured ground, seen from very far away"]


def prompts(model, folder):
    """Texts as a user gives them: a short one, none, one that the context cuts."""
    config = model.config.text_config
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    n = config.max_position_embeddings
    hidden = torch.full((n, n), -math.inf).triu(1)
    golden, handles = {}, []
    for i, layer in enumerate(model.text_model.encoder.layers):
        def watch(module, args, kwargs, output, i=i, layer=layer):
            golden[f"block.{i}.probs"] = output[1][0]

        def watch_block(module, args, kwargs, output, i=i, layer=layer):
            x = args[0] if args else kwargs["hidden_states"]
            golden[f"block.{i}.logits"] = logits_of(layer, x, config)[0] + hidden

        handles.append(layer.self_attn.register_forward_hook(watch, with_kwargs=True))
        handles.append(layer.register_forward_hook(watch_block, with_kwargs=True))
    everything = {}
    for k, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt, padding="max_length", truncation=True, max_length=n, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            features = model.get_text_features(ids)
        golden["embedding"] = (features if torch.is_tensor(features) else features.pooler_output)[0]
        golden["ids"] = ids[0]
        for name, value in golden.items():
            if name.endswith("logits"):
                probs = golden[name.replace("logits", "probs")]
                assert torch.allclose(value.softmax(-1), probs, atol=1e-6), f"{name}: these are not the logits"
            everything[f"prompt.{k}.{name}"] = value.float().contiguous().clone()
    for handle in handles:
        handle.remove()
    return everything


def interpolate(model):
    """DINOv2 interpolates its positions unasked, DINOv3 has none."""
    return {} if model.config.model_type.startswith("dino") else {"interpolate_pos_encoding": True}


def answer(model, config, pixels, head):
    """`logits` of a classifier or head, otherwise `embedding`."""
    backbone, layers, norm = parts(model)
    if isinstance(model, (CLIPModel, SiglipModel)):
        features = model.get_image_features(pixels, interpolate_pos_encoding=True)
        return {"embedding": features if torch.is_tensor(features) else features.pooler_output}
    if head is not None:
        blocks = []
        handles = [
            layer.register_forward_hook(lambda m, a, out: blocks.append(out[0] if isinstance(out, tuple) else out))
            for layer in layers
        ]
        last = model(pixels, **interpolate(model)).last_hidden_state
        for handle in handles:
            handle.remove()
        special = 1 + getattr(model.config, "num_register_tokens", 0)
        match head["weight"].shape[1] // last.shape[2]:
            case 4:
                features = torch.cat([norm(x)[:, 0] for x in blocks[-4:]], dim=-1)
            case 2:
                features = torch.cat([last[:, 0], last[:, special:].mean(dim=1)], dim=-1)
            case 1:
                features = last[:, 0]
        return {"logits": features @ head["weight"].T + head["bias"]}
    out = model(pixels, **interpolate(model))
    if isinstance(model, CLIPVisionModel):
        return {"embedding": out.pooler_output}
    if isinstance(model, SiglipVisionModel):
        pooled = out.pooler_output
        return {"embedding": out.last_hidden_state.mean(dim=1) if pooled is None else pooled}
    if hasattr(out, "logits"):
        return {"logits": out.logits}
    if hasattr(out, "image_embeds"):
        return {"embedding": out.image_embeds}
    return {"embedding": out.last_hidden_state[:, 0]}


def write_processor(folder, spec):
    height, width = spec["pixels"]
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": height, "width": width},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }
    if CONFIGS[spec["model"]] is DINOv3ViTConfig:
        # As published: several keys are null.
        processor |= {
            "image_processor_type": "DINOv3ViTImageProcessorFast", "crop_size": None, "data_format": "channels_first",
            "default_to_square": True, "do_center_crop": None, "do_convert_rgb": None,
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        }
    if CONFIGS[spec["model"]] in (SiglipConfig, SiglipVisionConfig):
        processor |= {"image_processor_type": "SiglipImageProcessor", "do_convert_rgb": None, "resample": 3}
    processor |= spec.get("processor", {})
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")


def of_picture(model, config, head, folder, generator):
    """What the network says of a picture, preprocessed as preprocessor_config.json of its folder says."""
    noise = torch.randint(0, 256, (31, 45, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(noise.numpy()).resize((90, 62), Image.Resampling.BICUBIC).save(folder / "picture.png")
    picture = Image.open(folder / "picture.png")
    processor = {"dinov3_vit": DINOv3ViTImageProcessor, "siglip": SiglipImageProcessorPil}
    processor = processor.get(config.model_type.removesuffix("_vision_model"), ViTImageProcessorPil)
    pixels = processor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = next(iter(answer(model, config, pixels, head).values()))
    return {"picture.pixels": pixels[0].contiguous(), "picture.output": output[0].contiguous()}


def logits_of(layer, x, config, rotation=None):
    """The scaled products of a block, from its own projections; `rotation` has the cosines and sines of patches."""
    linears = {name.rsplit(".", 1)[-1]: module for name, module in layer.named_modules()}
    query = linears.get("query") or linears["q_proj"]
    key = linears.get("key") or linears["k_proj"]
    with torch.no_grad():
        norms = ("layernorm_before", "norm1", "layer_norm1")
        normed = next(getattr(layer, name) for name in norms if hasattr(layer, name))(x)
        batch, n, width = normed.shape
        heads = config.num_attention_heads

        def split(linear):
            return linear(normed).view(batch, n, heads, width // heads).transpose(1, 2)

        query, key = split(query), split(key)
        if rotation is not None:
            query, key = apply_rotary_pos_emb(query, key, *rotation)
        return query @ key.transpose(2, 3) / math.sqrt(width // heads)


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
        config = CONFIGS[spec["model"]](attn_implementation="eager", **spec["config"])
        model = spec["model"](config).eval()
        randomise(model, generator)
        # The golden pass runs in f32 on the weights as they are after storage.
        dtype = spec.get("dtype", torch.float32)
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model.to(dtype)
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        model.save_pretrained(folder, max_shard_size=spec.get("shard", "5GB"))
        model.float()
        # `from_pretrained` does not round the frequencies of rotary positions.
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        height, width = spec["pixels"]
        pixels = torch.randn((2, 3, height, width), generator=generator)
        write_processor(folder, spec)
        head = None
        if "head" in spec:
            features = config.hidden_size * {"last four": 4, "mean patch": 2, "cls": 1}[spec["head"]]
            head = {
                "weight": torch.randn((6, features), generator=generator) / math.sqrt(features),
                "bias": torch.randn(6, generator=generator),
            }
            save_file(head, folder / "head.safetensors")
        texts = {}
        if isinstance(model, CLIPModel):
            for file in ("vocab.json", "merges.txt"):
                shutil.copy(TOKENIZER / file, folder)
            texts = text_stages(model, generator) | zero_shot(model, folder) | prompts(model, folder)
        if isinstance(model, SiglipModel):
            texts = text_classes(model, pixels, generator)
        golden = texts | stages(model, config, pixels, head) | of_picture(model, config, head, folder, generator)
        save_file(golden, folder / "golden.safetensors")
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
