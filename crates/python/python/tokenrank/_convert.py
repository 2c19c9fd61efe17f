"""Arrays of the caller, as the compiled core takes them, and results in the caller's kind."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def torch_if_loaded() -> Any | None:
    """Returns torch if the program has imported it. A tensor cannot exist otherwise."""
    return sys.modules.get("torch")


def is_tensor(value: Any) -> bool:
    """Returns whether a value is a torch tensor."""
    torch = torch_if_loaded()
    return torch is not None and isinstance(value, torch.Tensor)


def tensor_to_array(tensor: Any) -> np.ndarray:
    """Returns the numbers of a tensor: in place if it is on the CPU, through one copy otherwise. numpy has no bfloat16, so its
    bits are returned as uint16."""
    torch = sys.modules["torch"]
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        raise TypeError(f"attention must be a dense tensor, found layout {tensor.layout}; call .to_dense() first")
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.numpy()


def as_maps(value: Any, name: str = "A") -> tuple[np.ndarray, Callable[[np.ndarray], Any]]:
    """Returns attention as an array for the core, and a function that gives results back in the caller's kind."""
    if is_tensor(value):
        torch = sys.modules["torch"]
        if value.dtype == torch.uint16:
            raise TypeError(f"{name} has dtype torch.uint16; attention consists of floating-point numbers")
        device = value.device

        def back(result: np.ndarray) -> Any:
            tensor = torch.from_numpy(np.ascontiguousarray(result))
            if device.type == "mps" and tensor.dtype == torch.float64:  # which Apple's GPUs do not have
                tensor = tensor.float()
            return tensor.to(device)

        return _supported(tensor_to_array(value), name, bits=value.dtype == torch.bfloat16), back
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill it or leave the masked tokens out with row_stochastic(A, drop=…)")
    return _supported(np.asarray(value), name), lambda result: result


def _supported(array: np.ndarray, name: str, *, bits: bool = False) -> np.ndarray:
    if bits:
        return array
    kind = array.dtype.kind
    if kind in "bui":  # 0 and 1 are probabilities too
        array = array.astype(np.float64)
    elif kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be an array of float16, bfloat16, float32 or float64, found {array.dtype}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.require(array, requirements="A")


def as_floats(value: Any, name: str) -> np.ndarray:
    """Returns an array of float64."""
    if is_tensor(value):
        value = value.detach().cpu().double().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be an array of numbers, found {array.dtype}")
    return array.astype(np.float64, copy=False)


def token_number(value: Any, states: int) -> int:
    """Returns the number of a token, counted from 0; negative numbers count from the end."""
    token = operator.index(value)
    if not -states <= token < states:
        raise ValueError(f"token {token} does not exist: the chain has {states} states, counted from 0")
    return token % states


def token_list(value: Any, states: int, name: str) -> list[int]:
    """Returns the numbers of one token or of several."""
    if is_tensor(value):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "ui" and array.size:
        raise TypeError(f"{name} must be a token number or a list of them, found {array.dtype}")
    if array.ndim > 1:
        raise TypeError(f"{name} must be a token number or a list of them, found shape {list(array.shape)}")
    return [token_number(token, states) for token in array.reshape(-1).tolist()]


def one_hot(tokens: list[int], states: int) -> np.ndarray:
    """Returns a row for each token, with all of its mass on it: `[tokens, states]`."""
    rows = np.zeros((len(tokens), states))
    rows[np.arange(len(tokens)), tokens] = 1.0
    return rows


def is_token_list(value: Any) -> bool:
    """Returns whether a value names tokens by whole numbers; otherwise it is a distribution over all tokens."""
    if is_tensor(value):
        return not value.dtype.is_floating_point
    return np.asarray(value).dtype.kind in "ui"


def distributions(value: Any, outer: tuple[int, ...], states: int, name: str) -> np.ndarray:
    """Returns distributions over the tokens, `[1 or matrices, states]`: from a token, a list of tokens of equal probability, or
    probabilities `[states]` or `[..., states]`."""
    if is_token_list(value):
        tokens = token_list(value, states, name)
        if not tokens:
            raise ValueError(f"{name} is an empty list; name at least one token")
        return one_hot(tokens, states).mean(axis=0, keepdims=True)
    rows = as_floats(value, name)
    if rows.shape == (states,):
        return np.ascontiguousarray(rows[None])
    if rows.shape == (*outer, states):
        return np.ascontiguousarray(rows.reshape(-1, states))
    wanted = f"[{states}]" if not outer else f"[{states}] or {[*outer, states]}"
    raise ValueError(f"{name} has shape {list(rows.shape)}, expected {wanted}: a probability for every token")
