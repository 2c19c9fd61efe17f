"""Golden fixture for intervals over objects that share photographs: a cluster bootstrap in numpy.

    pip install numpy==2.4.6
    python tools/golden_cluster_bootstrap.py

writes crates/eval/tests/fixtures/segment/clusters.json:

    objects     for each object: its photograph; for each method the pixels of the object found (tp), wrongly found (fp) and missed
                (fn), those of the background (tn), and the average precisions of both channels and of the object
    intervals   by metric, for the methods `a` and `b` and for their difference `a-b`: the value, the ends of the 95 % percentile
                interval over photographs, and those of an interval over objects as if they were independent

The bootstrap is the definition written down: photographs are drawn with replacement, as many as there are, and every object of a drawn
photograph is listed again; the metric is computed from that list. Random numbers are numpy's. 100,000 resamples leave an end
uncertain by about 0.2 % of the width.
"""

import json
from pathlib import Path

import numpy as np

OUT = Path(__file__).parent.parent / "crates/eval/tests/fixtures/segment/clusters.json"
PHOTOGRAPHS, RESAMPLES, CHUNK = 60, 100_000, 1_000
TP, FP, FN, TN, POOLED, FOREGROUND = range(6)


def draw_objects(rng):
    """Objects whose difficulty is mostly that of their photograph; one to five of them, larger photographs have more pixels."""
    photograph, rows = [], []
    for number in range(PHOTOGRAPHS):
        hard, contrast = rng.normal(0.0, 1.0), rng.normal(0.0, 1.0)
        pixels = int(rng.integers(600, 3_000))
        for _ in range(int(rng.integers(1, 6))):
            photograph.append(number)
            share = rng.uniform(0.05, 0.5)
            own = hard + 0.5 * rng.normal()
            methods = []
            for offset in (0.25 + 0.35 * contrast, 0.0):
                skill = 1 / (1 + np.exp(-(1.0 + 0.8 * (own + offset) + 0.3 * rng.normal())))
                inside, outside = round(share * pixels), pixels - round(share * pixels)
                tp, tn = round(inside * skill), round(outside * (0.6 + 0.4 * skill))
                precision = [float(np.clip(value, 0, 1)) for value in (0.5 + 0.5 * skill, skill - 0.1 * rng.random())]
                methods.append([tp, outside - tn, inside - tp, tn, *(round(value, 6) for value in precision)])
            rows.append(methods)
    return np.array(photograph), np.array(rows)


def metrics(found, counts):
    """Metrics of lists of objects, `counts[list, object]` times each object; `found` are the columns of one method."""
    total = lambda column: counts @ found[:, column]
    tp, fp, fn, tn = (total(column) for column in (TP, FP, FN, TN))
    accuracy = (tp + tn) / (tp + fp + fn + tn)
    return {
        "accuracy": accuracy,
        "miou": (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2,
        "miou-identity": accuracy / (2 - accuracy),
        "map": total(POOLED) / counts.sum(axis=1),
        "map-foreground": total(FOREGROUND) / counts.sum(axis=1),
    }


def sides(rows, counts):
    a, b = metrics(rows[:, 0], counts), metrics(rows[:, 1], counts)
    return {name: {"a": a[name], "b": b[name], "a-b": a[name] - b[name]} for name in a}


def resampled(rng, photograph, rows):
    """The metrics of lists of objects that whole photographs give."""
    members = [np.flatnonzero(photograph == number) for number in range(photograph.max() + 1)]
    parts = []
    for _ in range(RESAMPLES // CHUNK):
        counts = np.zeros((CHUNK, len(photograph)))
        for line in counts:
            drawn = rng.integers(0, len(members), len(members))
            np.add.at(line, np.concatenate([members[number] for number in drawn]), 1)
        parts.append(sides(rows, counts))
    return {name: {side: np.concatenate([part[name][side] for part in parts]) for side in of} for name, of in parts[0].items()}


def ends(values):
    return [float(end) for end in np.quantile(values, [0.025, 0.975])]


def main():
    rng = np.random.default_rng(7)
    photograph, rows = draw_objects(rng)
    whole = sides(rows, np.ones((1, len(photograph))))
    together = resampled(rng, photograph, rows)
    apart = resampled(rng, np.arange(len(photograph)), rows)
    intervals = []
    for metric, of in whole.items():
        for side, value in of.items():
            clustered, independent = ends(together[metric][side]), ends(apart[metric][side])
            narrower = 1 - (independent[1] - independent[0]) / (clustered[1] - clustered[0])
            print(f"{metric:15} {side:4} {value[0]:+.4f} {clustered[0]:+.4f} … {clustered[1]:+.4f}, independent {100 * narrower:.0f} % narrower")
            intervals.append(dict(
                metric=metric, side=side, value=float(value[0]), low=clustered[0], high=clustered[1],
                independent_low=independent[0], independent_high=independent[1]))
    number = lambda value: int(value) if value == int(value) else float(value)
    objects = [
        dict(photograph=int(of), methods=[[number(value) for value in method] for method in row])
        for of, row in zip(photograph, rows)
    ]
    lines = [json.dumps(one, separators=(",", ":")) for one in objects], [json.dumps(one, separators=(",", ":")) for one in intervals]
    OUT.write_text('{"resamples":%d,\n"objects":[\n%s\n],\n"intervals":[\n%s\n]}\n' % (RESAMPLES, *(",\n".join(part) for part in lines)))
    print(OUT, OUT.stat().st_size, len(photograph), "objects")


if __name__ == "__main__":
    main()
