#!/usr/bin/env python3
"""Writes every step of DiffSeg on stored attention, computed a second time with NumPy in float64 from the formulas.

    pip install numpy==2.4.6 safetensors==0.8.0
    python tools/golden_diffseg.py     # writes crates/tasks/tests/fixtures/diffseg/

The attention is that of made-up queries and keys, float32, of a picture of six regions: two layers of two heads each at 16
by 12 tokens, one at 8 by 6, one at 4 by 3. `golden.json` lists layers and cases; `golden.safetensors` has

    LAYER.q, LAYER.k     [heads, tokens, dim]       the map of a head is softmax(q k' / sqrt(dim))
    mean                 [96, 192]                  every other row of the aggregate of heads that share equally
    lambda2              [96, 192]                  the same of heads weighted by λ₂
    CASE.anchors         [anchors] int64
    CASE.distances       [anchors, 192]             of the anchors to all maps, of the first case
    CASE.round.R         [proposals, 192]           after round R, of the last round only but for the first case
    CASE.labels          [128, 96] uint8

λ₂ is the second largest modulus of dense eigenvalues, TokenRank a dense eigenvector. The script prints how far the closest
decision of a case (a distance beside the threshold, two scores beside each other) is from falling the other way.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

OUT = Path(__file__).parent.parent / "crates/tasks/tests/fixtures/diffseg"
FINEST, SIZE = (16, 12), (128, 96)
LAYERS = [
    {"name": "fine0", "grid": [16, 12], "heads": 2},
    {"name": "fine1", "grid": [16, 12], "heads": 2},
    {"name": "middle", "grid": [8, 6], "heads": 2},
    {"name": "coarse", "grid": [4, 3], "heads": 2},
]
DIM = 6
CASES = [
    {"name": "uniform", "method": {"uniform": {"side": 5}}, "threshold": 0.55, "rounds": 3},
    {"name": "tokenrank", "method": {"tokenrank": {"number": 24, "radius": 1}}, "threshold": 0.55, "rounds": 3},
    {"name": "column-sum", "method": {"column-sum": {"number": 24, "radius": 2}}, "threshold": 0.45, "rounds": 2},
    {"name": "lambda2", "method": {"tokenrank": {"number": 16, "radius": 1, "aggregate": "lambda2"}}, "threshold": 0.55, "rounds": 4},
]
ALPHA = 0.99


def regions(rows, columns):
    """Which of six regions the centre of each token lies in."""
    y, x = (np.arange(rows) + 0.5)[:, None] / rows, (np.arange(columns) + 0.5)[None] / columns
    region = np.zeros((rows, columns), int)
    region[(y > 0.55) & (x <= 0.5)] = 1
    region[(y > 0.55) & (x > 0.5)] = 2
    region[(y - 0.3) ** 2 + (x - 0.3) ** 2 < 0.05] = 3
    region[(np.abs(y - 0.75) < 0.15) & (np.abs(x - 0.25) < 0.15)] = 4
    region[(y < 0.4) & (x > 0.7)] = 5
    return region.reshape(-1)


def draw(rng):
    layers = {}
    for layer in LAYERS:
        rows, columns = layer["grid"]
        region = regions(rows, columns)
        shape = (layer["heads"], rows * columns, DIM)
        shared = rng.normal(size=(layer["heads"], 6, DIM))
        # Heads differ in how much they tell regions apart.
        strength = np.linspace(1.0, 2.2, layer["heads"])[:, None, None]
        for part in "qk":
            tokens = strength * shared[:, region] + 0.25 * rng.normal(size=shape)
            layers[f"{layer['name']}.{part}"] = tokens.astype(np.float32)
    return layers


def maps(q, k):
    logits = q.astype(np.float64) @ k.astype(np.float64).transpose(0, 2, 1) / np.sqrt(DIM)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def interpolation(short, long):
    """[long, short]: linear between the centres of `short` cells, constant beyond the outer ones."""
    centre = np.clip((np.arange(long) + 0.5) * short / long - 0.5, 0, short - 1)
    left = np.minimum(centre.astype(int), max(short - 2, 0))
    right = np.minimum(left + 1, short - 1)
    matrix = np.zeros((long, short))
    np.add.at(matrix, (np.arange(long), left), 1 - (centre - left))
    np.add.at(matrix, (np.arange(long), right), centre - left)
    return matrix


def enlarge(pictures, size):
    rows, columns = interpolation(pictures.shape[-2], size[0]), interpolation(pictures.shape[-1], size[1])
    return rows @ pictures @ columns.T


def aggregate(layers, weigh):
    total, answer = 0.0, 0.0
    for grid in sorted({tuple(layer["grid"]) for layer in LAYERS}):
        heads = [maps(layers[f"{layer['name']}.q"], layers[f"{layer['name']}.k"]) for layer in LAYERS if tuple(layer["grid"]) == grid]
        heads = np.concatenate(heads)
        mean = np.average(heads, axis=0, weights=[weigh(head) for head in heads])
        rows, columns = grid
        keys = enlarge(mean.reshape(-1, rows, columns), FINEST)
        keys /= keys.sum((1, 2), keepdims=True)
        y, x = FINEST[0] // rows, FINEST[1] // columns
        queries = keys.reshape(rows, columns, -1).repeat(y, axis=0).repeat(x, axis=1)
        side = np.sqrt(rows * columns)
        total, answer = total + side, answer + side * queries.reshape(FINEST[0] * FINEST[1], -1)
    return answer / total


def second(matrix):
    return np.sort(np.abs(np.linalg.eigvals(matrix)))[-2]


def steady_state(matrix):
    values, vectors = np.linalg.eig((ALPHA * matrix + (1 - ALPHA) / len(matrix)).T)
    pi = np.real(vectors[:, np.argmax(np.abs(values))])
    return pi / pi.sum()


def anchors(matrix, method):
    (kind, settings), = method.items()
    rows, columns = FINEST
    if kind == "uniform":
        places = []
        for length in FINEST:
            step = (length - 1) // (settings["side"] - 1)
            places.append((length - 1 - step * (settings["side"] - 1)) // 2 + step * np.arange(settings["side"]))
        return [int(row * columns + column) for row in places[0] for column in places[1]], np.inf
    scores = steady_state(matrix) if kind == "tokenrank" else matrix.sum(0)
    order = np.argsort(-scores, kind="stable")
    margin = np.min(-np.diff(scores[order])) / scores.mean()
    chosen, rest = [], []
    for token in order:
        near = [max(abs(token // columns - other // columns), abs(token % columns - other % columns)) for other in chosen]
        (rest if near and min(near) <= settings["radius"] else chosen).append(int(token))
    return (chosen + rest)[: settings["number"]], margin


def distance(x, y):
    """Symmetric divergence of every row of x to every row of y."""
    x, y = x[:, None], y[None]
    return 0.5 * ((x * np.log(x / y)).sum(-1) + (y * np.log(y / x)).sum(-1))


def merge(matrix, tokens, threshold, rounds):
    first = distance(matrix[tokens], matrix)
    margin = np.abs(first - threshold).min()
    stages = [np.stack([matrix[row < threshold].mean(0) for row in first])]
    for _ in range(rounds - 1):
        proposals, taken, merged = stages[-1], set(), []
        between = distance(proposals, proposals)
        margin = min(margin, np.abs(between - threshold).min())
        for number, row in enumerate(between):
            if number not in taken:
                close = np.flatnonzero(row < threshold)
                taken.update(close.tolist())
                merged.append(proposals[close].mean(0))
        stages.append(np.stack(merged))
    return first, stages, margin


def main():
    tensors = draw(np.random.default_rng(6))
    aggregates = {"mean": aggregate(tensors, lambda head: 1.0), "lambda2": aggregate(tensors, second)}
    single = {name: matrix[::2] for name, matrix in aggregates.items()}
    for case in CASES:
        name, method = case["name"], case["method"]
        matrix = aggregates[next(iter(method.values())).get("aggregate", "mean")]
        tokens, score_margin = anchors(matrix, method)
        first, stages, margin = merge(matrix, tokens, case["threshold"], case["rounds"])
        pictures = enlarge(stages[-1].reshape(-1, *FINEST), SIZE)
        tensors[f"{name}.anchors"] = np.array(tokens, np.int64)
        tensors[f"{name}.labels"] = pictures.argmax(0).astype(np.uint8)
        for number, stage in enumerate(stages, 1):
            if case is CASES[0] or number == len(stages):
                single[f"{name}.round.{number}"] = stage
        if case is CASES[0]:
            single[f"{name}.distances"] = first
        print(f"{name}: proposals {[len(stage) for stage in stages]}, closest distance to the threshold {margin:.1e}, scores {score_margin:.1e}, "
              f"maps an anchor gathers {(first < case['threshold']).sum(1).min()} to {(first < case['threshold']).sum(1).max()}")
    tensors.update({name: array.astype(np.float32) for name, array in single.items()})
    OUT.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, OUT / "golden.safetensors")
    (OUT / "golden.json").write_text(json.dumps({"grid": FINEST, "size": SIZE, "alpha": ALPHA, "layers": LAYERS, "cases": CASES}, indent=1) + "\n")
    for file in OUT.iterdir():
        file.chmod(0o644)
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
