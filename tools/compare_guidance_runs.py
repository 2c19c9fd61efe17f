"""How far two guidance runs of the same pictures are apart: `compare_guidance_runs.py RUN OTHER... --out FILE.json`.

For runs that differ in what must not matter (batch, part, threads, device): the pictures that both drew, pixel by pixel, and
the metrics where both drew all. Writes what it prints. Needs numpy and pillow.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image


def pictures(run, method):
    return {path.name: np.asarray(Image.open(path), np.int16) for path in sorted((run / "pictures" / method).glob("*.png"))}


def metrics(run):
    results = json.loads((run / "results.json").read_text())
    values = {f"{m['method']}/{m['name']}": m["value"] for m in results["metrics"] if m.get("value") is not None}
    return results["items"], values


def settings(run):
    return json.loads((run / "results.json").read_text())["experiment"]["task"]["guidance"]


def compare(run, other):
    methods = {}
    for folder in sorted((run / "pictures").iterdir()):
        ours, theirs = pictures(run, folder.name), pictures(other, folder.name)
        both = sorted(ours.keys() & theirs.keys())
        apart = np.stack([np.abs(ours[name] - theirs[name]) for name in both])
        methods[folder.name] = {
            "pictures": len(both),
            "largest_difference_in_levels": int(apart.max()),
            "samples_that_differ": float((apart > 0).mean()),
            "pictures_that_differ": int((apart > 0).any(axis=(1, 2, 3)).sum()),
        }
    (items, ours), (others, theirs) = metrics(run), metrics(other)
    relative = {}
    if items == others:
        relative = {key: abs(ours[key] - theirs[key]) / max(abs(theirs[key]), 1e-12) for key in ours if key in theirs}
    return methods, relative


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("others", type=pathlib.Path, nargs="+")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    report = {"run": {"batch": settings(args.run)["batch"]}, "others": []}
    for other in args.others:
        methods, relative = compare(args.run, other)
        told = {key: settings(other).get(key) for key in ("batch", "first", "count")}
        report["others"].append({"settings": told, "pictures": methods, "metrics_relative_difference": relative})
        print(told, json.dumps(methods), "metrics:", max(relative.values(), default=None))
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
