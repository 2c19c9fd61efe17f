"""Golden fixtures of markov-core: eigenvalue moduli of reducible and nearly reducible attention maps.

    pip install numpy==2.4.6 mpmath==1.3.0
    python tools/golden_spectra.py            # writes crates/markov-core/tests/fixtures/spectra.json

A map is given by whole numbers, so that Python and Rust see the same matrix: entry (i, j) is `weight(i, j)` over the sum of
its row, and `tests/reducible.rs` has the same formulas. Up to 24 tokens mpmath computes the moduli with 80 digits. Larger
maps come from LAPACK (`numpy.linalg.eigvals`, which permutes and balances first); of triangular ones the script checks
LAPACK against the diagonal.
"""

import json
from pathlib import Path

import mpmath
import numpy as np

OUT = Path(__file__).resolve().parents[1] / "crates/markov-core/tests/fixtures/spectra.json"
KEPT = 12


def base(i, j):
    return 1 + (7 * i + 13 * j + i * j) % 11


def causal(n, i, j):
    return base(i, j) if j <= i else 0


def previous_token(n, i, j):
    return causal(n, i, j) + (3000 if j == i - 1 else 0)


def first_token(n, i, j):
    return causal(n, i, j) + (900 if j == 0 else 0)


def window(n, i, j):
    return base(i, j) + (300 if j == i - 1 else 0) if 0 <= i - j < 8 else 0


def prefix(n, i, j):
    """The first third sees itself, what follows is causal."""
    return base(i, j) + (50 if j == i - 1 else 0) if j <= i or (i < n // 3 and j < n // 3) else 0


def blocks(n, i, j):
    """Four islands, the last one with a rule of its own."""
    return base(i, j) + (40 if j == i else 0) if 4 * i // n == 4 * j // n else 0


def relabelled(n, i, j):
    """`prefix` in another order of its tokens; n must not be a multiple of 7."""
    return prefix(n, 7 * i % n, 7 * j % n)


def jordan(n, i, j):
    """Equal entries on the diagonal of a triangle: no basis of eigenvectors."""
    if i == 0:
        return 1 if j == 0 else 0
    return 4 if j in (i, i - 1) else 0


def nearly_causal(n, i, j):
    """Causal, but every token sees the next one with a weight of 10^-12 of a row of about 100."""
    return causal(n, i, j) * 10**10 + (1 if j == i + 1 else 0)


def graded(n, i, j):
    """A birth-death chain whose way back is ever less likely."""
    return {0: 500, 1: 400, -1: max(1, 100 - 9 * i)}.get(j - i, 0) if abs(i - j) <= 1 else 0


CASES = [
    *[(rule, n) for rule in (causal, previous_token, first_token) for n in (16, 64, 256)],
    *[(rule, n) for rule in (window, prefix, blocks) for n in (16, 24, 96)],
    (relabelled, 16), (relabelled, 96), (jordan, 16), (jordan, 64),
    (nearly_causal, 12), (nearly_causal, 24), (graded, 12), (graded, 24),
]


def moduli(rule, n):
    weights = [[rule(n, i, j) for j in range(n)] for i in range(n)]
    if n <= 24:
        mpmath.mp.dps = 80
        matrix = mpmath.matrix(n, n)
        for i, row in enumerate(weights):
            for j, weight in enumerate(row):
                matrix[i, j] = mpmath.mpf(weight) / sum(row)
        values, source = mpmath.eig(matrix, left=False, right=False), "mpmath"
        found = sorted((float(abs(value)) for value in values), reverse=True)
    else:
        matrix = np.array([[weight / sum(row) for weight in row] for row in weights])
        found = sorted(np.abs(np.linalg.eigvals(matrix)).tolist(), reverse=True)
        source = "LAPACK"
    if all(weights[i][j] == 0 for i in range(n) for j in range(i + 1, n)):
        diagonal = sorted((weights[i][i] / sum(weights[i]) for i in range(n)), reverse=True)
        off = max(abs(a - b) for a, b in zip(found, diagonal))
        assert off < 1e-14 or rule is jordan and off < 1e-3, (rule.__name__, n, off)
        found = diagonal
    return {"rule": rule.__name__, "states": n, "source": source, "moduli": found[:KEPT]}


if __name__ == "__main__":
    cases = [moduli(rule, n) for rule, n in CASES]
    OUT.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} cases, numpy {np.__version__}, mpmath {mpmath.__version__}")
