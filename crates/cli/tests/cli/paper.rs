//! What the tests of the paper's experiments share.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::common::{root, tokenrank, words};

/// `validate` with an empty cache of checkpoints.
pub fn validate(config: &str, sets: &[String], code: i32) -> Output {
    let home = tempfile::tempdir().expect("a scratch folder");
    let mut command = tokenrank();
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"] {
        command.env_remove(name);
    }
    command.args(["validate", config]).env("HF_HOME", home.path());
    for set in sets {
        command.args(["--set", set]);
    }
    let output = command.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(code), "{config}: {}", words(&output));
    output
}

/// Writes a file and the folders above it.
pub fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
    std::fs::write(path, content).expect("writable");
}

/// A safetensors file without a tensor: `validate` reads headers, nothing large.
pub const NO_TENSORS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

/// A pipeline with the configurations of Stable Diffusion 1.4 and 1.5, a small tokenizer, and weight files without tensors.
pub fn stable_diffusion(dir: &Path) {
    let entry = |library: &str, class: &str| json!([library, class]);
    let configurations: [(&str, Value); 5] = [
        (
            "model_index.json",
            json!({
                "_class_name": "StableDiffusionPipeline",
                "feature_extractor": entry("transformers", "CLIPImageProcessor"),
                "safety_checker": entry("stable_diffusion", "StableDiffusionSafetyChecker"),
                "scheduler": entry("diffusers", "PNDMScheduler"),
                "text_encoder": entry("transformers", "CLIPTextModel"),
                "tokenizer": entry("transformers", "CLIPTokenizer"),
                "unet": entry("diffusers", "UNet2DConditionModel"),
                "vae": entry("diffusers", "AutoencoderKL"),
            }),
        ),
        (
            "scheduler/scheduler_config.json",
            json!({
                "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
                "beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000,
                "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null,
            }),
        ),
        (
            "text_encoder/config.json",
            json!({
                "model_type": "clip_text_model", "hidden_act": "quick_gelu", "hidden_size": 768,
                "intermediate_size": 3072, "layer_norm_eps": 1e-5, "max_position_embeddings": 77,
                "num_attention_heads": 12, "num_hidden_layers": 12, "projection_dim": 768, "vocab_size": 49408,
            }),
        ),
        (
            "unet/config.json",
            json!({
                "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8,
                "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
                "cross_attention_dim": 768, "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
                "down_block_types": [
                    "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D",
                ],
                "up_block_types": [
                    "UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                ],
                "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-5,
                "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
            }),
        ),
        (
            "vae/config.json",
            json!({
                "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
                "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
                "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
                "out_channels": 3, "sample_size": 512,
            }),
        ),
    ];
    for (file, configuration) in configurations {
        put(dir, file, configuration.to_string());
    }
    for file in [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        put(dir, file, NO_TENSORS);
    }
    let tokenizer = root().join("crates/models/tests/fixtures/clip-tokenizer");
    for file in ["vocab.json", "merges.txt"] {
        let content = std::fs::read(tokenizer.join(file)).expect("a committed fixture");
        put(dir, &format!("tokenizer/{file}"), content);
    }
}
