"""Runs the benchmarks of this folder beside their peers, and prints one table with the aim of each.

    python tools/bench.py --bin target/release [--model DIR --images DIR] [--threads 1] [--only heads,rank] [--out results/bench]

With a Hugging Face ViT and a folder of photographs with labels.csv, heads and masking are those of this network, and metrics and JPEG read
these photographs; otherwise heads are drawn, masking runs on a small network with random weights, and the last two are left out. Each benchmark writes its numbers to `--out`, with `-T-threads` in the
name where several threads are asked for; machine.json has the processor and the seconds of each benchmark. A benchmark whose program or peer is missing is named and left out.

`cargo xtask bench` builds the programs and calls this. Pinned: see each script.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOOLS = Path(__file__).parent


def times(ratio):
    return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:.0f} ×"


def milliseconds(took):
    return f"{took:.3g} ms" if took < 1000 else f"{took / 1000:.3g} s"


def heads(found):
    for size in found["sizes"].values():
        for row in size["rows"]:
            what = f"{row['what']}, {size['tokens']} tokens"
            aim = row["aim"] and f"≥ {row['aim']} ×"
            yield what, milliseconds(row["ours_ms"]), row["peer"], milliseconds(row["peer_ms"]), times(row["ratio"]), aim


def rank(found):
    for size in found["sizes"]:
        what, peer = f"rank, {size['maps']} × {size['tokens']}²", "script in torch"
        ours, theirs = (milliseconds(1e3 * size[side]["cpu"]) for side in ("ours", "peer"))
        yield f"{what}, whole process", ours, peer, theirs, times(size["ratio_cpu"]), "≥ 3 ×"
        yield f"{what}, memory above start-up", "", "size of the file", "", times(size["memory_without_start_per_file"]), "≤ 1.2 ×"


def masking(found):
    network = "ViT" if found["network"] == "files" else "small random ViT"
    for run in found["runs"]:
        stages = run["peer_seconds_per_image"]
        whole, passes = 1e3 * sum(stages.values()), 1e3 * stages["masked passes"]
        ours, of_passes = 1e3 * run["tokenrank_seconds_per_image"], 1e3 * run["tokenrank_seconds_of_masked_passes"]
        yield f"masking, {network}, an image", milliseconds(ours), "transformers", milliseconds(whole), times(run["times_as_fast"]), "≥ 2 ×"
        ratio = times(run["masked_passes_times_as_fast"])
        yield f"masking, {network}, masked passes", milliseconds(of_passes), "transformers", milliseconds(passes), ratio, "≥ 1.5 ×"


def diffseg(found):
    for kind, stage, aim in (("uniform", "total_ms", None), ("tokenrank", "total_ms", None), ("tokenrank", "anchors_ms", "≥ 2 ×")):
        what = f"DiffSeg, {kind}, {'anchors' if stage == 'anchors_ms' else 'all after the aggregate'}"
        of = found[kind]
        ours, theirs = milliseconds(of["ours"][stage]), milliseconds(of["numpy"][stage])
        yield what, ours, "NumPy", theirs, times(of["ratios"][stage]), aim


def metrics(found):
    ours, theirs = (milliseconds(found[side]["cpu_ms_an_image"]) for side in ("ours", "torch-fidelity"))
    ratio = times(found["ours"]["times_torch_fidelity"])
    yield "metrics, Inception-v3, an image", ours, "torch-fidelity", theirs, ratio, "≥ 1.5 ×"


def jpeg(found):
    ours, theirs = milliseconds(found["ours_ms"]), milliseconds(found["pillow_ms"])
    yield "JPEG, an image", ours, "Pillow", theirs, times(found["ratio"]), "≥ 1 ×"


def report(found):
    for size in found["sizes"]:
        what, now, large = f"report, {size['items']:,} items × 9 methods", size["now"], size["items"] == 100_000
        yield f"{what}, time", f"{now['seconds']:.1f} s", "", "", "", "≤ 10 s" if large else None
        yield f"{what}, page", f"{now['bytes'] / 1e6:.1f} MB", "", "", "", "≤ 10 MB" if large else None


# Rows and arguments of each benchmark; the file of its numbers has its name.
PARTS = {
    "heads": (heads, ["bench_peer.py", "--ours", "{bin}/examples/bench_heads", "--threads", "{threads}"], ["torch", "scipy"]),
    "rank": (rank, ["bench_rank.py", "--ours", "{bin}/tokenrank", "--threads", "{threads}"], ["torch"]),
    "masking": (
        masking,
        ["bench_vit_transformers.py", "--ours", "{bin}/tokenrank", "--dtypes", "f32", "--batch", "2", "--counts", "2,4", "--repeat", "5", "--threads", "{threads}"],
        ["torch", "transformers"],
    ),
    "diffseg": (
        diffseg,
        ["bench_diffseg_numpy.py", "--ours", "{bin}/examples/diffseg_bench", "--threads", "{threads}", "--repeat", "1"],
        ["numpy", "scipy"],
    ),
    "metrics": (
        metrics,
        ["bench_metrics.py", "--ours", "{bin}/tokenrank", "--images", "{images}", "--count", "4", "12", "--rounds", "5", "--threads", "{threads}"],
        ["torch", "torch_fidelity"],
    ),
    "jpeg": (jpeg, ["bench_jpeg.py", "--ours", "{bin}/examples/bench_jpeg", "--images", "{images}"], ["PIL"]),
    "report": (report, ["bench_report.py", "{bin}/examples/report_bench", "--items", "10000", "100000", "--rounds", "5"], []),
}


def processor():
    """The processor's name, family and model: how much two libraries differ depends on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    return f"{fields.get('model name', platform.machine())} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"


def command(name, given, out):
    script, *rest = PARTS[name][1]
    words = [str(TOOLS / script), *(word.format(**vars(given)) for word in rest), "--out", str(out)]
    if name == "heads" and given.model:
        first = min(path for path in given.images.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        words += ["--model", str(given.model), "--image", str(first)]
    if name == "masking":
        words += ["--model", str(given.model), "--images", str(given.images)] if given.model else ["--tiny"]
    return [sys.executable, *words]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="folder of the built programs")
    parser.add_argument("--model", type=Path, help="folder of a Hugging Face ViT")
    parser.add_argument("--images", type=Path, help="folder of photographs with labels.csv")
    parser.add_argument("--threads", type=int, default=1, help="for both sides")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, help="folder of the numbers")
    given = parser.parse_args()
    if bool(given.model) != bool(given.images):
        parser.error("--model and --images go together")
    unknown = set(given.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"unknown benchmarks: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    rows, seconds, began = [], {}, time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.out or Path(scratch)
        for name in given.only.split(","):
            rows_of, words, needs = PARTS[name]
            if "{images}" in words and not given.images:
                print(f"{name}: left out without --images", file=sys.stderr)
                continue
            missing = [module for module in needs if importlib.util.find_spec(module) is None]
            if missing:
                print(f"{name}: left out, since this Python has no {' and no '.join(missing)}", file=sys.stderr)
                continue
            out = folder / (f"{name}.json" if given.threads == 1 else f"{name}-{given.threads}-threads.json")
            started = time.monotonic()
            # The peers of some scripts read their number of threads from here.
            threads = {"OMP_NUM_THREADS": str(given.threads), "OMP_WAIT_POLICY": "passive"}
            done = subprocess.run(command(name, given, out), capture_output=True, text=True, env=os.environ | threads)
            if done.returncode:
                print(f"{name}: failed\n{done.stderr[-2000:]}", file=sys.stderr)
                continue
            seconds[name] = round(time.monotonic() - started)
            print(f"{name}: {seconds[name]} s", file=sys.stderr)
            rows += rows_of(json.loads(out.read_text()))
    table = [("work", "ours", "peer", "its time", "ratio", "aim"), *((*row[:5], row[5] or "–") for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(6)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(f"{given.threads} thread(s) on both sides of {os.cpu_count()} cores, {processor()}, {time.monotonic() - began:.0f} s")
    if given.out:
        file = given.out / ("machine.json" if given.threads == 1 else f"machine-{given.threads}-threads.json")
        machine = {"processor": processor(), "cores": os.cpu_count(), "threads": given.threads}
        before = json.loads(file.read_text()) if file.is_file() else {}
        # What this run left out keeps its time if it was of this processor.
        kept = before["seconds"] if before.items() >= machine.items() else {}
        file.write_text(json.dumps(machine | {"seconds": kept | seconds}) + "\n")


if __name__ == "__main__":
    main()
