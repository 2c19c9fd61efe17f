"""The arguments of a call by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def by_name(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call by name, also those that the function collects in `**kwargs`."""
    signature = inspect.signature(function)
    try:
        bound = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:
        return dict(kwargs)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound.update(bound.pop(parameter.name, {}))
    return bound
