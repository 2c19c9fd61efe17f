"""Markov chains of attention matrices `[..., n, n]`."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from . import _core
from ._convert import as_floats, as_maps, distributions, is_token_list, one_hot, token_list

Direction = Literal["forward", "backward"]
Errors = Literal["raise", "nan"]


class ChainWarning(UserWarning):
    """A quantity is missing for some matrices, because `errors="nan"` was given."""


class CausalWarning(UserWarning):
    """The mask of causal attention decides the answer more than the network does."""


class Spectrum(NamedTuple):
    """Leading eigenvalues; the result of `spectrum`."""

    values: Any
    """`[..., k]` complex, in falling order of modulus, beginning with 1."""
    residual: Any
    """`[..., k]`: the norm of x P - λ x for the unit vector x found; 0 where the structure of the matrix gives λ exactly."""
    condition: Any
    """`[..., k]`: residual times condition is the error of λ to first order."""


class Visits(NamedTuple):
    """Walks that end on absorbing tokens; the result of `visits`."""

    visits: Any
    """`[..., n]`: expected number of visits to each token, the start included; 0 for absorbing tokens."""
    steps: Any
    """`[..., n]`: expected number of steps of a walk from each token."""
    ends: Any
    """`[..., n, absorbing]`: probability that a walk from each token ends on each absorbing token, in rising order of these."""


class MetastableSets(NamedTuple):
    """Groups of tokens in which a walk stays for long; the result of `metastable_sets`."""

    count: Any
    """`[...]` int64: number of sets."""
    assignment: Any
    """`[..., n]` int64: the set of each token. Sets are in falling order of their weight."""
    memberships: Any
    """`[..., n, sets]`: membership of each token in each set; rows sum to 1."""
    staying: Any
    """`[..., sets]`: probability that a stationary walk in the set is still there after one step."""
    weights: Any
    """`[..., sets]`: fraction of the steady state in each set."""
    crispness: Any
    """`[...]`: between 0 and 1; 1 if every token belongs to one set only."""


def token_rank(
    A: Any,
    *,
    alpha: float = 0.99,
    direction: Direction = "forward",
    teleport: Any = None,
    method: Literal["exact", "power"] = "exact",
    tol: float | None = None,
    max_steps: int | None = None,
    errors: Errors = "raise",
    threads: int | None = None,
) -> Any:
    """Returns TokenRank, the steady state of each attention matrix: `[..., n]`, not negative, summing to 1.

    It is the fraction of attention that every token gets in the long run: π with π T = π for T = α A + (1-α) 1 tᵀ.

    Parameters
    ----------
    A:
        Row-stochastic matrices `[..., n, n]` (softmax over the last axis), as a numpy array or torch tensor of float16,
        bfloat16, float32 or float64. Row sums within 1e-3 of 1 (2e-3 for float16, 8e-3 for bfloat16) are renormalised.
    alpha:
        Probability of following the attention rather than teleporting, in [0, 1]. At 1 the steady state must be unique.
    direction:
        "forward" follows the attention; "backward" goes from a token to those that attend to it. Teleport comes first,
        reversal second.
    teleport:
        Where teleports go: a token, a list of tokens (each with the same probability), or probabilities `[n]` or `[..., n]`.
        Uniform by default. Whole numbers name tokens; negative ones count from the end.
    method:
        "exact": within 1e-6 of the steady state in L1, accelerated; with `tol`, it stops at that L1 change of a step
        instead. "power": the plain power method, L1 change 1e-5 and at most 200 steps unless `tol` and `max_steps` say otherwise; it
        returns its last state in any case.
    errors:
        "raise" raises `ValueError` for the first matrix without an answer; "nan" fills its entries with NaN and warns.
    threads:
        Number of threads for this call; otherwise `RAYON_NUM_THREADS`, or one for each processor.

    Returns
    -------
    float64, numpy or torch as the input, on its device.

    Raises
    ------
    ValueError
        For a matrix that is not row-stochastic (the message names the row), or has no unique steady state at `alpha=1`.
    TypeError
        For numbers of another type.
    """
    array, back = as_maps(A)
    outer, n = _shape(array)
    rows = _targets(teleport, outer, n)
    found, failed, triangles = _core.token_rank(
        array,
        alpha=alpha,
        direction=direction,
        teleport=rows,
        method=method,
        tol=tol,
        steps=max_steps,
        keep=_keep(errors),
        threads=threads,
    )
    _warn_of_failures(failed)
    if teleport is None:
        _warn_of_causal(outer, triangles, "TokenRank collects on the {end} token whatever the network learned", direction)
    return back(found)


def bounces(
    A: Any,
    start: Any,
    steps: int,
    *,
    alpha: float = 1.0,
    direction: Direction = "forward",
    teleport: Any = None,
    errors: Errors = "raise",
    threads: int | None = None,
) -> Any:
    """Returns multi-bounce attention: where a walk is after 1, 2, …, `steps` steps, `[..., steps, n]` in float64.

    `start` is a token, or probabilities `[n]` or `[..., n]`. A list of tokens gives the walks from each of them: `[..., starts,
    steps, n]`. The first step from token i forward is row i of A; backward it is column i, normalised. The other arguments are
    those of `token_rank`.
    """
    array, back = as_maps(A)
    outer, n = _shape(array)
    several = False
    if is_token_list(start):
        tokens = token_list(start, n, "start")
        if not tokens:
            raise ValueError("start is an empty list; name at least one token")
        several = np.ndim(start) == 1
        starts = one_hot(tokens, n)[None]
    else:
        starts = distributions(start, outer, n, "start")[:, None]
    rows = _targets(teleport, outer, n)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, found {steps}")
    found, failed = _core.bounces(
        array,
        np.ascontiguousarray(starts),
        steps,
        alpha=alpha,
        direction=direction,
        teleport=rows,
        keep=_keep(errors),
        threads=threads,
    )
    _warn_of_failures(failed)
    return back(found if several else found[..., 0, :, :])


def lambda2(A: Any, *, tol: float = 1e-10, errors: Errors = "raise", threads: int | None = None) -> Any:
    """Returns λ₂, the second largest eigenvalue modulus of each matrix: `[...]` in float64, between 0 and 1.

    Near 1 the chain mixes slowly, because it has metastable sets; near 0 the head is close to noise. There is no teleport, which
    would only multiply it. In causal attention it is the largest probability, besides the first token's, that a token attends to
    itself.

    `tol` is the largest relative error, to first order: 1e-4 suffices to compare heads and is faster. From 1e-5 up, matrices
    that are not float64 are computed in single precision, which adds an absolute error of about 2e-6. See `token_rank` for `A`, `errors` and `threads`.
    """
    array, back = as_maps(A)
    outer, _ = _shape(array)
    found, failed, triangles = _core.lambda2(array, tol=tol, keep=_keep(errors), threads=threads)
    _warn_of_failures(failed)
    _warn_of_causal(outer, triangles, "λ₂ is the largest entry of the diagonal besides the {end} one", "forward")
    return back(found)


def spectrum(
    A: Any, k: int, *, tol: float = 1e-10, errors: Errors = "raise", threads: int | None = None
) -> Spectrum:
    """Returns the `min(k, n)` leading eigenvalues of each matrix, in falling order of modulus, beginning with 1.

    `tol` is the largest relative error, to first order. An eigenvalue that the matrix hardly determines, as in nearly causal
    maps, has a large `condition`. See `token_rank` for `A`, `errors` and `threads`.
    """
    array, back = as_maps(A)
    _shape(array)
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    values, residual, condition, failed = _core.spectrum(array, k, tol=tol, keep=_keep(errors), threads=threads)
    _warn_of_failures(failed)
    return Spectrum(back(values), back(residual), back(condition))


def metastable_sets(
    A: Any,
    sets: int | None = None,
    *,
    most: int = 12,
    alpha: float = 0.99,
    direction: Direction = "forward",
    teleport: Any = None,
    errors: Errors = "raise",
    threads: int | None = None,
) -> MetastableSets:
    """Returns groups of tokens in which a walk stays for long before it moves on (PCCA+).

    `sets` is their number. Without it, each matrix gets the number before the largest gap of its spectrum, at least 2 and at
    most `most`; matrices with fewer sets than the widest have NaN behind theirs. The other arguments are those of `token_rank`; the
    steady state must be positive everywhere, which a teleport ensures. Takes O(n³).
    """
    array, back = as_maps(A)
    outer, n = _shape(array)
    rows = _targets(teleport, outer, n)
    if sets is not None and sets < 1:
        raise ValueError(f"sets must be at least 1, found {sets}")
    *found, failed = _core.metastable_sets(
        array,
        sets=sets,
        most=most,
        alpha=alpha,
        direction=direction,
        teleport=rows,
        keep=_keep(errors),
        threads=threads,
    )
    _warn_of_failures(failed)
    return MetastableSets(*(back(part) for part in found))


def visits(
    A: Any,
    absorb: Any,
    *,
    start: Any = None,
    direction: Direction = "forward",
    errors: Errors = "raise",
    threads: int | None = None,
) -> Visits:
    """Returns how often a walk visits each token before it ends on one of the tokens `absorb`.

    For causal attention, absorb token 0: the visits then show which tokens the network reads on the way, which the mask does not
    decide. There is no teleport. `start` is a token, a list of tokens (each with the same probability), or probabilities `[n]` or
    `[..., n]`; uniform by default. See `token_rank` for the other arguments.
    """
    array, back = as_maps(A)
    outer, n = _shape(array)
    tokens = token_list(absorb, n, "absorb")
    if not tokens:
        raise ValueError("absorb is an empty list; name at least one token")
    rows = None if start is None else distributions(start, outer, n, "start")
    visited, steps, ends, failed = _core.visits(
        array, tokens, start=rows, direction=direction, keep=_keep(errors), threads=threads
    )
    _warn_of_failures(failed)
    return Visits(back(visited), back(steps), back(ends))


def column_sum(A: Any, *, errors: Errors = "raise", threads: int | None = None) -> Any:
    """Returns the attention that every token gets on average, `(1/n) Σ_i A[i, j]`: `[..., n]` in float64, summing to 1.

    It is one step of the forward chain from the uniform state. See `token_rank` for the arguments.
    """
    array, back = as_maps(A)
    _shape(array)
    found, failed = _core.column_sum(array, keep=_keep(errors), threads=threads)
    _warn_of_failures(failed)
    return back(found)


def head_weights(
    lambda2: Any, *, rule: Literal["proportional", "top", "uniform"] = "proportional", top: int | None = None
) -> Any:
    """Returns weights of heads from their λ₂ `[..., heads]`: `[..., heads]` in float64, each row summing to 1.

    The paper gives more weight to slowly mixing heads and does not print its formula. "proportional": w ∝ λ₂; "top": the same
    weight for the `top` heads with the largest λ₂ and 0 for the others; "uniform": the same weight for all.
    """
    values = as_floats(lambda2, "lambda2")
    if values.ndim == 0:
        raise ValueError("lambda2 is a single number, expected [..., heads]")
    if values.shape[-1] == 0:
        raise ValueError(f"lambda2 has shape {list(values.shape)}: there is no head to weigh")
    back = as_maps(lambda2, "lambda2")[1]
    rows = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
    return back(_core.head_weights(rows, rule=rule, top=top).reshape(values.shape))


def row_stochastic(
    A: Any, *, drop: Any = (), tolerance: float | None = None, threads: int | None = None
) -> Any:
    """Returns matrices `[..., n, n]` checked and renormalised, in float64, without the tokens `drop`: `[..., m, m]`.

    Leaving tokens out conditions the walk on staying among the others; rows are renormalised over them. Rows and columns of
    dropped tokens are not checked, so those of padding may be NaN. `tolerance` is how far the sum of a row may lie from 1; by default the
    number format decides (1e-3; 2e-3 for float16, 8e-3 for bfloat16).

    Raises
    ------
    ValueError
        The message names matrix, row and column: an entry is NaN, infinite or negative, a row does not sum to 1, or a row attends
        to dropped tokens only.
    """
    array, back = as_maps(A)
    _, n = _shape(array)
    return back(_core.row_stochastic(array, drop=token_list(drop, n, "drop"), tolerance=tolerance, threads=threads))


def _shape(array: np.ndarray) -> tuple[tuple[int, ...], int]:
    """Returns the leading axes and the number of tokens, after checking type and shape."""
    outer, states = _core.shape(array)
    return tuple(outer), states


def _targets(teleport: Any, outer: tuple[int, ...], states: int) -> np.ndarray | None:
    """Returns the distributions that teleports go to; None if they are uniform."""
    return None if teleport is None else distributions(teleport, outer, states, "teleport")


def _keep(errors: str) -> bool:
    if errors not in ("raise", "nan"):
        raise ValueError(f'errors is "raise" or "nan", found "{errors}"')
    return errors == "nan"


def _warn_of_failures(failed: list[str]) -> None:
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        warnings.warn(f"NaN for {failed[0]}{more}", ChainWarning, stacklevel=3)


def _warn_of_causal(outer: tuple[int, ...], triangles: tuple[int, int], consequence: str, direction: str) -> None:
    lower, upper = triangles
    if lower + upper == 0:
        return
    end = "first" if (lower >= upper) == (direction == "forward") else "last"
    count = math.prod(outer)
    subject = "the matrix is" if count == 1 else f"{lower + upper} of {count} matrices are"
    warnings.warn(
        f"{subject} triangular, as causal attention is, so {consequence.format(end=end)}. Ask where a walk passes before it ends "
        f"(visits), teleport to tokens of interest (teleport=…), or leave the first token out (row_stochastic(A, drop=0)).",
        CausalWarning,
        stacklevel=3,
    )
