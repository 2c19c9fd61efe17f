"""Times the masking experiment of a ViT in transformers, and `tokenrank run` beside it, in turn.

    cargo build --release
    python tools/bench_vit_transformers.py --device cuda:0 --ours target/release/tokenrank --out results/gpu/NAME-vit.json
    python tools/bench_vit_transformers.py --model DIR --images DIR --dtypes f32 --batch 4 --counts 4,8 --threads 1 \\
        --ours target/release/tokenrank --out results/bench/masking.json
    python tools/bench_vit_transformers.py --tiny --ours target/debug/tokenrank

Both remove the most important patches of every image by the same scores (column sum, CLS row, TokenRank of the mean map, TokenRank
of the λ₂-weighted map; CLS kept and dropped) and classify what remains, for 19 fractions; ours has the rows `random` and `center`
too. Ours is the whole command: start, decoding, chains, records; its time for an image is the difference of two runs, so that the
start does not count. A third run with the first fraction alone tells what the masked passes after it take. The peer starts from pixels on the device and
writes nothing. It runs eagerly, and with `--compile` its masked passes go through `torch.compile`; its λ₂ is
`torch.linalg.eigvals`, run for one image of the batch, whose time is given apart.

Without `--model` the network is a ViT-B/16 with random weights on drawn scenes, and the chains are those of the last four blocks.
With it, the network and its images are read from files, and the chains are those of all blocks. On a CPU with one thread the clock is
the processor time of each side, otherwise the wall. Numbers are medians of the rounds; a ratio is the median of the rounds' ratios.

Pinned: torch 2.11.0, transformers 5.23.0 (5.17.0 gives the same operations).
"""

import argparse
import json
import os
import resource
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
AIM, AIM_PASSES = 2, 1.5
FRACTIONS = [0.05 * step for step in range(1, 20)]
# Rows of ours: random, center, cls, and with and without CLS column sum, TokenRank, TokenRank by λ₂.
ROWS = 9
EXPERIMENT = """title = "masking, ViT-B with random weights"
[model]
path = "{model}"
dtype = "{dtype}"

{dataset}

[task.masking]
methods = ["random", "center", "column-sum", "cls", "tokenrank", "tokenrank-lambda2"]
cls = ["kept", "dropped"]
layers = "last:{last}"
heads = "before-ranking"
alpha = 0.99
batch = {batch}
fractions = {{ from = 0.0, to = {most}, step = 0.05 }}
"""


def random_network(tiny):
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


class Ours:
    """The program; each call runs an experiment of its own."""

    def __init__(self, args, folder, dtype, last):
        self.args, self.folder, self.dtype, self.last, self.runs = args, folder, dtype, last, 0

    def seconds(self, count, most=0.95):
        """The time of a run over `count` images, which removes up to the share `most` of the patches."""
        args, self.runs = self.args, self.runs + 1
        dataset = f'[dataset.folder]\nroot = "{args.images.resolve()}"' if args.model else f"[dataset.mini]\ncount = {count}"
        file = self.folder / "experiment.toml"
        model = args.model.resolve() if args.model else self.folder / "vit"
        file.write_text(EXPERIMENT.format(model=model, dtype=self.dtype, dataset=dataset, last=self.last, batch=args.batch, most=most))
        out = self.folder / f"run-{self.dtype}-{self.runs}"
        command = [args.ours, "run", file, "--device", args.device, "--limit", count, "--out", out]
        start, spent = time.perf_counter(), children()
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=args.env)
        if done.returncode:
            raise SystemExit(f"{args.ours} failed:\n{done.stderr[-2000:]}")
        return children() - spent if args.processor else time.perf_counter() - start

    def image(self):
        """Seconds of an image, of its masked passes after the first, and of the run over few images."""
        few, many = self.args.counts
        start, whole, first = self.seconds(few), self.seconds(many), self.seconds(many, most=FRACTIONS[0])
        return (whole - start) / (many - few), (whole - first) / many, start


def children():
    """Processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Peer:
    def __init__(self, model, dtype, device, compiled, processor, last):
        self.model = model.to(device=device, dtype=dtype)
        self.now, self.last = time.process_time if processor else time.perf_counter, last
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
        self.times[name] = self.times.get(name, 0.0) + self.now() - start
        return self.now()

    @torch.no_grad()
    def batch(self, pixels):
        start = self.lap("", self.now())
        self.model.set_attn_implementation("eager")
        tokens = self.model.vit.embeddings(pixels)
        out = self.model(pixels, output_attentions=True)
        maps = torch.cat(out.attentions[-self.last :], 1).float()
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
            start = self.lap("first masked pass" if fraction == FRACTIONS[0] else "masked passes", start)
        return len(scores)


def layers(vit):
    return vit.layers if hasattr(vit, "layers") else vit.encoder.layer


def rank(chains):
    state = torch.full(chains.shape[:-1], 1 / chains.shape[-1], device=chains.device)
    for _ in range(BOUNCES):
        state = ALPHA * torch.bmm(state[:, None], chains)[:, 0] + (1 - ALPHA) / chains.shape[-1]
    return state


def photographs(args, model, device, dtype):
    """Pixels of a batch, [batch, 3, side, side]."""
    side = model.config.image_size
    if not args.model:
        return torch.randn(args.batch, 3, side, side, device=device, dtype=dtype)
    import numpy as np
    from PIL import Image

    files = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})[: args.batch]
    images = [np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.BILINEAR)) for path in files]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.to(device=device, dtype=dtype)


def stages(one, pixels):
    """Seconds of an image in each stage."""
    one.times = {}
    rows = one.batch(pixels)
    # λ₂ is that of one image.
    images = {stage: 1 if stage == "eigvals" else len(pixels) for stage in one.times}
    found = {stage: took / images[stage] for stage, took in one.times.items() if stage}
    # Ours removes patches by two rows more.
    for stage in ("first masked pass", "masked passes"):
        found[stage] *= ROWS / rows
    return found


def medians(rounds):
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, help="folder of a Hugging Face ViT")
    parser.add_argument("--images", type=Path, help="folder of photographs with labels.csv")
    parser.add_argument("--tiny", action="store_true", help="the miniature's shape, for a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="for both sides; default: all cores")
    parser.add_argument("--dtypes", default="f32,bf16", help="of the network")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--counts", default="64,320", help="images of the two runs of ours")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--compile", action="store_true", help="also the peer with torch.compile")
    parser.add_argument("--ours", type=Path, required=True, help="the built program")
    parser.add_argument("--name", help="of the device; CUDA tells it otherwise")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    name = args.name or (torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu")
    args.counts = [int(count) for count in args.counts.split(",")]
    args.processor = device.type == "cpu" and args.threads == 1
    args.env = dict(os.environ)
    if args.threads:
        torch.set_num_threads(args.threads)
        args.env |= {"OMP_NUM_THREADS": str(args.threads), "RAYON_NUM_THREADS": str(args.threads)}

    def network():
        return ViTForImageClassification.from_pretrained(args.model).float().eval() if args.model else random_network(args.tiny)

    last = network().config.num_hidden_layers if args.model else LAST
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if not args.model:
            write(network(), folder / "vit")
        for dtype in args.dtypes.split(","):
            mine = Ours(args, folder, dtype, last)
            peers = {
                "compiled" if compiled else "eager": Peer(network(), DTYPES[dtype], device, compiled, args.processor, last)
                for compiled in (False, True)[: 1 + args.compile]
            }
            pixels = photographs(args, network(), device, DTYPES[dtype])
            for one in peers.values():
                one.batch(pixels)
            rounds = []
            for _ in range(args.repeat):
                image, passes, start = mine.image()
                rounds.append({"image": image, "passes": passes, "start": start, "peers": {n: stages(one, pixels) for n, one in peers.items()}})
            for peer in peers:
                ratios = []
                for each in rounds:
                    of_peer = each["peers"][peer]
                    rest = sum(took for stage, took in of_peer.items() if stage != "eigvals")
                    ratios.append({
                        "times_as_fast": (rest + of_peer["eigvals"]) / each["image"],
                        "times_as_fast_without_eigvals": rest / each["image"],
                        "masked_passes_times_as_fast": of_peer["masked passes"] / each["passes"],
                    })
                ours = medians([{key: each[key] for key in ("image", "passes", "start")} for each in rounds])
                runs.append({
                    "dtype": dtype, "peer": peer, "tokenrank_seconds_per_image": ours["image"],
                    "tokenrank_seconds_of_masked_passes": ours["passes"], "tokenrank_seconds_of_few": ours["start"],
                    "peer_seconds_per_image": medians([each["peers"][peer] for each in rounds]),
                    **medians(ratios), "aim": AIM, "aim_of_masked_passes": AIM_PASSES,
                })
                run = runs[-1]
                shown = ", ".join(f"{stage} {1e3 * took:.2f} ms" for stage, took in run["peer_seconds_per_image"].items())
                print(f"{dtype}: tokenrank {1e3 * ours['image']:.2f} ms an image, of which masked passes {1e3 * ours['passes']:.2f} ms")
                print(f"  transformers, {peer}: {shown}")
                print(f"  ours is {run['times_as_fast']:.2f} x as fast, {run['times_as_fast_without_eigvals']:.2f} x without the peer's λ₂,")
                print(f"  in the masked passes alone {run['masked_passes_times_as_fast']:.2f} x", flush=True)
    report = {
        "program": f"transformers {transformers.__version__}", "torch": torch.__version__, "device": name, "batch": args.batch,
        "network": "files" if args.model else "random weights", "layers": last, "threads": args.threads, "cores": os.cpu_count(),
        "clock": "processor time" if args.processor else "wall time", "rounds": args.repeat, "load": os.getloadavg()[0],
        "images": args.counts, "rows": ROWS, "fractions": len(FRACTIONS), "runs": runs,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
