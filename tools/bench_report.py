"""Times `report` on invented runs of the miniature masking experiment (9 methods): seconds, size of the page, peak memory.

    cargo build --release -p pages --example report_bench
    python tools/bench_report.py target/release/examples/report_bench [--items 1000 10000 100000] [--rounds 5]
        [--before OLDER_PROGRAM] [--folder FOLDER] [--out results/bench/report.json]

`--before` is the same example built from an older version; the two take turns. Runs are kept in `--folder` for the next time.
Only the standard library is needed.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path


def report(program, folder):
    """Writes the page. Returns wall-clock seconds, processor seconds, bytes of the page, and MiB of memory at most."""
    with subprocess.Popen([program, "report", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        found = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{program} failed"
    return {**found, "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3), "peak_mib": usage.ru_maxrss // 1024}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", help="the example report_bench of pages")
    arguments.add_argument("--items", type=int, nargs="+", default=[1000, 10000, 100000])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--before", help="the same example of an older version")
    arguments.add_argument("--folder", type=Path, help="where the runs are")
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    programs = {"now": given.program, **({"before": given.before} if given.before else {})}
    result = {"what": "report of one masking run of 9 methods", "cores": os.cpu_count(), "rounds": given.rounds, "sizes": []}
    with tempfile.TemporaryDirectory() as scratch:
        for items in given.items:
            folder = (given.folder or Path(scratch)) / str(items)
            if not (folder / "results.json").exists():
                subprocess.run([given.program, "forge", str(items), folder], check=True)
            measured = {name: [] for name in programs}
            for _ in range(given.rounds):
                for name, program in programs.items():
                    measured[name].append(report(program, folder))
            row = {"items": items}
            for name, rounds in measured.items():
                row[name] = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
                found = row[name]
                print(f"{items:>7} items, {name:<6}: {found['seconds']:6.2f} s, {found['bytes'] / 1e6:5.1f} MB, {found['peak_mib']} MiB")
            result["sizes"].append(row)
    if given.out:
        given.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
