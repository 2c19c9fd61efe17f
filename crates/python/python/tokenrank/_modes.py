"""A mode of torch that sees the functions which a model calls. Imported only once torch is in use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _get_current_function_mode_stack

_here = threading.local()


class Mode(TorchFunctionMode):
    """Passes every function of torch on unchanged, and then tells `see` about it: function, arguments and result."""

    def __init__(self, see: Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        # What a compiled function calls is seen once, while it is traced, and has no numbers.
        if not torch.compiler.is_compiling():
            self._see(func, args, kwargs, output)
        return output


def _pop() -> list[Mode]:
    """Takes our modes off the top of the stack of modes."""
    popped = []
    while isinstance(mode := _get_current_function_mode(), Mode):
        mode.__exit__(None, None, None)
        popped.append(mode)
    return popped


def _push(modes: list[Mode]) -> None:
    for mode in reversed(modes):
        mode.__enter__()


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Switches our modes off, so that functions take the path that they take without `watch`."""
    modes = _pop()
    try:
        yield
    finally:
        _push(modes)


def remove(mode: Mode) -> None:
    """Takes a mode off the stack of modes, wherever it is."""
    above = []
    while mode in _get_current_function_mode_stack():
        top = _get_current_function_mode()
        top.__exit__(None, None, None)
        if top is not mode:
            above.append(top)
    for other in reversed(above):
        other.__enter__()


def _suspended() -> list[tuple[nn.Module, list[Mode]]]:
    if not hasattr(_here, "suspended"):
        _here.suspended = []
    return _here.suspended


def suspend(module: nn.Module) -> None:
    """Switches our modes off until `resume` is called for the same module."""
    _suspended().append((module, _pop()))


def resume(module: nn.Module) -> None:
    """Switches modes on again that `suspend` switched off."""
    stack = _suspended()
    if any(entry[0] is module for entry in stack):
        while True:
            entry, modes = stack.pop()
            _push(modes)
            if entry is module:
                return


def resume_all() -> None:
    """Switches on all modes that are off, after modules were left by an interrupt."""
    for _, modes in reversed(_suspended()):
        _push(modes)
    _suspended().clear()
