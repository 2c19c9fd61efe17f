"""Tiny random networks of transformers, timm and diffusers, with attention maps from a source other than `watch`.

Nothing is downloaded: every network is built from a configuration with a fixed seed. The maps come from the eager code of
transformers (`output_attentions=True`), from the unfused code of timm (the input of the dropout after the softmax), and
from diffusers with the attention function replaced by an explicit softmax, or by its older processor.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import reference
import tokenrank
import torch
from torch import Tensor, nn

Inputs = dict[str, Any]
Maps = dict[str, Tensor]

VOCABULARY, TOKENS = 60, 13
# Real tokens of the two sequences of a padded batch.
LENGTHS = (TOKENS, 8)


@dataclass(frozen=True)
class Network:
    """A network to check.

    Attributes:
        build: makes the model.
        inputs: makes the arguments of a call.
        maps: returns the attention maps `[batch, heads, tokens, tokens]` of the call by the layers' names.
        text: beginning of the names of the layers that read text with an `attention_mask`, so that padding can be tried;
            None if there are none.
        implementations: attention implementations of transformers to try; empty for other libraries.
    """

    name: str
    library: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    maps: Callable[[nn.Module, Inputs], Maps]
    text: str | None = None
    implementations: tuple[str, ...] = ()

    def model(self) -> nn.Module:
        """Returns the model with weights that make its attention far from uniform."""
        torch.manual_seed(0)
        model = self.build().eval()
        generator = torch.Generator().manual_seed(1)
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                with torch.no_grad():
                    if parameter.dim() >= 2 and not isinstance(module, nn.Embedding):
                        # GPT-2 stores its weights transposed.
                        fan = parameter.shape[0] if type(module).__name__ == "Conv1D" else parameter[0].numel()
                        parameter.normal_(0.0, 1.3 * fan**-0.5, generator=generator)
                    elif isinstance(module, nn.Embedding):
                        parameter.normal_(0.0, 1.0, generator=generator)
                    elif name == "bias" or "bias" in name:
                        parameter.normal_(0.0, 0.2, generator=generator)
        return model

    def call(self, model: nn.Module, inputs: Inputs) -> list[Tensor]:
        """Returns every tensor of the model's output."""
        with torch.no_grad():
            return tensors(model(**inputs))


def tensors(output: Any) -> list[Tensor]:
    """Returns all tensors inside an output."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for part in output for tensor in tensors(part)]
    return []


def library(name: str) -> bool:
    """Whether a library is installed."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


# transformers


def text_inputs() -> Inputs:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, VOCABULARY, (2, TOKENS), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def padded(inputs: Inputs, side: str) -> Inputs:
    """Returns the arguments with padding in the second sequence."""
    mask = torch.zeros_like(inputs["attention_mask"])
    for row, length in zip(mask, LENGTHS, strict=True):
        row[TOKENS - length :] = 1
    mask = mask if side == "left" else mask.flip(1)
    padding = {**inputs, "input_ids": inputs["input_ids"].masked_fill(mask == 0, 1), "attention_mask": mask}
    if "decoder_input_ids" in inputs:
        padding |= {"decoder_input_ids": padding["input_ids"], "decoder_attention_mask": mask}
    return padding


def image_inputs(size: int = 32) -> Inputs:
    return {"pixel_values": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))}


def eager(prefix: str, attribute: str = "attentions") -> Callable[[nn.Module, Inputs], Maps]:
    """Returns a function that lists the maps of transformers' eager code, by the names `prefix` makes of their numbers."""

    def maps(model: nn.Module, inputs: Inputs) -> Maps:
        twin = copy.deepcopy(model)
        twin.set_attn_implementation("eager")
        with torch.no_grad():
            output = twin(**inputs, output_attentions=True)
        for name in attribute.split("."):
            output = getattr(output, name)
        return {prefix.format(i): layer for i, layer in enumerate(output)}

    return maps


def both(*parts: Callable[[nn.Module, Inputs], Maps]) -> Callable[[nn.Module, Inputs], Maps]:
    return lambda model, inputs: {name: m for part in parts for name, m in part(model, inputs).items()}


def of_transformers(config: str, model: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = importlib.import_module("transformers")
        return getattr(module, model)(getattr(module, config)(**settings))

    return build


VIT = dict(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
)
ENCODER = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=40,
)
DECODER = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=48,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
TOWER = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
TEXT_TOWER = dict(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def two_towers() -> Inputs:
    return {**text_inputs(), **image_inputs()}


def clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    return CLIPModel(
        CLIPConfig(
            text_config={**TOWER, **TEXT_TOWER},
            vision_config={**TOWER, "image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
    )


def siglip() -> nn.Module:
    from transformers import SiglipConfig, SiglipModel

    return SiglipModel(
        SiglipConfig(text_config={**TOWER, **TEXT_TOWER}, vision_config={**TOWER, "image_size": 32, "patch_size": 8})
    )


def t5_inputs() -> Inputs:
    inputs = text_inputs()
    return {
        **inputs,
        "decoder_input_ids": inputs["input_ids"].flip(0),
        "decoder_attention_mask": inputs["attention_mask"],
    }


TOWERS = both(
    eager("text_model.encoder.layers.{}", "text_model_output.attentions"),
    eager("vision_model.encoder.layers.{}", "vision_model_output.attentions"),
)
FUSED_OR_NOT = ("sdpa", "eager")


def encoder(name: str, config: str, model: str, prefix: str, **settings: Any) -> Network:
    build = of_transformers(config, model, **settings)
    return Network(name, "transformers", build, text_inputs, eager(prefix), "", FUSED_OR_NOT)


def vision(name: str, config: str, model: str, prefix: str, **settings: Any) -> Network:
    build = of_transformers(config, model, **settings)
    return Network(name, "transformers", build, image_inputs, eager(prefix), None, FUSED_OR_NOT)


WINDOWED = dict(sliding_window=5, layer_types=["sliding_attention", "full_attention", "sliding_attention"])

TRANSFORMERS = [
    vision("ViT", "ViTConfig", "ViTModel", "layers.{}", **VIT),
    vision("DINOv2", "Dinov2Config", "Dinov2Model", "encoder.layer.{}", **VIT),
    vision("DINOv3", "DINOv3ViTConfig", "DINOv3ViTModel", "model.layer.{}", **VIT, num_register_tokens=2),
    Network("CLIP", "transformers", clip, two_towers, TOWERS, "text_model", FUSED_OR_NOT),
    Network("SigLIP", "transformers", siglip, two_towers, TOWERS, "text_model", FUSED_OR_NOT),
    encoder("BERT", "BertConfig", "BertModel", "encoder.layer.{}", **ENCODER),
    encoder(
        "ESM-2",
        "EsmConfig",
        "EsmModel",
        "encoder.layer.{}",
        **ENCODER,
        pad_token_id=1,
        position_embedding_type="rotary",
    ),
    encoder(
        "GPT-2",
        "GPT2Config",
        "GPT2Model",
        "h.{}",
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=3,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
    ),
    encoder("Llama", "LlamaConfig", "LlamaModel", "layers.{}", **DECODER),
    encoder("Qwen3", "Qwen3Config", "Qwen3Model", "layers.{}", **DECODER),
    encoder(
        "Gemma 3", "Gemma3TextConfig", "Gemma3TextModel", "layers.{}", **DECODER, **WINDOWED, query_pre_attn_scalar=8
    ),
    Network(
        "T5",
        "transformers",
        of_transformers(
            "T5Config", "T5Model", vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4
        ),
        t5_inputs,
        both(
            eager("encoder.block.{}", "encoder_attentions"),
            eager("decoder.block.{}.layer.0", "decoder_attentions"),
        ),
        "",
        FUSED_OR_NOT,
    ),
    Network(
        "Gemma 2",
        "transformers",
        of_transformers(
            "Gemma2Config", "Gemma2Model", **DECODER, **WINDOWED, query_pre_attn_scalar=8, attn_logit_softcapping=1.5
        ),
        text_inputs,
        eager("layers.{}"),
        "",
        ("eager",),
    ),
    Network(
        "gpt-oss",
        "transformers",
        of_transformers(
            "GptOssConfig", "GptOssModel", **DECODER, **WINDOWED, num_local_experts=4, num_experts_per_tok=2
        ),
        text_inputs,
        eager("layers.{}"),
        "",
        ("eager",),
    ),
]

# timm


def unfused(model: nn.Module, inputs: Inputs) -> Maps:
    """Returns the maps of timm's code without `scaled_dot_product_attention`: what enters the dropout after the softmax."""
    twin = copy.deepcopy(model)
    maps: Maps = {}
    for name, module in twin.named_modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
            module.attn_drop.register_forward_pre_hook(lambda _, args, name=name: maps.update({name: args[0].detach()}))
    with torch.no_grad():
        twin(**inputs)
    return maps


def of_timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return importlib.import_module("timm").create_model(name, pretrained=False, **settings)

    return build


def timm_inputs() -> Inputs:
    return {"x": image_inputs()["pixel_values"]}


SMALL = dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4, num_classes=5)

TIMM = [
    Network("ViT", "timm", of_timm("vit_tiny_patch16_224", **SMALL), timm_inputs, unfused),
    Network("DeiT", "timm", of_timm("deit_tiny_distilled_patch16_224", **SMALL), timm_inputs, unfused),
    Network("EVA-02", "timm", of_timm("eva02_tiny_patch14_224", **SMALL), timm_inputs, unfused),
]

# diffusers


def explicit(module: str, function: str) -> Callable[[nn.Module, Inputs], Maps]:
    """Returns a function that runs a network with its attention function, on `[batch, tokens, heads, dim]`, replaced by an
    explicit softmax, and checks that its output stays the same."""

    def maps(model: nn.Module, inputs: Inputs) -> Maps:
        found: Maps = {}
        running: list[str] = []

        def attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **_: Any) -> Tensor:
            assert attn_mask is None
            weights = torch.einsum("bihd,bjhd->bhij", query, key).mul(query.shape[-1] ** -0.5).softmax(-1)
            if query.shape[1] == key.shape[1]:
                found[running[-1]] = weights
            return torch.einsum("bhij,bjhd->bihd", weights, value)

        def left(modules: list[str]) -> None:
            modules.pop()

        twin = copy.deepcopy(model)
        for name, part in twin.named_modules():
            part.register_forward_pre_hook(lambda _, args, name=name: running.append(name))
            part.register_forward_hook(lambda _, args, output: left(running))
        with replaced(module, function, attend), torch.no_grad():
            output = tensors(twin(**inputs))
        with torch.no_grad():
            for ours, theirs in zip(output, tensors(model(**inputs)), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        return found

    return maps


def older_processor(model: nn.Module, inputs: Inputs) -> Maps:
    """Returns the maps of the processor that diffusers used before `scaled_dot_product_attention`."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    twin = copy.deepcopy(model)
    twin.set_attn_processor(AttnProcessor())
    found: Maps = {}
    for name, module in twin.named_modules():
        if isinstance(module, Attention) and not module.is_cross_attention:
            scores = module.get_attention_scores

            def keep(
                query: Tensor, key: Tensor, mask: Any = None, name=name, scores=scores, heads=module.heads
            ) -> Tensor:
                weights = scores(query, key, mask)
                found[name] = weights.unflatten(0, (-1, heads))
                return weights

            module.get_attention_scores = keep
    with torch.no_grad():
        twin(**inputs)
    return found


@contextmanager
def replaced(module: str, name: str, value: Any) -> Iterator[None]:
    place = importlib.import_module(module)
    original = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, original)


def joint_softmax(model: nn.Module, inputs: Inputs) -> Maps:
    """Returns the maps of Stable Diffusion 3, computed from its weights and the inputs of its attention modules."""
    found: Maps = {}

    def heads(module: nn.Module, projection: Tensor, norm: nn.Module | None) -> Tensor:
        split = projection.unflatten(-1, (module.heads, -1)).transpose(1, 2)
        return split if norm is None else norm(split)

    def recompute(module: nn.Module, args: Any, kwargs: Inputs, name: str) -> None:
        image, text = kwargs["hidden_states"], kwargs.get("encoder_hidden_states")
        q, k = heads(module, module.to_q(image), module.norm_q), heads(module, module.to_k(image), module.norm_k)
        if text is not None:
            q = torch.cat([q, heads(module, module.add_q_proj(text), module.norm_added_q)], dim=2)
            k = torch.cat([k, heads(module, module.add_k_proj(text), module.norm_added_k)], dim=2)
        found[name] = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)

    twin = copy.deepcopy(model)
    for name, module in twin.named_modules():
        if hasattr(module, "to_q"):
            module.register_forward_pre_hook(lambda m, a, k, name=name: recompute(m, a, k, name), with_kwargs=True)
    with torch.no_grad():
        twin(**inputs)
    return found


def of_diffusers(model: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(importlib.import_module("diffusers"), model)(**settings)


def noise(*shape: int, seed: int = 4) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def positions(axes: int, tokens: int) -> Tensor:
    ids = torch.zeros(tokens, axes)
    ids[:, 1], ids[:, 2] = torch.arange(tokens) // 4, torch.arange(tokens) % 4
    return ids


def flux_inputs() -> Inputs:
    return dict(
        hidden_states=noise(2, 16, 8),
        encoder_hidden_states=noise(2, 5, 24, seed=5),
        pooled_projections=noise(2, 12, seed=6),
        timestep=torch.tensor([0.5, 0.3]),
        img_ids=positions(3, 16),
        txt_ids=torch.zeros(5, 3),
    )


def flux2_inputs() -> Inputs:
    return dict(
        hidden_states=noise(2, 16, 8),
        encoder_hidden_states=noise(2, 5, 24, seed=5),
        timestep=torch.tensor([0.5, 0.3]),
        img_ids=positions(4, 16),
        txt_ids=torch.zeros(5, 4),
        guidance=torch.tensor([1.0, 1.0]),
    )


def sd3_inputs() -> Inputs:
    return dict(
        hidden_states=noise(2, 4, 8, 8),
        encoder_hidden_states=noise(2, 5, 24, seed=5),
        pooled_projections=noise(2, 12, seed=6),
        timestep=torch.tensor([500.0, 300.0]),
    )


def unet_inputs() -> Inputs:
    # As many text tokens as the middle of the network has image tokens.
    return dict(sample=noise(2, 4, 8, 8), timestep=300, encoder_hidden_states=noise(2, 16, 24, seed=5))


def pixart_inputs() -> Inputs:
    return dict(
        hidden_states=noise(2, 4, 8, 8),
        encoder_hidden_states=noise(2, 5, 24, seed=5),
        timestep=torch.tensor([500, 300]),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    )


def wan_inputs() -> Inputs:
    return dict(
        hidden_states=noise(1, 4, 2, 8, 8), timestep=torch.tensor([500]), encoder_hidden_states=noise(1, 5, 24, seed=5)
    )


FLUX = dict(in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2)

DIFFUSERS = [
    Network(
        "FLUX.1",
        "diffusers",
        of_diffusers(
            "FluxTransformer2DModel", **FLUX, joint_attention_dim=24, pooled_projection_dim=12, axes_dims_rope=(4, 4, 8)
        ),
        flux_inputs,
        explicit("diffusers.models.transformers.transformer_flux", "dispatch_attention_fn"),
    ),
    Network(
        "FLUX.2",
        "diffusers",
        of_diffusers(
            "Flux2Transformer2DModel",
            **FLUX,
            joint_attention_dim=24,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
        ),
        flux2_inputs,
        explicit("diffusers.models.transformers.transformer_flux2", "dispatch_attention_fn"),
    ),
    Network(
        "SD 3.5",
        "diffusers",
        of_diffusers(
            "SD3Transformer2DModel",
            sample_size=8,
            in_channels=4,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=24,
            caption_projection_dim=32,
            pooled_projection_dim=12,
            out_channels=4,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        sd3_inputs,
        joint_softmax,
    ),
    Network(
        "SD UNet",
        "diffusers",
        of_diffusers(
            "UNet2DConditionModel",
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=24,
            attention_head_dim=4,
            norm_num_groups=8,
        ),
        unet_inputs,
        older_processor,
    ),
    Network(
        "PixArt",
        "diffusers",
        of_diffusers(
            "PixArtTransformer2DModel",
            num_attention_heads=4,
            attention_head_dim=8,
            num_layers=3,
            cross_attention_dim=32,
            sample_size=8,
            caption_channels=24,
            use_additional_conditions=False,
        ),
        pixart_inputs,
        older_processor,
    ),
    Network(
        "Wan",
        "diffusers",
        of_diffusers(
            "WanTransformer3DModel",
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=24,
            freq_dim=16,
            ffn_dim=32,
            num_layers=3,
        ),
        wan_inputs,
        explicit("diffusers.models.transformers.transformer_wan", "dispatch_attention_fn"),
    ),
]

NETWORKS = [*TRANSFORMERS, *TIMM, *DIFFUSERS]

# Compiles a kernel for each shape, which takes minutes on a CPU. Its heads must have at least 16 entries.
FLEX = Network(
    "Gemma 2",
    "transformers",
    of_transformers(
        "Gemma2Config",
        "Gemma2Model",
        **{**DECODER, "hidden_size": 64, "head_dim": 16},
        **WINDOWED,
        query_pre_attn_scalar=16,
        attn_logit_softcapping=1.5,
    ),
    text_inputs,
    eager("layers.{}"),
    "",
    ("flex_attention",),
)

# Networks with attention out of reach


class MultiHead(nn.Module):
    """Two blocks around `torch.nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x, x, x, need_weights=False)[0]
        return x


def encoder_of_torch() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 2)


def no_maps(model: nn.Module, inputs: Inputs) -> Maps:
    raise NotImplementedError


WINDOWS = dict(image_size=64, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4)
TIMM_WINDOWS = dict(img_size=64, window_size=4, embed_dim=24, depths=(2, 2), num_heads=(2, 4))

OUT_OF_REACH = [
    Network("MultiheadAttention", "torch", MultiHead, lambda: {"x": noise(2, 9, 32)}, no_maps),
    Network("TransformerEncoder", "torch", encoder_of_torch, lambda: {"src": noise(2, 9, 32)}, no_maps),
    Network(
        "Swin",
        "timm",
        of_timm("swin_tiny_patch4_window7_224", **TIMM_WINDOWS),
        lambda: {"x": noise(2, 3, 64, 64)},
        no_maps,
    ),
    Network(
        "Swin V2",
        "timm",
        of_timm("swinv2_tiny_window8_256", **TIMM_WINDOWS),
        lambda: {"x": noise(2, 3, 64, 64)},
        no_maps,
    ),
    Network(
        "Swin V2",
        "transformers",
        of_transformers("Swinv2Config", "Swinv2Model", **WINDOWS),
        lambda: image_inputs(64),
        no_maps,
    ),
    Network(
        "DeBERTa V2",
        "transformers",
        of_transformers("DebertaV2Config", "DebertaV2Model", **ENCODER),
        text_inputs,
        no_maps,
    ),
]


def refusal(network: Network) -> tuple[tokenrank.NotCaught, bool]:
    """Watches a network whose attention is out of reach; returns the error, and whether the output was unchanged.

    Raises:
        AssertionError: if there is no error.
    """
    model, inputs = network.model(), network.inputs()
    before, after = network.call(model, inputs), None
    try:
        with tokenrank.watch(model):
            after = network.call(model, inputs)
    except tokenrank.NotCaught as error:
        unchanged = after is None or all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        return error, unchanged
    raise AssertionError(f"{network.name} of {network.library} was watched without an error")


@dataclass(frozen=True)
class Measured:
    """The comparison of one call with the maps of the other source; errors are the largest of all layers, heads and tokens.

    Attributes:
        lambda2, token_rank: errors against dense float64 linear algebra on those maps; of TokenRank the L1 norm.
        map: error of an entry of a map.
        equal: whether every tensor of the output is bit for bit the one without `watch`.
        sharpest: the smallest, over the layers, of the largest entry of the last token's row times the number of tokens:
            1 if a layer attends to all tokens alike, which would show little.
    """

    layers: int
    heads: list[int]
    tokens: list[int]
    lambda2: float
    token_rank: float
    map: float
    equal: bool
    sharpest: float


def measure(network: Network, implementation: str | None = None, padding: str | None = None) -> Measured:
    """Watches every layer of a network and compares the results with the maps of the other source.

    Args:
        implementation: attention implementation of transformers; None for the default.
        padding: side of the padding, `left` or `right`; None for none.

    Raises:
        AssertionError: if the layers or the kept tokens are others than expected.
    """
    model, inputs = network.model(), network.inputs()
    if implementation is not None:
        model.set_attn_implementation(implementation)
    if padding is not None:
        inputs = padded(inputs, padding)
    maps = network.maps(model, inputs)
    before = network.call(model, inputs)
    with tokenrank.watch(model, maps=True) as seen:
        after = network.call(model, inputs)
    assert len(before) == len(after) > 0
    assert [seen[name].name for name in maps] and {seen[name].name for name in maps} == set(seen), (
        list(maps),
        list(seen),
    )

    errors = {"lambda2": 0.0, "token_rank": 0.0, "map": 0.0}
    for name, of_layer in maps.items():
        layer = seen[name]
        kept = np.ones(layer.kept.shape, bool)
        if padding is not None and network.text is not None and name.startswith(network.text):
            kept = inputs["attention_mask"].numpy() == 1
        assert np.array_equal(layer.kept, kept), name
        chains = rows_of_kept(of_layer, kept)
        errors["map"] = max(errors["map"], float(np.abs(layer.maps - chains).max()))
        for batch, head in np.ndindex(*chains.shape[:2]):
            tokens = np.flatnonzero(kept[batch])
            a = chains[batch, head][np.ix_(tokens, tokens)]
            rank = reference.steady_state(0.99 * a + 0.01 / len(a))
            ranked = layer.token_rank[batch, head]
            assert not ranked[~kept[batch]].any(), name
            off = abs(layer.lambda2[batch, head] - reference.second_modulus(a))
            errors["lambda2"] = max(errors["lambda2"], float(off))
            errors["token_rank"] = max(errors["token_rank"], float(np.abs(ranked[tokens] - rank).sum()))
    return Measured(
        layers=len(seen),
        heads=sorted({layer.heads for layer in seen.values()}),
        tokens=sorted({layer.tokens for layer in seen.values()}),
        equal=all(torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True)),
        sharpest=min(float(m[..., -1, :].amax()) * m.shape[-1] for m in maps.values()),
        **errors,
    )


def rows_of_kept(maps: Tensor, kept: np.ndarray) -> np.ndarray:
    """Returns maps in double precision, zero outside of the kept tokens, with renormalised rows."""
    weights = maps.double().numpy() * kept[:, None, :, None] * kept[:, None, None, :]
    sums = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(sums == 0.0, 1.0, sums)
