"""What to compute for a call of attention, and computing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np

from ._seen import QUANTITIES

if TYPE_CHECKING:
    import torch

    from ._attention import Attention
    from ._form import Form

Token = Union[int, Literal["first", "last"]]
Tokens = Union[Token, Sequence[Token], None]
Teleport = Union[Tokens, np.ndarray, "torch.Tensor"]


def read_tokens(option: str, tokens: Tokens) -> tuple[Token, ...] | None:
    """Reads one token or several, the argument `option` of `watch`.

    Raises:
        TypeError: for anything but whole numbers, "first" and "last".
        ValueError: for an empty list.
    """
    if tokens is None:
        return None
    if isinstance(tokens, (int, np.integer, str)):
        tokens = [tokens]
    read: list[Token] = []
    for token in tokens:
        if isinstance(token, (int, np.integer)) and not isinstance(token, bool):
            read.append(int(token))
        elif token in ("first", "last"):
            read.append(token)
        else:
            raise TypeError(f"{option}: expected whole numbers, 'first' or 'last', found {token!r}")
    if not read:
        raise ValueError(f"{option}: the list of tokens is empty; leave `{option}` out")
    return tuple(read)


def read_teleport(teleport: Teleport) -> tuple[Token, ...] | np.ndarray | None:
    """Reads the argument `teleport` of `watch`: tokens, or a distribution over all tokens.

    Raises:
        TypeError, ValueError: as `read_tokens`; also ValueError for numbers that are not probabilities.
    """
    if teleport is None or isinstance(teleport, (int, np.integer, str)):
        return read_tokens("teleport", teleport)
    values = teleport.detach().cpu().numpy() if hasattr(teleport, "detach") else np.asarray(teleport)
    if values.dtype.kind != "f":
        return read_tokens("teleport", values.tolist())
    values = values.astype(np.float64)
    sums = values.sum(axis=-1)
    if values.ndim not in (1, 2) or not np.all(np.isfinite(values)) or values.min() < 0.0:
        raise ValueError("teleport: expected probabilities [tokens] or [batch, tokens], all of them at least 0")
    if np.any(np.abs(sums - 1.0) > 1e-3):
        raise ValueError(
            f"teleport: probabilities must sum to 1, found a sum of {sums.flat[np.abs(sums - 1.0).argmax()]:.6g}"
        )
    return values


@dataclass(frozen=True)
class Questions:
    """What to compute of every call; the arguments of `watch`."""

    lambda2: bool
    token_rank: bool
    start: tuple[Token, ...] | None
    steps: int
    absorb: tuple[Token, ...] | None
    drop: tuple[Token, ...] | None
    teleport: tuple[Token, ...] | np.ndarray | None
    alpha: float
    direction: str
    mean_map: bool
    maps: bool
    tol: float
    threads: int | None

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha must be between 0 and 1, found {self.alpha}")
        if self.direction not in ("forward", "backward"):
            raise ValueError(f"direction must be 'forward' or 'backward', found {self.direction!r}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, (int, np.integer)) or self.steps < 0:
            raise ValueError(f"steps must be a whole number of at least 0, found {self.steps!r}")
        if not 0.0 < self.tol < 1.0:
            raise ValueError(f"tol must be between 0 and 1, found {self.tol}")
        if not any((self.lambda2, self.token_rank, self.start and self.steps, self.absorb, self.mean_map, self.maps)):
            raise ValueError("nothing to compute: set one of lambda2, token_rank, start, absorb, mean_map and maps")

    def answer(self, attention: Attention) -> Answer:
        """Computes everything for one call.

        Raises:
            ValueError: if a token does not exist in it, or its numbers are not finite.
        """
        from ._form import form, numpy

        shape = form(attention)
        kept = numpy(shape.kept).copy()
        padding = int((~kept).sum())
        if self.drop is not None:
            for row, tokens in zip(kept, self._resolve("drop", self.drop, kept)):
                row[tokens] = False
        parts = self._chains(attention, shape, kept)
        names = [name for name in QUANTITIES if name in parts[0]]
        values = {name: np.concatenate([part[name] for part in parts]) for name in names}
        failed = [
            (i + item, head, what, why) for i, part in enumerate(parts) for item, head, what, why in part["failed"]
        ]
        return Answer(kept, shape.lower, values, failed, padding)

    def _chains(self, attention: Attention, shape: Form, kept: np.ndarray) -> list[dict[str, Any]]:
        """Calls the compiled module once, or for each sequence if they start or end at different tokens."""
        from . import _core
        from ._form import as_mask, numpy

        walks = self.steps > 0 or self.absorb is not None
        starts = self._resolve("start", self.start, kept) if self.start is not None and walks else None
        ends = self._resolve("absorb", self.absorb, kept) if self.absorb is not None else None
        query, key = numpy(attention.query), numpy(attention.key)
        mask = None if shape.mask is None else numpy(as_mask(shape.mask))
        teleport = self._target(kept)
        alike = all(each is None or all(tokens == each[0] for tokens in each) for each in (starts, ends))
        batch = attention.batch
        return [
            _core.chains(
                query[rows],
                key[rows],
                scale=attention.scale,
                causal=shape.causal,
                window=attention.window,
                mask=mask if mask is None or len(mask) == 1 else mask[rows],
                softcap=attention.softcap,
                keep=None if kept[rows].all() else kept[rows],
                alpha=self.alpha,
                direction=self.direction,
                teleport=teleport if teleport is None or teleport.ndim == 1 else teleport[rows],
                absorb=None if ends is None else ends[rows.start],
                lambda2=self.lambda2,
                tol=self.tol,
                token_rank=self.token_rank,
                start=None if starts is None else starts[rows.start],
                steps=self.steps,
                visits=ends is not None,
                mean_map=self.mean_map,
                heads_map=self.maps,
                threads=self.threads,
            )
            for rows in ([slice(0, batch)] if alike else [slice(i, i + 1) for i in range(batch)])
        ]

    def _resolve(self, option: str, tokens: tuple[Token, ...], kept: np.ndarray) -> list[list[int]]:
        """Returns the positions of tokens for each sequence of the batch."""
        n = kept.shape[1]
        found = []
        for row in kept:
            real = np.flatnonzero(row)
            positions = []
            for token in tokens:
                if isinstance(token, str):
                    if not len(real):
                        raise ValueError(f"{option}: a sequence has no {token} token; all of its tokens are left out")
                    positions.append(int(real[0 if token == "first" else -1]))
                elif -n <= token < n:
                    positions.append(token % n)
                else:
                    raise ValueError(f"{option}: there is no token {token}; the call has {n} tokens, counted from 0")
            found.append(positions)
        return found

    def _target(self, kept: np.ndarray) -> np.ndarray | None:
        """Returns the distribution that teleports go to: `[n]` or `[b, n]`; None if it is uniform."""
        if self.teleport is None or isinstance(self.teleport, np.ndarray):
            target = self.teleport
            wanted = [(kept.shape[1],), kept.shape]
            if target is not None and target.shape not in wanted:
                raise ValueError(
                    f"teleport: its shape is {target.shape}, and the call needs {wanted[0]} or {wanted[1]}"
                )
            return target
        target = np.zeros(kept.shape)
        for row, tokens in zip(target, self._resolve("teleport", self.teleport, kept)):
            np.add.at(row, tokens, 1.0 / len(tokens))
        return target


@dataclass(frozen=True)
class Answer:
    """The result of one call.

    Attributes:
        kept: bool `[b, n]`.
        causal: whether no token attends to a later one.
        values: arrays by their quantities.
        failed: sequence, head, quantity and reason wherever a quantity does not exist.
        padding: number of tokens that the mask leaves out, in all sequences.
    """

    kept: np.ndarray
    causal: bool
    values: dict[str, np.ndarray]
    failed: list[tuple[int, int, str, str]]
    padding: int
