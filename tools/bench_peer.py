"""Times λ₂ and TokenRank of attention heads in our program, SciPy and torch in turn, and prints the ratios beside the aims.

    python tools/bench_peer.py --ours target/release/examples/bench_heads \\
        [--model DIR --image FILE] [--sizes 224,384,480,592,1024] [--threads 1] [--rounds 5] [--out FILE.json]

With a Hugging Face ViT and a picture the maps are those of its heads at each image size, CLS dropped and rows renormalised.
Otherwise they are softmaxes of random queries and keys, and `--sizes` counts tokens (200,577,900,1370,4096): tokens of one of eight
groups prefer each other, and the logits have standard deviations from 1 in the first head to 4 in the last.

The peers per head: ARPACK (`scipy.sparse.linalg.eigs`, k = 2, same precision and tolerance as ours), `torch.linalg.eigvals`, and
power iterations (alpha 0.99, L1 change below 1e-5, at most 200 steps) with `torch.mv` head by head and with `torch.bmm` for all heads
until the last has converged. Teleported matrices and copies in double precision are made before the clock starts.

Ours and the peers take turns, so that both see the same other work on the machine. With one thread the clock is the processor
time of each program, with several the wall. Numbers are medians of the rounds; a ratio is the median of the ratios of the rounds.

Pinned: torch 2.11.0, scipy 1.17.1, transformers 5.23.0, pillow 13.0.0, numpy. `cargo xtask bench` calls this.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

PIXELS = "224,384,480,592,1024"
TOKENS = "200,577,900,1370,4096"
# Eigenvalues of larger matrices take a minute each.
EIGVALS_TOKENS = 1500
EIGVALS_HEADS = 2
# Float32 maps of one size, in bytes.
MEMORY = 300_000_000
AIM_ARPACK, AIM_EIGVALS, AIM_RANK = 3, 100, 4


def parse():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--ours", required=True, help="the example bench_heads of markov-core")
    arguments.add_argument("--model")
    arguments.add_argument("--image")
    arguments.add_argument("--sizes", help=f"pixels with a model (default {PIXELS}), tokens without (default {TOKENS})")
    arguments.add_argument("--threads", type=int, default=1, help="for both sides")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--out", type=Path, help="where the numbers go as JSON")
    return arguments.parse_args()


given = parse()
# OpenBLAS reads these when NumPy and SciPy are imported.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(given.threads)

import numpy as np  # noqa: E402
import scipy  # noqa: E402
import torch  # noqa: E402
from scipy.sparse.linalg import ArpackError, eigs  # noqa: E402


def chosen(count, tokens, most=None):
    """Heads evenly from all, as many as fit into memory."""
    most = max(2, min(count, most or count, MEMORY // (4 * tokens * tokens)))
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


def photograph(model, size):
    from PIL import Image

    image = Image.open(given.image).convert("RGB").resize((size, size), Image.BICUBIC)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        maps = model(pixels, output_attentions=True, interpolate_pos_encoding=True).attentions
    heads = [head for block in maps for head in block[0]]
    tokens = heads[0].shape[0] - 1
    parts = [heads[k][1:, 1:] for k in chosen(len(heads), tokens)]
    return torch.stack([part / part.sum(-1, keepdim=True) for part in parts])


def draw(tokens, heads=36, width=64, groups=8):
    generator = torch.Generator().manual_seed(0)
    maps = []
    which = chosen(heads, tokens)
    for head in which:
        centres = torch.randn((groups, width), generator=generator)
        group = torch.randint(groups, (tokens,), generator=generator)
        query, key = (centres[group] + torch.randn((tokens, width), generator=generator) for _ in range(2))
        logits = query @ key.T
        maps.append((logits * ((1 + 3 * head / (heads - 1)) / logits.std())).softmax(-1))
    return torch.stack(maps)


class Ours:
    """Our program, which does what it is told and answers."""

    def __init__(self, path):
        command = [given.ours, path, "--threads", str(given.threads), "--serve"]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        clock = ctypes.c_int()
        ctypes.CDLL(None).clock_getcpuclockid(self.program.pid, ctypes.byref(clock))
        self.clock = clock.value

    def now(self):
        return time.clock_gettime(self.clock) if given.threads == 1 else time.perf_counter()

    def __call__(self, work):
        start = self.now()
        self.program.stdin.write(work + "\n")
        self.program.stdin.flush()
        answer = json.loads(self.program.stdout.readline())
        return (self.now() - start) * 1e3 / len(answer), answer

    def close(self):
        self.program.stdin.close()
        self.program.wait()


def timed(run, items):
    """Milliseconds per item, and the results."""
    now = time.process_time if given.threads == 1 else time.perf_counter
    start = now()
    out = run(items)
    return (now() - start) * 1e3 / len(items), out


def arpack(tolerance):
    def one(matrix):
        try:
            return float(np.sort(np.abs(eigs(matrix, k=2, tol=tolerance, return_eigenvectors=False)))[0])
        except ArpackError:
            return float("nan")

    return lambda matrices: [one(matrix) for matrix in matrices]


def eigvals(matrices):
    return [torch.linalg.eigvals(matrix).abs().sort(descending=True).values[1].item() for matrix in matrices]


def power(matrices, tolerance=1e-5, limit=200):
    """Numbers of steps; the matrices are already teleported."""
    steps = []
    for matrix in matrices:
        n = matrix.shape[0]
        state = torch.full((n,), 1 / n)
        for step in range(1, limit + 1):
            moved = torch.mv(matrix.T, state)
            moved = moved / moved.sum()
            change, state = torch.norm(moved - state, p=1), moved
            if change < tolerance:
                break
        steps.append(step)
    return steps


def batched_power(matrices, tolerance=1e-5, limit=200):
    heads, n, _ = matrices.shape
    state = torch.full((heads, 1, n), 1 / n)
    for step in range(1, limit + 1):
        moved = torch.bmm(state, matrices)
        moved = moved / moved.sum(-1, keepdim=True)
        change, state = (moved - state).abs().sum(-1).max(), moved
        if change < tolerance:
            break
    return [step] * heads


def relative(found, want):
    return max(abs(a - b) / max(b, 1e-3) for a, b in zip(found, want))


def measure(maps, scratch):
    path = f"{scratch}/maps.npy"
    np.save(path, maps.numpy().astype("<f4"))
    heads, tokens, _ = maps.shape
    single = list(maps.numpy())
    double = [matrix.astype(np.float64) for matrix in single]
    few = [maps[k] for k in chosen(heads, tokens, EIGVALS_HEADS)] if tokens <= EIGVALS_TOKENS else []
    teleported = 0.99 * maps + 0.01 / tokens
    ours = Ours(path)
    reference = ours("lambda2 1e-12")[1]
    # What, ours, the peer, its work, its items, the aim.
    pairs = [
        ("λ₂ to 1e-4", "lambda2 1e-4", "ARPACK", arpack(1e-4), single, AIM_ARPACK),
        ("λ₂ to 1e-10", "lambda2 1e-10", "ARPACK", arpack(1e-10), double, AIM_ARPACK),
        ("λ₂ to 1e-4", "lambda2 1e-4", "torch eigvals", eigvals, few, AIM_EIGVALS if tokens > 500 else None),
        ("TokenRank, accelerated", "accelerated", "torch bmm power", batched_power, teleported, AIM_RANK),
        ("TokenRank, accelerated", "accelerated", "torch mv power", power, teleported, None),
        ("TokenRank, exact", "strict", "torch mv power", power, teleported, None),
        ("TokenRank, power method", "power", "torch mv power", power, teleported, None),
    ]
    rows = []
    for what, work, peer, run, items, aim in pairs:
        if not len(items):
            continue
        ours(work)
        mine, theirs = [], []
        for _ in range(given.rounds):
            spent, found = ours(work)
            mine.append(spent)
            spent, other = timed(run, items)
            theirs.append(spent)
        row = {
            "what": what,
            "peer": peer,
            "ours_ms": statistics.median(mine),
            "peer_ms": statistics.median(theirs),
            "ratio": statistics.median(other / own for own, other in zip(mine, theirs)),
            "aim": aim,
        }
        if run is eigvals:
            row["largest_relative_difference"] = relative([found[k] for k in chosen(heads, tokens, EIGVALS_HEADS)], other)
        elif peer == "ARPACK":
            row["error"] = relative(found, reference)
            row["peer_error"] = relative([value for value in other if value == value], reference)
        else:
            row["peer_steps"] = statistics.mean(other)
        rows.append(row)
    ours.close()
    return {"tokens": tokens, "heads": heads, "rows": rows}


def main():
    torch.set_num_threads(given.threads)
    real = bool(given.model and given.image)
    sizes = [int(size) for size in (given.sizes or (PIXELS if real else TOKENS)).split(",")]
    if real:
        from transformers import ViTForImageClassification

        model = ViTForImageClassification.from_pretrained(given.model, attn_implementation="eager").float().eval()
    clock = "processor time" if given.threads == 1 else "wall time"
    source = "heads of a real ViT" if real else "softmaxes of random queries and keys"
    result = {
        "command": "cargo xtask bench" + " --model DIR --image FILE" * real + f" --threads {given.threads}",
        "maps": source,
        "threads": given.threads,
        "rounds": given.rounds,
        "clock": clock,
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "sizes": {},
    }
    print(f"{source}, {given.threads} thread(s) each, ms of {clock} per head, medians of {given.rounds} runs in turn")
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
            maps = photograph(model, size) if real else draw(size)
            found = measure(maps, scratch)
        if real:
            found["pixels"] = size
        result["sizes"][str(found["tokens"])] = found
        print(f"{found['tokens']} tokens, {found['heads']} heads")
        for row in found["rows"]:
            aim = f"aim {row['aim']} x" if row["aim"] else ""
            numbers = f"{row['ours_ms']:9.3f}   {row['peer']:<16} {row['peer_ms']:9.3f}   {row['ratio']:7.1f} x   {aim}"
            print(f"  {row['what']:<24} {numbers}", flush=True)
    result["load_after"] = os.getloadavg()[0]
    print(f"load of the machine: {result['load_before']:.1f} before, {result['load_after']:.1f} after, {os.cpu_count()} processors")
    if given.out:
        given.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
