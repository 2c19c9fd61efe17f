"""What a spread run takes of disk, file system, start-up and merge, on the miniatures: `measure_spread.py --tokenrank FILE --out FILE.json`.

For each experiment one shard of one (`--shard 1/1`): bytes of records and pictures per item, calls of fsync (counted by strace in a
run of its own), and what a finished shard takes to find that nothing is left, which is the start of any other. For masking with few
settings, merges of growing runs. Seconds are those of the processor, which other programs on the machine do not change much. Needs
strace; run from the repository's root.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile

EXPERIMENTS = {"masking-vit": 96, "segment": 24, "guidance": 40, "diffseg": 24}
CHEAP = ["--set", 'task.masking.methods=["center", "cls", "random"]', "--set", "task.masking.fractions={ from = 0.0, to = 0.5, step = 0.5 }"]


def timed(command):
    """Seconds of the processor and peak memory in bytes; fails where the command does."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def experiment(tokenrank, name, items, folder):
    out = folder / name
    command = [tokenrank, "run", f"configs/mini/{name}.toml", "--limit", str(items), "--shard", "1/1", "--out"]
    seconds, peak = timed([*command, str(out)])
    shard = out / "shard-1-of-1"
    lines = (shard / "records.jsonl").read_bytes().splitlines(keepends=True)
    segments = [line for line in lines if line.startswith(b'{"segment"')]
    again = min(timed([*command, str(out)])[0] for _ in range(3))
    log = folder / f"{name}.strace"
    subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-o", log, "-e", "trace=fsync,fdatasync", *command, str(folder / f"{name}-traced")],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    syncs = len(re.findall(r"\b(?:fsync|fdatasync)\(", log.read_text()))
    resumed = folder / f"{name}.idle.strace"
    subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-o", resumed, "-e", "trace=fsync,fdatasync", *command, str(out)],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    idle = len(re.findall(r"\b(?:fsync|fdatasync)\(", resumed.read_text()))
    return {
        "items": items,
        "batches": len(segments),
        "record_bytes_per_item": round(sum(len(line) for line in lines if line not in segments) / items, 1),
        "segment_bytes_per_batch": round(sum(map(len, segments)) / len(segments), 1),
        "picture_bytes_per_item": round(size(shard / "pictures") / items, 1),
        "syncs": syncs,
        "syncs_of_a_finished_shard": idle,
        "cpu_seconds": round(seconds, 2),
        "cpu_seconds_of_a_finished_shard": round(again, 2),
        "peak_host_bytes": peak,
    }


def merges(tokenrank, counts, folder):
    rows = []
    for count in counts:
        out = folder / f"merge-{count}"
        command = [tokenrank, "run", "configs/mini/masking-vit.toml", *CHEAP, "--set", f"dataset.mini.count={count}",
                   "--set", "task.masking.batch=64", "--out", str(out)]
        for shard in (1, 2):
            timed([*command, "--shard", f"{shard}/2"])
        records = sum(path.stat().st_size for path in out.rglob("records.jsonl"))
        seconds, peak = timed([tokenrank, "merge", str(out)])
        rows.append({"items": count, "record_bytes": records, "cpu_seconds": round(seconds, 2), "peak_host_bytes": peak})
        print(rows[-1], flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenrank", required=True)
    parser.add_argument("--merge", type=int, nargs="*", default=[500, 1000, 2000])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    tokenrank = os.path.abspath(args.tokenrank)
    report = {"command": "python tools/measure_spread.py --tokenrank target/debug/tokenrank --out FILE", "cores": os.cpu_count(),
              "experiments": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, items in EXPERIMENTS.items():
            report["experiments"][name] = experiment(tokenrank, name, items, folder)
            print(name, report["experiments"][name], flush=True)
        report["merge"] = merges(tokenrank, args.merge, folder)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
