"""Times `tokenrank metrics` with Inception beside torch-fidelity's network and metrics: whole processes in turn, random weights.

    pip install torch==2.11.0 torchvision==0.26.0 numpy==2.4.6 pillow==13.0.0
    pip install --no-deps torch-fidelity==0.4.0 && pip install tqdm
    python tools/bench_metrics.py --ours target/release/tokenrank --images FOLDER [--threads 1] [--count 16 48] [--rounds 5]
        [--before OLDER_PROGRAM] [--out results/bench/metrics.json]

FOLDER has at least twice as many photographs as the larger of the two counts. Each process compares one half with the other: so many images
in each. The cost of an image is the difference of the two counts, free of the start and the metrics, which do not depend on the
number of images. Seconds are processor time of the process, medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ENDINGS = (".jpg", ".jpeg", ".png")


def peer(weights, folders):
    """Features of two folders by torch-fidelity's class, and its three metrics."""
    import numpy as np
    import torch
    from PIL import Image
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    load = FeatureExtractorInceptionV3.load_state_dict
    FeatureExtractorInceptionV3.load_state_dict = lambda self, state: load(self, state, strict=False)
    network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=weights)
    network.eval()
    features, logits = [], []
    with torch.no_grad():
        for folder in folders:
            of_folder = []
            for file in sorted(Path(folder).iterdir()):
                pixels = torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).copy()).permute(2, 0, 1)
                found = network(pixels[None])
                of_folder.append(found[0])
                logits.append(found[1])
            features.append(torch.cat(of_folder))
    fid = fid_statistics_to_metric(*(fid_features_to_statistics(one) for one in features), verbose=False)
    kid = kid_features_to_metric(*features, kid_subset_size=len(features[0]), verbose=False)
    isc = isc_features_to_metric(torch.cat(logits[: len(logits) // 2]))
    print(json.dumps({**fid, **kid, **isc}))


def draw_weights(file):
    """Writes random weights in the shape of the published state dict."""
    sys.path.insert(0, str(Path(__file__).parent))
    import golden_inception
    import torch

    torch.save({name: golden_inception.draw(name, shape) for name, shape in golden_inception.state_shapes().items()}, file)


def timed(command, threads):
    """Returns processor seconds, wall-clock seconds and MiB at most of a command."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    before = os.times()
    with subprocess.Popen([str(word) for word in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed: {errors[-2000:]}")
    return usage.ru_utime + usage.ru_stime, os.times().elapsed - before.elapsed, usage.ru_maxrss // 1024


def main():
    if sys.argv[1:2] == ["--peer"]:
        return peer(sys.argv[2], sys.argv[3:])
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--ours", required=True, help="the program")
    arguments.add_argument("--before", help="an older program, which takes turns too")
    arguments.add_argument("--images", type=Path, required=True)
    arguments.add_argument("--count", type=int, nargs=2, default=[16, 48], help="images in each folder")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    files = sorted(file for file in given.images.rglob("*") if file.suffix.lower() in ENDINGS)
    few, many = given.count
    result = {"what": "metrics with Inception-v3, random weights, photographs", "threads": given.threads, "cores": os.cpu_count(), "rounds": given.rounds, "count": given.count}
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "weights.pth"
        draw_weights(weights)
        folders = {}
        for count in given.count:
            for half in range(2):
                folder = Path(scratch) / f"{count}-{half}"
                folder.mkdir()
                for file in files[half * many :][:count]:
                    (folder / file.name).symlink_to(file.resolve())
                folders.setdefault(count, []).append(folder)

        def command(name, program, count):
            if name == "torch-fidelity":
                return [sys.executable, __file__, "--peer", weights, *folders[count]]
            generated, reference = folders[count]
            return [program, "metrics", "--generated", generated, "--reference", reference, "--features", f"inception:{weights}", "--subset-size", count]

        programs = {"ours": given.ours, **({"before": given.before} if given.before else {}), "torch-fidelity": None}
        measured = {name: {count: [] for count in given.count} for name in programs}
        for _ in range(given.rounds):
            for count in given.count:
                for name, program in programs.items():
                    measured[name][count].append(timed(command(name, program, count), given.threads))
    for name, of_counts in measured.items():
        median = {count: [statistics.median(values) for values in zip(*rounds)] for count, rounds in of_counts.items()}
        each = [1e3 * (median[many][place] - median[few][place]) / (2 * (many - few)) for place in range(2)]
        result[name] = {"cpu_ms_an_image": round(each[0], 1), "wall_ms_an_image": round(each[1], 1), "whole_cpu_seconds": round(median[many][0], 2), "whole_wall_seconds": round(median[many][1], 2), "peak_mib": median[many][2]}
    for name in programs:
        ratio = result["torch-fidelity"]["cpu_ms_an_image"] / result[name]["cpu_ms_an_image"]
        result[name]["times_torch_fidelity"] = round(ratio, 2)
        print(f"{name:<15} {result[name]}")
    if given.out:
        given.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
