"""What timm knows of its vision transformers by their names: writes crates/models/src/timm/architectures.toml.

    pip install torch==2.11.0 timm==1.0.31
    python tools/timm_architectures.py           # writes the file
    python tools/timm_architectures.py --check   # fails if it differs from what timm says

The functions of timm that build a network by its name call `build_model_with_cfg` with the arguments of `VisionTransformer`.
They are called here with that function replaced, so the arguments are read from timm's own code and no network is built.
"""

import argparse
import functools
import sys
from pathlib import Path

import timm
from timm.layers import LayerNorm, Mlp, SwiGLUPacked
from timm.models import _registry, deit, vision_transformer

TARGET = Path(__file__).parent.parent / "crates/models/src/timm/architectures.toml"

HEADER = """\
# The vision transformers of timm {version}: the arguments of `VisionTransformer` that differ from its defaults, the epsilon of the
# norms (1e-6 by default), whether the MLP is `SwiGLUPacked`, the side of the images (224 by default), and what a network has
# that is not supported. Written by tools/timm_architectures.py.
"""

# Networks of other modules that resemble plain vision transformers by their names.
MODULES = {
    "beit": "positions that are added to the attention (relative position bias)",
    "eva": "the blocks of timm's `Eva`, most of them with rotary positions; DINOv3 is read as transformers saves it (`dinov3_vit`)",
    "naflexvit": "images of variable resolution (NaFlex)",
    "swin_transformer": "attention within windows of the image",
    "swin_transformer_v2": "attention within windows of the image",
    "swin_transformer_v2_cr": "attention within windows of the image",
    "vision_transformer_hybrid": "a convolutional network before its patches",
    "vision_transformer_relpos": "positions that are added to the attention (relative position bias)",
    "vision_transformer_sam": "attention within windows of the image",
}
BLOCKS = {
    "ResPostBlock": "norms after attention and MLP",
    "ParallelScalingBlock": "attention and MLP side by side",
    "ParallelThingsBlock": "several attentions side by side in a block",
    "DiffParallelScalingBlock": "attention and MLP side by side",
}


class Captured(Exception):
    def __init__(self, network, arguments):
        self.network, self.arguments = network, arguments


def capture(network, variant, pretrained, **arguments):
    raise Captured(network, arguments)


def entry(name):
    """The table of one architecture of timm."""
    try:
        _registry.model_entrypoint(name)(pretrained=False)
    except Captured as captured:
        network, arguments = captured.network, captured.arguments
    for other in ("pretrained_filter_fn", "pretrained_strict", "feature_cfg"):
        arguments.pop(other, None)
    table = {}
    size = _registry.get_pretrained_cfg(name).input_size
    assert size[0] == 3 and size[1] == size[2], size
    if size[1] != 224:
        table["input"] = size[1]
    if network is deit.VisionTransformerDistilled:
        return {"has": "a distillation token with a classifier of its own"}
    assert network is vision_transformer.VisionTransformer, network
    block = arguments.pop("block_fn", vision_transformer.Block)
    if block is not vision_transformer.Block:
        return {"has": BLOCKS[block.__name__]}
    norm = arguments.pop("norm_layer", None)
    kind, options = (norm.func, norm.keywords) if isinstance(norm, functools.partial) else (norm, {})
    if kind not in (None, LayerNorm):
        return {"has": "root-mean-square norms"}
    assert set(options) <= {"eps"}, options
    if options:
        table["norm_eps"] = options["eps"]
    mlp = arguments.pop("mlp_layer", Mlp)
    if mlp is SwiGLUPacked:
        table["swiglu"] = True
    else:
        assert mlp is Mlp, mlp
    activation = arguments.get("act_layer")
    if isinstance(activation, type):
        arguments["act_layer"] = {"SiLU": "silu"}[activation.__name__]
    table["args"] = arguments
    return table


def written(value):
    """A value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return f'"{value}"'
        case dict():
            return "{ " + ", ".join(f"{key} = {written(inner)}" for key, inner in value.items()) + " }"
    raise TypeError(f"{value!r} has no place in the table")


def text():
    for module in (vision_transformer, deit):
        module.build_model_with_cfg = capture
    lines = [HEADER.format(version=timm.__version__)]
    for name in sorted(timm.list_models(module="vision_transformer") + timm.list_models(module="deit")):
        lines.append(f"{name} = {written(entry(name))}\n")
    lines.append("\n# Of other modules.\n")
    for module, has in sorted(MODULES.items()):
        lines += [f"{name} = {written({'has': has})}\n" for name in sorted(timm.list_models(module=module))]
    return "".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        TARGET.write_text(text())
    elif TARGET.read_text() != text():
        sys.exit(f"{TARGET} differs from timm {timm.__version__}")


if __name__ == "__main__":
    main()
