"""The compiled `_core.chains` against the numpy reference, over random calls."""

from __future__ import annotations

from typing import Any

import conftest
import numpy as np
import pytest
import reference

if conftest.uses_reference():
    pytest.skip("the compiled module is not built", allow_module_level=True)

TOLERANCE = {"lambda2": 1e-7, "token_rank": 1e-7, "bounces": 1e-9, "visits": 1e-7, "mean_map": 1e-6, "maps": 1e-6}
DEFAULTS = dict(
    causal=False,
    window=None,
    mask=None,
    softcap=None,
    keep=None,
    alpha=0.99,
    direction="forward",
    teleport=None,
    absorb=None,
    lambda2=True,
    tol=1e-10,
    token_rank=True,
    start=None,
    steps=0,
    visits=False,
    mean_map=True,
    heads_map=True,
    threads=1,
)


def bits(values: np.ndarray) -> np.ndarray:
    """Returns the bits of bfloat16 numbers, cut off."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def drawn(seed: int) -> dict[str, Any]:
    """Returns the arguments of a call."""
    rng = np.random.default_rng(seed)
    batch, groups, per, n, d = (int(rng.integers(*range_)) for range_ in ((1, 4), (1, 3), (1, 4), (2, 14), (1, 9)))
    heads = groups * per
    number = rng.choice(["float16", "float32", "float64", "bfloat16"])
    convert = bits if number == "bfloat16" else lambda values: values.astype(number)
    call: dict[str, Any] = dict(
        DEFAULTS,
        q=convert(rng.normal(size=(batch, heads, n, d)) * rng.choice([0.3, 1.0, 3.0])),
        k=convert(rng.normal(size=(batch, groups, n, d))),
        scale=float(rng.uniform(0.2, 1.5)),
        causal=bool(rng.random() < 0.4),
        alpha=float(rng.choice([0.5, 0.85, 0.99])),
        direction=str(rng.choice(["forward", "backward"])),
    )
    if rng.random() < 0.3:
        call["window"] = (int(rng.integers(-1, n)), int(rng.integers(-1, n)))
    if rng.random() < 0.3:
        call["softcap"] = float(rng.uniform(0.5, 5.0))
    if rng.random() < 0.6:
        shape = tuple(int(rng.choice([1, size])) for size in (batch, heads, n, n))
        if rng.random() < 0.5:
            mask = rng.random(shape) < 0.7
            if shape[2:] == (n, n):
                mask |= np.eye(n, dtype=bool)
            call["mask"] = mask
        else:
            mask = rng.normal(size=shape).astype(rng.choice(["float32", "float64"]))
            forbidden = rng.choice([-np.inf, -1e4, -9984.0, -1e9, np.finfo(np.float32).min])
            call["mask"] = np.where(rng.random(shape) < 0.2, mask.dtype.type(forbidden), mask)
    if rng.random() < 0.4:
        call["keep"] = (rng.random((batch, n)) < 0.7) | (np.arange(n) == rng.integers(n))
    if rng.random() < 0.4:
        shape = [(n,), (batch, n), (batch, heads, n)][rng.integers(3)]
        teleport = rng.random(shape) * (rng.random(shape) < 0.8) + 1e-3
        call["teleport"] = teleport / teleport.sum(axis=-1, keepdims=True)
    if rng.random() < 0.5:
        call |= dict(start=rng.integers(n, size=rng.integers(1, 4)).tolist(), steps=int(rng.integers(1, 4)))
    if rng.random() < 0.4:
        call |= dict(visits=True, absorb=rng.choice(n, size=int(rng.integers(1, n)), replace=False).tolist())
    return call


@pytest.mark.parametrize("seed", range(300))
def test_random_calls(seed: int) -> None:
    call = drawn(seed)
    try:
        expected = reference.chains(**call)
    except ValueError:
        # A token that may attend to none: an error of the call, or of its heads.
        try:
            found = conftest.core.chains(**call)
        except ValueError:
            return
        assert found["failed"]
        return
    found = conftest.core.chains(**call)
    assert set(found) == set(expected)
    np.testing.assert_array_equal(found["kept"], expected["kept"])
    assert {entry[:3] for entry in found["failed"]} == {entry[:3] for entry in expected["failed"]}
    for name, tolerance in TOLERANCE.items():
        if name in expected:
            assert found[name].dtype == expected[name].dtype
            error = np.abs(found[name] - expected[name]) / np.maximum(1.0, np.abs(expected[name]))
            assert np.array_equal(np.isnan(found[name]), np.isnan(expected[name])), name
            worst = float(np.nanmax(error, initial=0.0))
            if name == "visits":
                # Walks that hardly ever end: rounding of the map changes their number.
                tolerance += 1e-15 * float(np.nanmax(expected[name], initial=0.0))
            assert worst < tolerance, (name, worst)


def test_most_calls_have_an_answer() -> None:
    answered = 0
    for seed in range(300):
        try:
            reference.chains(**drawn(seed))
        except ValueError:
            continue
        answered += 1
    assert answered > 150, answered
