//! The directory of a pipeline.

use std::collections::BTreeMap;
use std::path::Path;

use models::flux::pipeline::{Component, FluxPipeline};
use models::pipeline::PipelineKind;
use models::{Device, Kind, memory};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{LENGTH, SIZE, open};
use crate::golden::{changed, copy, fixture};

#[test]
fn a_pipeline_describes_itself() -> models::Result<()> {
    let pipeline = open(Kind::BFloat16)?;
    assert_eq!(pipeline.pixels_per_token(), 4);
    assert_eq!(pipeline.grid(SIZE)?, (6, 4));
    assert_eq!(pipeline.latent_shape(SIZE)?, [4, 12, 8]);
    assert!(pipeline.transformer_config().guidance_embeds);
    assert_eq!(pipeline.t5_tokenizer(LENGTH)?.length(), LENGTH);
    assert_eq!(pipeline.clip_tokenizer().context_length(), 14);

    // Stored in bfloat16, so the size equals that of the files without their headers.
    let bytes = pipeline.weight_bytes()?;
    let order = [Component::ClipText, Component::T5, Component::Transformer, Component::Vae];
    assert_eq!(bytes.iter().map(|&(component, _)| component).collect::<Vec<_>>(), order);
    for (component, bytes) in bytes {
        let dir = fixture("flux-pipeline").join(component.folder());
        let file = std::fs::read(&models::weight_files(&dir)?[0]).expect("a committed fixture");
        let header = u64::from_le_bytes(file[..8].try_into().expect("eight bytes"));
        assert_eq!(bytes, file.len() as u64 - 8 - header, "{component}");
    }
    let decoder = memory::weight_bytes(&fixture("flux-pipeline/vae"), &["decoder."], Kind::Float)?;
    let whole = memory::weight_bytes(&fixture("flux-pipeline/vae"), &[], Kind::Float)?;
    assert!(0 < decoder && decoder < whole);

    let hash = pipeline.sha256()?;
    assert_eq!(hash, open(Kind::Float)?.sha256()?);
    for file in ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"] {
        let dir = changed("flux-pipeline", file, "{", "{ ");
        assert_ne!(FluxPipeline::open(dir.path(), Kind::Float, Device::Cpu)?.sha256()?, hash, "{file}");
    }
    Ok(())
}

fn refusal(dir: &Path) -> String {
    match FluxPipeline::open(dir, Kind::Float, Device::Cpu) {
        Ok(_) => panic!("{}: accepted", dir.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_missing_file_is_named() {
    let dir = copy("flux-pipeline");
    std::fs::remove_dir_all(dir.path().join("transformer")).expect("removed");
    for file in [
        "text_encoder/model.safetensors",
        "text_encoder_2/config.json",
        "tokenizer_2/tokenizer.json",
        "scheduler/scheduler_config.json",
    ] {
        std::fs::remove_file(dir.path().join(file)).expect("removed");
    }
    let weights = "vae/diffusion_pytorch_model";
    let [safe, other] = ["safetensors", "ckpt"].map(|end| dir.path().join(format!("{weights}.{end}")));
    std::fs::rename(safe, other).expect("renamed");
    let message = refusal(dir.path());
    for words in [
        "transformer/,",
        "text_encoder/weights (no weights",
        "text_encoder_2/config.json",
        "tokenizer_2/tokenizer.json",
        "scheduler/scheduler_config.json",
        "diffusion_pytorch_model.ckpt is not a file name that transformers or diffusers give to weights",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(!message.contains("tokenizer/"), "CLIP's tokenizer is there: {message}");

    let empty = tempfile::tempdir().expect("a scratch folder");
    assert!(refusal(empty.path()).contains("no model_index.json"));
}

/// The classes of diffusers 0.42 with the components of `FluxPipeline`, except those of Kontext. The networks of classes that also read a mask
/// or edges have more channels and are refused for this reason.
#[test]
fn the_parts_decide_and_not_the_class() -> models::Result<()> {
    for class in [
        "FluxControlPipeline",
        "FluxControlImg2ImgPipeline",
        "FluxControlInpaintPipeline",
        "FluxFillPipeline",
        "FluxImg2ImgPipeline",
        "FluxInpaintPipeline",
    ] {
        let dir = changed("flux-pipeline", "model_index.json", "\"FluxPipeline\"", &format!("\"{class}\""));
        assert_eq!(PipelineKind::of(dir.path())?, Some(PipelineKind::Flux), "{class}");
        FluxPipeline::open(dir.path(), Kind::Float, Device::Cpu)?;
        // Optional parts may be absent instead of null.
        let path = dir.path().join("model_index.json");
        let text = std::fs::read_to_string(&path).expect("a copy");
        let mut index: BTreeMap<String, Value> = serde_json::from_str(&text).expect("an index");
        index.retain(|_, entry| entry.get(1).is_none_or(|class| !class.is_null()));
        std::fs::write(&path, serde_json::to_string(&index).expect("text")).expect("writable");
        FluxPipeline::open(dir.path(), Kind::Float, Device::Cpu)?;
    }
    let wide =
        changed("flux-pipeline", "transformer/config.json", "\"in_channels\": 16", "\"in_channels\": 24");
    let message = refusal(wide.path());
    assert!(message.contains("do not fit") && message.contains("inpainting"), "{message}");
    Ok(())
}

/// `save_pretrained(variant="fp16")`, some networks in shards: transformers and diffusers each under their names.
#[test]
fn a_pipeline_saved_as_a_variant_is_read() -> models::Result<()> {
    let whole = open(Kind::Float)?;
    let dir = copy("flux-pipeline");
    for (folder, stem) in [
        ("text_encoder", "model"),
        ("text_encoder_2", "model"),
        ("transformer", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
    ] {
        let folder = dir.path().join(folder);
        let safe = folder.join(format!("{stem}.safetensors"));
        if folder.ends_with("text_encoder_2") || folder.ends_with("transformer") {
            let shard = format!("{stem}.fp16-00001-of-00001.safetensors");
            let names =
                SafeTensors::read_metadata(&std::fs::read(&safe).expect("a fixture")).expect("a fixture").1;
            let map: BTreeMap<_, _> = names.tensors().into_keys().map(|name| (name, &shard)).collect();
            let index = serde_json::json!({ "weight_map": map }).to_string();
            std::fs::write(folder.join(format!("{stem}.safetensors.index.fp16.json")), index)
                .expect("writable");
            std::fs::rename(safe, folder.join(shard)).expect("renamed");
        } else {
            std::fs::rename(safe, folder.join(format!("{stem}.fp16.safetensors"))).expect("renamed");
        }
    }
    let variant = FluxPipeline::open(dir.path(), Kind::Float, Device::Cpu)?;
    let texts = ["a cat".to_owned()];
    let [ours, wanted] = [&variant, &whole].map(|pipeline| pipeline.encode_texts(&texts, LENGTH));
    assert_eq!(ours?[0].pooled, wanted?[0].pooled);
    variant.transformer()?;
    assert_eq!(variant.weight_bytes()?, whole.weight_bytes()?);
    Ok(())
}

#[test]
fn pipelines_that_do_not_fit_are_refused() {
    for (file, from, to, words) in [
        (
            "model_index.json",
            "FluxTransformer2DModel",
            "SD3Transformer2DModel",
            "transformer is `SD3Transformer2DModel`",
        ),
        (
            "model_index.json",
            "\"vae\": [",
            "\"controlnet\": [\"diffusers\", \"FluxControlNetModel\"], \"vae\": [",
            "controlnet is `FluxControlNetModel`",
        ),
        (
            "model_index.json",
            "\"CLIPTextModel\"",
            "\"CLIPTextModelWithProjection\"",
            "text_encoder is `CLIPTextModelW",
        ),
        ("model_index.json", "\"vae\"", "\"movq\"", "vae is `absent`"),
        ("model_index.json", "{", "[", "not the index of a pipeline"),
        ("text_encoder/config.json", "\"clip_text_model\"", "\"clip\"", "model_type is `clip`"),
        ("text_encoder/config.json", "\"hidden_size\": 8", "\"hidden_size\": 10", "hidden_size 10"),
        ("text_encoder_2/config.json", "\"d_model\": 10", "\"d_model\": 12", "d_model 12"),
        ("vae/config.json", "\"latent_channels\": 4", "\"latent_channels\": 5", "in_channels 16 do not fit"),
        (
            "tokenizer/tokenizer_config.json",
            "\"model_max_length\": 14",
            "\"model_max_length\": 15",
            "15 tokens",
        ),
        (
            "scheduler/scheduler_config.json",
            "\"use_beta_sigmas\": false",
            "\"use_beta_sigmas\": true",
            "beta",
        ),
    ] {
        let message = refusal(changed("flux-pipeline", file, from, to).path());
        assert!(message.contains(words), "{to}: {message}");
    }
}
