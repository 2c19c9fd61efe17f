"""Kinds of modules. Imported only once torch is in use."""

from __future__ import annotations

import re

import torch
from torch import nn

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)


def looks_like_attention(module: nn.Module) -> bool:
    """Whether a module probably computes attention, judging by the name of its class."""
    if isinstance(module, nn.MultiheadAttention):
        return True
    return _ATTENTION.search(type(module).__name__) is not None and not of_torch(module)


def of_torch(module: nn.Module) -> bool:
    """Whether a module is one of torch's own."""
    return type(module).__module__.startswith(("torch.nn.", "torch.ao."))


def fused_layers(model: nn.Module) -> dict[str, nn.TransformerEncoderLayer]:
    """Returns torch's own encoder layers, whose self-attention cannot be caught."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.TransformerEncoderLayer)}
    return {name: m for name, m in layers.items() if type(m).forward is nn.TransformerEncoderLayer.forward}


def compiled(model: nn.Module) -> list[str]:
    """Returns the modules whose Python code does not run: compiled or scripted ones."""
    found = []
    for name, module in model.named_modules():
        optimized = (
            getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule"
        )
        if optimized or isinstance(module, torch.jit.ScriptModule):
            found.append(name)
    return found
