"""What `tokenrank rank` wrote, beside numpy on the same matrices.

    pip install numpy==2.4.6 safetensors==0.8.0
    tokenrank attend --model DIR --image FILE --out attention.safetensors
    python tools/check_rank.py attention.safetensors --tokenrank target/release/tokenrank [--out FILE.json]

Every `block.*.probs` is ranked in both directions with ten bounces and the eight leading moduli. numpy works in float64
on rows normalised as ours are: the steady state from one dense linear system, bounces by matrix products, moduli from
`numpy.linalg.eigvals`. Printed is the largest difference of each; exit code 1 where a steady state is off by more than
1e-6 in L1 or anything else by more than 1e-9.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ALPHA, BOUNCES, MODULI, START = 0.99, 10, 8, 0


def steady_state(chain):
    n = len(chain)
    system = np.vstack([chain.T - np.eye(n), np.ones(n)])
    return np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]


def differences(matrix, ours, backward):
    matrix = matrix.astype(np.float64)
    matrix /= matrix.sum(axis=1, keepdims=True)
    n = len(matrix)
    chain = ALPHA * matrix + (1 - ALPHA) / n
    if backward:
        chain = (chain / chain.sum(axis=0)).T
    bounces = [np.linalg.matrix_power(chain, step + 1)[START] for step in range(BOUNCES)]
    moduli = np.sort(np.abs(np.linalg.eigvals(matrix)))[::-1][:MODULI]
    return {
        "steady state, L1": np.abs(ours["tokenrank"] - steady_state(chain)).sum(),
        "bounces, L1": np.abs(ours["bounces"] - bounces).sum(axis=1).max(),
        "moduli": np.abs(ours["lambda"] - moduli).max(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attention", type=Path)
    parser.add_argument("--tokenrank", default="target/release/tokenrank")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    blocks = {name: maps for name, maps in load_file(given.attention).items() if name.endswith(".probs")}
    largest, matrices = {}, 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, maps in blocks.items():
            for direction in ("forward", "backward"):
                out = Path(scratch) / "chains.safetensors"
                options = f"--start {START} --bounces {BOUNCES} --spectrum {MODULI} --alpha {ALPHA}".split()
                command = [given.tokenrank, "rank", given.attention, "--key", name, "--direction", direction]
                subprocess.run([*command, *options, "--out", out], check=True, stderr=subprocess.DEVNULL)
                ours = load_file(out)
                for head, matrix in enumerate(maps):
                    of_head = {key: values[head] for key, values in ours.items()}
                    for what, size in differences(matrix, of_head, direction == "backward").items():
                        largest[what] = max(largest.get(what, 0.0), float(size))
                    matrices += 1
    report = {"chains": matrices, "tokens": int(maps.shape[-1]), "largest_difference": largest}
    print(json.dumps(report))
    if given.out:
        given.out.write_text(json.dumps(report) + "\n")
    sys.exit(any(size > (1e-6 if what.startswith("steady") else 1e-9) for what, size in largest.items()))


if __name__ == "__main__":
    main()
