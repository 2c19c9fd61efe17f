"""Measures `tokenrank.watch` on tiny random networks of transformers, timm and diffusers: results/python/networks.json.

    pip install torch==2.11.0 transformers==5.23.0 timm==1.0.31 diffusers==0.42.1 numpy==2.4.6 pytest
    pip install .
    python tools/python_networks.py --flex --out results/python/networks.json

For every network, all layers: the largest difference of λ₂, of TokenRank (L1) and of a map's entry from float64 linear
algebra on the attention maps of another source (`crates/python/tests/networks.py` says which), and whether the model's
output is bit for bit the one without `watch`. Networks that read text are also run with padding on either side.
Networks whose attention is out of reach are listed with the error that they raise. --flex adds flex attention, whose
kernels take minutes to compile. Exit code 1 if an error exceeds 1e-5 or an output changes.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "crates" / "python" / "tests"))

import conftest  # noqa: E402  (finds the compiled module)
import torch  # noqa: E402
from networks import FLEX, NETWORKS, OUT_OF_REACH, measure, refusal  # noqa: E402

TOLERANCE = 1e-5
SOURCES = {
    "transformers": "its eager code (output_attentions=True)",
    "timm": "its code without scaled_dot_product_attention, input of the dropout after the softmax",
    "diffusers": "an explicit softmax in place of its attention function, or its older attention processor",
}


def rounded(found: dict) -> dict:
    """Returns errors with two digits."""
    errors = {name: float(f"{found[name]:.2g}") for name in ("lambda2", "token_rank", "map")}
    return {**found, **errors, "sharpest": round(found["sharpest"], 1)}


def lines(rows: list[dict]) -> str:
    """Returns a JSON list with a row on each line."""
    return "[\n" + ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows) + "\n ]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flex", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)

    calls = [
        (network, implementation, padding)
        for network in NETWORKS
        for implementation in network.implementations or (None,)
        for padding in ((None,) if network.text is None else (None, "left", "right"))
    ]
    if given.flex:
        calls += [(FLEX, "flex_attention", None), (FLEX, "flex_attention", "left")]
    rows = []
    for network, implementation, padding in calls:
        found = measure(network, implementation, padding)
        row = {
            "network": network.name,
            "library": network.library,
            **({"attention": implementation} if implementation else {}),
            **({"padding": padding} if padding else {}),
            **rounded(dataclasses.asdict(found)),
        }
        rows.append(row)
        print(json.dumps(row, ensure_ascii=False))

    refused = []
    for network in OUT_OF_REACH:
        error, unchanged = refusal(network)
        row = {"network": network.name, "library": network.library, "equal": unchanged, "error": str(error)}
        refused.append(row)
        print(json.dumps(row, ensure_ascii=False))

    worst = {error: max(row[error] for row in rows) for error in ("lambda2", "token_rank", "map")}
    equal = all(row["equal"] for row in rows + refused)
    head = {
        "made by": "python tools/python_networks.py --flex --out results/python/networks.json",
        "core": "the numpy reference" if conftest.uses_reference() else "compiled",
        "maps from": SOURCES,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", *SOURCES)},
        "worst": worst,
        "all outputs equal": equal,
        "networks": [],
        "out of reach": [],
    }
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(head, indent=1, ensure_ascii=False)
        text = text.replace('"networks": []', f'"networks": {lines(rows)}')
        text = text.replace('"out of reach": []', f'"out of reach": {lines(refused)}')
        given.out.write_text(text + "\n")
    return 0 if equal and max(worst.values()) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
