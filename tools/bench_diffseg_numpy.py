"""Times DiffSeg's post-processing in NumPy and in our program, on the same aggregate, and prints the ratios.

    cargo build --workspace --example diffseg_bench
    OMP_NUM_THREADS=2 python tools/bench_diffseg_numpy.py --ours target/debug/examples/diffseg_bench \\
        [--threads 2] [--repeat 5] [--rounds 5] [--out FILE.json]

The aggregate is made up: 64 by 64 tokens in 24 patches, each token attending to its patch, to what is near, to a few
sinks and to everything, with grain. The NumPy version was written for this comparison, float32, with the distances as two
matrix products and a power method for TokenRank until an L1 change of 1e-6 (ours stops at 1e-8). The two take turns; numbers are medians
over the rounds. Set the number of threads for both.

Pinned: numpy 2.4.6, scipy 1.17.1.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

GRID, SIZE, ALPHA, THRESHOLD, ROUNDS = 64, 512, 0.99, 1.1, 3


def draw(rng, patches=24):
    """[4096, 4096] float32, rows summing to 1."""
    y, x = np.divmod(np.arange(GRID * GRID), GRID)
    centres = rng.uniform(0, GRID, (patches, 2))
    wobble = np.stack([gaussian_filter(rng.normal(size=(GRID, GRID)), 4).ravel() * 40 for _ in range(2)])
    away = (y[:, None] + wobble[0][:, None] - centres[:, 0]) ** 2 + (x[:, None] + wobble[1][:, None] - centres[:, 1]) ** 2
    patch = away.argmin(1)
    masks = np.stack([gaussian_filter((patch == k).reshape(GRID, GRID).astype(float), 1.0).ravel() for k in range(patches)])
    masks = masks[masks.sum(1) > 0]
    masks /= masks.sum(1, keepdims=True)
    kinship = rng.dirichlet(np.full(len(masks), 0.3), len(masks)) @ masks
    near = np.exp(-((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (2 * 3.0**2))
    near /= near.sum(1, keepdims=True)
    sinks = np.zeros(GRID * GRID)
    sinks[rng.choice(GRID * GRID, 12, replace=False)] = 1 / 12
    own = np.minimum(patch, len(masks) - 1)
    rows = 0.55 * masks[own] + 0.1 * kinship[own] + 0.15 * near + 0.05 * sinks + 0.15 / GRID**2
    rows *= np.exp(0.3 * rng.normal(size=rows.shape))
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32)


def token_rank(matrix):
    n = len(matrix)
    state = np.full(n, 1 / n, np.float32)
    while True:
        moved = ALPHA * (state @ matrix) + (1 - ALPHA) / n
        moved /= moved.sum()
        if np.abs(moved - state).sum() < 1e-6:
            return moved
        state = moved


def anchors(matrix, kind):
    if kind == "uniform":
        places = 1 + 4 * np.arange(16)
        return (places[:, None] * GRID + places).ravel()
    order = np.argsort(-token_rank(matrix), kind="stable")
    free, chosen = np.ones((GRID, GRID), bool), []
    for token in order:
        y, x = divmod(int(token), GRID)
        if free[y, x]:
            chosen.append(int(token))
            free[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
            if len(chosen) == 256:
                break
    return np.array(chosen)


def logs(maps):
    return np.log(np.maximum(maps, np.finfo(np.float32).tiny))


def distances(x, log_x, y, log_y):
    own = np.einsum("ij,ij->i", x, log_x)[:, None] + np.einsum("ij,ij->i", y, log_y)
    return 0.5 * (own - x @ log_y.T - log_x @ y.T)


def first_round(matrix, tokens):
    log = logs(matrix)
    close = (distances(matrix[tokens], log[tokens], matrix, log) < THRESHOLD).astype(np.float32)
    return close @ matrix / close.sum(1, keepdims=True)


def later_round(proposals):
    log = logs(proposals)
    close = distances(proposals, log, proposals, log) < THRESHOLD
    np.fill_diagonal(close, True)
    taken, merged = np.zeros(len(proposals), bool), []
    for number in range(len(proposals)):
        if not taken[number]:
            taken |= close[number]
            merged.append(proposals[close[number]].mean(0))
    return np.stack(merged)


def interpolation():
    centre = np.clip((np.arange(SIZE) + 0.5) * GRID / SIZE - 0.5, 0, GRID - 1)
    left = np.minimum(centre.astype(int), GRID - 2)
    matrix = np.zeros((SIZE, GRID), np.float32)
    matrix[np.arange(SIZE), left], matrix[np.arange(SIZE), left + 1] = 1 - (centre - left), centre - left
    return matrix


def labels(proposals):
    enlarge = interpolation()
    return (enlarge @ proposals.reshape(-1, GRID, GRID) @ enlarge.T).argmax(0)


def time_numpy(matrix, kind, repeat):
    best = {}
    for _ in range(repeat + 1):
        laps, start = {}, time.perf_counter()

        def lap(name):
            nonlocal start
            now = time.perf_counter()
            laps[name], start = (now - start) * 1e3, now

        tokens = anchors(matrix, kind)
        lap("anchors_ms")
        proposals = first_round(matrix, tokens)
        counts = [len(proposals)]
        lap("first_round_ms")
        for _ in range(ROUNDS - 1):
            proposals = later_round(proposals)
            counts.append(len(proposals))
        lap("later_rounds_ms")
        found = labels(proposals)
        lap("labels_ms")
        laps["total_ms"] = sum(laps.values())
        best = {name: min(best.get(name, np.inf), value) for name, value in laps.items()}
    return {"numpy": np.__version__, "proposals": counts, **best}, found


def median(rounds):
    """Medians of the times; everything else is equal in all rounds."""
    return {name: statistics.median(one[name] for one in rounds) if name.endswith("_ms") else value for name, value in rounds[0].items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--ours", required=True, help="the example diffseg_bench of tasks")
    arguments.add_argument("--threads", type=int, default=2, help="of ours; NumPy reads OMP_NUM_THREADS")
    arguments.add_argument("--device", default="cpu", help="of ours; NumPy has the CPU alone")
    arguments.add_argument("--repeat", type=int, default=5, help="the shortest run of this many counts, stage by stage")
    arguments.add_argument("--rounds", type=int, default=5, help="number of turns")
    arguments.add_argument("--out", type=Path, help="where the numbers go as JSON")
    given = arguments.parse_args()
    matrix = draw(np.random.default_rng(0))
    result = {"aggregate": "made up, 24 patches", "tokens": GRID * GRID, "size": SIZE, "threads": given.threads, "rounds": given.rounds, "device": given.device, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as scratch:
        path, written = f"{scratch}/aggregate.npy", f"{scratch}/labels"
        np.save(path, matrix)
        for kind in ("uniform", "tokenrank"):
            command = [given.ours, path, "--threads", str(given.threads), "--repeat", str(given.repeat), "--labels", written, "--device", given.device]
            rounds = []
            for _ in range(given.rounds):
                ours = subprocess.run([*command, "--method", f'"{kind}"'], check=True, capture_output=True, text=True)
                theirs, found = time_numpy(matrix, kind, given.repeat)
                rounds.append((json.loads(ours.stdout), theirs))
            ours, theirs = (median(side) for side in zip(*rounds))
            same = float((np.fromfile(written, "<u2").reshape(SIZE, SIZE) == found).mean())
            ratios = {name: round(value / ours[name], 2) for name, value in theirs.items() if name.endswith("_ms") and ours[name] > 0}
            result[kind] = {"ours": ours, "numpy": theirs, "ratios": ratios, "share_of_equal_labels": same}
            print(f"{kind}: proposals {ours['proposals']}, NumPy's {theirs['proposals']}; equal labels on {same:.4%} of pixels; ms")
            for name in ratios:
                print(f"  {name[:-3]:<14} {ours[name]:9.1f}   NumPy {theirs[name]:9.1f}   {ratios[name]:6.1f} x")
    if given.out:
        given.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
