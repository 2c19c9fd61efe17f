"""One attention call: its queries and keys, and what else decides its map. Imported only once torch is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ._core import MASKED


class NoChain(Exception):
    """A call whose map is not a chain, such as cross-attention. It is skipped with a note.

    Args:
        kind: `cross` or `decode`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Refused(Exception):
    """A call whose map cannot be computed from what was caught. Its message completes "this module …"."""


def could_not(error: Exception) -> str:
    """Returns the reason for refusing a call because of an unexpected error."""
    return f"could not be analysed ({type(error).__name__}: {error})"


@dataclass(frozen=True)
class Attention:
    """A self-attention call over `n` tokens.

    The map is the softmax of `scale · Q Kᵀ`, after the soft-cap and with the mask added.

    Attributes:
        query: `[b, h, n, d]`.
        key: `[b, hk, n, d]`; `hk` divides `h`.
        mask: broadcastable to `[b, h, n, n]`; bool (True = may attend) or numbers that are added to the logits.
        keys: bool `[b, n]`, False for padding.
        window: how many tokens back and ahead a token may attend.
        sinks: whether the softmax includes a sink next to the tokens.
        dropout: probability with which the layer dropped entries of the map.
    """

    query: Tensor
    key: Tensor
    scale: float
    causal: bool = False
    mask: Tensor | None = None
    keys: Tensor | None = None
    window: tuple[int, int] | None = None
    softcap: float | None = None
    sinks: bool = False
    dropout: float = 0.0

    @property
    def batch(self) -> int:
        return self.query.shape[0]

    @property
    def heads(self) -> int:
        return self.query.shape[1]

    @property
    def tokens(self) -> int:
        return self.query.shape[2]

    def copied(self) -> Attention:
        """Returns the call with tensors of its own, which nobody changes later."""
        mask = None if self.mask is None else self.mask.clone()
        keys = None if self.keys is None else self.keys.clone()
        return replace(self, query=self.query.clone(), key=self.key.clone(), mask=mask, keys=keys)


def of_sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attention:
    """Reads the arguments of `torch.nn.functional.scaled_dot_product_attention`.

    Raises:
        NoChain: if queries and keys belong to different tokens.
        Refused: if the tensors have no values, as under `torch.func` or on the meta device.
    """
    del value, enable_gqa
    query, key = plain(query), plain(key)
    outer = torch.broadcast_shapes(query.shape[:-3], key.shape[:-3])
    q, k = _four(query, outer), _four(key, outer)
    mask = None if attn_mask is None else _mask(attn_mask.detach(), query, outer)
    attention = Attention(
        query=q,
        key=k,
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        causal=bool(is_causal),
        mask=mask,
        dropout=float(dropout_p),
    )
    return _square(attention)


def of_interface(
    implementation: str, module: torch.nn.Module, query: Tensor, key: Tensor, mask: Any, options: Mapping[str, Any]
) -> Attention:
    """Reads the arguments of an attention function of transformers: queries `[b, h, n, d]`, keys `[b, hk, n, d]`.

    Args:
        implementation: its name: `eager`, `sdpa`, `flash_attention_2`, …
        mask: bool or numbers `[b, 1 or h, n, n]`; the padding `[b, n]` for flash attention; a `BlockMask` for
            `flex_attention`.
        options: its other arguments by name.

    Raises:
        NoChain, Refused: as `of_sdpa`; also Refused for packed sequences and paged caches.
    """
    if options.get("cache") is not None:
        raise Refused("reads its keys from a paged cache")
    if options.get("cu_seq_lens_q") is not None and implementation not in ("eager", "sdpa", "flex_attention"):
        raise Refused("packs several sequences into one; pass them as a padded batch")
    query, key = plain(query), plain(key)
    if query.dim() != 4 or key.dim() != 4:
        raise Refused(f"passes queries of shape {list(query.shape)} instead of [batch, heads, tokens, dim]")
    fused = implementation not in ("eager", "flex_attention")
    flash = fused and implementation != "sdpa"

    causal, keys, bias = False, None, options.get("position_bias")
    if fused and query.shape[2] > 1 and (mask is None or flash and mask.dim() == 2):
        asked = options.get("is_causal")
        causal = bool(getattr(module, "is_causal", True) if asked is None else asked)
    if flash and isinstance(mask, Tensor) and mask.dim() == 2:
        mask, keys = None, mask.detach().bool()[:, -key.shape[2] :]
    if mask is not None and not isinstance(mask, Tensor):
        mask = _of_blocks(mask, query, key)
    if mask is not None:
        mask = mask.detach()
        mask = mask[None, None] if mask.dim() == 2 else mask[:, None] if mask.dim() == 3 else mask
        mask = mask[..., : key.shape[2]]
    if bias is not None:
        mask = _added(bias.detach()[..., : key.shape[2]], mask)
    window = options.get("sliding_window")
    scale = options.get("scaling")
    softcap = options.get("softcap")
    attention = Attention(
        query=query,
        key=key,
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        causal=causal,
        mask=mask,
        keys=keys,
        window=(window - 1, window - 1) if flash and window is not None else None,
        softcap=None if softcap is None else float(softcap),
        sinks=options.get("s_aux") is not None or hasattr(module, "sinks"),
        dropout=float(options.get("dropout") or 0.0),
    )
    return _square(attention)


def plain(tensor: Tensor) -> Tensor:
    """Returns a tensor that has values in memory, without its history."""
    functorch = getattr(torch._C, "_functorch", None)
    if functorch is not None and functorch.is_functorch_wrapped_tensor(tensor):
        raise Refused("runs inside a transform of torch.func, where tensors have no values")
    if tensor.is_nested:
        raise Refused("uses nested tensors; pass a padded batch with a mask")
    if tensor.device.type == "meta":
        raise Refused("is on the meta device, where tensors have no values")
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        raise Refused("is captured in a CUDA graph, which computes nothing yet; watch a call without graphs")
    return tensor.detach()


def _four(tensor: Tensor, outer: torch.Size) -> Tensor:
    """Returns `[..., h, n, d]` as `[b, h, n, d]`, and `[b, n, d]` as `[b, 1, n, d]`."""
    if tensor.dim() <= 3:
        tensor = tensor.reshape(-1, 1, *tensor.shape[-2:])
        return tensor
    return tensor.expand(*outer, *tensor.shape[-3:]).reshape(-1, *tensor.shape[-3:])


def _mask(mask: Tensor, query: Tensor, outer: torch.Size) -> Tensor:
    """Returns a mask that is broadcastable to `query`'s `[..., h, n, n]` with four dimensions."""
    if query.dim() <= 3:
        return mask.reshape(-1, 1, *mask.shape[-2:]) if mask.dim() > 1 else mask[None, None, None]
    while mask.dim() < 4:
        mask = mask[None]
    if query.dim() == 4:
        return mask
    return mask.expand(*outer, *mask.shape[-3:]).reshape(-1, *mask.shape[-3:])


def _added(bias: Tensor, mask: Tensor | None) -> Tensor:
    """Returns a bias with what a mask forbids."""
    if mask is None:
        return bias
    if mask.dtype == torch.bool:
        return bias.float().masked_fill(~mask, -torch.inf)
    # The smallest number of a format, and a bias on top of it, would overflow or lose the mark.
    return (bias.float() + mask.float()).masked_fill(mask <= MASKED, -torch.inf)


def _of_blocks(mask: Any, query: Tensor, key: Tensor) -> Tensor:
    """Returns a `BlockMask` of flex attention as bool `[b, h, n, n]`."""
    from torch.nn.attention.flex_attention import create_mask

    batch, heads = mask.shape[:2]
    return create_mask(mask.mask_mod, batch, heads, query.shape[2], key.shape[2], device=str(query.device))


def _square(attention: Attention) -> Attention:
    """Crops the unused end of a preallocated cache, and makes sure that queries and keys are those of the same tokens."""
    queries, keys = attention.query.shape[2], attention.key.shape[2]
    if queries < keys and _unused(attention, queries):
        mask = attention.mask
        return replace(
            attention,
            key=attention.key[:, :, :queries],
            mask=mask if mask is None or mask.shape[3] == 1 else mask[..., :queries],
            keys=None if attention.keys is None else attention.keys[:, :queries],
        )
    if queries != keys:
        raise NoChain("decode" if queries == 1 else "cross")
    return attention


def _unused(attention: Attention, since: int) -> bool:
    """Whether no token attends to the keys from `since` on."""
    if attention.keys is not None and not attention.keys[:, since:].any():
        return True
    if attention.mask is not None and attention.mask.shape[3] > 1:
        return not allowed(attention.mask[..., since:]).any()
    # The mask of `is_causal` is aligned to the first token.
    return attention.causal and attention.mask is None


def allowed(mask: Tensor) -> Tensor:
    """Returns where a mask lets tokens attend, as bool."""
    return mask if mask.dtype == torch.bool else mask > MASKED
