"""The masking experiment worked out a second time, with transformers, Pillow and torch, beside a run of ours.

    pip install torch==2.11.0 transformers==5.23.0 pillow==13.0.0 numpy==2.4.6 scipy==1.17.1
    python tools/check_masking.py --run DIR [--limit N] [--images DIR] [--ours-seconds S] [--out FILE.json]

DIR is the folder of a finished run: `results.json` says what was asked, `records.jsonl` what came out. Images are read
by Pillow, preprocessed by the image processor that the directory names and looked at by the network's class in
transformers (`check_networks.py`: ViT, CLIP with zero-shot classes, DINO with a linear head, DINOv2 with or without
registers), with eager attention in float32. Chains are dense and float64: λ₂ from `torch.linalg.eigvals`, TokenRank from the plain power method run to
1e-12. Masked patches are removed, zeroed or replaced as `mechanism` says, in the pixels or in the network's own embedding module
(`check_networks.py`).

A run over `[dataset.mini]` has no image files. Export the same scenes and name the folder with `--images`:

    cargo run -p tasks --example mini_export -- --out FOLDER --split val --count 500

`random` is not compared, its order comes from another generator; it is run so that the times are for the same work.

Every prediction that differs is explained or counted as unexplained:

    logit tie   in the peer, our class is less than --logit-tie behind the best one;
    order tie   the two sides have removed different tokens, whose scores lie closer than --score-tie of the largest
                one, and without those that we removed the peer says our class. Which they were is read from our score
                map where the run has kept it (`task.masking.figures`), otherwise every single exchange near the cut
                is tried.

A model directory that has changed since the run is refused. Exit code 1 where a prediction is unexplained, where
hashes, labels, unmasked predictions or score maps disagree, or where fractions and areas in `results.json` do not
follow from its settings and records.
"""

import argparse
import csv
import hashlib
import itertools
import json
import math
import platform
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
import transformers
from PIL import Image

from check_networks import peer_of

OF_CHAIN = {"column-sum", "tokenrank", "tokenrank-lambda2", "tokenrank-outgoing"}
TOKENIZER = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
]
POWER_TOLERANCE = 1e-12
# Difference of two score maps scaled to 0…1 above which they are not the same map.
MAP_TOLERANCE = 1e-3
# Differences that are printed; all of them are in the JSON.
SHOWN = 20


@dataclass(frozen=True)
class Method:
    score: str
    cls_kept: bool
    # A name, or the fill of pixels; with its name in the key of the method, which is empty if there is no other mechanism.
    mechanism: str
    suffix: str

    @property
    def ranking(self):
        return self.score if self.cls_kept else f"{self.score}-no-cls"

    @property
    def name(self):
        return self.ranking + self.suffix

    @property
    def how(self):
        return {"pixels": self.mechanism} if self.mechanism in ("grey", "black", "mean", "blur") else self.mechanism


class Run:
    """A finished run of ours."""

    def __init__(self, folder, root, limit, images):
        self.results = json.loads((folder / "results.json").read_text())
        with open(folder / "records.jsonl") as lines:
            records = (json.loads(line) for line in lines)
            self.records = [record for record in records if "id" in record][:limit]
        self.whole = len(self.records) == self.results["items"]
        experiment = self.results["experiment"]
        self.seed = experiment["seed"]
        model = experiment["model"]
        if model.get("dtype", "f32") != "f32":
            sys.exit(f"the run computed in {model['dtype']}; only f32 runs can be compared with a float32 network")
        self.model, self.root = model, root
        self.model_path = root / model["path"]
        apart = [root / model["head"]] if "head" in model else []
        if self.results["weights"]["sha256"] != weights_digest(self.model_path, apart):
            sys.exit(f"{self.model_path} no longer holds the weights of the run")
        self.masking = experiment["task"]["masking"]
        # Older results have the size with the model, and the methods as `scores`.
        self.image_size = self.masking.get("image_size", model.get("image_size"))
        self.images = self._images(experiment["dataset"], root, images)

    def _images(self, dataset, root, images):
        """(file, label) of each record."""
        [(kind, dataset)] = dataset.items()
        if kind not in ("folder", "mini"):
            sys.exit(f"[dataset.{kind}] is not read here, only folders with a labels.csv and the miniature")
        if kind == "mini" and images is None:
            sys.exit("the run drew its images in memory; export the same scenes and name the folder with --images")
        folder = images or root / dataset["root"]
        labels = "labels.csv" if images else dataset.get("labels", "labels.csv")
        with open(folder / labels, newline="") as file:
            rows = [(row["file"].strip(), int(row["label"])) for row in csv.DictReader(file, skipinitialspace=True)]
        if kind == "mini":
            # Exported scenes have other names; they are in the order of the run.
            return [(folder / name, label) for name, label in rows[: len(self.records)]]
        by_name = dict(rows)
        return [(folder / record["id"], by_name[record["id"]]) for record in self.records]

    def methods(self):
        chosen, mechanisms = self.masking["cls"], self.masking.get("mechanism", ["remove"])
        names = [mechanism if isinstance(mechanism, str) else mechanism["pixels"] for mechanism in mechanisms]
        several = len(names) > 1
        return [
            Method(score, kept == "kept", name, f"-{name}" if several and name != "remove" else "")
            for score in self.masking.get("methods") or self.masking["scores"]
            for kept in (chosen if score in OF_CHAIN else ["kept"])
            for name in names
        ]

    @property
    def direction(self):
        return self.masking.get("direction", "deletion")

    def fractions(self):
        if isinstance(self.masking["fractions"], list):
            return self.masking["fractions"]
        first, last, step = (self.masking["fractions"][key] for key in ("from", "to", "step"))
        # 0.95 / 0.05 is 18.999… in binary.
        return [first + i * step for i in range(math.floor((last - first) / step + 1e-6) + 1)]

    def blocks(self, depth):
        layers = self.masking["layers"]
        if layers == "all":
            return list(range(depth))
        if layers.startswith("last:"):
            return list(range(depth - int(layers.removeprefix("last:")), depth))
        return sorted({int(block) for block in layers.split(",")})


def weights_digest(folder, apart):
    """SHA-256 over config.json, the weight files, shards in the order of their names, files apart from them, and those that decide the
    preprocessing and, without a classifier apart, the tokens of class names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        names = [single.name]
    else:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    others = ["preprocessor_config.json"] + ([] if apart else TOKENIZER)
    files = [folder / name for name in ["config.json", *names]] + apart
    files += [folder / name for name in others if (folder / name).is_file()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class Clock:
    """Wall and processor seconds by stage."""

    def __init__(self):
        self.wall = defaultdict(float)
        self.processor = defaultdict(float)

    @contextmanager
    def __call__(self, stage):
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.wall[stage] += time.perf_counter() - wall
        self.processor[stage] += time.process_time() - processor


def steady_state(chain, alpha):
    """Steady state [n] of a teleporting chain [n, n] by the power method."""
    n = len(chain)
    transposed = chain.T.contiguous()
    state = torch.full((n,), 1 / n, dtype=chain.dtype)
    for _ in range(100_000):
        moved = alpha * torch.mv(transposed, state) + (1 - alpha) / n
        moved /= moved.sum()
        change = (moved - state).abs().sum()
        state = moved
        if change < POWER_TOLERANCE:
            return state
    raise ArithmeticError("the power method has not converged")


def second_modulus(maps):
    """λ₂ [m] of chains [m, n, n]."""
    return torch.linalg.eigvals(maps).abs().sort(-1, descending=True).values[:, 1]


def reversed_chain(chain, alpha):
    """The backward chain [n, n] of a teleporting chain: from a token to those that attend to it."""
    teleporting = alpha * chain + (1 - alpha) / len(chain)
    return (teleporting / teleporting.sum(0)).T


def rollout(layers):
    """Product [n, n], later layers to the left, of (A + 1) / 2 for the mean A of the heads of each of the layers [layers, heads, n, n]."""
    product = torch.eye(layers.shape[-1], dtype=layers.dtype)
    for heads in layers:
        product = (heads.mean(0) + torch.eye(len(product), dtype=layers.dtype)) / 2 @ product
    return product


def scores_of_chains(attention, methods, masking, special):
    """Scores [patches] of one image by ranking, from the attention [layers, heads, n, n] of the chosen layers, whose first
    `special` tokens are CLS and registers."""
    layers = attention.double()
    attention = layers.flatten(0, 1)
    by_chain = {}
    for kept in {method.cls_kept for method in methods}:
        # Leaving tokens out of a softmax is the same as leaving their columns out and normalising the rows again.
        maps = attention if kept else attention[:, special:, special:]
        by_chain[kept] = maps / maps.sum(-1, keepdim=True)
    after = masking["heads"] == "after-ranking"
    alpha = masking["alpha"]
    scores = {}
    for method in methods:
        if method.score in ("random", "center") or method.ranking in scores:
            continue
        maps = by_chain[method.cls_kept]
        mean = maps.mean(0)
        if method.score == "column-sum":
            states = mean.mean(0)
        elif method.score == "cls":
            states = mean[0]
        elif method.score == "rollout":
            states = rollout(layers)[0]
        elif method.score == "rollout-sum":
            states = rollout(layers).mean(0)
        elif method.score == "tokenrank-outgoing":
            chains = maps if after else mean[None]
            # Its jumps are part of the chain already.
            states = torch.stack([steady_state(reversed_chain(chain, alpha), 1) for chain in chains]).mean(0)
        else:
            weights = torch.full((len(maps),), 1 / len(maps), dtype=maps.dtype)
            if method.score == "tokenrank-lambda2":
                weights = second_modulus(maps)
                if masking["lambda_weight"] == "squared":
                    weights = weights**2
                weights = weights / weights.sum()
            if after:
                states = weights @ torch.stack([steady_state(chain, alpha) for chain in maps])
            else:
                states = steady_state(torch.einsum("h,hij->ij", weights, maps), alpha)
        scores[method.ranking] = (states[special:] if method.cls_kept else states).numpy()
    return scores


def nearness(grid):
    """Minus four times the squared distance to the centre, in whole numbers: equal distances are equal."""
    rows, columns = grid
    row, column = np.mgrid[:rows, :columns]
    return -((2 * row - rows + 1) ** 2 + (2 * column - columns + 1) ** 2).ravel()


def falling(scores):
    """Patches by falling score, equal scores in row order."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def counted(direction, mechanism, fraction, patches):
    """Number of patches that a fraction counts: masked ones, for insertion visible ones."""
    count = min(math.floor(fraction * patches + 0.5), patches)
    if mechanism != "remove":
        return count
    return max(count, 1) if direction == "insertion" else min(count, patches - 1)


def cut_at(direction, count, patches):
    """Number of the most important patches on one side of the cut."""
    return patches - count if direction == "least-first" else count


def masked_at(direction, order, cut):
    """The masked patches of an order that is cut there."""
    return order[:cut] if direction == "deletion" else order[cut:]


def normalised(scores):
    scores = np.asarray(scores, dtype=np.float64)
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)


def area(fractions, heights):
    strips = zip(itertools.pairwise(fractions), itertools.pairwise(heights))
    return sum((right - left) * (a + b) / 2 for (left, right), (a, b) in strips) / (fractions[-1] - fractions[0])


def areas(fractions, labels, unmasked, predicted):
    """Both readings of the AUC: over all images by unmasked accuracy, and over the images right before masking."""
    right = np.array(predicted) == np.array(labels)[:, None]
    before = np.array(unmasked) == np.array(labels)
    if not before.any():
        return None, None
    return area(fractions, right.mean(0)) / before.mean(), area(fractions, right[before].mean(0))


def digest(path, in_memory):
    """SHA-256 as the record has it: of the file, or of the pixels of a scene drawn in memory."""
    data = Image.open(path).convert("RGB").tobytes() if in_memory else path.read_bytes()
    return hashlib.sha256(data).hexdigest()


class Comparison:
    def __init__(self, run, peer, batch, ties, clock):
        self.run, self.peer, self.batch, self.clock = run, peer, batch, clock
        self.logit_tie, self.score_tie = ties
        self.methods, self.fractions = run.methods(), run.fractions()
        self.compared = 0
        self.equal_orders = Counter()
        self.differences = []
        self.mistakes = []
        self.maps = defaultdict(list)
        self.probabilities, self.logits = [], []
        self.unmasked = []
        self.predicted = {method.name: [] for method in self.methods}

    def all_images(self):
        count = len(self.run.records)
        for first in range(0, count, self.batch):
            batch = slice(first, first + self.batch)
            self.some_images(self.run.records[batch], self.run.images[batch])
            print(f"{min(batch.stop, count)} of {count} images", file=sys.stderr)

    def some_images(self, records, images):
        in_memory = "mini" in self.run.results["experiment"]["dataset"]
        for record, (path, label) in zip(records, images):
            if record["label"] != label:
                self.mistakes.append(f"{record['id']}: label {record['label']}, but {label} in labels.csv")
            if record["sha256"] != digest(path, in_memory):
                self.mistakes.append(f"{record['id']}: other pixels than {path}")
        with self.clock("decode"):
            pictures = [Image.open(path).convert("RGB") for path, _ in images]
            pixels = self.peer.pixels(pictures)
        with self.clock("probed pass"):
            tokens, attention, logits = self.peer.probed(pixels)
        down, across = self.peer.patch_size
        grid = (pixels.shape[-2] // down, pixels.shape[-1] // across)
        attention = attention[:, self.run.blocks(self.peer.depth)]
        with self.clock("chains"):
            scores = [scores_of_chains(maps, self.methods, self.run.masking, self.peer.special) for maps in attention]
        for image, of_image in enumerate(scores):
            of_image["center"] = nearness(grid)
            of_image["random"] = np.random.default_rng([self.run.seed, len(self.unmasked) + image]).random(
                tokens.shape[1] - self.peer.special
            )
        unmasked = logits.argmax(-1).tolist()
        self.unmasked += unmasked
        for record, ours, row in zip(records, unmasked, logits):
            margin = (row.max() - row[record["unmasked"]]).item()
            if margin >= self.logit_tie:
                self.mistakes.append(f"{record['id']}: unmasked {record['unmasked']}, peer {ours}, margin {margin:.1e}")
        for method in self.methods:
            of_method = [of_image[method.ranking] for of_image in scores]
            self.one_method(method, records, (pixels, tokens), logits, of_method)

    def one_method(self, method, records, batch, unmasked, scores):
        pixels, tokens = batch
        direction = self.run.direction
        patches = tokens.shape[1] - self.peer.special
        orders = [falling(map_) for map_ in scores]
        curves = [[] for _ in records]
        for number, fraction in enumerate(self.fractions):
            count = counted(direction, method.mechanism, fraction, patches)
            cut = cut_at(direction, count, patches)
            masked = [masked_at(direction, order, cut) for order in orders]
            with self.clock("masked passes"):
                logits = self.peer.classify_masked(method.how, pixels, tokens, masked) if len(masked[0]) else unmasked
                classes = logits.argmax(-1).tolist()
            for image, (record, peers) in enumerate(zip(records, classes)):
                curves[image].append(peers)
                if method.score == "random":
                    continue
                self.compared += 1
                ours = record["predicted"][method.name][number]
                if record.get("confidence"):
                    sure = record["confidence"]["masked"][method.name][number]
                    row, before = logits[image], record["unmasked"]
                    self.probabilities.append(abs(row.softmax(-1)[before].item() - sure["p"]))
                    self.logits.append(abs(row[before].item() - sure["l"]))
                if ours != peers:
                    self.differences.append(
                        {
                            "image": record["id"],
                            "method": method.name,
                            "fraction": fraction,
                            "ours": ours,
                            "peer": peers,
                            **self.explain(
                                method, record, (pixels[image], tokens[image]), scores[image], cut, logits[image], ours
                            ),
                        }
                    )
        self.predicted[method.name] += curves
        if method.score == "random":
            return
        for record, map_, order in zip(records, scores, orders):
            if record.get("scores"):
                if method.name not in record["scores"]["maps"]:
                    continue
                ours = record["scores"]["maps"][method.name]
                # Distances instead of their squares, as ours keeps them.
                map_ = -np.sqrt(-map_ / 4) if method.score == "center" else map_
                self.maps[method.name].append(np.abs(normalised(ours) - normalised(map_)).max())
                self.equal_orders[method.name] += int((falling(ours) == order).all())

    def explain(self, method, record, image, scores, count, logits, ours):
        """Why a prediction differs: the peer's margin, the gap of the scores at the cut, and the verdict."""
        margin = (logits.max() - logits[ours]).item()
        scores = np.asarray(scores, dtype=np.float64)
        order = falling(scores)
        unit = np.abs(scores).max()
        gap = (scores[order[count - 1]] - scores[order[count]]) / unit if 0 < count < len(order) else None
        verdict = {"margin": margin, "gap_at_cut": gap}
        if margin < self.logit_tie:
            return verdict | {"kind": "logit tie"}
        # Distances are compared exactly, so `center` has no near ties.
        near = -1.0 if method.score == "center" else self.score_tie * unit

        pixels, tokens = image

        def says_ours(top):
            top = set(top)
            deletes = self.run.direction == "deletion"
            masked = [patch for patch in order if (patch in top) == deletes]
            says = self.peer.classify_masked(method.how, pixels[None], tokens[None], [masked])[0]
            return (says.max() - says[ours]).item() < self.logit_tie

        def order_tie(removed):
            out, back = set(order[:count]) - set(removed), set(removed) - set(order[:count])
            return bool(out) and max(scores[list(out)]) - min(scores[list(back)]) <= near and says_ours(removed)

        if record.get("scores"):
            candidates = [falling(record["scores"]["maps"][self.drawn(method)])[:count]]
            verdict["right_in_our_order"] = says_ours(candidates[0])
        else:
            # One exchange across the cut: more than that near ties do not cause in practice.
            candidates = (
                [patch for patch in order[:count] if patch != out] + [back]
                for out in order[max(0, count - 4) : count]
                for back in order[count : count + 4]
            )
        return verdict | {"kind": "order tie" if any(map(order_tie, candidates)) else "unexplained"}

    def drawn(self, method):
        """Name of the score map of a method: that of its ranking with the first mechanism."""
        return next(other.name for other in self.methods if other.ranking == method.ranking)

    def report(self):
        labels = [record["label"] for record in self.run.records]
        ours_unmasked = [record["unmasked"] for record in self.run.records]
        published = {(value["name"], value.get("method")): value["value"] for value in self.run.results["metrics"]}
        table = {}
        for method in self.methods:
            name = method.name
            ours = [record["predicted"][name] for record in self.run.records]
            row = {
                "ours": areas(self.fractions, labels, ours_unmasked, ours),
                "peer": areas(self.fractions, labels, self.unmasked, self.predicted[name]),
            }
            table[name] = row
            if self.run.whole:
                prefix = {"deletion": "", "least-first": "least-first-", "insertion": "insertion-"}[self.run.direction]
                for value, key in zip(row["ours"], (f"{prefix}auc", f"{prefix}auc-still-right")):
                    stated = published[key, name]
                    if (value is None) != (stated is None) or (value is not None and abs(value - stated) > 1e-12):
                        self.mistakes.append(f"{key} of {name} is {stated} in results.json, its records give {value}")
        if self.run.results["curves"]["fractions"] != self.fractions:
            self.mistakes.append(f"fractions are {self.run.results['curves']['fractions']}, asked for {self.fractions}")
        kinds = Counter(difference["kind"] for difference in self.differences)
        for name, values in self.maps.items():
            if not max(values) <= MAP_TOLERANCE:
                self.mistakes.append(f"score maps of {name} differ by up to {max(values):.1e}")
        return {
            "images": len(self.run.records),
            "settings": {
                key: self.run.masking[key]
                for key in ("layers", "cls", "heads", "alpha", "lambda_weight", "mechanism", "direction", "fractions")
                if key in self.run.masking
            },
            "predictions": {
                "compared": self.compared,
                "different": len(self.differences),
                **{kind.replace(" ", "_"): kinds[kind] for kind in ("logit tie", "order tie", "unexplained")},
            },
            **self.confidence(),
            "differences": self.differences,
            "mistakes": self.mistakes,
            "maps": {
                name: {
                    "images": len(values),
                    "equal_orders": self.equal_orders[name],
                    "largest_difference": float(max(values)),
                }
                for name, values in self.maps.items()
            },
            "unmasked_accuracy": {
                "ours": float(np.mean(np.equal(ours_unmasked, labels))),
                "peer": float(np.mean(np.equal(self.unmasked, labels))),
            },
            "auc": {
                name: {
                    "ours": row["ours"][0],
                    "peer": row["peer"][0],
                    "ours_still_right": row["ours"][1],
                    "peer_still_right": row["peer"][1],
                }
                for name, row in table.items()
            },
        }


    def confidence(self):
        """Differences of probabilities and logits of the class predicted before masking. A near tie of two scores that is decided
        differently moves them, so the largest one is no measure."""
        if not self.probabilities:
            return {}
        return {
            "confidence": {
                name: {
                    "compared": len(values),
                    "median": float(np.median(values)),
                    "quantile_0.99": float(np.quantile(values, 0.99)),
                    "largest": float(max(values)),
                }
                for name, values in (("probability", self.probabilities), ("logit", self.logits))
            }
        }


def speed(clock, images, ours_seconds):
    passes = clock.wall["probed pass"] + clock.wall["masked passes"]
    whole = sum(clock.wall.values())
    out = {
        "threads": torch.get_num_threads(),
        "wall_seconds": dict(clock.wall),
        "processor_seconds": dict(clock.processor),
        "images_per_second": {"peer, passes only": images / passes, "peer, everything": images / whole},
    }
    if ours_seconds:
        out["images_per_second"]["ours, everything"] = images / ours_seconds
    return out


def table(report):
    def number(value):
        return "–" if value is None else f"{value:.6f}"

    before, predictions = report["unmasked_accuracy"], report["predictions"]
    lines = [f"{report['images']} images, unmasked accuracy {before['ours']:.4f} ours, {before['peer']:.4f} peer", ""]
    lines.append(
        f"{'method':<26}{'AUC ours':>10}{'peer':>10}{'AUC* ours':>11}{'peer':>10}{'differ':>8}{'map':>10}{'orders':>9}"
    )
    differ = Counter(difference["method"] for difference in report["differences"])
    for name, row in report["auc"].items():
        maps = report["maps"].get(name)
        seen = f"{maps['largest_difference']:.1e}" if maps else "–"
        orders = f"{maps['equal_orders']}/{maps['images']}" if maps else "–"
        differing = "–" if name == "random" else differ[name]
        values = (row["ours"], row["peer"], row["ours_still_right"], row["peer_still_right"])
        auc, peer, still, peer_still = map(number, values)
        lines.append(f"{name:<26}{auc:>10}{peer:>10}{still:>11}{peer_still:>10}{differing:>8}{seen:>10}{orders:>9}")
    lines += [
        "",
        "AUC*: over the images right before masking. map: largest difference of score maps scaled to 0…1.",
        "orders: images whose patches are ordered alike to the last one. random: another generator, not compared.",
        "",
        "predictions: " + ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in predictions.items()),
    ]
    for difference in report["differences"][:SHOWN]:
        gap = difference["gap_at_cut"]
        lines.append(
            f"  {difference['kind']}: {difference['image']}, {difference['method']} at {difference['fraction']:.2f}: "
            f"ours {difference['ours']}, peer {difference['peer']}, margin {difference['margin']:.1e}, "
            f"gap at cut {'–' if gap is None else f'{gap:.1e}'}"
        )
    if len(report["differences"]) > SHOWN:
        lines.append(f"  and {len(report['differences']) - SHOWN} more, see --out")
    lines += [f"  mistake: {mistake}" for mistake in report["mistakes"]]
    spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report["speed"]["wall_seconds"].items())
    rates = ", ".join(f"{rate:.2f} ({name})" for name, rate in report["speed"]["images_per_second"].items())
    lines += ["", f"peer, {report['speed']['threads']} thread(s): {spent}", f"images per second: {rates}"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--limit", type=int, help="only the first images of the run")
    parser.add_argument("--images", type=Path, help="folder with labels.csv to use instead of the run's dataset")
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=root, help="folder in which the run was started")
    parser.add_argument("--batch", type=int, default=16, help="images in a forward pass")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ours-seconds", type=float, help="what our run took, for the same images")
    parser.add_argument("--logit-tie", type=float, default=1e-3, help="margin of logits that float32 does not decide")
    parser.add_argument("--score-tie", type=float, default=1e-4, help="gap of scores that float32 does not decide")
    parser.add_argument("--out", type=Path, help="where to write the comparison as JSON")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    transformers.utils.logging.disable_progress_bar()
    run = Run(given.run, given.root, given.limit, given.images)
    clock = Clock()
    comparison = Comparison(run, peer_of(run), given.batch, (given.logit_tie, given.score_tie), clock)
    with torch.no_grad():
        comparison.all_images()
    report = comparison.report()
    report["speed"] = speed(clock, len(run.records), given.ours_seconds)
    report["versions"] = {
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in (torch, transformers, PIL, np)},
    }
    print(table(report))
    if given.out:
        given.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    sys.exit(bool(report["mistakes"] or report["predictions"]["unexplained"]))


if __name__ == "__main__":
    main()
