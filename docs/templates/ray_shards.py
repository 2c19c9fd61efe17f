"""The shards of a run as Ray tasks, then the merge. Tried with Ray 2.60.

    python ray_shards.py --shards 8 --gpus 1 --out /shared/runs/NAME configs/EXPERIMENT.toml -- --limit 50000

What stands behind `--` goes to `tokenrank run`. Every node has to see the same paths: experiment, weights, images, --out. The
same command again goes on where the shards stopped. Exit codes are those of tokenrank.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time

import ray

DONE, USAGE, INPUT = 0, 2, 3


class Unfinished(RuntimeError):
    """A shard that has to be run again: interrupted (5), killed, or its folder still in use by a process that is ending."""


def end_with_the_worker():
    """In the child: SIGTERM when Ray's worker dies, so that it finishes its batch and lets go of the shard's folder."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def shard(number, shards, command, directory):
    """Runs one shard to its end; 0, or an exit code that no further try would change."""
    process = subprocess.Popen(
        [*command, "--shard", f"{number}/{shards}"],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        preexec_fn=end_with_the_worker,
    )
    code = process.wait()
    if code in (DONE, USAGE, INPUT):
        return code
    time.sleep(5)
    raise Unfinished(f"shard {number}/{shards} ended with {code}")


def main():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    words, passed_on = words[:cut], words[cut + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--out", required=True, help="folder of the run, seen by every node")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="of each shard")
    parser.add_argument("--cpus", type=int, default=1, help="of each shard")
    parser.add_argument("--tries", type=int, default=20, help="of each shard after the first")
    parser.add_argument("--tokenrank", default="tokenrank", help="the program, on every node")
    args = parser.parse_args(words)

    device = "cuda:0" if args.gpus else "cpu"
    out = os.path.abspath(args.out)
    command = [args.tokenrank, "run", *map(os.path.abspath, args.configs), *passed_on, "--out", out, "--device", device]
    subprocess.run([args.tokenrank, "validate", *args.configs, *passed_on], check=True)

    ray.init()
    # A lost worker or node is a try, and so is a shard that was interrupted.
    task = ray.remote(num_cpus=args.cpus, num_gpus=args.gpus, max_retries=args.tries, retry_exceptions=[Unfinished])(shard)
    running = [task.remote(number, args.shards, command, os.getcwd()) for number in range(1, args.shards + 1)]
    for number, reference in enumerate(running, start=1):
        try:
            print(f"shard {number}/{args.shards}: exit {ray.get(reference)}", file=sys.stderr)
        except ray.exceptions.RayError as error:
            print(f"shard {number}/{args.shards}: given up: {error}", file=sys.stderr)
    # The merge says what lacks, if anything does.
    sys.exit(subprocess.run([args.tokenrank, "merge", out, "--device", device]).returncode)


if __name__ == "__main__":
    main()
