"""How far the values of the miniature experiments move where nothing but the machine changes: threads and instruction sets.

Runs every experiment of configs/mini once for each variant, all on this machine, and compares each value with that of one
thread with the instructions libtorch and oneDNN choose by themselves. The default tolerances of `tokenrank compare`
(crates/eval/src/compare/noise.rs, docs/compare.md) rest on what this prints. Python's standard library only.

    python tools/measure_noise.py --limit 24 --limit 6 --baseline eval/baselines/mini-quick.json --out results/reliability/noise.json

With --baseline, the runs of the first limit are also held against that file by `tokenrank compare`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

# What is set beside OMP_NUM_THREADS=1; the first is what all others are compared with.
VARIANTS = {
    "one thread": {},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "ATen default": {"ATEN_CPU_CAPABILITY": "default"},
    "ATen AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATen AVX-512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "oneDNN SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL SSE4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "plainest, two threads": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OMP_NUM_THREADS": "2",
    },
}
CHANGED = {key for settings in VARIANTS.values() for key in settings}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def run(tokenrank, configs, limit, settings, out, baseline):
    """The values of a variant, and what `tokenrank compare` says of them."""
    environment = {key: value for key, value in os.environ.items() if key not in CHANGED}
    environment |= {"OMP_NUM_THREADS": "1"} | settings
    command = [tokenrank, "run", *configs, "--limit", str(limit), "--out", str(out)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    values = {}
    for path in sorted(Path(out).glob("*/results.json")):
        for metric in json.loads(path.read_text())["metrics"]:
            values[path.parent.name, metric["name"], metric.get("method", "")] = metric["value"]
    if not baseline:
        return values, None
    command = [tokenrank, "compare", str(out), baseline]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    return values, {"exit": answer.returncode, "said": answer.stdout.splitlines()[-1]}


def compare(base, other):
    """Per metric: values, how many differ, the largest difference and the largest of the value."""
    found = defaultdict(lambda: {"values": 0, "differ": 0, "absolute": 0.0, "relative": 0.0})
    for (_, metric, _), value, theirs in ((key, base[key], other[key]) for key in base):
        if value is None:
            continue
        one, difference = found[metric], abs(theirs - value)
        one["values"] += 1
        one["differ"] += difference != 0
        one["absolute"] = max(one["absolute"], difference)
        one["relative"] = max(one["relative"], difference / abs(value) if value else 0.0)
    return {metric: one for metric, one in sorted(found.items())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenrank", default="target/debug/tokenrank")
    parser.add_argument("--config", action="append", help="default: all of configs/mini")
    parser.add_argument("--limit", type=int, action="append", required=True)
    parser.add_argument("--baseline", help="a file of eval/baselines, made with the first limit")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    configs = options.config or sorted(str(path) for path in Path("configs/mini").glob("*.toml"))

    suites, against, largest = {}, {}, defaultdict(lambda: {"absolute": 0.0, "relative": 0.0, "in items": 0.0})
    for limit in options.limit:
        base, variants = None, {}
        for name, settings in VARIANTS.items():
            with tempfile.TemporaryDirectory() as out:
                baseline = options.baseline if limit == options.limit[0] else None
                values, said = run(options.tokenrank, configs, limit, settings, out, baseline)
            if said:
                against[name] = said
                print(f"against the baseline, {name}: {said}", file=sys.stderr)
            if base is None:
                base = values
                continue
            variants[name] = {metric: one for metric, one in compare(base, values).items() if one["differ"]}
            for metric, one in compare(base, values).items():
                most = largest[metric]
                most["absolute"] = max(most["absolute"], one["absolute"])
                most["relative"] = max(most["relative"], one["relative"])
                most["in items"] = max(most["in items"], one["absolute"] * limit)
            print(f"limit {limit}, {name}: {sum(one['differ'] for one in variants[name].values())} differ", file=sys.stderr)
        suites[str(limit)] = {"values": sum(value is not None for value in base.values()), "variants": variants}
    report = {
        "command": " ".join(
            ["python tools/measure_noise.py", *(f"--limit {limit}" for limit in options.limit)]
            + ([f"--baseline {options.baseline}"] if options.baseline else [])
        ),
        "machine": {"processor": processor(), "platform": f"{platform.system().lower()} {platform.machine()}"},
        "compared_with": "OMP_NUM_THREADS=1, instructions as libtorch chooses them",
        "variants": VARIANTS,
        "against_the_baseline": against,
        "largest": dict(sorted(largest.items())),
        "limits": suites,
    }
    text = json.dumps(report, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
