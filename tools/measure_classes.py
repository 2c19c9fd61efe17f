"""Whether segmentation of several classes finds objects only, or tells them apart as well: `measure_classes.py RUN --out FILE.json`.

RUN is the folder of a segmentation run with `protocol = "multi-class"`. Tables of such a run mix two questions: where the objects are, and
which object has which class. For every method this counts, from its records,

* the IoU of all objects together against the background,
* of the object pixels that some class was given, the fraction with the right class, and what a draw among the classes of the image would
  have: 1 / their number. The difference has a 95 % percentile interval over resampled images.

`background` is what an answer without any object would have: its accuracy, and its mIoU over the classes of the run and the background.
Needs numpy.
"""

import argparse
import json
from pathlib import Path

import numpy as np

RESAMPLES = 10_000


def counts(record, method):
    """Pixels of an image: object pixels found, given the right class, expected from a draw, labelled and predicted as objects."""
    score = record["methods"][method]
    background = score["classes"].get("0", {"intersection": 0, "predicted": 0, "labelled": 0})
    labelled = score["labelled"] - background["labelled"]
    predicted = score["labelled"] - background["predicted"]
    found = labelled + predicted - (score["labelled"] - background["intersection"])
    right = sum(each["intersection"] for name, each in score["classes"].items() if name != "0")
    return found, right, found / len(record["names"]), labelled, predicted


def measure(table, rng):
    """The values of one method from its counts, a row for each image."""
    found, right, drawn, labelled, predicted = table.sum(0)
    draws = table[rng.integers(len(table), size=(RESAMPLES, len(table)))].sum(1)
    low, high = np.quantile((draws[:, 1] - draws[:, 2]) / draws[:, 0], [0.025, 0.975])
    return {
        "iou_of_objects": round(found / (labelled + predicted - found), 4),
        "right_class": round(right / found, 4),
        "right_class_by_a_draw": round(drawn / found, 4),
        "difference": [round(value, 4) for value in ((right - drawn) / found, low, high)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    lines = map(json.loads, (arguments.run / "records.jsonl").read_text().splitlines())
    records = [line for line in lines if "methods" in line]
    methods = list(records[0]["methods"])
    scores = [record["methods"][methods[0]] for record in records]
    of_background = sum(score["classes"]["0"]["labelled"] for score in scores) / sum(score["labelled"] for score in scores)
    classes = {name for score in scores for name, each in score["classes"].items() if each["labelled"]}
    report = {
        "images": len(records),
        "images_by_number_of_classes": {
            str(number): sum(len(record["names"]) == number for record in records)
            for number in sorted({len(record["names"]) for record in records})
        },
        "background": {"accuracy": round(of_background, 4), "miou": round(of_background / len(classes), 4)},
        "methods": {
            method: measure(np.array([counts(record, method) for record in records]), np.random.default_rng(0))
            for method in methods
        },
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
