"""`tokenrank.watch` on modules written for these tests: what is caught, named, skipped and refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import reference
import tokenrank as tr

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.overrides import TorchFunctionMode, _get_current_function_mode  # noqa: E402

HEADS, WIDTH, TOKENS = 2, 12, 7


class Attention(nn.Module):
    """Self-attention, or attention to `memory`, through `scaled_dot_product_attention`."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def projected(self, x: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        source = x if memory is None else memory
        return self.split(3 * self.q(x)), self.split(self.k(source)), self.split(self.v(source))

    def forward(self, x: Tensor, memory: Tensor | None = None, **options: object) -> Tensor:
        q, k, v = self.projected(x, memory)
        return self.out(F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(2))

    def maps(self, x: Tensor) -> np.ndarray:
        """Returns the maps of plain self-attention."""
        q, k, _ = (t.detach().double() for t in self.projected(x))
        return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1).numpy()


class Softmax(Attention):
    """The same with a softmax of its own."""

    def forward(self, x: Tensor, memory: Tensor | None = None, **options: object) -> Tensor:
        q, k, v = self.projected(x, memory)
        weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, dim=-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Hidden(Softmax):
    """The same again, without a softmax that anybody could see."""

    def forward(self, x: Tensor, memory: Tensor | None = None, **options: object) -> Tensor:
        q, k, v = self.projected(x, memory)
        weights = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).exp()
        return self.out((weights / weights.sum(-1, keepdim=True) @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = attention

    def forward(self, x: Tensor, **options: object) -> Tensor:
        return x + self.attention(self.norm(x), **options)


class Model(nn.Module):
    def __init__(self, *kinds: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(kind()) for kind in kinds)

    def forward(self, x: Tensor, **options: object) -> Tensor:
        for block in self.blocks:
            x = block(x, **options)
        return x


def model(*kinds: type[nn.Module], depth: int = 3) -> Model:
    return Model(*(kinds or [Attention] * depth)).eval()


def tokens(batch: int = 2, n: int = TOKENS) -> Tensor:
    return torch.randn(batch, n, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    yield
    assert _get_current_function_mode() is None
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


# What is computed


def test_all_quantities_are_those_of_the_map() -> None:
    net, x = model(depth=1), tokens()
    with tr.watch(net, start=[0, -1], steps=3, absorb=2, mean_map=True, maps=True) as seen:
        net(x)
    layer = seen["blocks.0.attention"]
    maps = net.blocks[0].attention.maps(net.blocks[0].norm(x))
    np.testing.assert_allclose(layer.maps, maps, atol=1e-6)
    np.testing.assert_allclose(layer.mean_map, maps.mean(axis=1), atol=1e-6)
    for batch, head in np.ndindex(2, HEADS):
        a = maps[batch, head]
        chain = 0.99 * a + 0.01 / TOKENS
        assert layer.lambda2[batch, head] == pytest.approx(np.sort(abs(np.linalg.eigvals(a)))[-2], abs=1e-6)
        np.testing.assert_allclose(layer.token_rank[batch, head] @ chain, layer.token_rank[batch, head], atol=1e-6)
        for i, start in enumerate((0, TOKENS - 1)):
            for steps in (1, 2, 3):
                expected = np.linalg.matrix_power(chain, steps)[start]
                np.testing.assert_allclose(layer.bounces[batch, head, i, steps - 1], expected, atol=1e-6)
        open_ = [j for j in range(TOKENS) if j != 2]
        fundamental = np.linalg.inv(np.eye(TOKENS - 1) - a[np.ix_(open_, open_)])
        starts = np.array([0.5 if j in (0, TOKENS - 1) else 0.0 for j in open_])
        np.testing.assert_allclose(layer.visits[batch, head][open_], starts @ fundamental, atol=1e-5)
    assert layer.lambda2.shape == (2, HEADS)
    assert layer.token_rank.shape == (2, HEADS, TOKENS)
    assert layer.bounces.shape == (2, HEADS, 2, 3, TOKENS)
    assert (layer.batch, layer.heads, layer.tokens, layer.causal) == (2, HEADS, TOKENS, False)
    assert layer.kept.all()
    assert seen.notes == []


def test_options_reach_the_chain() -> None:
    net, x = model(depth=1), tokens()
    maps = net.blocks[0].attention.maps(net.blocks[0].norm(x))
    target = np.linspace(1.0, 2.0, TOKENS)
    target /= target.sum()
    with tr.watch(net, alpha=0.8, direction="backward", teleport=target, lambda2=False) as seen:
        net(x)
    for batch, head in np.ndindex(2, HEADS):
        moved = 0.8 * maps[batch, head] + 0.2 * target
        expected = reference.steady_state((moved / moved.sum(axis=0)).T)
        np.testing.assert_allclose(seen[0].token_rank[batch, head], expected, atol=1e-6)
    with tr.watch(net, alpha=0.8, teleport="last") as seen:
        net(x)
    moved = 0.8 * maps[1, 1] + 0.2 * np.eye(TOKENS)[-1]
    np.testing.assert_allclose(seen[0].token_rank[1, 1], reference.steady_state(moved), atol=1e-6)
    with tr.watch(net, drop=[0, 3], maps=True) as seen:
        net(x)
    left = [1, 2, 4, 5, 6]
    a = maps[0, 0][np.ix_(left, left)]
    np.testing.assert_allclose(seen[0].maps[0, 0][np.ix_(left, left)], a / a.sum(axis=1, keepdims=True), atol=1e-6)
    assert not seen[0].token_rank[:, :, [0, 3]].any()
    assert seen[0].kept.tolist() == [[j in left for j in range(TOKENS)]] * 2


def test_first_and_last_skip_padding_in_each_sequence() -> None:
    net, x = model(depth=1), tokens()
    mask = torch.ones(2, 1, 1, TOKENS, dtype=torch.bool)
    mask[0, ..., :2] = False
    mask[1, ..., 4:] = False
    with tr.watch(net, start="last", steps=1, absorb="first", maps=True) as seen:
        net(x, attn_mask=mask)
    layer = seen[0]
    assert layer.kept.tolist() == mask[:, 0, 0].tolist()
    for batch, (first, last) in enumerate(((2, 6), (0, 3))):
        row = 0.99 * layer.maps[batch, :, last] + 0.01 * layer.kept[batch] / layer.kept[batch].sum()
        np.testing.assert_allclose(layer.bounces[batch, :, 0, 0], row, atol=1e-6)
        assert not layer.visits[batch, :, first].any()
        assert (layer.visits[batch, :, last] >= 1.0).all()
    assert any("no token may attend" in note for note in seen.notes)


def test_what_was_not_requested_names_its_option() -> None:
    net = model(depth=1)
    with tr.watch(net, token_rank=False) as seen:
        net(tokens())
    with pytest.raises(AttributeError, match="call watch with token_rank=True"):
        _ = seen[0].token_rank
    with pytest.raises(AttributeError, match="start=TOKEN"):
        _ = seen.bounces


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha must be between 0 and 1"),
        ({"direction": "sideways"}, "direction must be"),
        ({"steps": -1, "start": 0}, "steps must be"),
        ({"tol": 0.0}, "tol must be"),
        ({"teleport": [0.5, 0.2]}, "must sum to 1"),
        ({"teleport": np.array([1.5, -0.5])}, "at least 0"),
        ({"start": []}, "list of tokens is empty"),
        ({"lambda2": False, "token_rank": False}, "nothing to compute"),
        ({"layers": []}, "selects no layer"),
        ({"layers": "last:0"}, "selects no layer"),
    ],
)
def test_arguments_without_meaning_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tr.watch(model(), **options)


def test_arguments_of_a_wrong_type_are_refused() -> None:
    with pytest.raises(TypeError, match="layers: expected names"):
        tr.watch(model(), layers=[1.5])
    with pytest.raises(TypeError, match="start: expected whole numbers"):
        tr.watch(model(), start=[0.5])

    class Pipeline:
        unet = model()

    with pytest.raises(TypeError, match=r"found Pipeline; pass its \.unet"), tr.watch(Pipeline()):
        pass


def test_a_token_that_does_not_exist_is_an_error_at_the_end() -> None:
    net = model()
    with pytest.raises(ValueError, match=r"blocks\.0\.attention: start: there is no token 7; the call has 7 tokens"):
        with tr.watch(net, start=7) as seen:
            net(tokens())
    assert len(seen) == 0
    # Where some calls have the token, the others are noted.
    with tr.watch(net, start=7) as seen:
        net(tokens())
        net(tokens(n=9))
    assert [len(layer.calls) for layer in seen.values()] == [1, 1, 1]
    assert sum("there is no token 7" in note for note in seen.notes) == 3


def test_a_quantity_that_does_not_exist_is_nan_with_a_note() -> None:
    net = model(depth=1)
    with tr.watch(net, drop=0, absorb=0) as seen:
        net(tokens())
    assert np.isnan(seen[0].visits).all()
    assert np.isfinite(seen[0].token_rank).all()
    assert any(note.startswith("visits is NaN in 4 heads") for note in seen.notes)


# Layers and names


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("last:2", [2, 3]),
        ("first:1", [0]),
        (1, [1]),
        (-1, [3]),
        ([0, -1], [0, 3]),
        ([-2], [2]),
        ("blocks.2", [2]),
        ("blocks.[01].*", [0, 1]),
        ("*.attention", [0, 1, 2, 3]),
        (["blocks.0", "last:1"], [0, 3]),
        (["first:2", "last:3"], [0, 1, 2, 3]),
    ],
)
def test_layers_are_selected_by_name_and_position(layers: object, expected: list[int]) -> None:
    net = model(depth=4)
    with tr.watch(net, layers=layers) as seen:
        net(tokens())
        net(tokens())
    assert sorted(seen) == [f"blocks.{i}.attention" for i in expected]
    assert all([call.forward for call in layer.calls] == [0, 1] for layer in seen.values())


def test_the_same_layer_gives_the_same_numbers_however_it_is_selected() -> None:
    net = model(depth=4)
    with tr.watch(net) as everything, tr.watch(net, layers="last:1") as last:
        net(tokens())
    assert list(last) == ["blocks.3.attention"]
    np.testing.assert_array_equal(last[0].token_rank, everything[-1].token_rank)


def test_results_are_there_before_the_block_ends() -> None:
    net = model()
    with tr.watch(net, layers="last:1") as seen:
        net(tokens())
        assert seen.lambda2["blocks.2"].shape == (2, HEADS)


@pytest.mark.parametrize("layers", ["first:1", "last:1"])
def test_buffers_may_be_used_again_after_the_call(layers: str) -> None:
    class Reusing(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            key = x.clone()
            output = F.scaled_dot_product_attention(x, key, x, attn_mask=mask)
            key.zero_()
            mask.zero_()
            return output

    x, mask = drawn(1, 2, 6, 4), drawn(6, 6, seed=4)
    expected = explicit(x, x, mask)
    with tr.watch(net := Reusing(), layers=layers, maps=True) as seen:
        net(x, mask)
    np.testing.assert_allclose(seen[0].maps, expected, atol=1e-6)


def test_a_pattern_without_modules_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matches 'blocks\.9'; modules with attention are blocks\.0\.attention"):
        with tr.watch(model(), layers="blocks.9"):
            pass


def test_layers_are_found_by_a_path_above_them_and_by_position() -> None:
    net = model()
    with tr.watch(net) as seen:
        net(tokens())
    assert seen["blocks.1"] is seen["blocks.1.attention"] is seen[1] is seen[-2]
    assert seen.lambda2["blocks.1"] is seen[1].lambda2
    assert "blocks.1" in seen and "blocks" not in seen and 3 not in seen
    assert list(seen) == list(seen.lambda2) == [f"blocks.{i}.attention" for i in range(3)]
    with pytest.raises(KeyError, match="contains 3 layers; name one of them"):
        seen["blocks"]
    with pytest.raises(KeyError, match=r"no layer 'block\.1' was recorded; there are blocks\.1\.attention"):
        seen["block.1"]
    with pytest.raises(KeyError, match="no layer 3; 3 layers were recorded"):
        seen[3]


def test_every_call_is_kept_and_the_last_one_shown() -> None:
    net = model(depth=1)
    with tr.watch(net) as seen:
        net(tokens(batch=1))
        net(tokens(batch=3, n=5))
    layer = seen[0]
    assert [(call.batch, call.tokens) for call in layer.calls] == [(1, 7), (3, 5)]
    assert layer.token_rank is layer.calls[1].token_rank
    assert "2 calls" in repr(seen) and "batch 3, 2 heads, 5 tokens" in repr(layer)


def test_a_module_used_several_times_is_one_layer() -> None:
    net = model(depth=1)
    net.blocks.append(net.blocks[0])
    with tr.watch(net) as seen:
        net(tokens())
    assert list(seen) == ["blocks.0.attention"]
    assert [call.forward for call in seen[0].calls] == [0, 0]
    assert not np.array_equal(seen[0].calls[0].lambda2, seen[0].calls[1].lambda2)


def test_a_model_that_is_itself_the_attention_has_the_empty_name() -> None:
    net = Attention()
    with tr.watch(net) as seen:
        net(tokens())
    assert list(seen) == [""]
    net = Softmax()
    with pytest.raises(tr.NotCaught, match=r"the model \(Softmax\) computes its own softmax"), tr.watch(net):
        net(tokens())


def test_a_model_made_of_containers_only() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Attention(), nn.Sequential(nn.LayerNorm(WIDTH), Attention()))
    with tr.watch(net, layers="last:1") as seen:
        net(tokens())
        net(tokens())
    assert list(seen) == ["1.1"]
    assert [call.forward for call in seen[0].calls] == [0, 1]


# Forms of calls


class Call(nn.Module):
    """Calls `scaled_dot_product_attention` with its arguments."""

    def forward(self, *args: Tensor, **options: object) -> Tensor:
        return F.scaled_dot_product_attention(*args, **options)


def explicit(q: Tensor, k: Tensor, mask: Tensor | None = None, scale: float | None = None) -> np.ndarray:
    """Returns maps in float64; `mask` is bool or added."""
    logits = q.double() @ k.double().transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        logits = logits + mask.double()
    return logits.softmax(-1).numpy()


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 2) -> Tensor:
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def called(*args: Tensor, **options: object) -> tr.Layer:
    net = Call()
    expected = net(*args, **options)
    with tr.watch(net, maps=True, tol=1e-10) as seen:
        output = net(*args, **options)
    assert torch.equal(output, expected)
    return seen[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_number_formats(dtype: torch.dtype) -> None:
    q, k = drawn(2, 3, 6, 4, dtype=dtype), drawn(2, 3, 6, 4, dtype=dtype, seed=3)
    np.testing.assert_allclose(called(q, k, k).maps, explicit(q, k), atol=1e-6)


def test_autocast() -> None:
    net, x = model(depth=1), tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = net(x)
        with tr.watch(net) as seen:
            output = net(x)
    assert torch.equal(output, expected)
    assert len(seen) == 1


def test_causal_scaled_and_grouped() -> None:
    q, k = drawn(2, 4, 6, 4), drawn(2, 2, 6, 4, seed=3)
    lower = torch.ones(6, 6, dtype=torch.bool).tril()
    layer = called(q, k, k, is_causal=True, scale=0.3, enable_gqa=True)
    np.testing.assert_allclose(layer.maps, explicit(q, k.repeat_interleave(2, 1), lower, 0.3), atol=1e-6)
    assert layer.causal
    # λ₂ of a triangular matrix is its second largest diagonal entry.
    diagonal = np.sort(np.diagonal(layer.maps, axis1=2, axis2=3), axis=-1)
    np.testing.assert_allclose(layer.lambda2, diagonal[..., -2], atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (1, 1, 6, 6), (2, 1, 6, 6), (1, 3, 6, 6), (2, 3, 6, 6)])
def test_masks_of_any_shape(shape: tuple[int, ...]) -> None:
    q, k, bias = drawn(2, 3, 6, 4), drawn(2, 3, 6, 4, seed=3), drawn(*shape, seed=4)
    np.testing.assert_allclose(called(q, k, k, attn_mask=bias).maps, explicit(q, k, bias), atol=1e-6)
    allowed = (bias > -1.0) | torch.eye(6, dtype=torch.bool)
    np.testing.assert_allclose(called(q, k, k, attn_mask=allowed).maps, explicit(q, k, allowed), atol=1e-6)


@pytest.mark.parametrize("outer", [(), (5,), (2, 3), (2, 1, 3)])
def test_any_number_of_outer_dimensions(outer: tuple[int, ...]) -> None:
    q, k = drawn(*outer, 6, 4), drawn(*outer, 6, 4, seed=3)
    layer = called(q, k, k)
    heads = outer[-1] if len(outer) > 1 else 1
    np.testing.assert_allclose(layer.maps, explicit(q, k).reshape(-1, heads, 6, 6), atol=1e-6)


def test_a_mask_in_double_precision_keeps_its_digits() -> None:
    q, k = drawn(1, 1, 6, 4, dtype=torch.float64), drawn(1, 1, 6, 4, dtype=torch.float64, seed=3)
    bias = 1000.0 + drawn(1, 1, 6, 6, dtype=torch.float64, seed=4)
    layer = called(q, k, k, attn_mask=bias)
    a = explicit(q, k, bias)[0, 0]
    assert layer.lambda2[0, 0] == pytest.approx(np.sort(abs(np.linalg.eigvals(a)))[-2], abs=1e-9)


def test_windows_with_a_mask_of_their_own() -> None:
    q, k, bias = drawn(2, 3, 2, 6, 4), drawn(2, 3, 2, 6, 4, seed=3), drawn(3, 1, 6, 6, seed=4)
    np.testing.assert_allclose(
        called(q, k, k, attn_mask=bias).maps, explicit(q, k, bias).reshape(6, 2, 6, 6), atol=1e-6
    )


def test_a_batch_that_is_broadcast() -> None:
    q, k = drawn(1, 3, 6, 4), drawn(2, 3, 6, 4, seed=3)
    np.testing.assert_allclose(called(q, k, k).maps, explicit(q, k), atol=1e-6)


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min, -1e9, -1e4])
def test_numbers_that_forbid_are_exact_zeros(lowest: float) -> None:
    q, k = drawn(2, 3, 6, 4), drawn(2, 3, 6, 4, seed=3)
    lower = torch.ones(6, 6, dtype=torch.bool).tril()
    layer = called(q, k, k, attn_mask=torch.zeros(6, 6).masked_fill(~lower, lowest))
    assert layer.causal
    np.testing.assert_allclose(layer.maps, explicit(q, k, lower), atol=1e-6)
    assert not layer.maps[..., ~lower.numpy()].any()
    diagonal = np.sort(np.diagonal(layer.maps, axis1=2, axis2=3), axis=-1)
    np.testing.assert_allclose(layer.lambda2, diagonal[..., -2], atol=1e-6)


def test_a_mask_in_bfloat16_forbids_too() -> None:
    q, k = drawn(1, 1, 4, 4, dtype=torch.bfloat16), drawn(1, 1, 4, 4, dtype=torch.bfloat16, seed=3)
    mask = torch.zeros(1, 1, 1, 4, dtype=torch.bfloat16)
    mask[..., 3] = -10000.0
    assert float(mask.min()) == -9984.0
    assert called(q, k, k, attn_mask=mask).kept.tolist() == [[True, True, True, False]]


def test_a_sliding_window_is_lower_triangular_but_not_the_causal_mask() -> None:
    q, k = drawn(1, 2, 8, 4), drawn(1, 2, 8, 4, seed=3)
    row, column = torch.arange(8)[:, None], torch.arange(8)
    window = (column <= row) & (column > row - 3)
    layer = called(q, k, k, attn_mask=window)
    assert layer.causal
    np.testing.assert_allclose(layer.maps, explicit(q, k, window), atol=1e-6)


def test_a_preallocated_cache_is_cropped() -> None:
    q, k = drawn(2, 3, 6, 4), drawn(2, 3, 10, 4, seed=3)
    lower = torch.ones(6, 10, dtype=torch.bool).tril()
    expected = explicit(q, k[:, :, :6], lower[:, :6])
    np.testing.assert_allclose(called(q, k, k, is_causal=True).maps, expected, atol=1e-6)
    np.testing.assert_allclose(called(q, k, k, attn_mask=lower).maps, expected, atol=1e-6)


def test_causal_notes_name_the_options_that_help() -> None:
    net, x = model(), tokens()
    with tr.watch(net) as seen:
        net(x, is_causal=True)
    (note,) = seen.notes
    assert note.startswith("all 3 layers are causal") and 'absorb="first"' in note and 'drop="first"' in note
    with tr.watch(net, absorb="first", start="last") as seen:
        net(x, is_causal=True)
    assert 'absorb="first"' not in seen.notes[0]


# What has no chain


def test_attention_to_another_sequence_is_skipped_with_a_note() -> None:
    net, x = model(), tokens()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.cross = model(depth=1), Attention()

        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            return self.cross(self.own(x), memory=memory)

    net = Both().eval()
    # Also where both sequences happen to have the same length.
    for n in (5, TOKENS):
        with tr.watch(net) as seen:
            net(x, tokens(n=n) + 1.0)
        assert list(seen) == ["own.blocks.0.attention"]
        assert seen.notes == [
            "cross-attention has no chain, because its queries and keys are different tokens; skipped 1 call of cross."
        ]
    with pytest.raises(tr.NotCaught, match="no chain was recorded: cross-attention"), tr.watch(net, layers="cross"):
        net(x, tokens(n=5))
    # Unselected layers are none of the user's concern.
    with tr.watch(net, layers="own") as seen:
        net(x, tokens(n=5))
    assert seen.notes == []


def test_attention_over_both_sequences_together_is_no_cross_attention() -> None:
    class Joint(Attention):
        def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
            return super().forward(torch.cat([encoder_hidden_states, hidden_states], dim=1))

    net = Joint()
    with tr.watch(net) as seen:
        net(tokens(), encoder_hidden_states=tokens(n=3))
    assert seen[0].tokens == TOKENS + 3


def test_a_step_of_generation_is_skipped_with_a_note() -> None:
    net = Call()
    q, k = drawn(1, 2, 6, 4), drawn(1, 2, 6, 4, seed=3)
    with tr.watch(net) as seen:
        net(q, k, k, is_causal=True)
        net(q[:, :, -1:], k, k)
    assert len(seen[0].calls) == 1
    assert any("attention of a single query" in note for note in seen.notes)


# What cannot be caught


def test_a_softmax_of_its_own_is_reported() -> None:
    net = model(Attention, Softmax, Attention)
    with pytest.raises(tr.NotCaught) as caught, tr.watch(net) as seen:
        net(tokens())
    assert caught.value.modules == {"blocks.1.attention": "computes its own softmax of [2, 2, 7, 7]"}
    assert caught.value.seen is seen
    assert list(seen) == ["blocks.0.attention", "blocks.2.attention"]
    assert "attention of 1 module of Model was not caught: blocks.1.attention (Softmax)" in str(caught.value)
    assert "scaled_dot_product_attention" in str(caught.value)


def test_attention_without_any_sign_but_its_name_is_reported() -> None:
    HiddenAttention = type("HiddenAttention", (Hidden,), {})
    with pytest.raises(tr.NotCaught, match=r"blocks\.1\.attention \(HiddenAttention\) calls no function"):
        net = model(Attention, HiddenAttention)
        with tr.watch(net):
            net(tokens())


@pytest.mark.parametrize(
    ("layers", "fails"),
    [
        ("blocks.0", False),
        ("blocks.1", True),
        ("first:1", False),
        ("first:2", True),
        ("last:1", False),
        ("last:2", True),
        (0, False),
        (1, True),
        (-1, False),
        (-2, True),
    ],
)
def test_only_selected_layers_must_be_caught(layers: object, fails: bool) -> None:
    net = model(Attention, Softmax, Attention)

    def run() -> None:
        with tr.watch(net, layers=layers):
            net(tokens())

    if fails:
        with pytest.raises(tr.NotCaught):
            run()
    else:
        run()


def test_a_block_without_calls_is_reported() -> None:
    with pytest.raises(tr.NotCaught, match="the model was not called inside the with-block"), tr.watch(model()):
        pass
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH))
    with pytest.raises(tr.NotCaught, match="Sequential ran and called neither"), tr.watch(net):
        net(tokens())


def test_a_call_from_another_thread_is_reported() -> None:
    net = model()
    with pytest.raises(tr.NotCaught, match="from another thread"), tr.watch(net):
        thread = threading.Thread(target=lambda: net(tokens()))
        thread.start()
        thread.join()


def test_compiled_models_are_refused() -> None:
    net = torch.compile(model(), backend="eager")
    with pytest.raises(tr.NotCaught, match="the model is compiled"), tr.watch(net):
        pass
    inner = model()
    inner.blocks[1].compile(backend="eager")
    with pytest.raises(tr.NotCaught, match=r"blocks\.1 in the model is compiled"), tr.watch(inner):
        pass
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(tr.NotCaught, match="is compiled"), tr.watch(scripted):
        pass


def test_a_compiled_function_inside_a_model_is_reported() -> None:
    class CompiledAttention(Attention):
        def __init__(self) -> None:
            super().__init__()
            self.attend = torch.compile(super().forward, backend="aot_eager")

        def forward(self, x: Tensor, memory: Tensor | None = None, **options: object) -> Tensor:
            return self.attend(x)

    net, x = model(Attention, CompiledAttention), tokens()
    expected = net(x)
    with (
        pytest.raises(tr.NotCaught, match=r"blocks\.1\.attention \(CompiledAttention\)") as caught,
        tr.watch(net) as seen,
    ):
        output = net(x)
    assert torch.equal(output, expected)
    assert list(caught.value.modules) == ["blocks.1.attention"] and list(seen) == ["blocks.0.attention"]


def test_an_unexpected_error_of_the_analysis_does_not_stop_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(tr._core, "chains", fail)
    net, x = model(), tokens()
    for layers, names in ((None, [0, 1, 2]), ("last:1", [2]), ("first:2", [0, 1]), (1, [1]), (-3, [0])):
        with pytest.raises(tr.NotCaught, match=r"could not be analysed \(RuntimeError: out of luck\)") as caught:
            with tr.watch(net, layers=layers):
                assert torch.equal(net(x), model()(x))
        assert list(caught.value.modules) == [f"blocks.{i}.attention" for i in names]


class MultiHead(nn.Module):
    """`nn.MultiheadAttention` as many models use it."""

    def __init__(self) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        source = x if memory is None else memory
        return self.mha(x, source, source, need_weights=False)[0]


@pytest.mark.parametrize("grad", [False, True])
def test_multi_head_attention_of_torch_is_reported_and_keeps_its_fast_path(grad: bool) -> None:
    net, x = model(Attention, MultiHead), tokens()
    with torch.set_grad_enabled(grad):
        expected = net(x)
        with pytest.raises(tr.NotCaught, match=r"blocks\.1\.attention\.mha \(MultiheadAttention\) is torch\.nn"):
            with tr.watch(net):
                output = net(x)
        assert torch.equal(output, expected)
        with tr.watch(net, layers="blocks.0"):
            assert torch.equal(net(x), expected)


def test_multi_head_attention_to_another_sequence_is_skipped() -> None:
    net = nn.Sequential(Attention(), MultiHead())
    net.forward = lambda x, memory: net[1](net[0](x), memory)
    with tr.watch(net) as seen:
        net(tokens(), tokens(n=5))
    assert list(seen) == ["0"]
    assert "skipped 1 call of 1.mha" in seen.notes[0]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)
        # A hook on any module inside of a layer switches its fused function off.
        layer.dropout = type("Kept", (nn.Module,), {"forward": lambda self, x: x})()
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.attention = Attention()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.encoder(x))


def test_encoder_layers_of_torch_are_refused_at_once_and_keep_their_fused_function() -> None:
    net, x = Encoder().eval(), tokens()
    with pytest.raises(tr.NotCaught, match=r"TransformerEncoderLayer \(encoder\.layers\.0, encoder\.layers\.1\)"):
        with tr.watch(net):
            pass
    fused = torch._transformer_encoder_layer_fwd
    calls = []
    with torch.no_grad():
        torch._transformer_encoder_layer_fwd = lambda *args: calls.append(1) or fused(*args)
        try:
            expected = net(x)
            with tr.watch(net, layers="attention") as seen:
                output = net(x)
        finally:
            torch._transformer_encoder_layer_fwd = fused
    assert len(calls) == 4, "the fused function was switched off"
    assert torch.equal(output, expected)
    assert list(seen) == ["attention"]


def test_tensors_without_values_are_reported() -> None:
    net = Attention()
    with pytest.raises(tr.NotCaught, match="transform of torch.func"), tr.watch(net):
        torch.func.vmap(net)(tokens()[:, None])
    with pytest.raises(tr.NotCaught, match="meta device"), tr.watch(meta := Attention().to("meta")):
        meta(tokens().to("meta"))


def test_numbers_that_are_not_finite_are_reported() -> None:
    q = drawn(1, 1, 4, 4)
    q[0, 0, 3, 2] = torch.nan
    try:
        with tr.watch(net := Call()) as seen:
            net(q, q, q)
    except ValueError as error:
        assert "finite" in str(error)
    else:
        # The compiled module answers head by head.
        assert np.isnan(seen[0].lambda2).all() and "finite" in " ".join(seen.notes)


def test_padding_need_not_be_finite() -> None:
    q, mask = drawn(1, 1, 4, 4), torch.tensor([True, True, True, False])
    q[0, 0, 3, 2] = torch.nan
    with tr.watch(net := Call(), maps=True) as seen:
        net(q, q, q, attn_mask=mask[None, None, None].expand(1, 1, 4, 4))
    np.testing.assert_allclose(seen[0].maps[..., :3, :3], explicit(q[:, :, :3], q[:, :, :3]), atol=1e-6)


# What is imported


def test_no_library_is_imported_before_it_is_needed() -> None:
    program = """
import sys, types
sys.path[:0] = {paths!r}
import conftest, tokenrank as tr
large = ("torch", "transformers", "diffusers", "timm", "scipy")
assert not [name for name in large if name in sys.modules], "import tokenrank"
watch = tr.watch(None)
assert "torch" not in sys.modules, "watch"
import torch
from torch import nn
class Attention(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)
with tr.watch(net := Attention()) as seen:
    net(torch.randn(1, 2, 3, 4))
assert len(seen) == 1
assert not [name for name in large[1:] if name in sys.modules], "watching"
"""
    paths = [str(Path(__file__).parent), str(Path(tr.__file__).parent.parent)]
    done = subprocess.run([sys.executable, "-c", program.format(paths=paths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The model stays as it is


def test_output_and_gradients_are_unchanged() -> None:
    net, x = model(), tokens().requires_grad_()
    net(x).square().sum().backward()
    expected = [p.grad.clone() for p in (x, *net.parameters())]
    net.zero_grad()
    x.grad = None
    with tr.watch(net, maps=True) as seen:
        output = net(x)
    output.square().sum().backward()
    assert all(torch.equal(p.grad, e) for p, e in zip((x, *net.parameters()), expected, strict=True))
    assert isinstance(seen[0].maps, np.ndarray)


def test_random_numbers_are_unchanged() -> None:
    net, x = model(), tokens()
    torch.manual_seed(5)
    expected = net(x, dropout_p=0.3)
    torch.manual_seed(5)
    with tr.watch(net) as seen:
        output = net(x, dropout_p=0.3)
    assert torch.equal(output, expected)
    assert any("at random" in note for note in seen.notes)


def test_everything_is_restored_also_after_errors() -> None:
    net, x = model(), tokens()
    assert hooks(net) == 0
    with tr.watch(net):
        assert hooks(net) > 0
        net(x)
    assert hooks(net) == 0
    with pytest.raises(ZeroDivisionError), tr.watch(net) as seen:
        net(x)
        raise ZeroDivisionError
    assert hooks(net) == 0
    assert len(seen) == 3


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("layers", [None, "last:2"])
def test_an_error_inside_the_model(error: type[BaseException], layers: str | None) -> None:
    net, x = model(), tokens()

    def fail(*_: object) -> None:
        raise error

    handle = net.blocks[1].attention.out.register_forward_hook(fail)
    with pytest.raises(error), tr.watch(net, layers=layers):
        net(x)
    assert hooks(net) == 1
    # The model can be called again in the same block.
    with tr.watch(net, layers=layers) as seen:
        with pytest.raises(error):
            net(x)
        handle.remove()
        net(x)
    assert seen[-1].name == "blocks.2.attention"
    assert seen[-1].last.forward == (0 if error is KeyboardInterrupt else 1)


def test_an_interrupt_inside_multi_head_attention_restores_the_modes() -> None:
    net = model(Attention, MultiHead)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    net.blocks[1].attention.mha.register_forward_pre_hook(fail)
    with tr.watch(net, layers="blocks.0") as outer:
        with pytest.raises(KeyboardInterrupt), tr.watch(net, layers="blocks.0"):
            net(tokens())
        net.blocks[0](tokens())
    assert len(outer[0].calls) == 2


# Several at a time


def test_watches_inside_each_other() -> None:
    net, other = model(), model(depth=1)
    with tr.watch(net) as outer:
        net(tokens())
        with tr.watch(net, layers="blocks.1") as inner, tr.watch(other) as third:
            net(tokens())
            other(tokens())
    assert [len(layer.calls) for layer in outer.values()] == [2, 2, 2]
    assert list(inner) == ["blocks.1.attention"] and len(inner[0].calls) == 1
    assert len(third) == 1


def test_a_watch_is_used_again_but_not_twice_at_a_time() -> None:
    net = model()
    watch = tr.watch(net)
    with watch as first:
        net(tokens())
        with pytest.raises(RuntimeError, match="active already"):
            watch.__enter__()
    with watch as second:
        net(tokens())
    assert first is not second and len(first) == len(second) == 3


def test_other_models_are_not_recorded() -> None:
    net, other = model(depth=1), model(depth=2)
    with tr.watch(net) as seen:
        other(tokens())
        F.scaled_dot_product_attention(*[drawn(1, 1, 3, 4)] * 3)
        net(tokens())
    assert [len(layer.calls) for layer in seen.values()] == [1]


def test_other_function_modes_stay_active() -> None:
    class Count(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.calls += func is F.scaled_dot_product_attention
            return func(*args, **(kwargs or {}))

    net, outside, inside = model(depth=1), Count(), Count()
    with outside, tr.watch(net) as seen, inside, torch.device("cpu"):
        net(tokens())
    assert (outside.calls, inside.calls, len(seen[0].calls)) == (1, 1, 1)


def test_recomputation_for_gradients_is_not_recorded() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = Attention()

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.attention, x, use_reentrant=False)

    net = Checkpointed()
    with tr.watch(net) as seen:
        net(tokens()).sum().backward()
    assert len(seen[0].calls) == 1
