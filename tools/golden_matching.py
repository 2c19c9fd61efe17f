#!/usr/bin/env python3
"""Assignments of scipy.optimize.linear_sum_assignment, ties and all: crates/eval/tests/fixtures/diffseg/matching.json.

Usage: python tools/golden_matching.py [MATRICES [FILE]]
"""

import json
import sys
from pathlib import Path

import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment

FILE = Path(__file__).resolve().parent.parent / "crates/eval/tests/fixtures/diffseg/matching.json"


def matrix(rng, turn):
    """Entries from a few values, so that many are equal; or most of them 0, as in histograms of pixels."""
    if turn % 10 == 0:
        rows, columns = 27, int(rng.integers(27, 40))
        seen = rng.integers(2, 9)
        entries = np.zeros((rows, columns), dtype=np.int64)
        classes = rng.choice(rows, seen, replace=False)
        for segment in range(int(rng.integers(2, columns + 1))):
            for k in rng.choice(classes, rng.integers(1, 3)):
                entries[k, segment] = rng.integers(1, 7)
        return entries
    rows, columns = rng.integers(1, 9, size=2)
    return rng.integers(0, rng.choice([2, 3, 4, 6, 20]), size=(rows, columns))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 240
    file = Path(sys.argv[2]) if len(sys.argv) > 2 else FILE
    rng = np.random.default_rng(8)
    lines = []
    for turn in range(count):
        entries = matrix(rng, turn)
        rows, columns = linear_sum_assignment(entries, maximize=True)
        where = np.argwhere(entries)
        lines.append(json.dumps({
            "shape": entries.shape,
            "entries": [[int(i), int(j), int(entries[i, j])] for i, j in where],
            "pairs": [[int(i), int(j)] for i, j in zip(rows, columns)],
        }, separators=(",", ":")))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'{{"scipy": "{scipy.__version__}", "cases": [\n' + ",\n".join(lines) + "\n]}\n")
    print(file, count, file.stat().st_size)


if __name__ == "__main__":
    main()
