"""Times the masking experiment of a ViT-B/16 with random weights in transformers, and `tokenrank run` beside it.

    cargo build --release
    python tools/bench_vit_transformers.py --device cuda:0 --ours target/release/tokenrank --out results/gpu/NAME-vit.json
    python tools/bench_vit_transformers.py --tiny --ours target/debug/tokenrank

Both remove the most important patches of every image by the same scores (column sum, CLS row, TokenRank of the mean map, TokenRank
of the λ₂-weighted map; CLS kept and dropped) and classify what remains, for 19 fractions; ours has the rows `random` and `center`
too. Ours is the whole command: start, decoding, chains, records; its time for an image is the difference of two runs, so that the
start does not count. The peer starts from pixels on the device and writes nothing. It runs eagerly, and with `--compile` its masked
passes go through `torch.compile`; its λ₂ is `torch.linalg.eigvals`, run for one image of the batch, whose time is given apart.

Pinned: torch 2.11.0, transformers 5.23.0 (5.17.0 gives the same operations).
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import ViTConfig, ViTForImageClassification

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
LAST, ALPHA, BOUNCES = 4, 0.99, 50
FRACTIONS = [0.05 * step for step in range(1, 20)]
# Rows of ours: random, center, cls, and with and without CLS column sum, TokenRank, TokenRank by λ₂.
ROWS = 9
EXPERIMENT = """title = "masking, ViT-B with random weights"
[model]
path = "{model}"
dtype = "{dtype}"

[dataset.mini]
count = {count}

[task.masking]
methods = ["random", "center", "column-sum", "cls", "tokenrank", "tokenrank-lambda2"]
cls = ["kept", "dropped"]
layers = "last:4"
heads = "before-ranking"
alpha = 0.99
batch = {batch}
fractions = {{ from = 0.0, to = 0.95, step = 0.05 }}
"""


def network(tiny):
    narrow = dict(hidden_size=64, num_hidden_layers=5, num_attention_heads=4, intermediate_size=128, image_size=64, patch_size=8)
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(num_labels=1000, **(narrow if tiny else {}))).eval()


def write(model, folder):
    model.save_pretrained(folder)
    side = model.config.image_size
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "ViTImageProcessor", "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
    }))


def ours(args, folder, dtype, count, number):
    """Wall seconds of one run of the program over `count` images."""
    file = folder / "experiment.toml"
    file.write_text(EXPERIMENT.format(model=folder / "vit", dtype=dtype, count=count, batch=args.batch))
    command = [args.ours, "run", file, "--device", args.device, "--out", folder / f"run-{number}"]
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{args.ours} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


class Peer:
    def __init__(self, model, dtype, device, compiled):
        self.model = model.to(device=device, dtype=dtype)
        self.device, self.dtype, self.times = device, dtype, {}
        self.encode = self.encoded
        if compiled:
            self.encode = torch.compile(self.encoded, dynamic=True)

    def encoded(self, tokens):
        """Logits of tokens [batch, 1 + patches, width]."""
        vit = self.model.vit
        for layer in layers(vit):
            out = layer(tokens)
            tokens = out[0] if isinstance(out, tuple) else out
        return self.model.classifier(vit.layernorm(tokens)[:, 0])

    def lap(self, name, start):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - start
        return time.perf_counter()

    @torch.no_grad()
    def batch(self, pixels):
        start = self.lap("", time.perf_counter())
        self.model.set_attn_implementation("eager")
        tokens = self.model.vit.embeddings(pixels)
        out = self.model(pixels, output_attentions=True)
        maps = torch.cat(out.attentions[-LAST:], 1).float()
        self.model.set_attn_implementation("sdpa")
        start = self.lap("probed pass", start)
        scores = [maps.mean(1)[:, 0, 1:]]
        for kept in (True, False):
            chains = maps if kept else maps[..., 1:, 1:] / maps[..., 1:, 1:].sum(-1, keepdim=True)
            first = self.lap("scores", start)
            weight = torch.linalg.eigvals(chains[0]).abs().sort(-1, descending=True).values[None, :, 1]
            start = self.lap("eigvals", first)
            weighted = torch.einsum("bh,bhij->bij", (weight / weight.sum()).expand(len(maps), -1), chains)
            mean = chains.mean(1)
            for states in (mean.mean(1), rank(mean), rank(weighted)):
                scores.append(states[:, 1:] if kept else states)
        orders = torch.stack(scores, 1).argsort(-1, descending=True)
        start = self.lap("scores", start)
        patches = tokens.shape[1] - 1
        for fraction in FRACTIONS:
            left = orders[..., int(fraction * patches + 0.5) :].flatten(0, 1)
            each = tokens.repeat_interleave(len(scores), 0)
            index = torch.cat([torch.zeros_like(left[:, :1]), left + 1], 1)
            self.encode(each.gather(1, index[..., None].expand(-1, -1, each.shape[-1]))).argmax(-1).cpu()
        self.lap("masked passes", start)
        return len(scores)


def layers(vit):
    return vit.layers if hasattr(vit, "layers") else vit.encoder.layer


def rank(chains):
    state = torch.full(chains.shape[:-1], 1 / chains.shape[-1], device=chains.device)
    for _ in range(BOUNCES):
        state = ALPHA * torch.bmm(state[:, None], chains)[:, 0] + (1 - ALPHA) / chains.shape[-1]
    return state


def peer(model, args, dtype, device, compiled):
    side = model.config.image_size
    one = Peer(model, DTYPES[dtype], device, compiled)
    pixels = torch.randn(args.batch, 3, side, side, device=device, dtype=DTYPES[dtype])
    rows = one.batch(pixels)
    seconds = []
    for _ in range(args.repeat):
        one.times = {}
        one.batch(pixels)
        # λ₂ is that of one image.
        images = {stage: 1 if stage == "eigvals" else args.batch for stage in one.times}
        seconds.append({stage: took / images[stage] for stage, took in one.times.items() if stage})
    stages = {stage: statistics.median(each[stage] for each in seconds) for stage in seconds[0]}
    # Ours removes patches by two rows more.
    stages["masked passes"] *= ROWS / rows
    return stages


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the miniature's shape, for a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", default="f32,bf16", help="of the network")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--counts", default="64,320", help="images of the two runs of ours")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also the peer with torch.compile")
    parser.add_argument("--ours", type=Path, required=True, help="the built program")
    parser.add_argument("--name", help="of the device; CUDA tells it otherwise")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    name = args.name or (torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu")
    few, many = (int(count) for count in args.counts.split(","))
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write(network(args.tiny), folder / "vit")
        for number, dtype in enumerate(args.dtypes.split(",")):
            start, whole = (ours(args, folder, dtype, count, f"{number}-{count}") for count in (few, many))
            mine = (whole - start) / (many - few)
            print(f"{dtype}: tokenrank {1 / mine:.1f} images/s ({start:.1f} s for {few} images)", flush=True)
            for compiled in (False, True)[: 1 + args.compile]:
                stages = peer(network(args.tiny), args, dtype, device, compiled)
                passes = stages["probed pass"] + stages["masked passes"] + stages["scores"]
                runs.append({
                    "dtype": dtype, "peer": "compiled" if compiled else "eager", "tokenrank_seconds_per_image": mine,
                    "tokenrank_seconds_of_few": start, "peer_seconds_per_image": stages,
                    "times_as_fast": (passes + stages["eigvals"]) / mine, "times_as_fast_without_eigvals": passes / mine,
                })
                shown = ", ".join(f"{stage} {1e3 * took:.2f} ms" for stage, took in stages.items())
                print(f"  transformers, {runs[-1]['peer']}: {shown} an image", flush=True)
                print(f"  ours is {runs[-1]['times_as_fast']:.2f} x as fast, {passes / mine:.2f} x without the peer's λ₂", flush=True)
    report = {
        "program": f"transformers {transformers.__version__}", "torch": torch.__version__, "device": name, "batch": args.batch,
        "images": [few, many], "rows": ROWS, "fractions": len(FRACTIONS), "runs": runs,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
