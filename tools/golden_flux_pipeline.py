"""Golden fixtures for FLUX pipelines: a tiny random one built by diffusers, text to picture and picture to one pass, and
noise levels of FlowMatchEulerDiscreteScheduler.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0
    python tools/golden_flux_pipeline.py     # writes crates/models/tests/fixtures/{flux-pipeline,flow-match}/

`flux-pipeline/` is what `FluxPipeline.save_pretrained` writes, with guidance, a shift that depends on the size, the text
tower's `eos_token_id` as wrong (2) as it is in the published pipelines, and the tokenizers of the fixtures `clip-tokenizer`
and `t5-tokenizer`; plus `golden.safetensors` of two prompts and two pictures (stages marked * also in bfloat16, `NAME.bf16`):

    ids                 [2, length]                 T5's, as float
    text *              [2, length, d]
    pooled *            [2, d]
    input.noise         [2, c, h, w]
    made.latents        [2, c, h, w]                after STEPS steps
    made.pixels *       [2, 3, height, width]
    input.pixels        [2, 3, height, width]       -1 to 1
    latents *           [2, c, h, w]                of these, scaled, the posterior's mean
    drawn               [2, c, h, w]                the same drawn with input.noise
    again.velocity *    [2, rows*columns, 4*c]      the first pass of FluxImg2ImgPipeline with STRENGTH
    again.latents       [2, c, h, w]                and what it ends with

`flow-match/golden.json`: `schedules` (config, steps, tokens, sigmas, timesteps), `first_steps` (steps, strength, step) and
`steps` (kind, step, sample, velocity, next, noised: the sample with the velocity as noise); `normal.safetensors`: `torch.randn` after `torch.manual_seed`.
"""

import json
import math
import shutil
from pathlib import Path
from unittest import mock

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux import pipeline_flux_img2img
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from golden_vae import randomise as randomise_convolutions
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

import numpy as np

FIXTURES = Path(__file__).parent.parent / "crates/models/tests/fixtures"

PROMPTS = ["a photo of a cat", "two dogs and the lake, in the rain"]
LENGTH = 12
SIZE = (24, 16)
STEPS = 3
GUIDANCE = 2.5
STRENGTH = 0.6
AGAIN_STEPS = 4

SCHEDULERS = {
    "schnell": dict(shift=1.0, use_dynamic_shifting=False),
    "fixed": dict(shift=3.0, use_dynamic_shifting=False, num_train_timesteps=500),
    "dev": dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096),
    "other": dict(use_dynamic_shifting=True, base_shift=0.3, max_shift=2.0, base_image_seq_len=16, max_image_seq_len=700),
}


def schedule(scheduler, steps, tokens):
    """As FluxPipeline prepares its scheduler."""
    config = scheduler.config
    mu = calculate_shift(
        tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift,
    )
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)


def flow_match(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    golden = {"schedules": [], "first_steps": [], "steps": []}
    for name, options in SCHEDULERS.items():
        scheduler = FlowMatchEulerDiscreteScheduler(**options)
        (folder / name).mkdir()
        scheduler.save_pretrained(folder / name)
        for steps in (1, 2, 3, 4, 7, 28, 50):
            for tokens in (1, 256, 1024, 1032, 4096, 9216):
                if options["use_dynamic_shifting"] or tokens == 1:
                    schedule(scheduler, steps, tokens)
                    golden["schedules"].append({
                        "config": name, "steps": steps, "tokens": tokens, "sigmas": scheduler.sigmas.tolist(),
                        "timesteps": scheduler.timesteps.tolist(),
                    })
    pipeline = mock.Mock()
    for steps in (1, 2, 3, 4, 28, 50):
        for strength in (1.0, 0.95, 0.6, 0.5, 0.3, 0.25, 0.1):
            pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
            schedule(pipeline.scheduler, steps, 1024)
            _, left = FluxImg2ImgPipeline.get_timesteps(pipeline, steps, strength, "cpu")
            golden["first_steps"].append({"steps": steps, "strength": strength, "step": steps - left})
    generator = torch.Generator().manual_seed(7)
    for kind, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        for step in (0, 2):
            scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULERS["dev"])
            schedule(scheduler, 4, 1024)
            scheduler.set_begin_index(step)
            sample, velocity = (torch.randn(24, generator=generator).to(dtype) for _ in range(2))
            # Before the step, which moves the scheduler on to the next noise level.
            noised = scheduler.scale_noise(sample[None], scheduler.timesteps[step][None], velocity[None])[0]
            after = scheduler.step(velocity, scheduler.timesteps[step], sample).prev_sample
            assert after.dtype == noised.dtype == dtype
            golden["steps"].append({
                "kind": kind, "step": step, "sample": sample.tolist(), "velocity": velocity.tolist(), "next": after.tolist(),
                "noised": noised.tolist(),
            })
    (folder / "golden.json").write_text(json.dumps(golden))
    torch.manual_seed(1234567890123)
    save_file({"normal": torch.randn((3, 5, 7))}, folder / "normal.safetensors")


def randomise(model, generator):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(("weight" in name) + 0.2 * noise)
            elif "embedding" in name or "shared" in name or "embed_tokens" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(1.2 * noise / math.sqrt(parameter.shape[1]))


def build(generator):
    """The components of a pipeline, in bfloat16."""
    clip_tokenizer = CLIPTokenizer.from_pretrained(FIXTURES / "clip-tokenizer", model_max_length=14)
    t5_tokenizer = T5TokenizerFast.from_pretrained(FIXTURES / "t5-tokenizer", model_max_length=20)
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(clip_tokenizer), hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=14, eos_token_id=2, hidden_act="quick_gelu",
    ))
    t5 = T5EncoderModel(T5Config(
        vocab_size=len(t5_tokenizer) + 6, d_model=10, d_kv=4, d_ff=14, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    ))
    transformer = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, attention_head_dim=6, num_attention_heads=2, joint_attention_dim=10,
        pooled_projection_dim=8, in_channels=16, guidance_embeds=True, axes_dims_rope=(2, 2, 2),
    )
    # Not 3 latent channels: FluxImg2ImgPipeline would take a picture for latents.
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, block_out_channels=(4, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=2, scaling_factor=0.3611, shift_factor=0.1159,
        use_quant_conv=False, use_post_quant_conv=False,
    )
    for model in (clip, t5, transformer):
        randomise(model, generator)
    randomise_convolutions(vae, generator)
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=64,
    )
    models = dict(text_encoder=clip, text_encoder_2=t5, transformer=transformer, vae=vae)
    return dict(
        {name: model.eval().to(torch.bfloat16) for name, model in models.items()},
        tokenizer=clip_tokenizer, tokenizer_2=t5_tokenizer, scheduler=scheduler,
    )


def run(components, dtype, noise, pixels):
    """Text to picture, and picture to the first pass and on."""
    golden = {}
    for name in ("text_encoder", "text_encoder_2", "transformer", "vae"):
        components[name].to(dtype)
    vae, transformer = components["vae"], components["transformer"]
    channels = vae.config.latent_channels
    shape = noise.shape[2:]
    pipeline = FluxPipeline(**components)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        golden["text"], golden["pooled"], _ = pipeline.encode_prompt(PROMPTS, max_sequence_length=LENGTH)
    golden["ids"] = components["tokenizer_2"](
        PROMPTS, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt",
    ).input_ids

    height, width = SIZE
    common = dict(
        prompt=PROMPTS, height=height, width=width, guidance_scale=GUIDANCE, max_sequence_length=LENGTH, output_type="latent",
    )
    packed = FluxPipeline._pack_latents(noise.to(dtype), 2, channels, *shape)
    made = pipeline(**common, num_inference_steps=STEPS, latents=packed).images
    made = FluxPipeline._unpack_latents(made, height, width, pipeline.vae_scale_factor)
    golden["made.latents"] = made
    with torch.no_grad():
        golden["made.pixels"] = vae.decode(made / vae.config.scaling_factor + vae.config.shift_factor).sample
        posterior = vae.encode(pixels.to(dtype)).latent_dist
    scaled = lambda latents: (latents - vae.config.shift_factor) * vae.config.scaling_factor
    golden["latents"] = scaled(posterior.mode())
    golden["drawn"] = scaled(posterior.mean + posterior.std * noise.to(dtype))

    again = FluxImg2ImgPipeline(**components)
    again.set_progress_bar_config(disable=True)
    velocities = []
    hook = transformer.register_forward_hook(lambda module, args, output: velocities.append(output[0]))
    with (
        mock.patch.object(pipeline_flux_img2img, "retrieve_latents", lambda output, generator: output.latent_dist.mode()),
        mock.patch.object(pipeline_flux_img2img, "randn_tensor", lambda *args, **kwargs: noise.to(dtype)),
    ):
        latents = again(**common, image=(pixels + 1) / 2, strength=STRENGTH, num_inference_steps=AGAIN_STEPS).images
    hook.remove()
    golden["again.velocity"] = velocities[0]
    golden["again.latents"] = FluxPipeline._unpack_latents(latents, height, width, again.vae_scale_factor)
    return golden


def main():
    torch.set_num_threads(1)
    flow_match(FIXTURES / "flow-match")
    generator = torch.Generator().manual_seed(11)
    components = build(generator)
    folder = FIXTURES / "flux-pipeline"
    shutil.rmtree(folder, ignore_errors=True)
    FluxPipeline(**components).save_pretrained(folder)
    pixels = torch.rand((2, 3, *SIZE), generator=generator) * 2 - 1
    noise = torch.randn((2, 4, SIZE[0] // 2, SIZE[1] // 2), generator=generator)
    in_bf16 = run(components, torch.bfloat16, noise, pixels)
    # The golden pass runs in f32 on the weights as they are after storage.
    golden = run(components, torch.float32, noise, pixels) | {"input.noise": noise, "input.pixels": pixels}
    for name in ("text", "pooled", "made.pixels", "latents", "again.velocity"):
        golden[f"{name}.bf16"] = in_bf16[name]
    golden = {name: value.float().contiguous().clone() for name, value in golden.items()}
    assert all(value.isfinite().all() for value in golden.values())
    save_file(golden, folder / "golden.safetensors")
    files = [file for file in folder.rglob("*") if file.is_file()]
    print(f"flux-pipeline: {sum(file.stat().st_size for file in files) / 1024:.0f} KiB in {len(files)} files")
    for name in ("text", "pooled", "made.pixels", "latents", "again.velocity"):
        apart = (golden[f"{name}.bf16"] - golden[name]).abs().max() / golden[name].abs().max()
        print(f"{name}: up to {golden[name].abs().max():.1f}, bfloat16 {apart:.1e} from float32")


if __name__ == "__main__":
    main()
