#!/usr/bin/env python3
"""Repeats a segmentation run on a FLUX pipeline with diffusers, transformers, numpy and scikit-learn, and compares.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 numpy==2.4.6 pillow==13.0.0 scikit-learn==1.9.1
    cargo run -p tasks --example mini_export -- --out DIR/scenes --split val --count 100 --size 96 --objects 1-3
    tokenrank run configs/mini/segment.toml --limit 100 --set task.segment.figures=100 --out DIR/run
    python tools/check_segment.py --run DIR/run --scenes DIR/scenes --report results/precision/segment-mini.json

Reads `results.json` (settings) and `records.jsonl` (signals and counts) of the run. Everything else is computed anew: texts,
latents, the noise (torch's generator, seeded as the program says), the pass with every attention map kept whole, λ₂ by dense
eigenvalues, every signal, mask and average precision.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from diffusers.models.embeddings import apply_rotary_emb
from PIL import Image
from sklearn.metrics import average_precision_score

SIDE = 224


def kept_maps(transformer, latents, text, pooled, level, grid, concepts):
    """Every joint map `[heads, n, n]` of a pass by block (plain, and the softmax over queries), and for each dual block the
    attention outputs of concepts and image tokens, heads side by side."""
    rows, columns = grid
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] += torch.arange(rows)[:, None]
    ids[..., 2] += torch.arange(columns)[None]
    ids = ids.reshape(-1, 3)
    net, length = transformer, text.shape[1]
    rope = net.pos_embed(torch.cat([torch.zeros(length, 3), ids]))
    rope_of_concepts = net.pos_embed(torch.cat([torch.zeros(concepts.shape[1], 3), ids]))
    temb = net.time_text_embed(torch.tensor([level]) * 1000, pooled)
    hidden, context = net.x_embedder(latents), net.context_embedder(text)
    concepts = net.context_embedder(concepts)
    maps, outputs = {}, []

    def rotate(x, rope):
        return apply_rotary_emb(x, rope, sequence_dim=1)

    def whole(q, k, v):
        q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        probs = logits.softmax(-1)
        return logits, probs, (probs @ v).transpose(0, 1).flatten(1)[None]

    for number, block in enumerate(net.transformer_blocks):
        attn = block.attn
        norm_image = block.norm1(hidden, emb=temb)[0]
        norm_text, gate, shift, scale, gate_mlp = block.norm1_context(context, emb=temb)
        norm_concepts = block.norm1_context(concepts, emb=temb)[0]
        heads = lambda x: x.unflatten(-1, (attn.heads, -1))
        image = [attn.norm_q(heads(attn.to_q(norm_image))), attn.norm_k(heads(attn.to_k(norm_image))), heads(attn.to_v(norm_image))]
        words = lambda x: [
            attn.norm_added_q(heads(attn.add_q_proj(x))),
            attn.norm_added_k(heads(attn.add_k_proj(x))),
            heads(attn.add_v_proj(x)),
        ]
        prompt, beside = words(norm_text), words(norm_concepts)
        joint = [torch.cat([a, b], 1) for a, b in zip(prompt, image, strict=True)]
        logits, probs, out = whole(rotate(joint[0], rope), rotate(joint[1], rope), joint[2])
        maps["dual", number] = probs, logits.softmax(-2)
        with_image = [torch.cat([a, b], 1) for a, b in zip(beside, image, strict=True)]
        count = concepts.shape[1]
        turned = rotate(with_image[0], rope_of_concepts)[:, :count]
        _, _, concept_out = whole(turned, rotate(with_image[1], rope_of_concepts), with_image[2])
        outputs.append((concept_out[0], out[0, length:]))

        concepts = concepts + gate[:, None] * attn.to_add_out(concept_out)
        mlp = block.ff_context(block.norm2_context(concepts) * (1 + scale[:, None]) + shift[:, None])
        concepts = concepts + gate_mlp[:, None] * mlp
        # The tokens themselves go through diffusers' own block.
        context, hidden = block(
            hidden_states=hidden, encoder_hidden_states=context, temb=temb, image_rotary_emb=rope
        )
    for number, block in enumerate(net.single_transformer_blocks):
        attn, both = block.attn, torch.cat([context, hidden], 1)
        normed = block.norm(both, emb=temb)[0]
        heads = lambda x: x.unflatten(-1, (attn.heads, -1))
        q, k, v = attn.norm_q(heads(attn.to_q(normed))), attn.norm_k(heads(attn.to_k(normed))), heads(attn.to_v(normed))
        logits, probs, _ = whole(rotate(q, rope), rotate(k, rope), v)
        maps["single", number] = probs, logits.softmax(-2)
        context, hidden = block(
            hidden_states=hidden, encoder_hidden_states=context, temb=temb, image_rotary_emb=rope
        )
    return maps, outputs


def chosen(selection, depth):
    if selection == "all":
        return list(range(depth))
    if str(selection).startswith("last:"):
        return list(range(depth))[-int(selection[5:]) :]
    return [int(block) for block in str(selection).split(",")]


def walk(matrix, start, steps, alpha, backward):
    matrix = alpha * matrix + (1 - alpha) / len(matrix)
    if backward:
        matrix = (matrix / matrix.sum(0)).T
    for _ in range(steps):
        start = start @ matrix
    return start


def steady(matrix, alpha, backward):
    matrix = alpha * matrix + (1 - alpha) / len(matrix)
    if backward:
        matrix = (matrix / matrix.sum(0)).T
    values, vectors = np.linalg.eig(matrix.T)
    vector = np.real(vectors[:, np.argmax(np.real(values))])
    return vector / vector.sum()


def lambda2(probs):
    return np.sort(np.abs(np.linalg.eigvals(probs)))[-2]


def average(blocks, weights):
    """Mean of maps; λ₂ weights sum to 1 in each block."""
    parts = []
    for block, weight in zip(blocks, weights, strict=True):
        parts.append(np.einsum("h,hij->ij", weight / weight.sum(), block))
    mean = np.mean(parts, 0)
    return mean / mean.sum(1, keepdims=True)


def named(method):
    """Key and settings of a method, of present and of older results."""
    if isinstance(method, str):
        return method, {}
    [(kind, settings)] = method.items()
    if kind == "bounce" and settings.get("weight", "equal") != "equal":
        kind = "bounce-lambda2"
    return kind, settings


def signal_of(kind, settings, task, maps, outputs, tokens, length):
    layers = task.get("layers") or task["blocks"]
    streams = [("dual", b) for b in chosen(layers["dual"], 1 + max(b for s, b in maps if s == "dual"))]
    streams += [("single", b) for b in chosen(layers["single"], 1 + max(b for s, b in maps if s == "single"))]
    numpy = lambda which: [maps[key][which].double().numpy() for key in streams]
    plain = numpy(0)
    equal = [np.ones(len(block)) for block in plain]
    start = np.zeros(plain[0].shape[-1])
    start[tokens] = 1 / len(tokens)
    image = slice(length, None)
    if kind == "row-select":
        return (start @ average(plain, equal))[image]
    if kind == "column-select":
        return (average(plain, equal) @ start)[image]
    if kind == "rollout":
        product = np.eye(len(start))
        for block in plain:
            product = (block.mean(0) + np.eye(len(start))) / 2 @ product
        return (start @ product)[image]
    if kind == "concept-attention":
        scores = []
        for block in chosen(settings.get("layers") or settings["blocks"], len(outputs)):
            concepts, tokens = (x.double() for x in outputs[block])
            products = concepts @ tokens.T
            scores.append(products.softmax(0)[0].numpy() if settings["softmax"] else products[0].numpy())
        return np.mean(scores, 0)
    weights = equal
    if kind == "bounce-lambda2":
        power = {"lambda2": 1, "lambda2-squared": 2, "proportional": 1, "squared": 2}[settings["weight"]]
        weights = [np.array([lambda2(head) for head in block]) ** power for block in plain]
    matrix = average(numpy(1) if settings["map"] == "pretty" else plain, weights)
    backward = settings["direction"] == "backward"
    if kind == "tokenrank":
        return steady(matrix, task["alpha"], backward)[image]
    return walk(matrix, start, settings["steps"], task["alpha"], backward)[image]


def scored(signal, grid, labels):
    """Counts and average precision as ConceptAttention's evaluation takes them, with a true IoU."""
    signal = signal.astype(np.float32).reshape(grid)
    mask = signal > signal.astype(np.float64).mean()
    scaled = (signal - signal.min()) / (signal.max() - signal.min())
    up = lambda x: x[np.floor(np.arange(SIDE) * grid[0] / SIDE).astype(int)][:, np.floor(np.arange(SIDE) * grid[1] / SIDE).astype(int)]
    mask, scaled = up(mask), up(scaled).ravel()
    both = np.concatenate([1 - scaled, scaled])
    truth = np.concatenate([labels.ravel() == 0, labels.ravel() == 1])
    return {
        "correct": int((mask == labels).sum()),
        "foreground": [int((mask & (labels == 1)).sum()), int(mask.sum()), int((labels == 1).sum())],
        "pooled_ap": float(average_precision_score(truth, both)),
    }


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    experiment = json.loads((arguments.run / "results.json").read_text())["experiment"]
    task = experiment["task"]["segment"]
    records = [json.loads(line) for line in (arguments.run / "records.jsonl").open()]
    records = [record for record in records if "maps" in record]  # also not the closing lines of segments
    pipeline = FluxPipeline.from_pretrained(experiment["model"]["path"], dtype=torch.float32)
    vae, length = pipeline.vae, task["text_tokens"]
    step, steps = task["noise"]["at"][0], task["noise"]["steps"]
    assert len(task["noise"]["at"]) == 1 and task["noise"]["samples"] == 1 and task["token"] == "last"
    level = 1 - step / steps

    def encoded(text):
        return pipeline.encode_prompt(text, None, max_sequence_length=length)[:2]

    methods = [named(method) for method in task["methods"]]
    worst = {kind: 0.0 for kind, _ in methods}
    unequal = {kind: 0 for kind, _ in methods}
    worst_ap = {kind: 0.0 for kind, _ in methods}
    for record in records:
        index = record["id"].split("-")[1]
        picture = Image.open(arguments.scenes / "images" / f"{index}.png").convert("RGB")
        line = json.loads((arguments.scenes / "scenes.jsonl").read_text().split("\n")[int(index)])
        name = record["names"][0]
        prompt = task["prompt"].replace("{}", name)
        text, pooled = encoded(prompt)
        offsets = pipeline.tokenizer_2(prompt, return_offsets_mapping=True)["offset_mapping"]
        end = prompt.index(name) + len(name)
        tokens = [next(i for i, (_, stop) in enumerate(offsets) if stop == end)]
        background = [word for kind, settings in methods if kind == "concept-attention" for word in settings["background"]]
        concepts = torch.stack([encoded(word)[0][0, 0] for word in [name, *background]])[None]

        side = task["image_size"]
        pixels = torch.from_numpy(np.array(picture.resize((side, side), Image.BICUBIC))).permute(2, 0, 1)[None].float() / 127.5 - 1
        latents = (vae.encode(pixels).latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor
        digest = hashlib.sha256(f"{experiment['seed']}/{record['id']}/0".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        noised = level * torch.randn(latents.shape[1:])[None] + (1 - level) * latents
        _, channels, height, width = noised.shape
        packed = pipeline._pack_latents(noised, 1, channels, height, width)
        grid = height // 2, width // 2
        maps, outputs = kept_maps(pipeline.transformer, packed, text, pooled, level, grid, concepts)

        masks = np.array(Image.open(arguments.scenes / "masks" / f"{index}.png"))
        label = next(each["label"] for each in line["objects"] if each["class"] == name) + 1
        labels = np.array(Image.fromarray((masks == label).astype(np.uint8)).resize((SIDE, SIDE), Image.NEAREST))
        for kind, settings in methods:
            ours = np.array(record["maps"]["maps"][kind])
            signal = signal_of(kind, settings, task, maps, outputs, tokens, length)
            theirs = (signal - signal.min()) / (signal.max() - signal.min())
            worst[kind] = max(worst[kind], float(np.abs(ours - theirs).max()))
            score, wanted = record["methods"][kind], scored(signal, grid, labels)
            foreground = score["classes"].get("1", {"intersection": 0, "predicted": 0, "labelled": 0})
            found = [foreground["intersection"], foreground["predicted"], foreground["labelled"]]
            unequal[kind] += (score["correct"], found) != (wanted["correct"], wanted["foreground"])
            worst_ap[kind] = max(worst_ap[kind], abs(score["pooled_ap"] - wanted["pooled_ap"]))
    report = {
        "images": len(records),
        "largest_difference_of_a_signal_scaled_to_1": {kind: float(f"{value:.2e}") for kind, value in worst.items()},
        "images_with_another_count_of_pixels": unequal,
        "largest_difference_of_an_average_precision": {kind: float(f"{value:.2e}") for kind, value in worst_ap.items()},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    print(json.dumps(report, indent=2))
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
