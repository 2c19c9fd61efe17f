"""Types of the compiled part. Its functions take numpy arrays only; the package's own functions document them.

`a` is `[..., n, n]` of float64, float32, float16, or uint16 for the bits of bfloat16. Distributions have one row for all matrices or
one for each. After its arrays, a result has the list of sentences for the matrices without an answer, if `keep` is set, and for
`token_rank` and `lambda2` the numbers of matrices that are lower and upper triangular.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str
MASKED: float

def token_rank(
    a: np.ndarray,
    *,
    alpha: float,
    direction: str,
    teleport: NDArray[np.float64] | None,
    method: str,
    tol: float | None,
    steps: int | None,
    keep: bool,
    threads: int | None,
) -> tuple[NDArray[np.float64], list[str], tuple[int, int]]: ...
def bounces(
    a: np.ndarray,
    starts: NDArray[np.float64],
    steps: int,
    *,
    alpha: float,
    direction: str,
    teleport: NDArray[np.float64] | None,
    keep: bool,
    threads: int | None,
) -> tuple[NDArray[np.float64], list[str]]: ...
def lambda2(
    a: np.ndarray, *, tol: float, keep: bool, threads: int | None
) -> tuple[NDArray[np.float64], list[str], tuple[int, int]]: ...
def spectrum(
    a: np.ndarray, k: int, *, tol: float, keep: bool, threads: int | None
) -> tuple[NDArray[np.complex128], NDArray[np.float64], NDArray[np.float64], list[str]]: ...
def column_sum(a: np.ndarray, *, keep: bool, threads: int | None) -> tuple[NDArray[np.float64], list[str]]: ...
def visits(
    a: np.ndarray,
    absorb: list[int],
    *,
    start: NDArray[np.float64] | None,
    direction: str,
    keep: bool,
    threads: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], list[str]]: ...
def metastable_sets(
    a: np.ndarray,
    *,
    sets: int | None,
    most: int,
    alpha: float,
    direction: str,
    teleport: NDArray[np.float64] | None,
    keep: bool,
    threads: int | None,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    list[str],
]: ...
def head_weights(lambda2: NDArray[np.float64], *, rule: str, top: int | None) -> NDArray[np.float64]: ...
def row_stochastic(
    a: np.ndarray, *, drop: list[int], tolerance: float | None, threads: int | None
) -> NDArray[np.float64]: ...
def shape(a: np.ndarray) -> tuple[list[int], int]: ...
def chains(
    q: np.ndarray,
    k: np.ndarray,
    *,
    scale: float,
    causal: bool,
    window: tuple[int, int] | None,
    mask: np.ndarray | None,
    softcap: float | None,
    keep: NDArray[np.bool_] | None,
    alpha: float,
    direction: str,
    teleport: NDArray[np.float64] | None,
    absorb: list[int] | None,
    lambda2: bool,
    tol: float,
    token_rank: bool,
    start: list[int] | None,
    steps: int,
    visits: bool,
    mean_map: bool,
    heads_map: bool,
    threads: int | None,
) -> dict[str, Any]:
    """The chains of every head of an attention call, from queries `[b, h, n, d]` and keys `[b, key heads, n, d]`.

    `mask` is `[b, h, n, n]`, any axis of which may have length 1: bool (True: may attend), or floats that are added to the logits,
    of which those up to -9000 forbid. Results: `kept` `[b, n]`, `failed` (item, head, quantity, reason), and what was asked for.
    """

def page(
    *,
    title: str,
    facts: list[tuple[str, str]],
    image: bytes | None,
    parts: list[tuple[Any, ...]],
    alpha: float,
    start: int | tuple[str, list[int]],
    bounces: int,
    layers: list[tuple[str, NDArray[np.float32], NDArray[np.float32] | None, list[float]]],
    notebook: int | None,
) -> str: ...
def spelling(tokens: list[str]) -> list[str]: ...
