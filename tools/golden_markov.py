"""Golden fixtures of markov-core: PCCA+ memberships as deeptime computes them.

    pip install --no-deps deeptime==0.4.5    # with numpy, scipy, scikit-learn, threadpoolctl
    python tools/golden_markov.py            # writes crates/markov-core/tests/fixtures/pcca.json

The chains are reversible, so that deeptime, which wants that, and this project, which makes it so, see the same matrix.
Pinned: deeptime 0.4.5, numpy 2.
"""

import json
from pathlib import Path

import numpy as np
from deeptime.markov import pcca

OUT = Path(__file__).resolve().parents[1] / "crates/markov-core/tests/fixtures/pcca.json"


def blocks(rng, sizes, link):
    """A random walk on a weighted graph with strong links inside blocks and weak ones between."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    weights = rng.random((len(labels), len(labels)))
    weights = (weights + weights.T) * np.where(labels[:, None] == labels[None, :], 1.0, link)
    return weights / weights.sum(1, keepdims=True)


def well(states, minima, depth):
    """Metropolis walk on a line in a potential with several minima: memberships change smoothly between them."""
    x = np.linspace(0, 1, states)
    energy = depth * np.cos(2 * np.pi * minima * x)
    chain = np.zeros((states, states))
    for i in range(states):
        for j in (i - 1, i + 1):
            if 0 <= j < states:
                chain[i, j] = 0.5 * min(1.0, np.exp(energy[i] - energy[j]))
        chain[i, i] = 1 - chain[i].sum()
    return chain


def main():
    rng = np.random.default_rng(0)
    cases = []
    for name, chain, sets in [
        ("two blocks", blocks(rng, [5, 7], 0.02), 2),
        ("three blocks", blocks(rng, [4, 6, 8], 0.01), 3),
        ("four loose blocks", blocks(rng, [5, 5, 6, 6], 0.1), 4),
        ("two wells", well(24, 2, 1.2), 2),
        ("three wells", well(30, 3, 1.0), 3),
    ]:
        model = pcca(chain, sets)
        cases.append(
            {
                "name": name,
                "states": len(chain),
                "sets": sets,
                "chain": [float(v) for v in chain.ravel()],
                "memberships": [float(v) for v in model.memberships.ravel()],
            }
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"deeptime": "0.4.5", "cases": cases}))
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
