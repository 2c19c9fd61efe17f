#!/usr/bin/env python3
"""Metrics of segmentation without prompts, from label maps, with SciPy and scikit-learn:
crates/eval/tests/fixtures/diffseg/golden.json.

Per image, segments are matched to classes on the histogram of classes x max(classes, highest segment + 1) by
linear_sum_assignment; TP, FP and FN are summed over the images before anything is divided.

Usage: python tools/golden_diffseg_metrics.py
"""

import json
from pathlib import Path

import numpy as np
from golden_segment import Rng
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

FILE = Path(__file__).resolve().parent.parent / "crates/eval/tests/fixtures/diffseg/golden.json"
CLASSES = 27
IGNORED = -1
SIDE = 28


def voronoi(rng, parts):
    """A square cut into parts, by the nearest of as many points."""
    points = rng.uniform(0, SIDE, size=(parts, 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.argmin((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2, axis=-1)


def truth(rng, item):
    """A few of the classes 1 to 25, so that some are in no image at all, and a stripe that does not count."""
    parts = voronoi(rng, int(rng.integers(2, 7)))
    labels = rng.choice(np.arange(1, 26), parts.max() + 1)[parts]
    if item % 3 == 0:
        labels[:, :4] = IGNORED
    return labels if item != 7 else np.full_like(labels, IGNORED)


def prediction(rng, labels, segments):
    """Segments that know something of the labels. The last of them may have no pixels."""
    parts = voronoi(rng, segments)
    names = np.unique(labels)
    near = np.searchsorted(names, labels) % max(1, segments // 2)
    return np.where(rng.uniform(size=labels.shape) < 0.1, parts, np.maximum(parts - near, 0))


def histogram(labels, segments):
    seen = labels != IGNORED
    table = np.zeros((CLASSES, max(CLASSES, segments.max() + 1)), dtype=np.int64)
    np.add.at(table, (labels[seen], segments[seen]), 1)
    return table


def judge(labels, segments, order=1):
    """What one image adds to every sum. With order -1, segments are offered to the solver backwards."""
    table = histogram(labels, segments)[:, ::order]
    rows, columns = linear_sum_assignment(table, maximize=True)
    assert (rows == np.arange(CLASSES)).all()
    tp = table[rows, columns]
    fp = table[:, columns].sum(axis=0) - tp
    fn = table.sum(axis=1) - tp
    seen = labels != IGNORED
    return {
        "tp": tp, "fp": fp, "fn": fn,
        "idle": np.where(tp == 0, fp, 0),
        "labelled": int(seen.sum()),
        "ari": adjusted_rand_score(labels[seen], segments[seen]) if seen.any() else None,
    }


def nan_mean(part, whole):
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmean(part / whole))


def metrics(judged, boundaries, proposals):
    total = lambda key: np.sum([one[key] for one in judged], axis=0)
    tp, fp, fn, labelled = total("tp"), total("fp"), total("fn"), total("labelled")
    return {
        "accuracy": float(tp.sum() / labelled),
        "class-accuracy": nan_mean(tp, tp + fn),
        "image-accuracy": float(np.mean([one["tp"].sum() / one["labelled"] for one in judged if one["labelled"]])),
        "miou": nan_mean(tp, tp + fp + fn),
        "miou-order-free": nan_mean(tp, tp + fp - total("idle") + fn),
        "adjusted-rand-index": float(np.mean([one["ari"] for one in judged if one["ari"] is not None])),
        "boundary-recall": sum(b["found"] for b in boundaries) / sum(b["labelled"] for b in boundaries),
        "proposals": float(np.mean(proposals)),
    }


def interval(records, judged, a, b, name, resamples, seed):
    def value(items, method):
        found = [records[i]["methods"][method] for i in items]
        return metrics([judged[i][method] for i in items], [f["boundary"] for f in found], [f["proposals"] for f in found])[name]

    difference = lambda items: value(items, a) - value(items, b)
    n, drawn = len(records), []
    for resample in range(resamples):
        rng = Rng([seed, resample])
        drawn.append(difference([rng.below(n) for _ in range(n)]))
    drawn = np.array(drawn)
    low, high = np.quantile(drawn, [0.025, 0.975])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return dict(
        a=a, b=b, metric=name, resamples=resamples, seed=seed, difference=difference(range(n)), low=low, high=high,
        p_value=min(1.0, 2 * (int(beyond) + 1) / (resamples + 1)))


def main():
    rng = np.random.default_rng(6)
    # More segments than classes; about as many as are right; hardly any.
    counts = {"many": (30, 46), "some": (4, 12), "few": (1, 3)}
    records, judged, backwards = [], [], []
    for item in range(20):
        labels = truth(rng, item)
        methods, found, turned = {}, {}, {}
        for method, (low, high) in counts.items():
            proposals = int(rng.integers(low, high))
            segments = prediction(rng, labels, proposals)
            found[method], turned[method] = judge(labels, segments), judge(labels, segments, order=-1)
            table = histogram(labels, segments)
            edge = int(rng.integers(0, 200))
            methods[method] = {
                "proposals": proposals,
                "overlap": [[int(i), int(j), int(table[i, j])] for i, j in np.argwhere(table)],
                "boundary": {"labelled": edge, "found": int(edge * rng.uniform())},
            }
        records.append({"id": f"{item:02}", "sha256": "0" * 64, "methods": methods})
        judged.append(found)
        backwards.append(turned)
    of = lambda method, judged=judged: metrics(
        [found[method] for found in judged],
        [record["methods"][method]["boundary"] for record in records],
        [record["methods"][method]["proposals"] for record in records])
    golden = {method: of(method) for method in counts}
    wide = sum(max(j for _, j, _ in r["methods"]["many"]["overlap"]) >= CLASSES for r in records if r["methods"]["many"]["overlap"])
    print("images with more segments than classes:", wide)
    for method, values in golden.items():
        print(method, {name: round(value, 4) for name, value in values.items()})
        moved = {name: round(value - values[name], 4) for name, value in of(method, backwards).items() if value != values[name]}
        print("    backwards:", moved)
    bootstrap = [
        interval(records, judged, a, b, name, 100, 11)
        for a, b in (("some", "few"), ("many", "some")) for name in golden["many"]
    ]
    per_image = [
        {method: {key: one[key].tolist() for key in ("tp", "fp", "fn")} | {"ari": one["ari"]} for method, one in found.items()}
        for found in judged
    ]
    compact = lambda value: json.dumps(value, separators=(",", ":"))
    lines = lambda values: "[\n" + ",\n".join(compact(value) for value in values) + "\n]"
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(
        f'{{"classes": {CLASSES},\n"records": {lines(records)},\n"images": {lines(per_image)},\n'
        f'"metrics": {compact(golden)},\n"bootstrap": {lines(bootstrap)}}}\n')
    print(FILE, FILE.stat().st_size)


if __name__ == "__main__":
    main()
