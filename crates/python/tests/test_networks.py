"""Every layer of tiny random networks against their attention maps from another source.

`TOKENRANK_SLOW=1` in the environment adds flex attention, which takes minutes.

The networks are those of `networks.py`. `tools/python_networks.py` writes the measured errors to results/python.
"""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch")

from networks import FLEX, NETWORKS, OUT_OF_REACH, Network, library, measure, refusal  # noqa: E402

TOLERANCE = 1e-5


def cases(padding: bool) -> list:
    found = []
    for network in NETWORKS:
        for implementation in network.implementations or (None,):
            for side in ("left", "right") if padding else (None,):
                if padding and network.text is None:
                    continue
                parts = (network.library, network.name, implementation, side)
                found.append(pytest.param(network, implementation, side, id="-".join(filter(None, parts))))
    return found


@pytest.mark.parametrize(("network", "implementation", "padding"), [*cases(padding=False), *cases(padding=True)])
def test_chains_are_those_of_the_maps_and_the_output_is_unchanged(
    network: Network, implementation: str | None, padding: str | None
) -> None:
    if not library(network.library):
        pytest.skip(f"{network.library} is not installed")
    found = measure(network, implementation, padding)
    assert found.equal, "the output of the model is not bit for bit what it is without watch"
    assert found.lambda2 < TOLERANCE, found
    assert found.token_rank < TOLERANCE, found
    assert found.map < TOLERANCE, found
    assert found.sharpest > 3.0, "attention is nearly uniform, so that the comparison would show little"


@pytest.mark.skipif("TOKENRANK_SLOW" not in os.environ, reason="takes minutes; set TOKENRANK_SLOW=1")
@pytest.mark.parametrize("padding", [None, "left"])
def test_flex_attention(padding: str | None) -> None:
    test_chains_are_those_of_the_maps_and_the_output_is_unchanged(FLEX, "flex_attention", padding)


@pytest.mark.parametrize("network", OUT_OF_REACH, ids=lambda network: f"{network.library}-{network.name}")
def test_networks_out_of_reach_are_refused_and_their_output_is_unchanged(network: Network) -> None:
    if not library(network.library):
        pytest.skip(f"{network.library} is not installed")
    error, unchanged = refusal(network)
    assert unchanged
    assert len(error.modules) >= 2
    assert next(iter(error.modules)) in str(error)
    assert "select other layers" in str(error)
