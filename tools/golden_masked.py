"""Golden fixture for masked patches: what transformers feeds into the first layer of its tiny networks if some patches are masked.

    pip install torch==2.11.0 transformers==5.23.0 safetensors==0.8.0
    python tools/golden_masked.py    # writes crates/models/tests/fixtures/masked/golden.safetensors

The networks are those of `golden_vision.py`, with the pixels of their own fixtures. Of the first image every third patch is masked, of
the second every other one. Tensors:

    NAME.zero_embedding   [2, n, d]   the embedding of a masked patch is 0 before its position is added
    NAME.zero_token       [2, n, d]   what enters the first layer is 0
    NAME.mask_token       [2, n, d]   `bool_masked_pos` of the embedding module, where the network has a mask token
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPModel,
    Dinov2ForImageClassification,
    Dinov2WithRegistersForImageClassification,
    DINOv3ViTModel,
    ViTForImageClassification,
)

FIXTURES = Path(__file__).parent.parent / "crates/models/tests/fixtures"

# Class, the embedding module, the module that embeds pixels, what follows the embedding, number of special tokens.
NETWORKS = {
    "vit-plain": (ViTForImageClassification, lambda m: m.vit.embeddings, "patch_embeddings", None),
    "clip-both": (CLIPModel, lambda m: m.vision_model.embeddings, "patch_embedding", lambda m: m.vision_model.pre_layrnorm),
    "dinov2-plain": (Dinov2ForImageClassification, lambda m: m.dinov2.embeddings, "patch_embeddings", None),
    "dinov2-registers": (
        Dinov2WithRegistersForImageClassification,
        lambda m: m.dinov2_with_registers.embeddings,
        "patch_embeddings",
        None,
    ),
    "dinov3-plain": (DINOv3ViTModel, lambda m: m.embeddings, "patch_embeddings", None),
}


def cleared(mask):
    """A hook that sets the embeddings of masked patches to 0: [b, patches, d], or [b, d, rows, columns]."""

    def hook(module, given, out):
        if out.dim() == 3:
            return torch.where(mask[:, :, None], 0, out)
        return torch.where(mask.reshape(len(out), 1, *out.shape[2:]), 0, out)

    return hook


def main():
    golden = {}
    for name, (kind, embeddings_of, projection, after) in NETWORKS.items():
        model = kind.from_pretrained(FIXTURES / name, attn_implementation="eager").float().eval()
        pixels = load_file(FIXTURES / name / "golden.safetensors")["pixels"]
        embeddings = embeddings_of(model)
        after = after(model) if after else lambda tokens: tokens
        size = pixels.shape[-2:]
        extra = {}
        if name in ("vit-plain", "clip-both"):
            trained = (model.config.vision_config if name == "clip-both" else model.config).image_size
            extra = {"interpolate_pos_encoding": tuple(size) != (trained, trained)}
        with torch.no_grad():
            plain = after(embeddings(pixels, **extra))
            patch = (model.config.vision_config if name == "clip-both" else model.config).patch_size
            patches = (size[0] // patch) * (size[1] // patch)
            special = plain.shape[1] - patches
            mask = torch.stack([torch.arange(patches) % 3 == 0, torch.arange(patches) % 2 == 1])
            hook = getattr(embeddings, projection).register_forward_hook(cleared(mask))
            golden[f"{name}.zero_embedding"] = after(embeddings(pixels, **extra))
            hook.remove()
            zero = plain.clone()
            zero[:, special:][mask] = 0
            golden[f"{name}.zero_token"] = zero
            if getattr(embeddings, "mask_token", None) is not None:
                golden[f"{name}.mask_token"] = after(embeddings(pixels, bool_masked_pos=mask, **extra))
    save_file({key: tensor.contiguous() for key, tensor in golden.items()}, FIXTURES / "masked" / "golden.safetensors")
    print({key: list(tensor.shape) for key, tensor in golden.items()})


if __name__ == "__main__":
    main()
