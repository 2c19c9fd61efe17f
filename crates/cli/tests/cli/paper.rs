//! What the tests of the paper's experiments share.

use std::path::Path;
use std::process::Output;

use models::clip::ClipTextEncoder;
use models::sd::Unet;
use models::vae::Autoencoder;
use models::{Device, Kind};
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

/// The first bytes of a picture, by which `validate` knows its format.
pub const JPEG_BEGINS: &[u8] = b"\xff\xd8\xff\xe0";
pub const PNG_BEGINS: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Writes a file and the folders above it.
pub fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
    std::fs::write(path, content).expect("writable");
}

/// A safetensors file with the tensors that `load` asks for and with no number written: it is as long as the published one
/// and takes no room. `validate` reads headers, nothing large.
pub fn put_weights<T>(dir: &Path, name: &str, load: impl FnOnce(&Path) -> models::Result<T>) {
    const NO_TENSORS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
    put(dir, name, NO_TENSORS);
    let path = dir.join(name);
    let wanted = models::wanted_tensors(|| load(path.parent().expect("a folder"))).expect("a network");
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (tensor, shape) in wanted {
        if header.contains_key(&tensor) {
            continue;
        }
        let start = end;
        end += 2 * shape.iter().product::<i64>() as u64;
        header.insert(tensor, json!({ "dtype": "F16", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(&path, &bytes).expect("writable");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("just written");
    file.set_len(bytes.len() as u64 + end).expect("a sparse file");
}

/// A pipeline with the configurations of Stable Diffusion 1.4 and 1.5, a small tokenizer, and weight files without numbers.
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
    put_weights(dir, "text_encoder/model.safetensors", |dir| {
        ClipTextEncoder::load(dir, Kind::Half, Device::Cpu)
    });
    let diffusers = |part: &str| format!("{part}/diffusion_pytorch_model.safetensors");
    put_weights(dir, &diffusers("unet"), |dir| Unet::load(dir, Kind::Half, Device::Cpu));
    put_weights(dir, &diffusers("vae"), |dir| Autoencoder::load(dir, Kind::Half, Device::Cpu));
    let tokenizer = root().join("crates/models/tests/fixtures/clip-tokenizer");
    for file in ["vocab.json", "merges.txt"] {
        let content = std::fs::read(tokenizer.join(file)).expect("a committed fixture");
        put(dir, &format!("tokenizer/{file}"), content);
    }
}
