"""The error of `watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._seen import Seen


class NotCaught(RuntimeError):
    """Attention of a selected layer was computed where `watch` cannot see it.

    Attributes:
        modules: the modules by their paths, and why each was not caught.
        seen: what was recorded nevertheless.
    """

    def __init__(self, message: str, modules: dict[str, str], seen: Seen | None = None) -> None:
        super().__init__(message)
        self.modules = modules
        self.seen = seen
