"""The lookup of attention functions in transformers, wrapped while a model is watched.

A model of transformers asks `AttentionInterface` for the function that its configuration names, or for its own eager
function. The wrapped lookup returns a function that calls that one and then tells whoever watches the module. The model's
configuration, its masks and its kernels stay as they are.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import nn

from ._arguments import by_name
from ._modes import unseen


class Watcher(Protocol):
    """Somebody who watches modules in the thread that called `watched`."""

    def knows(self, module: object) -> bool: ...
    def interface(self, implementation: str, module: nn.Module, arguments: dict[str, Any], output: Any) -> None: ...


_here = threading.local()
_lock = threading.Lock()
_users = 0
_originals: dict[str, Any] = {}


def _active() -> list[Watcher]:
    if not hasattr(_here, "active"):
        _here.active = []
    return _here.active


def _interface_class() -> Any:
    """Returns the class of the registry of attention functions, if a model may have come from transformers."""
    return getattr(sys.modules.get("transformers.modeling_utils"), "AttentionInterface", None)


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Wraps the lookup of attention functions and tells `watcher` about their calls."""
    global _users
    with _lock:
        _users += 1
        if not _originals:
            _wrap_lookup()
    _active().append(watcher)
    try:
        yield
    finally:
        _active().remove(watcher)
        with _lock:
            _users -= 1
            if _users == 0:
                _unwrap_lookup()


def _wrap_lookup() -> None:
    interface = _interface_class()
    if interface is None:
        return
    for method in ("get_interface", "__getitem__"):
        original = getattr(interface, method, None)
        if original is not None:
            _originals[method] = interface.__dict__.get(method)
            setattr(interface, method, _lookup(original))


def _unwrap_lookup() -> None:
    interface = _interface_class()
    for method, original in _originals.items():
        if original is None:
            delattr(interface, method)
        else:
            setattr(interface, method, original)
    _originals.clear()


def _lookup(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def lookup(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        return _told(original(self, name, *args, **kwargs), name or "eager")

    return lookup


def _told(function: Callable[..., Any], implementation: str) -> Callable[..., Any]:
    if not _active() or hasattr(function, "_tokenrank_calls"):
        return function

    @functools.wraps(function)
    def attention(*args: Any, **kwargs: Any) -> Any:
        module: Any = args[0] if args else kwargs.get("module")
        watchers = [watcher for watcher in _active() if watcher.knows(module)]
        if not watchers:
            return function(*args, **kwargs)
        with unseen():
            output = function(*args, **kwargs)
            arguments = _interface_arguments(function, args, kwargs)
            for watcher in watchers:
                watcher.interface(implementation, module, dict(arguments), output)
        return output

    attention._tokenrank_calls = function  # type: ignore[attr-defined]
    return attention


def _interface_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of an attention function by the names that transformers gives them."""
    bound = by_name(function, args, kwargs)
    for name, value in zip(("module", "query", "key", "value", "attention_mask"), args):
        bound[name] = value
    bound.pop("module", None)
    return bound
