"""Times `tokenrank.watch` beside what people write today, and measures the peak memory of each.

    python tools/bench_python.py [--threads 1] [--out results/python/bench.json]

Two random networks of transformers: ViT-B (12 layers × 12 heads, 197 tokens) and a Llama of 4 layers × 32 heads with 8 key heads,
2,048 tokens, causal. Their matrices are drawn with the standard deviation 1.3 / √inputs, which makes attention far from uniform. Each row
runs in a process of its own, one pass after a warm-up on the same input:

- plain: the pass alone, attention by PyTorch's fused kernel;
- watch: the same pass inside `tokenrank.watch`, λ₂ (relative error 1e-4) and TokenRank of every head;
- watch λ₂, watch TokenRank: one of the two;
- stored: `output_attentions=True` with eager attention, all maps kept until the end;
- eigvals, power: what is done with the stored maps of one layer: `torch.linalg.eigvals` of each head, and the power method of all
  heads of the layer at once (alpha 0.99, L1 change below 1e-5, at most 200 steps); tokenrank.lambda2 (relative error 1e-4) and
  tokenrank.token_rank of the same maps. The time of the network is the time of the measured heads times the number of heads over theirs.

Times are those of the processor, which on one thread hardly depend on what else runs. Memory is the peak resident size of the process
minus that before the pass. Pinned: torch 2.11.0, transformers 5.23.0.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

NETWORKS = ("ViT-B, 197 tokens", "Llama, 2,048 tokens")
ROWS = ("plain", "watch", "watch λ₂", "watch TokenRank", "stored", "eigvals", "lambda2", "power", "token_rank")


def network(name, attention):
    import torch
    import transformers

    torch.manual_seed(0)
    if name.startswith("ViT"):
        config = transformers.ViTConfig()
        model = transformers.ViTModel._from_config(config, attn_implementation=attention)
        inputs = {"pixel_values": torch.randn(1, 3, 224, 224)}
        return drawn(model), inputs, config.num_hidden_layers * config.num_attention_heads
    config = transformers.LlamaConfig(
        vocab_size=4096,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=4,
        num_attention_heads=32,
        num_key_value_heads=8,
        use_cache=False,
    )
    model = transformers.LlamaModel._from_config(config, attn_implementation=attention)
    inputs = {"input_ids": torch.randint(4096, (1, 2048))}
    return drawn(model), inputs, config.num_hidden_layers * config.num_attention_heads


def drawn(model):
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 1.3 * parameter[0].numel() ** -0.5, generator=generator)
    return model.eval()


def maps_of_last_layer(name):
    import torch

    model, inputs, heads = network(name, "eager")
    with torch.no_grad():
        maps = model(**inputs, output_attentions=True).attentions[-1][0]
    return maps, heads


def power_method(maps, alpha=0.99, tolerance=1e-5, limit=200):
    """Steady states of matrices [heads, n, n] and the number of steps of the slowest."""
    import torch

    heads, n, _ = maps.shape
    teleported = alpha * maps + (1 - alpha) / n
    state = torch.full((heads, 1, n), 1 / n)
    for step in range(1, limit + 1):
        moved = torch.bmm(state, teleported)
        moved = moved / moved.sum(-1, keepdim=True)
        change = (moved - state).abs().sum(-1).max()
        state = moved
        if change < tolerance:
            break
    return state[:, 0], step


def ours_of_maps(maps, row, heads, threads):
    import warnings

    import tokenrank

    warnings.simplefilter("ignore", tokenrank.CausalWarning)
    asked = {"tol": 1e-4} if row == "lambda2" else {"alpha": 0.99}
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        getattr(tokenrank, row)(maps, threads=threads, **asked)
        best = min(best, time.process_time() - started)
    return {"seconds": best * heads / len(maps), "heads measured": len(maps), "heads": heads}


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak():
    """Resets the peak of the process to its present size, where the system lets it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024, (
            int(status.split("VmRSS:")[1].split()[0]) / 1024
        )
    except OSError:
        return peak_mb, 0.0


def measure(name, row, threads):
    import torch

    torch.set_num_threads(threads)
    if row in ("eigvals", "power", "lambda2", "token_rank"):
        maps, heads = maps_of_last_layer(name)
        if row in ("lambda2", "token_rank"):
            return ours_of_maps(maps, row, heads, threads)
        if row == "eigvals":
            maps = maps[: 2 if maps.shape[-1] > 1000 else None]
            started = time.process_time()
            for matrix in maps:
                torch.linalg.eigvals(matrix).abs().sort(descending=True).values[1].item()
            seconds = time.process_time() - started
            return {"seconds": seconds * heads / len(maps), "heads measured": len(maps), "heads": heads}
        power_method(maps)
        started = time.process_time()
        _, steps = power_method(maps)
        seconds = time.process_time() - started
        return {"seconds": seconds * heads / len(maps), "heads measured": len(maps), "heads": heads, "steps": steps}

    import tokenrank

    model, inputs, heads = network(name, "eager" if row == "stored" else "sdpa")
    asked = {"watch": {}, "watch λ₂": {"token_rank": False}, "watch TokenRank": {"lambda2": False}}

    def run():
        with torch.no_grad():
            if row == "stored":
                return model(**inputs, output_attentions=True).attentions
            if row == "plain":
                return model(**inputs).last_hidden_state
            with tokenrank.watch(model, tol=1e-4, threads=threads, **asked[row]) as seen:
                model(**inputs)
            return seen

    run()
    peak, before = reset_peak()
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        kept = run()
        best = min(best, time.process_time() - started)
    del kept
    return {"seconds": best, "peak MB above the network": peak() - before, "peak MB": peak(), "heads": heads}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args.network, args.row, args.threads)))
        return
    results = {}
    for name in NETWORKS:
        for row in ROWS:
            command = [sys.executable, __file__, "--threads", str(args.threads), "--network", name, "--row", row]
            environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "RAYON_NUM_THREADS": str(args.threads)}
            output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            found = results.setdefault(name, {})[row] = json.loads(output.splitlines()[-1])
            memory = f"{found['peak MB above the network']:8.0f} MB" if "peak MB above the network" in found else ""
            print(f"{name:22} {row:16} {found['seconds']:9.3f} s {memory}", flush=True)
        rows = results[name]
        rows["ratios"] = ratios(rows)
        for what, ratio in rows["ratios"].items():
            print(f"{name:22} {what}: {ratio:.2f}", flush=True)
    if args.out:
        import torch
        import transformers

        import tokenrank

        about = {
            "command": f"python tools/bench_python.py --threads {args.threads} --out {args.out}",
            "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
            "versions": {
                "tokenrank": tokenrank.__version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "python": platform.python_version(),
            },
            "threads": args.threads,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({**about, "networks": results}, indent=2, ensure_ascii=False) + "\n")


def ratios(rows):
    seconds = {row: found["seconds"] for row, found in rows.items()}
    peak = {row: found["peak MB"] for row, found in rows.items() if "peak MB" in found}
    stored = seconds["stored"]
    return {
        "eigvals / lambda2, of stored maps": seconds["eigvals"] / seconds["lambda2"],
        "power method / token_rank, of stored maps": seconds["power"] / seconds["token_rank"],
        "pass that stores maps, and eigvals / pass with watch λ₂": (stored + seconds["eigvals"]) / seconds["watch λ₂"],
        "pass that stores maps, and power method / pass with watch TokenRank": (stored + seconds["power"]) / seconds["watch TokenRank"],
        "memory of watch / plain pass": peak["watch"] / peak["plain"],
        "memory of stored maps / plain pass": peak["stored"] / peak["plain"],
    }


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
