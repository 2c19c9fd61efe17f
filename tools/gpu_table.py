"""Puts the parts that `tools/gpu.sh` measured into one file and prints them as one table, with the aim of each beside it.

    python tools/gpu_table.py PARTS OUT
"""

import json
import subprocess
import sys
from pathlib import Path


def read(parts, name):
    file = parts / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def driver(field):
    query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader", "-i", "0"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "cpu"


def rows(found):
    """(what, value, aim) of each line."""
    percent = lambda share: f"{100 * share:+.1f} %"
    if flux := found["flux"]:
        off = flux["differences_from_double_precision"]
        yield "dot products of bfloat16, difference from float64", f"{off['dot products']:.1e}", "≤ 1e-6"
        yield "TokenRank to 1e-8, difference in L1", f"{off['TokenRank']:.1e}", "≤ 1e-6"
        of = {(run["size"], run["mode"]): run["seconds"] for run in flux["runs"]}
        for size in sorted({size for size, _ in of}):
            plain = of[size, "unprobed"]
            yield f"FLUX {size}², a pass", f"{1e3 * plain:.1f} ms", ""
            yield f"FLUX {size}², mean map of 20 blocks", percent(of[size, "mean-map"] / plain - 1), "≤ +10 %"
            yield f"FLUX {size}², λ₂ of 480 heads", percent(of[size, "lambda2"] / plain - 1), "≤ +10 %"
            yield f"FLUX {size}², λ₂ of 480 heads from stored maps", percent(of[size, "lambda2-of-maps"] / plain - 1), ""
            if peer := found["flux-peer"]:
                theirs = {(run["size"], run["mode"]): run["seconds"] for run in peer["runs"]}
                if (size, "unprobed") in theirs:
                    yield f"FLUX {size}², diffusers' pass ÷ ours", f"{theirs[size, 'unprobed'] / plain:.2f} ×", ""
                    maps = theirs[size, "maps-to-host"]
                    yield f"FLUX {size}², maps to the host in Python ÷ our mean map", f"{maps / of[size, 'mean-map']:.1f} ×", ""
    if sd := found["sd"]:
        of = {run["mode"]: run for run in sd["runs"]}
        yield "SD 1.5, diffusers ÷ ours, no guidance", f"{of['tokenrank plain']['times_as_fast_as_diffusers']:.2f} ×", ""
        yield "SD 1.5, diffusers ÷ ours, SAG", f"{of['tokenrank sag']['times_as_fast_as_diffusers']:.2f} ×", ""
        yield "SD 1.5, TokenRank's mask over SAG's", percent(sd["tokenrank_mask_share_of_a_step"]), "≤ +2 %"
        if diffseg := found["diffseg"]:
            # PLMS makes one pass more than it has steps.
            a_pass = 1e3 * of["tokenrank plain"]["seconds"] / (sd["steps"] + 1) / sd["batch"]
            for kind in ("uniform", "tokenrank"):
                share = diffseg[kind]["ours"]["total_ms"] / a_pass
                yield f"DiffSeg, {kind}: all after the aggregate, share of its UNet pass", percent(share), "≤ +10 %"
    if vit := found["vit"]:
        for run in vit["runs"]:
            what = f"masking, ViT-B in {run['dtype']}"
            if run["peer"] == "eager":
                yield f"{what}, ours", f"{1 / run['tokenrank_seconds_per_image']:.1f} images/s", ""
            yield f"{what}, ours ÷ transformers ({run['peer']})", f"{run['times_as_fast']:.2f} ×", "≥ 2 ×"
            yield f"{what}, the same without λ₂ of the peer", f"{run['times_as_fast_without_eigvals']:.2f} ×", ""


def main():
    parts, out = Path(sys.argv[1]), Path(sys.argv[2])
    found = {name: read(parts, name) for name in ("flux", "flux-peer", "sd", "diffseg", "vit")}
    seconds = dict(line.split() for line in (parts / "seconds").read_text().splitlines())
    table = [dict(zip(("what", "value", "aim"), row)) for row in rows(found)]
    compared = parts / "mini.md"
    report = {
        "command": "tools/gpu.sh", "device": driver("name"), "driver": driver("driver_version"),
        "seconds_by_part": {name: int(took) for name, took in seconds.items()}, "table": table,
        "mini_against_cpu_baseline": compared.read_text() if compared.is_file() else None, **found,
    }
    width = max((len(row["what"]) for row in table), default=0)
    for row in table:
        print(f"{row['what']:<{width}}  {row['value']:>16}  {row['aim']}")
    out.mkdir(parents=True, exist_ok=True)
    name = report["device"].lower().replace(" ", "-")
    (out / f"{name}.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(f"written: {out / name}.json")


if __name__ == "__main__":
    main()
