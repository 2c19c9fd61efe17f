"""Golden fixture for FLUX.1 Kontext: the tiny pipeline of the fixture `flux-pipeline` run by diffusers' FluxKontextPipeline.

    pip install torch==2.11.0 torchvision==0.26.0 diffusers==0.42.1 transformers==5.23.0 safetensors==0.8.0 pillow==13.0.0
    python tools/golden_kontext.py     # writes crates/models/tests/fixtures/flux-kontext/

The weights are those of `flux-pipeline`, so this fixture has none. Its files:

`reference.png`, the reference image. `sizes.json`: `chosen`, sizes of reference images in pixels as [width, height]: `image`, and what
diffusers makes of it, `preferred` with `_auto_resize` and `own` without, where an image token stands for `token` pixels; `preferred`, size
and SHA-256 of the bytes (height, width, RGB) of `reference.png` as resized with `_auto_resize`. `golden.safetensors`, of one prompt and an
image of SIZE with the reference at its own size (stages marked * also in bfloat16, `NAME.bf16`):

    input.noise           [c, h, w]
    reference.pixels      [3, height, width]             -1 to 1
    reference.latents *   [c, h, w]                      scaled, the posterior's mean
    ids                   [tokens, 3]                    of text, image and reference
    velocity *            [1, rows*columns, 4*c]         the first pass, image tokens only
    dual.0.probs          [1, heads, tokens, tokens]     of the first pass
    single.0.probs        [1, heads, tokens, tokens]
    made.latents *        [c, h, w]                      after STEPS steps
    alone.velocity        [1, rows*columns, 4*c]         the first pass without a reference
"""

import hashlib
import json
import math
import shutil
from unittest import mock

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.transformers import transformer_flux
from golden_flux_pipeline import FIXTURES, GUIDANCE, LENGTH, PROMPTS, SIZE, STEPS
from PIL import Image
from safetensors.torch import save_file

FOLDER = FIXTURES / "flux-kontext"
NETWORKS = ("text_encoder", "text_encoder_2", "transformer", "vae")
# Neither whole tokens of 4 pixels, nor as many tokens as the image.
REFERENCE = (29, 18)
# Width and height: usual ones, narrow ones, ones between two preferred sizes, trained ones.
SIZES = [
    (640, 480), (480, 640), (1920, 1080), (1080, 1920), (1024, 1024), (500, 375), (333, 500), (2000, 100), (100, 2000), (64, 64), (17, 31),
    (1000, 999), (1280, 800), (2560, 1080), (1184, 880), (944, 1104), (1568, 672), (1600, 700), (707, 1000), (3000, 2000), (16, 16), (19, 400),
    (1024, 960), (1456, 721), (1455, 720), (801, 1328), (719, 480), (4032, 3024),
]


class Chosen(Exception):
    """Ends the pipeline when the size of the reference image is known."""


def chosen(pipeline, size, auto):
    """The size that diffusers resizes a reference image to, as [width, height]."""

    def resize(image, height, width):
        raise Chosen(width, height)

    with mock.patch.object(pipeline.image_processor, "resize", resize):
        try:
            pipeline(
                image=Image.new("RGB", size), prompt="", height=1024, width=1024, max_sequence_length=LENGTH, _auto_resize=auto,
            )
        except Chosen as found:
            return list(found.args)


def sizes(pipeline):
    found = []
    for factor in (pipeline.vae_scale_factor, 8):
        pipeline.vae_scale_factor = factor
        pipeline.image_processor = VaeImageProcessor(vae_scale_factor=2 * factor)
        for size in SIZES:
            preferred, own = (chosen(pipeline, size, auto) for auto in (True, False))
            found.append({"token": 2 * factor, "image": list(size), "preferred": preferred, "own": own})
    return found


def picture():
    """Smooth colours with edges and noise."""
    (width, height), generator = REFERENCE, np.random.default_rng(3)
    y, x = np.mgrid[0:height, 0:width]
    colours = np.stack([8 * x, 13 * y, 128 + 90 * np.sin(0.8 * x + 0.5 * y)], axis=-1)
    colours[5:12, 9:17] = [250, 40, 10]
    return Image.fromarray((colours + generator.integers(-20, 21, colours.shape)).clip(0, 255).astype(np.uint8))


def preferred(pipeline, image):
    width, height = chosen(pipeline, image.size, True)
    resized = np.asarray(pipeline.image_processor.resize(image, height, width))
    assert resized.shape == (height, width, 3)
    return {"size": [width, height], "sha256": hashlib.sha256(resized.tobytes()).hexdigest()}


def run(pipeline, dtype, noise, image):
    """One run; of the first pass, the input and the maps."""
    golden, calls, maps = {}, [], []
    for name in NETWORKS:
        getattr(pipeline, name).to(dtype)
    original, encode, preprocess = transformer_flux.dispatch_attention_fn, pipeline._encode_vae_image, pipeline.image_processor.preprocess

    def attention(query, key, value, *args, **kwargs):
        # [b, n, heads, head dim] -> [b, heads, n, head dim]
        q, k = (x.transpose(1, 2) for x in (query, key))
        maps.append((q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(-1))
        return original(query, key, value, *args, **kwargs)

    def encoded(**kwargs):
        golden["reference.latents"] = encode(**kwargs)[0]
        return golden["reference.latents"][None]

    def preprocessed(*args, **kwargs):
        golden["reference.pixels"] = preprocess(*args, **kwargs)[0]
        return golden["reference.pixels"][None]

    height, width = SIZE
    channels, shape = noise.shape[0], noise.shape[1:]
    hook = pipeline.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append((kwargs, output[0])), with_kwargs=True,
    )
    with (
        mock.patch.object(transformer_flux, "dispatch_attention_fn", attention),
        mock.patch.object(pipeline, "_encode_vae_image", encoded),
        mock.patch.object(pipeline.image_processor, "preprocess", preprocessed),
    ):
        made = pipeline(
            image=image, prompt=PROMPTS[:1], height=height, width=width, max_area=height * width, num_inference_steps=STEPS,
            guidance_scale=GUIDANCE, latents=FluxKontextPipeline._pack_latents(noise[None].to(dtype), 1, channels, *shape),
            max_sequence_length=LENGTH, output_type="latent", _auto_resize=False,
        ).images
    hook.remove()
    assert len(calls) == STEPS
    arguments, output = calls[0]
    tokens = made.shape[1]
    golden["ids"] = torch.cat([arguments["txt_ids"], arguments["img_ids"]])
    golden["velocity"] = output[:, :tokens]
    golden["dual.0.probs"], golden["single.0.probs"] = maps[:2]
    golden["made.latents"] = FluxKontextPipeline._unpack_latents(made, height, width, pipeline.vae_scale_factor)[0]
    assert golden["ids"].shape[0] == golden["dual.0.probs"].shape[-1] == LENGTH + arguments["hidden_states"].shape[1]
    return golden


def main():
    torch.set_num_threads(1)
    pipeline = FluxKontextPipeline.from_pretrained(FIXTURES / "flux-pipeline", torch_dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    image = picture()
    image.save(FOLDER / "reference.png")
    noise = torch.randn((4, SIZE[0] // 2, SIZE[1] // 2), generator=torch.Generator().manual_seed(17))
    in_bf16 = run(pipeline, torch.bfloat16, noise, image)
    # In f32 on the weights as they are after storage.
    golden = run(pipeline, torch.float32, noise, image)
    golden |= {"input.noise": noise, "alone.velocity": run(pipeline, torch.float32, noise, None)["velocity"]}
    for name in ("reference.latents", "velocity", "made.latents"):
        golden[f"{name}.bf16"] = in_bf16[name]
    golden = {name: value.float().contiguous().clone() for name, value in golden.items()}
    assert all(value.isfinite().all() for value in golden.values())
    save_file(golden, FOLDER / "golden.safetensors")
    resized = preferred(pipeline, image)
    (FOLDER / "sizes.json").write_text(json.dumps({"chosen": sizes(pipeline), "preferred": resized}) + "\n")

    files = list(FOLDER.iterdir())
    print(f"flux-kontext: {sum(file.stat().st_size for file in files) / 1024:.0f} KiB in {len(files)} files")
    for name, value in golden.items():
        print(f"{name}: {list(value.shape)}, up to {value.abs().max():.2f}")
    apart = (golden["velocity"] - golden["alone.velocity"]).abs().max() / golden["velocity"].abs().max()
    print(f"the reference changes the velocity by {apart:.2f} of its largest number")


if __name__ == "__main__":
    main()
