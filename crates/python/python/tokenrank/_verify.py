"""Checks that a layer computes the attention that was caught. Imported only once torch is in use."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._attention import Attention, Refused, allowed, plain


def verify(attention: Attention, value: Tensor, output: Any) -> None:
    """Compares two rows of a layer's output with those of the map that would be analysed.

    An attention function may do more than its arguments say: cap logits, add a bias, or compute no softmax at all.

    Args:
        value: `[b, hk, n, dv]`.
        output: `[b, n, h, dv]`, or the same with heads and tokens swapped.

    Raises:
        Refused: if they differ by more than rounding.
    """
    if attention.dropout > 0.0:
        return
    n = attention.tokens
    value = plain(value)[:, :, :n]
    output = _by_heads(output, attention, value.shape[-1])
    rows = sorted({n // 2, n - 1})
    may = _row_mask(attention, rows)
    real = may.any(-1)
    if attention.keys is not None:
        real = real & attention.keys[:, None, rows]
    worst = 0.0
    groups = attention.heads // attention.key.shape[1]
    # A few heads at a time, since their keys are copied in double precision.
    for head in range(attention.key.shape[1]):
        heads = slice(head * groups, (head + 1) * groups)
        expected = _expected(attention, value[:, head], heads, rows, may)
        found = output[:, heads, rows].to(expected.dtype)
        if attention.sinks:
            # A sink takes a fraction of each row, which is renormalised in the chain.
            size = (expected * expected).sum(-1, keepdim=True).clamp_min(1e-300)
            expected = expected * ((found * expected).sum(-1, keepdim=True) / size).clamp(0.0, 1.0)
        checked = (real if real.shape[1] == 1 else real[:, heads]).expand(found.shape[:-1])
        error = (found - expected).abs().amax(-1)[checked]
        largest = float(value[:, head].nan_to_num(0.0).abs().amax()) or 1.0
        if error.numel():
            worst = max(worst, float(error.max()) / largest, key=lambda e: (math.isnan(e), e))
    if not worst <= (0.05 if value.dtype in (torch.float16, torch.bfloat16) else 0.01):
        raise Refused(f"computes something else than softmax(scale · QKᵀ + mask) V: its output is off by {worst:.2g}")


def _by_heads(output: Any, attention: Attention, width: int) -> Tensor:
    """Returns a layer's output as `[b, h, n, dv]`."""
    b, h, n = attention.batch, attention.heads, attention.tokens
    if not isinstance(output, Tensor) or output.numel() != b * h * n * width:
        raise Refused("returns an output of unexpected shape")
    output = output.detach()
    if output.dim() == 4 and output.shape[1:3] == (h, n) and h != n:
        return output
    return output.reshape(b, n, h, width).transpose(1, 2)


def _row_mask(attention: Attention, rows: list[int]) -> Tensor:
    """Returns where some rows may attend, broadcastable to `[b, h, rows, n]`."""
    device, n = attention.query.device, attention.tokens
    column, row = torch.arange(n, device=device), torch.tensor(rows, device=device)[:, None]
    may = torch.ones(1, 1, len(rows), n, dtype=torch.bool, device=device)
    if attention.mask is not None:
        may = may & allowed(_of_rows(attention.mask, rows))
    if attention.causal:
        may = may & (column <= row)
    if attention.window is not None:
        may = may & (column >= row - attention.window[0]) & (column <= row + attention.window[1])
    if attention.keys is not None:
        may = may & attention.keys[:, None, None, :]
    return may


def _of_rows(mask: Tensor, rows: list[int]) -> Tensor:
    return mask if mask.shape[2] == 1 else mask[:, :, rows]


def _expected(attention: Attention, value: Tensor, heads: slice, rows: list[int], may: Tensor) -> Tensor:
    """Returns the output `[b, heads, rows, dv]` of neighbouring heads that share the values `[b, n, dv]`."""
    exact = torch.float32 if value.device.type == "mps" else torch.float64
    key = attention.key[:, heads.start // (heads.stop - heads.start)].to(exact)
    logits = attention.scale * (attention.query[:, heads, rows].to(exact) @ key[:, None].transpose(2, 3))
    if attention.softcap is not None:
        logits = attention.softcap * torch.tanh(logits / attention.softcap)
    if attention.mask is not None and attention.mask.dtype != torch.bool:
        bias = _of_rows(attention.mask, rows)
        logits = logits + (bias if bias.shape[1] == 1 else bias[:, heads]).to(exact)
    mask = may if may.shape[1] == 1 else may[:, heads]
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0.0)
    # Padding, which no row attends to, may have no finite values.
    return weights @ value[:, None].to(exact).nan_to_num(0.0)
