#!/usr/bin/env python3
"""Times `tokenrank rank` beside a script in torch that computes the same, as whole processes, and prints the ratios.

    cargo build --bin tokenrank
    python tools/bench_rank.py --ours target/debug/tokenrank --threads 1 --out results/bench/rank.json

Both read a `.npy` file of softmaxed maps, renormalise the rows, and compute TokenRank at α = 0.99 and five bounces from token 0 for
every map. The script does it in the steps of the paper's released code: it makes the matrix of the teleporting chain and multiplies by it, in
float32, until a step changes less than 1e-6 in L1. Ours checks the matrices too, and stops within 1e-6 of the steady state. The two take
turns. What is compared is the CPU time of the process, which other work on the machine changes less than the wall time, with and
without that of a process that only starts; and the largest resident memory.

Pinned: torch 2.11.0, numpy 2.4.6.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ALPHA = 0.99
SIZES = [(36, 197), (8, 4096)]


def draw(path, maps, tokens):
    import numpy as np

    rng = np.random.default_rng(tokens)
    drawn = np.lib.format.open_memmap(path, "w+", np.float32, (maps, tokens, tokens))
    for each in drawn:
        queries, keys = rng.standard_normal((2, tokens, 64), dtype=np.float32)
        logits = queries @ keys.T * (1.5 / 8)
        each[:] = np.exp(logits - logits.max(1, keepdims=True))
        each /= each.sum(1, keepdims=True)


def peer(path, out, threads):
    """The script."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    if path == "-":
        return
    maps = torch.from_numpy(np.load(path, mmap_mode="c"))
    ranks, bounces = [], []
    for matrix in maps / maps.sum(-1, keepdim=True):
        n = len(matrix)
        chain = (ALPHA * matrix + (1 - ALPHA) / n).T
        state, change = torch.full((n,), 1 / n), 1
        while change >= 1e-6:
            moved = torch.mv(chain, state)
            change = (moved - state).abs().sum()
            state = moved
        ranks.append(state)
        state, states = torch.eye(1, n)[0], []
        for _ in range(5):
            state = torch.mv(chain, state)
            states.append(state)
        bounces.append(torch.stack(states))
    np.savez(out, tokenrank=torch.stack(ranks).numpy(), bounces=torch.stack(bounces).numpy())


def timed(command, env):
    """CPU seconds, wall seconds and largest memory in MiB of a process."""
    started = time.time()
    process = subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command}: {said.decode()}")
    return {"cpu": used.ru_utime + used.ru_stime, "wall": time.time() - started, "mib": used.ru_maxrss / 1024}


def agreement(ours, theirs):
    import numpy as np
    from safetensors.numpy import load_file

    ours, theirs = load_file(ours), np.load(theirs)
    return {key: float(np.abs(ours[key] - theirs[key]).sum(-1).max()) for key in ("tokenrank", "bounces")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--draw", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--compare", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.draw:
        return draw(args.draw[0], *map(int, args.draw[1:]))
    if args.compare:
        return print(json.dumps(agreement(*args.compare)))
    if args.peer:
        return peer(*args.peer, args.threads)
    env = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "MKL_NUM_THREADS")}
    report = {"threads": args.threads, "cores": os.cpu_count(), "load_at_start": os.getloadavg()[0], "sizes": []}
    with tempfile.TemporaryDirectory() as folder:
        for maps, tokens in SIZES:
            path, ours, theirs = (f"{folder}/{name}" for name in ("maps.npy", "ours.safetensors", "theirs.npz"))
            script = [sys.executable, __file__, "--threads", str(args.threads)]
            # In a process of its own: a child begins with the largest memory of its parent.
            subprocess.run([*script, "--draw", path, str(maps), str(tokens)], check=True)
            script.append("--peer")
            commands = {
                "ours": [args.ours, "rank", path, "--start", "0", "--bounces", "5", "--out", ours],
                "peer": [*script, path, theirs],
                "start of ours": [args.ours, "--version"],
                "start of peer": [*script, "-", theirs],
            }
            runs = {name: [] for name in commands}
            for _ in range(args.repeat):
                for name, command in commands.items():
                    runs[name].append(timed(command, env))
            middle = {
                name: {key: round(median(run[key] for run in found), 3) for key in found[0]}
                for name, found in runs.items()
            }
            net = {name: middle[name]["cpu"] - middle[f"start of {name}"]["cpu"] for name in ("ours", "peer")}
            one = {
                "maps": maps, "tokens": tokens, "file_mib": round(Path(path).stat().st_size / 2**20, 1), **middle,
                "ratio_cpu": round(middle["peer"]["cpu"] / middle["ours"]["cpu"], 2),
                "ratio_cpu_without_start": round(net["peer"] / net["ours"], 2),
                "memory_without_start_per_file": round(
                    (middle["ours"]["mib"] - middle["start of ours"]["mib"]) / (Path(path).stat().st_size / 2**20), 2
                ),
                "apart_in_l1": json.loads(subprocess.check_output([*script[:-1], "--compare", ours, theirs])),
            }
            print(json.dumps(one, indent=1))
            report["sizes"].append(one)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
