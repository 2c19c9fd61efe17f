"""Calls as arrays, with masks in their simplest form. Imported only once torch is in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._attention import Attention, allowed


def numpy(tensor: Tensor) -> np.ndarray:
    """Returns a tensor as an array: bfloat16 as uint16 with the same bits, other formats that numpy lacks as float32."""
    tensor = tensor.detach()
    if tensor.dtype not in (torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensor = tensor.float()
    tensor = tensor.to("cpu")
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def as_mask(mask: Tensor) -> Tensor:
    """Returns a mask in a number format that the compiled module reads: bool, float32 or float64."""
    return mask if mask.dtype in (torch.bool, torch.float32, torch.float64) else mask.float()


@dataclass(frozen=True)
class Form:
    """Where tokens may attend, in the simplest form.

    Attributes:
        mask: None if `causal` and `kept` say it all.
        causal: whether the mask is the causal one among the kept tokens.
        lower: whether no kept token attends to a later one.
        kept: bool `[b, n]`, False for tokens that no token may attend to.
    """

    mask: Tensor | None
    causal: bool
    lower: bool
    kept: Tensor


def form(attention: Attention) -> Form:
    """Finds the padding in a mask, and recognises the causal mask and the mask that forbids nothing."""
    n, device = attention.tokens, attention.query.device
    kept = torch.ones(attention.batch, n, dtype=torch.bool, device=device)
    if attention.keys is not None:
        kept = kept & attention.keys
    mask, causal = attention.mask, attention.causal
    lower = causal or attention.window is not None and attention.window[1] == 0
    if mask is None:
        return Form(None, causal, lower and n > 1, kept)
    may = allowed(mask)
    kept = kept & may.any(dim=2).any(dim=1).expand(attention.batch, n)
    plain = mask.dtype == torch.bool or bool(((mask == 0) | ~may).all())
    if plain:
        mask = may
    others = ~(kept[:, None, :, None] & kept[:, None, None, :])
    below = torch.ones(n, n, dtype=torch.bool, device=device).tril()
    if bool((may | others).all()):
        return Form(None if plain else mask, causal, lower and n > 1, kept)
    if bool((~may | below | others).all()):
        full = bool((may | ~below | others).all())
        return Form(None if plain and full else mask, causal or full, True, kept)
    return Form(mask, causal, lower, kept)
