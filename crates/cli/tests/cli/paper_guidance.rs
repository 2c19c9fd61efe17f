//! The paper's guidance experiment: what `validate` says offline with nothing fetched, and that it fits a pipeline of the
//! published shape.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::{root, words};
use crate::paper::{put, validate};

const CONFIG: &str = "configs/paper/guidance-sd15.toml";

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let nowhere = dir.path().join("nowhere");
    let sets = [
        format!("dataset.reference.path={}", nowhere.display()),
        format!("metrics.features=inception:{}", nowhere.display()),
    ];
    let message = words(&validate(CONFIG, &sets, 3));
    for word in [
        "3 things",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenrank fetch stable-diffusion-v1-5",
        "pt_inception-2015-12-05-6726825d.pth",
        "tools/convert_inception.py",
        "--set dataset.reference.path=PATH",
    ] {
        assert!(message.contains(word), "{word} is not in\n{message}");
    }
}

/// A pipeline with the configurations of Stable Diffusion 1.5, a small tokenizer, and weight files that are there and empty:
/// `validate` reads nothing large.
fn pipeline(dir: &Path) {
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
        put(dir, file, "");
    }
    let tokenizer = root().join("crates/models/tests/fixtures/clip-tokenizer");
    for file in ["vocab.json", "merges.txt"] {
        let content = std::fs::read(tokenizer.join(file)).expect("a committed fixture");
        put(dir, &format!("tokenizer/{file}"), content);
    }
}

#[test]
fn the_experiment_fits_a_pipeline_of_the_published_shape() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let folder = |name: &str| dir.path().join(name);
    pipeline(&folder("sd"));
    put(&folder("coco"), "000000000139.jpg", "not read before a run");
    put(&folder("inception"), "weights.safetensors", "");
    let sets = [
        format!("model.path={}", folder("sd").display()),
        format!("dataset.reference.path={}", folder("coco").display()),
        format!("metrics.features=inception:{}", folder("inception/weights.safetensors").display()),
    ];
    let output = validate(CONFIG, &sets, 0);
    let answer = String::from_utf8(output.stdout).expect("text");
    assert!(answer.contains("ready, 5000 items"), "{answer}");

    // What does not fit is found before anything is drawn.
    let path = folder("sd").join("scheduler/scheduler_config.json");
    let scheduler = std::fs::read_to_string(&path).expect("just written").replace("PNDM", "LMSDiscrete");
    put(&folder("sd"), "scheduler/scheduler_config.json", scheduler);
    let message = words(&validate(CONFIG, &sets, 3));
    assert!(message.contains("LMSDiscreteScheduler"), "{message}");
}
