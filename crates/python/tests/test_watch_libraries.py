"""`tokenrank.watch` on networks of transformers, timm and diffusers: how attention is caught, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tokenrank as tr

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import networks  # noqa: E402
from networks import DECODER, ENCODER, LENGTHS, TOKENS, Network, image_inputs, padded, tensors, text_inputs  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import AttentionInterface, AttentionMaskInterface  # noqa: E402
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # noqa: E402
from transformers.masking_utils import flash_attention_mask, sdpa_mask  # noqa: E402


def network(name: str, library: str = "transformers") -> Network:
    return next(n for n in networks.NETWORKS if (n.name, n.library) == (name, library))


def unchanged(model: nn.Module, call: Callable[[], Any], **options: Any) -> tr.Seen:
    """Watches a call, after making sure that its output is bit for bit the same."""
    with torch.no_grad():
        expected = tensors(call())
        with tr.watch(model, **options) as seen:
            output = tensors(call())
    assert len(output) == len(expected) > 0
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(output, expected, strict=True))
    return seen


def llama() -> nn.Module:
    return network("Llama").model()


# The interface of transformers


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_each_call_is_counted_once_and_the_interface_is_restored(implementation: str) -> None:
    model, inputs = llama(), text_inputs()
    model.set_attn_implementation(implementation)
    before, functions = dict(vars(AttentionInterface)), dict(AttentionInterface._global_mapping)
    seen = unchanged(model, lambda: model(**inputs))
    assert [len(layer.calls) for layer in seen.values()] == [1, 1, 1]
    assert dict(vars(AttentionInterface)) == before
    assert AttentionInterface._global_mapping == functions
    assert model.config._attn_implementation == implementation
    with pytest.raises(ZeroDivisionError), tr.watch(model), tr.watch(model):
        raise ZeroDivisionError
    assert dict(vars(AttentionInterface)) == before


@pytest.fixture
def register() -> Any:
    """Registers an attention function and its mask for one test."""
    names: list[str] = []

    def add(name: str, function: Callable[..., Any], mask: Callable[..., Any]) -> None:
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, mask)
        names.append(name)

    yield add
    for name in names:
        del AttentionInterface._global_mapping[name]
        del AttentionMaskInterface._global_mapping[name]


def test_an_attention_function_of_the_user_is_caught(register: Any) -> None:
    register("mine", sdpa_attention_forward, sdpa_mask)
    model, inputs = llama(), padded(text_inputs(), "left")
    usual = unchanged(model, lambda: model(**inputs))
    model.set_attn_implementation("mine")
    seen = unchanged(model, lambda: model(**inputs))
    assert list(seen) == list(usual)
    for name in seen:
        np.testing.assert_array_equal(seen[name].token_rank, usual[name].token_rank)


def test_an_attention_function_that_does_more_than_it_says_is_refused(register: Any) -> None:
    def biased(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        distance = torch.arange(key.shape[2]) - torch.arange(query.shape[2])[:, None]
        return sdpa_attention_forward(
            module, query, key, value, None, position_bias=0.3 * distance[None, None], **options
        )

    register("biased", biased, sdpa_mask)
    model, inputs = llama(), text_inputs()
    model.set_attn_implementation("biased")
    with pytest.raises(
        tr.NotCaught, match=r"layers\.0\.self_attn \(LlamaAttention\) computes something else than softmax"
    ):
        unchanged(model, lambda: model(**inputs))


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("side", [None, "right"])
def test_a_function_with_the_arguments_of_flash_attention(register: Any, window: int | None, side: str | None) -> None:
    """Padding `[batch, tokens]` as the mask, the causal mask and the window from its arguments."""

    def flash(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float,
        sliding_window: int | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        n = query.shape[2]
        row, column = torch.arange(n)[:, None], torch.arange(n)
        allowed = column <= row
        if sliding_window is not None:
            allowed = allowed & (column > row - sliding_window)
        allowed = allowed[None, None]
        if attention_mask is not None:
            allowed = allowed & attention_mask[:, None, None, :].bool()
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
        weights = (scaling * query @ key.transpose(2, 3)).masked_fill(~allowed, -torch.inf).softmax(-1)
        weights = weights.nan_to_num(0.0)
        return (weights @ value).transpose(1, 2).contiguous(), None

    register("mine_with_windows", flash, flash_attention_mask)
    build = networks.of_transformers("MistralConfig", "MistralModel", **DECODER, sliding_window=window)
    model = Network("Mistral", "transformers", build, text_inputs, networks.eager("layers.{}")).model()
    inputs = text_inputs() if side is None else padded(text_inputs(), side)
    usual = unchanged(model, lambda: model(**inputs), maps=True)
    model.set_attn_implementation("mine_with_windows")
    seen = unchanged(model, lambda: model(**inputs), maps=True)
    for name in usual:
        assert seen[name].causal and usual[name].causal
        np.testing.assert_array_equal(seen[name].kept, usual[name].kept)
        np.testing.assert_allclose(seen[name].maps, usual[name].maps, atol=2e-6)


def test_a_tower_of_a_model() -> None:
    model, inputs = network("CLIP").model(), network("CLIP").inputs()
    seen = unchanged(model.vision_model, lambda: model(**inputs))
    assert list(seen) == [f"encoder.layers.{i}.self_attn" for i in range(2)]
    seen = unchanged(model, lambda: model(**inputs), layers="text_model.*")
    assert list(seen) == [f"text_model.encoder.layers.{i}.self_attn" for i in range(2)]


def test_a_model_in_bfloat16() -> None:
    model, inputs = llama().to(torch.bfloat16), text_inputs()
    seen = unchanged(model, lambda: model(**inputs), maps=True)
    np.testing.assert_allclose(seen[0].maps.sum(axis=-1), 1.0, atol=1e-6)


def test_sinks_are_noted() -> None:
    model, inputs = network("gpt-oss").model(), text_inputs()
    seen = unchanged(model, lambda: model(**inputs))
    assert any("attention sinks" in note for note in seen.notes)


def test_layers_that_share_one_module() -> None:
    torch.manual_seed(0)
    model = transformers.AlbertModel(transformers.AlbertConfig(**ENCODER, embedding_size=16)).eval()
    seen = unchanged(model, lambda: model(**text_inputs()))
    assert len(seen) == 1
    assert [call.forward for call in seen[0].calls] == [0, 0, 0]


# Generation


@pytest.mark.parametrize(
    "options", [{}, {"cache_implementation": "static", "disable_compile": True}, {"use_cache": False}]
)
def test_generation_records_the_prompt(options: dict[str, Any]) -> None:
    build = networks.of_transformers("LlamaConfig", "LlamaForCausalLM", **DECODER)
    model = Network("Llama", "transformers", build, text_inputs, networks.eager("model.layers.{}")).model()
    inputs = padded(text_inputs(), "left")
    seen = unchanged(
        model,
        lambda: model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False, **options),
        maps=True,
    )
    whole = unchanged(model, lambda: model(**inputs), maps=True)
    prompt = [layer.calls[0] for layer in seen.values()]
    for call, layer in zip(prompt, whole.values(), strict=True):
        np.testing.assert_array_equal(call.kept, layer.kept)
        np.testing.assert_allclose(call.maps, layer.maps, atol=1e-6)
    if options.get("use_cache", True):
        assert [len(layer.calls) for layer in seen.values()] == [1, 1, 1]
        assert any("attention of a single query" in note for note in seen.notes)
    else:
        assert [call.tokens for call in seen[0].calls] == [TOKENS, TOKENS + 1, TOKENS + 2, TOKENS + 3]


def test_generation_with_an_encoder() -> None:
    settings = dict(vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    build = networks.of_transformers("T5Config", "T5ForConditionalGeneration", **settings)
    model = Network("T5", "transformers", build, text_inputs, networks.eager("{}")).model()
    inputs = padded(text_inputs(), "right")
    seen = unchanged(model, lambda: model.generate(**inputs, max_new_tokens=3, do_sample=False), layers="encoder.*")
    assert list(seen) == [f"encoder.block.{i}.layer.0.SelfAttention" for i in range(2)]
    assert seen[0].kept.sum(axis=1).tolist() == list(LENGTHS)


# Networks that cannot be caught, or only in some form


def test_windows_are_sequences_of_the_batch() -> None:
    torch.manual_seed(0)
    model = transformers.SwinModel(transformers.SwinConfig(**networks.WINDOWS)).eval()
    inputs = image_inputs(64)
    seen = unchanged(model, lambda: model(**inputs), maps=True)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(**inputs, output_attentions=True).attentions
    assert seen[0].batch == 2 * 16 and seen[0].tokens == 16
    # transformers returns the maps of the last block of each stage, whose windows are shifted and masked by -100.
    for position, of_stage in zip((1, 3), maps, strict=True):
        np.testing.assert_allclose(seen[position].maps, of_stage.numpy(), atol=1e-6)
    assert (seen[1].lambda2 > 0.999).any()


def test_the_advice_for_a_network_of_transformers() -> None:
    net = transformers.DebertaV2Model(transformers.DebertaV2Config(**ENCODER)).eval()
    with pytest.raises(tr.NotCaught, match="This model has its own attention code"):
        unchanged(net, lambda: net(**text_inputs()))


def test_swin_of_timm_must_be_fused() -> None:
    timm = pytest.importorskip("timm")
    images = image_inputs(64)["pixel_values"]
    model = timm.create_model("swin_tiny_patch4_window7_224", **networks.TIMM_WINDOWS).eval()
    with pytest.raises(
        tr.NotCaught, match=r"attention of 4 modules of SwinTransformer.*set_fused_attn\(True, experiment"
    ):
        unchanged(model, lambda: model(images))
    timm.layers.set_fused_attn(True, experimental=True)
    try:
        model = timm.create_model("swin_tiny_patch4_window7_224", **networks.TIMM_WINDOWS).eval()
    finally:
        timm.layers.set_fused_attn(True)
    seen = unchanged(model, lambda: model(images))
    assert list(seen) == [f"layers.{i}.blocks.{j}.attn" for i in range(2) for j in range(2)]


def test_timm_without_fused_attention() -> None:
    pytest.importorskip("timm")
    model, images = network("ViT", "timm").model(), image_inputs()["pixel_values"]
    model.blocks[1].attn.fused_attn = False
    with pytest.raises(tr.NotCaught) as caught:
        unchanged(model, lambda: model(images))
    assert list(caught.value.modules) == ["blocks.1.attn"]


def test_older_processors_of_diffusers() -> None:
    pytest.importorskip("diffusers")
    from diffusers.models.attention_processor import AttnProcessor

    model, inputs = network("SD UNet", "diffusers").model(), networks.unet_inputs()
    model.set_attn_processor(AttnProcessor())
    with pytest.raises(tr.NotCaught, match=r"attn1 \(Attention\) calls no function"):
        unchanged(model, lambda: model(**inputs))


def test_cross_attention_of_diffusers_is_skipped_also_with_as_many_tokens() -> None:
    pytest.importorskip("diffusers")
    model, inputs = network("SD UNet", "diffusers").model(), networks.unet_inputs()
    seen = unchanged(model, lambda: model(**inputs))
    assert all(name.endswith("attn1") for name in seen)
    assert any("skipped 7 calls" in note for note in seen.notes)
    with pytest.raises(tr.NotCaught, match="no chain was recorded"):
        unchanged(model, lambda: model(**inputs), layers="*.attn2")


# Devices


def to_device(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to("cuda", dtype if value.is_floating_point() else None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 0.02), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("name", ["ViT", "Llama", "GPT-2"])
def test_models_on_a_device_are_watched(name: str, dtype: torch.dtype, tolerance: float) -> None:
    of, inputs = network(name), network(name).inputs()
    model = of.model()
    usual = unchanged(model, lambda: model(**inputs))
    moved = {key: to_device(value, dtype) for key, value in inputs.items()}
    model = of.model().to("cuda", dtype)
    seen = unchanged(model, lambda: model(**moved))
    assert list(seen) == list(usual)
    for layer, expected in usual.items():
        for quantity in ("lambda2", "token_rank"):
            found, wanted = (torch.as_tensor(getattr(each, quantity)) for each in (seen[layer], expected))
            assert (found.cpu().double() - wanted.double()).abs().max() < tolerance
