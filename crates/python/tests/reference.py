"""The interface of `tokenrank._core`, written a second time in numpy with dense float64 linear algebra.

Slow and simple: it forms every attention map, takes its eigenvalues from LAPACK and solves for its steady state. The tests
compare the compiled module with it, and they use it in its place where the wheel has not been built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

# Additive mask entries at or below this value stand for "may not attend": bfloat16 rounds -10000 to -9984.
MASKED = -9000.0


def float64(values: np.ndarray) -> np.ndarray:
    """Returns the values in double precision. Arrays of uint16 hold the bits of bfloat16 numbers."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if values.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"q and k must be float16, float32, float64 or bfloat16 as uint16, found {values.dtype}")
    return values.astype(np.float64)


def maps(
    q: np.ndarray,
    k: np.ndarray,
    *,
    scale: float,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    mask: np.ndarray | None = None,
    softcap: float | None = None,
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the attention maps `[b, h, n, n]` of queries `[b, h, n, d]` and keys `[b, hk, n, d]`, over the kept tokens.

    Rows of kept tokens sum to 1; rows and columns of dropped tokens are 0, whatever their queries and keys are.
    """
    q, k = float64(q), float64(k)
    for name, values in (("q", q), ("k", k)):
        finite = np.isfinite(values).all(axis=(1, 3)) if values.ndim == 4 else np.array(True)
        if not (finite if keep is None else finite | ~keep).all():
            raise ValueError(f"{name} has entries that are not finite")
    if q.ndim != 4 or k.ndim != 4 or q.shape[0] != k.shape[0] or q.shape[2:] != k.shape[2:]:
        raise ValueError(f"q must be [b, h, n, d] and k [b, hk, n, d], found {q.shape} and {k.shape}")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"the number of query heads must be a multiple of that of the key heads, found {q.shape[1]} and {k.shape[1]}"
        )
    b, h, n, _ = q.shape
    logits = scale * (q @ np.repeat(k, h // k.shape[1], axis=1).swapaxes(-1, -2))
    if softcap is not None:
        logits = softcap * np.tanh(logits / softcap)
    if mask is not None:
        if mask.dtype == bool:
            logits = np.where(mask, logits, -np.inf)
        else:
            mask = mask.astype(np.float64)
            logits = logits + np.where(mask <= MASKED, -np.inf, mask)
    row, column = np.arange(n)[:, None], np.arange(n)
    if causal:
        logits = np.where(column <= row, logits, -np.inf)
    if window is not None:
        left, right = window
        if left >= 0:
            logits = np.where(column >= row - left, logits, -np.inf)
        if right >= 0:
            logits = np.where(column <= row + right, logits, -np.inf)
    if keep is not None:
        logits = np.where(keep[:, None, None, :], logits, -np.inf)
    # Not a number only where a token is dropped.
    logits = np.where(np.isnan(logits), -np.inf, logits)
    top = logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(top), top, 0.0))
    if keep is not None:
        weights = np.where(keep[:, None, :, None], weights, 0.0)
    sums = weights.sum(axis=-1, keepdims=True)
    for batch, head, token in np.argwhere(sums[..., 0] == 0.0):
        if keep is None or keep[batch, token]:
            raise ValueError(f"batch {batch}, head {head}: token {token} may attend to no kept token")
    return weights / np.where(sums == 0.0, 1.0, sums)


def second_modulus(a: np.ndarray) -> float:
    """Returns the second largest eigenvalue modulus of a chain; 0 if it has one state only."""
    if len(a) == 1:
        return 0.0
    return float(min(1.0, np.sort(np.abs(np.linalg.eigvals(a)))[-2]))


def reverse(a: np.ndarray) -> np.ndarray:
    """Returns the backward chain: `b[j, i] = a[i, j] / Σ_k a[k, j]`."""
    sums = a.sum(axis=0)
    if np.any(sums == 0.0):
        raise ValueError(f"column {int(np.argmin(sums))} sums to zero, so the backward chain does not exist")
    return (a / sums).T


def steady_state(a: np.ndarray) -> np.ndarray:
    """Returns the state to which every walk of the chain converges."""
    n = len(a)
    if n > 1 and np.sort(np.abs(np.linalg.eigvals(a)))[-2] > 1.0 - 1e-12:
        raise ValueError("the steady state is not unique, or walks do not converge to it")
    system = np.vstack([a.T - np.eye(n), np.ones(n)])
    state = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
    return np.maximum(state, 0.0) / np.maximum(state, 0.0).sum()


def expected_visits(a: np.ndarray, absorb: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Returns the expected visits `[n]` of walks from `start` `[n]` until they reach a token of `absorb`."""
    others = np.setdiff1d(np.arange(len(a)), absorb)
    reaches = np.isin(np.arange(len(a)), absorb)
    for _ in range(len(a)):
        reaches |= (a[:, reaches] > 0.0).any(axis=1)
    if not reaches.all():
        raise ValueError(f"a walk from token {int(np.argmin(reaches))} never reaches an absorbing token")
    found = np.zeros(len(a))
    if len(others):
        # The diagonal of 1 - Q is what leaves a token; subtracting from 1 would lose its digits if little does.
        system = -a[np.ix_(others, others)]
        leaving = np.where(np.eye(len(a), dtype=bool), 0.0, a).sum(axis=1)
        np.fill_diagonal(system, leaving[others])
        found[others] = np.linalg.solve(system.T, start[others])
    return found


@dataclass(frozen=True)
class Head:
    """The chain of one head, over its kept tokens.

    Tokens are given by their positions in the whole sequence.
    """

    a: np.ndarray
    tokens: np.ndarray
    alpha: float
    direction: str
    target: np.ndarray | None

    def position(self, token: int) -> int:
        found = np.flatnonzero(self.tokens == token)
        if not len(found):
            raise ValueError(f"token {token} is left out of the chain")
        return int(found[0])

    def teleport(self) -> np.ndarray:
        m = len(self.tokens)
        mass = np.full(m, 1.0 / m) if self.target is None else self.target[self.tokens]
        if mass.sum() <= 0.0:
            raise ValueError("all of the teleport's mass lies on dropped tokens")
        return mass / mass.sum()

    def directed(self, a: np.ndarray) -> np.ndarray:
        return a if self.direction == "forward" else reverse(a)

    def chain(self) -> np.ndarray:
        return self.directed(self.alpha * self.a + (1.0 - self.alpha) * self.teleport())

    def token_rank(self) -> np.ndarray:
        return steady_state(self.chain())

    def bounces(self, starts: list[int], steps: int) -> np.ndarray:
        chain = self.chain()
        states = np.zeros((len(starts), steps, len(self.tokens)))
        for i, token in enumerate(starts):
            state = np.eye(len(self.tokens))[self.position(token)]
            for step in range(steps):
                state = state @ chain
                states[i, step] = state
        return states

    def visits(self, starts: list[int], absorb: list[int]) -> np.ndarray:
        ends = np.array([self.position(token) for token in absorb])
        if starts:
            first = np.zeros(len(self.tokens))
            for token in starts:
                first[self.position(token)] += 1.0 / len(starts)
        else:
            first = self.teleport()
        return expected_visits(self.directed(self.a), ends, first)


def chains(
    q: np.ndarray,
    k: np.ndarray,
    *,
    scale: float,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    mask: np.ndarray | None = None,
    softcap: float | None = None,
    keep: np.ndarray | None = None,
    alpha: float = 0.99,
    direction: str = "forward",
    teleport: np.ndarray | None = None,
    absorb: list[int] | None = None,
    lambda2: bool = True,
    tol: float = 1e-6,
    token_rank: bool = True,
    start: list[int] | None = None,
    steps: int = 0,
    visits: bool = False,
    mean_map: bool = False,
    heads_map: bool = False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Returns the requested quantities of every head as arrays, and `failed`, a list of `(batch, head, quantity, reason)`.

    `tol` and `threads` change nothing here. A quantity that cannot be computed for a head is NaN there.
    """
    del tol, threads
    if direction not in ("forward", "backward"):
        raise ValueError(f"direction must be 'forward' or 'backward', found {direction!r}")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be between 0 and 1, found {alpha}")
    attention = maps(q, k, scale=scale, causal=causal, window=window, mask=mask, softcap=softcap, keep=keep)
    b, h, n, _ = attention.shape
    kept = np.ones((b, n), bool) if keep is None else np.asarray(keep, bool)
    targets = None
    if teleport is not None:
        teleport = np.asarray(teleport, np.float64)
        targets = np.broadcast_to(teleport[:, None] if teleport.ndim == 2 else teleport, (b, h, n))
    if visits and not absorb:
        raise ValueError("visits need absorbing tokens")
    starts = list(start or [])
    for token in [*starts, *(absorb or [])]:
        if not 0 <= token < n:
            raise ValueError(f"there is no token {token}; the chain has {n} tokens, counted from 0")

    found: dict[str, Any] = {"kept": kept, "failed": []}
    if lambda2:
        found["lambda2"] = np.full((b, h), np.nan)
    if token_rank:
        found["token_rank"] = np.zeros((b, h, n))
    if starts and steps:
        found["bounces"] = np.zeros((b, h, len(starts), steps, n))
    if visits:
        found["visits"] = np.zeros((b, h, n))
    if mean_map:
        found["mean_map"] = attention.mean(axis=1).astype(np.float32)
    if heads_map:
        found["maps"] = attention.astype(np.float32)

    for batch, head in np.ndindex(b, h):
        tokens = np.flatnonzero(kept[batch])
        if not len(tokens):
            raise ValueError(f"batch {batch}: no token is kept")
        target = None if targets is None else targets[batch, head]
        one = Head(attention[batch, head][np.ix_(tokens, tokens)], tokens, alpha, direction, target)
        if lambda2:
            found["lambda2"][batch, head] = second_modulus(one.a)
        asked = {
            "token_rank": one.token_rank,
            "bounces": partial(one.bounces, starts, steps),
            "visits": partial(one.visits, starts, absorb or []),
        }
        for quantity, compute in asked.items():
            if quantity not in found:
                continue
            into = found[quantity][batch, head]
            try:
                into[..., tokens] = compute()
            except (ValueError, np.linalg.LinAlgError) as error:
                into[...] = np.nan
                found["failed"].append((batch, head, quantity, str(error)))
    return found
