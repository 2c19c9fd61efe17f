"""Names of layers: which ones to watch, and how to look one up."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar, Union

Value = TypeVar("Value")
Layers = Union[str, int, Iterable[Union[str, int]], None]

_END = re.compile(r"(first|last):(\d+)")


def parents(name: str) -> Iterator[str]:
    """Yields the path of a module and those of all modules that contain it: `a.b.c`, `a.b`, `a` and the empty path."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


@dataclass(frozen=True)
class Selection:
    """The layers to watch.

    Positions count the layers in the order in which they compute their attention, anew each time the model is called.
    """

    everything: bool
    globs: tuple[str, ...] = ()
    first: int = 0
    last: int = 0
    positions: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, layers: Layers) -> Selection:
        """Reads the argument `layers` of `watch`.

        Raises:
            TypeError: for anything but text, whole numbers, and lists of these.
            ValueError: if it selects nothing.
        """
        if layers is None:
            return cls(everything=True)
        if isinstance(layers, (str, int)):
            layers = [layers]
        globs, positions, first, last = [], set(), 0, 0
        for item in layers:
            if isinstance(item, bool) or not isinstance(item, (str, int)):
                raise TypeError(
                    f"layers: expected names, patterns, whole numbers, 'first:N' or 'last:N', found {item!r}"
                )
            if isinstance(item, int):
                positions.add(item)
            elif end := _END.fullmatch(item):
                count = int(end[2])
                if count == 0:
                    raise ValueError(f"layers: {item!r} selects no layer")
                first, last = (max(first, count), last) if end[1] == "first" else (first, max(last, count))
            else:
                globs.append(item)
        if not (globs or positions or first or last):
            raise ValueError("layers: an empty list selects no layer; leave `layers` out to watch all of them")
        return cls(False, tuple(globs), first, last, frozenset(positions))

    def named(self, name: str) -> bool:
        """Whether the path of a module, or of a module that contains it, matches a pattern."""
        return self.everything or any(self._matches(name, glob) for glob in self.globs)

    @staticmethod
    def _matches(name: str, glob: str) -> bool:
        return any(fnmatchcase(path, glob) for path in parents(name))

    def now(self, name: str, position: int) -> bool:
        """Whether the layer is selected, as far as can be known before the layers after it are called."""
        return self.named(name) or position < self.first or position in self.positions

    @property
    def tail(self) -> int:
        """The number of layers at the end of which some may turn out to be selected."""
        return max([self.last, *(-position for position in self.positions)])

    def later(self, behind: int) -> bool:
        """Whether the layer is selected that `behind` other layers follow."""
        return behind < self.last or -1 - behind in self.positions

    def may_be(self, name: str, before: int, behind: int) -> bool:
        """Whether a layer that could not be caught may have been selected, between so many layers that were caught."""
        inside = any(0 <= before <= p or 0 > p >= -1 - behind and behind < -p for p in self.positions)
        return self.named(name) or before < self.first or behind < self.last or inside

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """Returns the patterns that match no module among `names`."""
        names = list(names)
        return [glob for glob in self.globs if not any(self._matches(name, glob) for name in names)]


class ByLayer(Mapping[str, Value]):
    """A read-only mapping from layers to values, in the order in which the layers were called.

    Keys are module paths. A path of a module that contains exactly one of the layers, and the position of a layer, find
    it too.
    """

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def __getitem__(self, key: str | int) -> Value:
        return self._values[find(key, self._values)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        try:
            find(key, self._values)
        except KeyError:
            return False
        return True

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {_short(value)}' for name, value in self._values.items())}}}"


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else f"{value.dtype}{list(shape)}"


def find(key: object, names: Iterable[str]) -> str:
    """Returns the only name that `key` means: the name itself, a path above it, or its position.

    Raises:
        KeyError: if there is none, or more than one.
    """
    names = list(names)
    if isinstance(key, int) and not isinstance(key, bool):
        if not -len(names) <= key < len(names):
            raise KeyError(f"there is no layer {key}; {len(names)} layers were recorded")
        return names[key]
    if not isinstance(key, str):
        raise KeyError(f"layers are found by name or position, not by {key!r}")
    if key in names:
        return key
    below = [name for name in names if name.startswith(f"{key}.")]
    if len(below) == 1:
        return below[0]
    if below:
        raise KeyError(f"{key!r} contains {len(below)} layers; name one of them: {listed(below)}")
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.3) or names
    raise KeyError(f"no layer {key!r} was recorded; there are {listed(near)}" if names else "no layer was recorded")


def listed(names: Iterable[str], most: int = 4) -> str:
    """Joins names to a sentence's part, shortened if there are many."""
    names = list(names)
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
