"""Times passes of a FLUX transformer of full size with random weights in diffusers: as it is, and with every map of the last
blocks materialised and taken to the host, as the demo of the paper's authors does it.

    python tools/bench_flux_diffusers.py --device cuda:0 --out results/gpu/NAME-diffusers.json
    python tools/bench_flux_diffusers.py --tiny

Sizes, blocks, repetitions and the fields of the file are those of `crates/models/examples/flux_bench.rs`; `maps-to-host`
stands where that one has `mean-map`: both end with the mean map over heads and blocks. λ₂ has no counterpart here:
`torch.linalg.eigvals` of 480 maps takes hours at these sizes.

Maps are kept on the host in the network's type until the pass is over: at 512 pixels 1.6 GB, at 1024 pixels 18 GB.

Pinned: torch 2.11.0, diffusers 0.42.0.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import diffusers
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor, _get_qkv_projections, apply_rotary_emb

LAST = 10
PIXELS_PER_TOKEN = 16
TINY = dict(
    num_layers=3, num_single_layers=4, num_attention_heads=4, attention_head_dim=16, joint_attention_dim=32,
    pooled_projection_dim=24, axes_dims_rope=(4, 6, 6),
)


class MapsToHost:
    """`FluxAttnProcessor` with the softmax written out; each call leaves its maps `[batch, heads, n, n]` on the host."""

    def __init__(self):
        self.maps = None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        query, key, value, text_query, text_key, text_value = _get_qkv_projections(
            attn, hidden_states, encoder_hidden_states
        )
        query, key, value = (x.unflatten(-1, (-1, attn.head_dim)) for x in (query, key, value))
        query, key = attn.norm_q(query), attn.norm_k(key)
        if attn.added_kv_proj_dim is not None:
            text_query, text_key, text_value = (
                x.unflatten(-1, (-1, attn.head_dim)) for x in (text_query, text_key, text_value)
            )
            query = torch.cat([attn.norm_added_q(text_query), query], dim=1)
            key = torch.cat([attn.norm_added_k(text_key), key], dim=1)
            value = torch.cat([text_value, value], dim=1)
        query, key = (apply_rotary_emb(x, image_rotary_emb, sequence_dim=1) for x in (query, key))

        # [b, n, heads, head dim] -> [b, heads, n, head dim]
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        probs = (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(-1)
        self.maps = probs.cpu()
        hidden_states = (probs @ value).transpose(1, 2).flatten(2, 3).to(query.dtype)

        if encoder_hidden_states is None:
            return hidden_states
        text = encoder_hidden_states.shape[1]
        encoder_hidden_states, hidden_states = hidden_states[:, :text], hidden_states[:, text:]
        hidden_states = attn.to_out[1](attn.to_out[0](hidden_states.contiguous()))
        return hidden_states, attn.to_add_out(encoder_hidden_states.contiguous())


def last_attentions(model):
    return [block.attn for stream in (model.transformer_blocks, model.single_transformer_blocks) for block in stream[-LAST:]]


def set_mode(model, mode):
    """Gives the last blocks the processor of a mode; returns what ends a pass."""
    processors = []
    for attention in last_attentions(model):
        attention.set_processor(MapsToHost() if mode == "maps-to-host" else FluxAttnProcessor())
        processors.append(attention.processor)

    def end():
        if mode != "maps-to-host":
            return None
        mean = torch.stack([processor.maps.float().mean(1) for processor in processors]).mean(0)
        for processor in processors:
            processor.maps = None
        return mean

    return end


def build(config, device):
    """Random weights made where they are used: 12 billion numbers on the host would take minutes and 48 GB."""
    with torch.device(device):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            return FluxTransformer2DModel(**config).eval()
        finally:
            torch.set_default_dtype(default)


def inputs(config, side, text, device):
    rows = side // PIXELS_PER_TOKEN
    make = dict(device=device, dtype=torch.bfloat16)
    ids = torch.zeros(rows, rows, 3, **make)
    ids[..., 1] += torch.arange(rows, device=device)[:, None]
    ids[..., 2] += torch.arange(rows, device=device)[None, :]
    return dict(
        hidden_states=torch.randn(1, rows * rows, config.in_channels, **make),
        encoder_hidden_states=torch.randn(1, text, config.joint_attention_dim, **make),
        pooled_projections=torch.randn(1, config.pooled_projection_dim, **make),
        timestep=torch.full((1,), 0.5, **make),
        img_ids=ids.reshape(-1, 3),
        txt_ids=torch.zeros(text, 3, **make),
    )


def peak_host():
    """Of the process, in bytes, since `reset_peaks`; none where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def reset_peaks(device):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


@torch.no_grad()
def time_passes(model, arguments, end, repeat, device):
    def one():
        model(**arguments, return_dict=False)
        end()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    one()
    one()
    resets = reset_peaks(device)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        one()
        seconds.append(time.perf_counter() - start)
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return sorted(seconds), peak_host() if resets else None, on_device


@torch.no_grad()
def check(model, arguments):
    """The written-out softmax is the network's own attention."""
    set_mode(model, "unprobed")
    plain = model(**arguments, return_dict=False)[0].float()
    end = set_mode(model, "maps-to-host")
    written = model(**arguments, return_dict=False)[0].float()
    rows = end().sum(-1)
    difference = ((plain - written).abs().max() / plain.abs().max()).item()
    assert difference < 5e-2 and (rows - 1).abs().max() < 2e-2, (difference, rows)
    return difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a small network, for a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=lambda text: [int(side) for side in text.split(",")])
    parser.add_argument("--text", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--name", help="of the device; CUDA tells it otherwise")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    sizes = args.sizes or ([64, 128] if args.tiny else [512, 1024])
    cuda = device.type == "cuda"
    name = args.name or (torch.cuda.get_device_name(device) if cuda else "cpu")

    torch.manual_seed(0)
    model = build(TINY if args.tiny else {}, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e9:.3f} billion random parameters in bfloat16 on {name}")
    difference = check(model, inputs(model.config, sizes[0], args.text, device))
    print(f"written out, attention changes the answer by {difference:.1e} of its largest number")

    print(f"{'pixels':>6} {'tokens':>7} {'mode':<12} {'s per image':>12} {'ratio':>9} {'host MiB':>10} {'device MiB':>10}")
    runs = []
    for side in sizes:
        tokens, unprobed = args.text + (side // PIXELS_PER_TOKEN) ** 2, None
        for mode in ("unprobed", "maps-to-host"):
            end = set_mode(model, mode)
            arguments = inputs(model.config, side, args.text, device)
            seconds, host, on_device = time_passes(model, arguments, end, args.repeat, device)
            median = statistics.median(seconds)
            unprobed = unprobed or median
            shown = ["-" if peak is None else str(peak >> 20) for peak in (host, on_device)]
            print(f"{side:>6} {tokens:>7} {mode:<12} {median:>12.4f} {median / unprobed:>9.2f} {shown[0]:>10} {shown[1]:>10}")
            runs.append({
                "size": side, "tokens": tokens, "mode": mode, "seconds": median, "all_seconds": seconds,
                "ratio": median / unprobed, "peak_host_bytes": host, "peak_device_bytes": on_device,
            })
    report = {
        "program": f"diffusers {diffusers.__version__}", "torch": torch.__version__, "device": name, "dtype": "bf16",
        "parameters": parameters, "blocks": [model.config.num_layers, model.config.num_single_layers],
        "watched": f"the last {LAST} of each stream", "text_tokens": args.text, "repeat": args.repeat,
        "heads_at_once": None, "runs": runs,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
