//! The paper's segmentation experiments: what `validate` says offline with nothing fetched, and that they fit a pipeline of
//! the published shape.

use std::path::Path;

use models::clip::ClipTextEncoder;
use models::flux::FluxTransformer;
use models::t5::T5Encoder;
use models::vae::Autoencoder;
use models::{Device, Kind};
use serde_json::{Value, json};

use crate::common::{arg, root, words};
use crate::paper::{JPEG_BEGINS, put, put_weights, validate};

const IMAGENET: &str = "configs/paper/segment-imagenet.toml";
const VOC: &str = "configs/paper/segment-voc.toml";

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let nowhere = dir.path().join("nowhere");
    for (config, setting, source) in [
        (IMAGENET, "dataset.imagenet-segmentation.path", "calvin-vision.net"),
        (VOC, "dataset.pascal-voc.root", "VOCtrainval_11-May-2012.tar"),
    ] {
        let message = words(&validate(config, &[format!("{setting}={}", nowhere.display())], 3));
        for word in [
            "2 problems",
            "black-forest-labs/FLUX.1-schnell",
            "model_index.json",
            "diffusion_pytorch_model-00003-of-00003.safetensors",
            "tokenrank fetch flux-schnell",
            source,
        ] {
            assert!(message.contains(word), "{config}: {word} is not in\n{message}");
        }
    }
}

/// A pipeline with the configurations of FLUX.1-schnell, small tokenizers, and weight files without numbers: `validate`
/// reads nothing large.
fn pipeline(dir: &Path) {
    let entry = |library: &str, class: &str| json!([library, class]);
    let configurations: [(&str, Value); 6] = [
        (
            "model_index.json",
            json!({
                "_class_name": "FluxPipeline",
                "scheduler": entry("diffusers", "FlowMatchEulerDiscreteScheduler"),
                "text_encoder": entry("transformers", "CLIPTextModel"),
                "text_encoder_2": entry("transformers", "T5EncoderModel"),
                "tokenizer": entry("transformers", "CLIPTokenizer"),
                "tokenizer_2": entry("transformers", "T5TokenizerFast"),
                "transformer": entry("diffusers", "FluxTransformer2DModel"),
                "vae": entry("diffusers", "AutoencoderKL"),
            }),
        ),
        (
            "scheduler/scheduler_config.json",
            json!({
                "_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256, "base_shift": 0.5,
                "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 1.0,
                "use_dynamic_shifting": false,
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
            "text_encoder_2/config.json",
            json!({
                "model_type": "t5", "d_ff": 10240, "d_kv": 64, "d_model": 4096, "feed_forward_proj": "gated-gelu",
                "layer_norm_epsilon": 1e-6, "num_heads": 64, "num_layers": 24,
                "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "vocab_size": 32128,
            }),
        ),
        (
            "transformer/config.json",
            json!({
                "_class_name": "FluxTransformer2DModel", "attention_head_dim": 128, "guidance_embeds": false,
                "in_channels": 64, "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 19,
                "num_single_layers": 38, "patch_size": 1, "pooled_projection_dim": 768,
            }),
        ),
        (
            "vae/config.json",
            json!({
                "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
                "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
                "force_upcast": true, "in_channels": 3, "latent_channels": 16, "layers_per_block": 2,
                "mid_block_add_attention": true, "norm_num_groups": 32, "out_channels": 3, "scaling_factor": 0.3611,
                "shift_factor": 0.1159, "use_post_quant_conv": false, "use_quant_conv": false,
            }),
        ),
    ];
    for (file, configuration) in configurations {
        put(dir, file, configuration.to_string());
    }
    let (kind, device) = (Kind::BFloat16, Device::Cpu);
    put_weights(dir, "text_encoder/model.safetensors", |dir| ClipTextEncoder::load(dir, kind, device));
    put_weights(dir, "text_encoder_2/model.safetensors", |dir| T5Encoder::load(dir, kind, device));
    let diffusers = |part: &str| format!("{part}/diffusion_pytorch_model.safetensors");
    put_weights(dir, &diffusers("transformer"), |dir| FluxTransformer::load(dir, kind, device));
    put_weights(dir, &diffusers("vae"), |dir| Autoencoder::load(dir, kind, device));
    let fixtures = root().join("crates/models/tests/fixtures");
    for (file, fixture) in [
        ("tokenizer/vocab.json", "clip-tokenizer/vocab.json"),
        ("tokenizer/merges.txt", "clip-tokenizer/merges.txt"),
        ("tokenizer_2/tokenizer.json", "t5-tokenizer/tokenizer.json"),
    ] {
        put(dir, file, std::fs::read(fixtures.join(fixture)).expect("a committed fixture"));
    }
}

#[test]
fn the_experiments_fit_a_pipeline_of_the_published_shape() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    pipeline(dir.path());
    let model = format!("model.path={}", dir.path().display());
    let ready = |config: &str, sets: &[String]| {
        let output = validate(config, &[std::slice::from_ref(&model), sets].concat(), 0);
        String::from_utf8(output.stdout).expect("text")
    };

    let fixtures = root().join("crates/tasks/tests/fixtures/gtsegs");
    let archive = format!("dataset.imagenet-segmentation.path={}", arg(&fixtures.join("gtsegs.mat")));
    let answer = ready(IMAGENET, std::slice::from_ref(&archive));
    assert!(answer.contains("ready, 3 items"), "{answer}");

    let voc = dir.path().join("VOC2012");
    put(&voc, "ImageSets/Segmentation/val.txt", "2007_000033\n");
    put(&voc, "JPEGImages/2007_000033.jpg", JPEG_BEGINS);
    let mask = std::fs::read(fixtures.join("0-mask.png")).expect("a committed fixture");
    put(&voc, "SegmentationClass/2007_000033.png", mask);
    let answer = ready(VOC, &[format!("dataset.pascal-voc.root={}", voc.display())]);
    assert!(answer.contains("ready, 1 items"), "{answer}");

    // What does not fit is found before anything runs.
    let config = std::fs::read_to_string(dir.path().join("transformer/config.json")).expect("just written");
    put(dir.path(), "transformer/config.json", config.replace("\"num_layers\":19", "\"num_layers\":9"));
    let message = words(&validate(IMAGENET, &[model.clone(), archive], 2));
    assert!(message.contains("last:10") && message.contains("9 blocks"), "{message}");
}
