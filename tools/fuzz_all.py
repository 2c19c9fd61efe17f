#!/usr/bin/env python3
"""Runs the fuzz targets one after the other and adds what they did to a file such as `results/reliability/fuzz.json`.

    cargo install cargo-fuzz
    export LIBTORCH=$PWD/.libtorch/torch LD_LIBRARY_PATH=$PWD/.libtorch/torch/lib
    RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer none --features eval
    python tools/fuzz_all.py --out results/reliability/fuzz.json [--seconds 60] [TARGET[=SECONDS] ...]

Without targets, all are run. Numbers of a target that is in the file already are added to: executions, seconds and crashes are
summed up, of the others the largest counts. New inputs are kept in `--new` and used again the next time; what made a reader
crash, take long or take much memory is there in the folder `TARGET/found`. The program ends with 1 if there is any such input.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARIES = ROOT / "fuzz" / "target" / "x86_64-unknown-linux-gnu" / "release"
OPTIONS = ["-rss_limit_mb=4096", "-timeout=20", "-print_final_stats=1"]
SUMMED = ("seconds", "executions", "crashes")


def run(binary: Path, corpus: Path, new: Path, seconds: int) -> dict:
    """One run of a target. The fuzzer stops at the first crash, so there is at most one."""
    found = new / "found"
    (new / "inputs").mkdir(parents=True, exist_ok=True)
    found.mkdir(exist_ok=True)
    before = set(found.iterdir())
    command = [binary, f"-max_total_time={seconds}", *OPTIONS, f"-artifact_prefix={found}/", new / "inputs", corpus]
    started = time.time()
    with open(new / "log", "wb") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    log = (new / "log").read_text(errors="replace")

    def last(pattern: str) -> int:
        return int(([0] + re.findall(pattern, log))[-1])

    return {
        "seconds": round(time.time() - started),
        "executions": last(r"stat::number_of_executed_units:\s+(\d+)") or last(r"^#(\d+)\s"),
        "coverage of the corpus": last(r"INITED cov: (\d+)"),
        "coverage": last(r"cov: (\d+)"),
        "features": last(r"ft: (\d+)"),
        "peak memory in MB": last(r"stat::peak_rss_mb:\s+(\d+)"),
        "slowest input in seconds": last(r"stat::slowest_unit_time_sec:\s+(\d+)"),
        "crashes": len(set(found.iterdir()) - before),
    }


def added(old: dict | None, one: dict) -> dict:
    """The numbers of two runs of a target. What the corpus alone reaches is that of the first one, which had no new inputs."""
    if old is None:
        return one
    both = {key: old[key] + one[key] if key in SUMMED else max(old[key], one[key]) for key in one}
    return old | both | {"coverage of the corpus": old["coverage of the corpus"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET[=SECONDS]")
    parser.add_argument("--seconds", type=int, default=60, help="of a target that names none")
    parser.add_argument("--binaries", type=Path, default=BINARIES)
    parser.add_argument("--corpus", type=Path, default=ROOT / "fuzz" / "corpus")
    parser.add_argument("--new", type=Path, default=Path("/tmp/tokenrank-fuzz"), help="folder of new inputs, logs and crashes")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    known = sorted(path.name for path in arguments.corpus.iterdir())
    asked = [target.partition("=")[::2] for target in arguments.targets] or [(name, "") for name in known]
    for name, _ in asked:
        if name not in known or not (arguments.binaries / name).is_file():
            sys.exit(f"there is no target {name} in {arguments.corpus} and {arguments.binaries}")
    targets = json.loads(arguments.out.read_text())["targets"] if arguments.out.exists() else {}
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    os.environ["RAYON_NUM_THREADS"] = "1"
    for name, seconds in asked:
        one = run(arguments.binaries / name, arguments.corpus / name, arguments.new / name, int(seconds or arguments.seconds))
        targets[name] = added(targets.get(name), one)
        executions, crashes = (sum(target[key] for target in targets.values()) for key in ("executions", "crashes"))
        report = {
            "commands": [
                "RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer none --features eval",
                f"TARGET -max_total_time=SECONDS {' '.join(OPTIONS)} NEW fuzz/corpus/TARGET",
            ],
            "environment": "RAYON_NUM_THREADS=1; one process at a time",
            "toolchain": f"{rustc}, cargo-fuzz 0.13.2, libfuzzer-sys 0.4.13, libtorch 2.11.0",
            "executions": executions,
            "crashes": crashes,
            "targets": targets,
        }
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
        print(f"{name}: {one['executions']} executions, {one['crashes']} crashes; {executions} in all", flush=True)
    sys.exit(1 if any(target["crashes"] for target in targets.values()) else 0)


if __name__ == "__main__":
    main()
