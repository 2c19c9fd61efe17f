"""What `watch` recorded: calls, layers, and all layers of a model."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._layers import ByLayer

QUANTITIES = {
    "lambda2": "lambda2=True",
    "token_rank": "token_rank=True",
    "bounces": "start=TOKEN and steps=N",
    "visits": "absorb=TOKEN",
    "mean_map": "mean_map=True",
    "maps": "maps=True",
}


class _Quantities:
    """Access to the computed arrays. A quantity that was not requested raises an error that names the option."""

    def _quantity(self, name: str) -> Any:
        raise NotImplementedError

    @property
    def lambda2(self) -> Any:
        """Second largest eigenvalue modulus of each head, without teleport: `[batch, heads]`."""
        return self._quantity("lambda2")

    @property
    def token_rank(self) -> Any:
        """TokenRank, the steady state of each head: `[batch, heads, tokens]`; 0 for tokens that were left out."""
        return self._quantity("token_rank")

    @property
    def bounces(self) -> Any:
        """States after 1, 2, … steps from each start: `[batch, heads, starts, steps, tokens]`."""
        return self._quantity("bounces")

    @property
    def visits(self) -> Any:
        """Expected visits before a walk ends in an absorbing token: `[batch, heads, tokens]`."""
        return self._quantity("visits")

    @property
    def mean_map(self) -> Any:
        """Mean of the attention maps of all heads: float32 `[batch, tokens, tokens]`."""
        return self._quantity("mean_map")

    @property
    def maps(self) -> Any:
        """The attention maps: float32 `[batch, heads, tokens, tokens]`."""
        return self._quantity("maps")


@dataclass(frozen=True, repr=False)
class Call(_Quantities):
    """One attention call of a layer.

    Attributes:
        layer: path of the module that made the call.
        forward: how many times the model had been called before, inside the with-block.
        batch, heads, tokens: sizes of the call.
        kept: `[batch, tokens]`, False for padding and for tokens of `drop`.
        causal: whether tokens attend only to themselves and to earlier ones.
    """

    layer: str
    forward: int
    heads: int
    kept: np.ndarray
    causal: bool
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        return self.kept.shape[0]

    @property
    def tokens(self) -> int:
        return self.kept.shape[1]

    def _quantity(self, name: str) -> np.ndarray:
        if name not in self.values:
            raise AttributeError(f"{name} was not computed; call watch with {QUANTITIES[name]}")
        return self.values[name]

    def __repr__(self) -> str:
        causal = ", causal" if self.causal else ""
        sizes = f"batch {self.batch}, {self.heads} heads, {self.tokens} tokens{causal}"
        return f"<Call of {self.layer}: {sizes}; {', '.join(self.values)}>"


class Layer(_Quantities):
    """All calls of one layer. Its arrays and sizes are those of the last call.

    Attributes:
        name: path of the module that made the calls.
        calls: the calls in their order.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[Call] = []

    @property
    def last(self) -> Call:
        return self.calls[-1]

    @property
    def batch(self) -> int:
        return self.last.batch

    @property
    def heads(self) -> int:
        return self.last.heads

    @property
    def tokens(self) -> int:
        return self.last.tokens

    @property
    def kept(self) -> np.ndarray:
        """`[batch, tokens]`, False for padding and for tokens of `drop`."""
        return self.last.kept

    @property
    def causal(self) -> bool:
        """Whether tokens attend only to themselves and to earlier ones."""
        return self.last.causal

    def _quantity(self, name: str) -> np.ndarray:
        return self.last._quantity(name)

    def __repr__(self) -> str:
        count = len(self.calls)
        return f"<Layer {self.name}: {count} call{'' if count == 1 else 's'}, the last {self.last!r}>"


class Seen(ByLayer[Layer], _Quantities):
    """What `watch` recorded: a mapping from the paths of attention modules to `Layer`.

    `seen["encoder.layer.11"]` finds the only layer inside that module, `seen[-1]` the last one. `seen.lambda2` and its
    siblings are mappings from layers to the arrays of their last call.

    Attributes:
        notes: sentences on what was left out, and on how to read the numbers.
    """

    def __init__(self) -> None:
        self._layers: dict[str, Layer] = {}
        super().__init__(self._layers)
        self.notes: list[str] = []

    def _quantity(self, name: str) -> ByLayer[np.ndarray]:
        return ByLayer({path: layer._quantity(name) for path, layer in self._layers.items()})

    def _add(self, call: Call) -> None:
        self._layers.setdefault(call.layer, Layer(call.layer)).calls.append(call)

    def __repr__(self) -> str:
        lines = [f"  {layer!r}" for layer in self._layers.values()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([f"<Seen: {len(self)} layers>", *lines])

    def _repr_html_(self) -> str:
        """Returns a table of λ₂ for notebooks: a row for each layer, a column for each head, of the first item of its last call."""
        rows = []
        for name, layer in self._layers.items():
            call = layer.last
            values = call.values.get("lambda2")
            sizes = f"{call.tokens} tokens" + (", causal" if call.causal else "")
            cells = "" if values is None else "".join(_cell(float(value)) for value in values[0])
            rows.append(f'<tr><th style="text-align:left">{html.escape(name)}</th><td>{sizes}</td>{cells}</tr>')
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        title = "λ₂ of each head" if any("lambda2" in layer.last.values for layer in self._layers.values()) else "Layers"
        return f'<p><b>{title}</b></p><table>{"".join(rows)}</table>{notes}'


def _cell(value: float) -> str:
    """Returns a table cell, the bluer the larger the value."""
    if not np.isfinite(value):
        return "<td>–</td>"
    return f'<td style="background:rgba(70,130,220,{0.6 * value:.2f})">{value:.3f}</td>'
