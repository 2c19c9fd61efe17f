"""Golden fixture for pipelines of Stable Diffusion: a tiny random one built by diffusers, its texts and one pass.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0
    python tools/golden_sd_pipeline.py     # writes crates/models/tests/fixtures/sd-pipeline/

What `StableDiffusionPipeline.save_pretrained` writes, in float16, with the PNDM scheduler and the text tower's legacy
`eos_token_id` (2) of Stable Diffusion 1.5, its tensors under the hub's names (`text_model.`), no safety checker, and the
tokenizer of the fixture `clip-tokenizer`. Pictures of 32 pixels have 16 latents a side, the UNet's middle 8. Beside it,
`golden.safetensors` of the prompts:

    text               [3, tokens, d]          what `encode_prompt` gives
    input.latents      [3, c, h, w]
    predicted          [3, c, h, w]            the UNet's answer at TIMESTEP
    input.pixels       [1, 3, height, width]   -1 to 1
    latents            [1, c, h, w]            of the picture, the mean, scaled
    decoded            [1, 3, height, width]   of these
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from golden_flux_pipeline import randomise as randomise_text
from golden_vae import randomise
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

FIXTURES = Path(__file__).parent.parent / "crates/models/tests/fixtures"
FOLDER = FIXTURES / "sd-pipeline"

PROMPTS = ["a photo of a cat", "", "two dogs and the lake, in the rain and in the snow, far away"]
SIZE = 32
TIMESTEP = 501


def build(generator):
    tokenizer = CLIPTokenizer.from_pretrained(FIXTURES / "clip-tokenizer", model_max_length=14)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=14, eos_token_id=2, hidden_act="quick_gelu",
    ))
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=8, attention_head_dim=2,
    )
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, block_out_channels=(4, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=SIZE,
    )
    randomise_text(text, generator)
    randomise(unet, generator)
    randomise(vae, generator)
    with torch.no_grad():
        # A network that was not trained answers with anything; a long trajectory needs an answer no larger than noise.
        unet.conv_out.weight *= 0.5
    # As published with Stable Diffusion 1.5; the last setting is for DDIM's class, which would clip otherwise.
    scheduler = PNDMScheduler.from_config({
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
        "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False,
    })
    return StableDiffusionPipeline(
        vae=vae.eval().half(), text_encoder=text.eval().half(), tokenizer=tokenizer, unet=unet.eval().half(),
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )


def publish(pipeline):
    """Saves the pipeline as the hub has it: transformers 5 leaves out the folder `text_model` of the tower's tensors."""
    # Other tools keep their goldens beside the components.
    for component in [path for path in FOLDER.glob("*") if path.is_dir()]:
        shutil.rmtree(component)
    pipeline.save_pretrained(FOLDER)
    file = FOLDER / "text_encoder/model.safetensors"
    tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(300)
    publish(build(generator))
    # In f32 on the weights as they are after storage.
    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float32)
    vae = pipeline.vae
    latents = torch.randn((len(PROMPTS), 4, SIZE // 2, SIZE // 2), generator=generator)
    pixels = torch.rand((1, 3, SIZE, SIZE), generator=generator) * 2 - 1
    with torch.no_grad():
        text, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
        encoded = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
        golden = {
            "text": text,
            "input.latents": latents,
            "predicted": pipeline.unet(latents, TIMESTEP, encoder_hidden_states=text).sample,
            "input.pixels": pixels,
            "latents": encoded,
            "decoded": vae.decode(encoded / vae.config.scaling_factor).sample,
        }
    golden = {name: value.float().contiguous().clone() for name, value in golden.items()}
    assert all(value.isfinite().all() for value in golden.values())
    save_file(golden, FOLDER / "golden.safetensors")
    for file in FOLDER.rglob("*.safetensors"):
        file.chmod(0o644)
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    print(f"sd-pipeline: {sum(file.stat().st_size for file in files) / 1024:.0f} KiB in {len(files)} files")
    for name, value in golden.items():
        print(f"{name}: {tuple(value.shape)}, up to {value.abs().max():.1f}, deviation {value.std():.2f}")


if __name__ == "__main__":
    main()
