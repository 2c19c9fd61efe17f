//! A whole pipeline of Stable Diffusion against diffusers: its directory, texts, one pass, and encoding and decoding of
//! an image.
//!
//! `tools/golden_sd_pipeline.py` makes the fixture.

use std::path::Path;
use std::sync::{Arc, Mutex};

use models::attend::NoProbe;
use models::flux::pipeline::FluxPipeline;
use models::pipeline::{PipelineKind, is_pipeline};
use models::sd::pipeline::{Component, Draw, Phase, SdPipeline};
use models::{Device, Kind};
use tch::Tensor;

use crate::golden::{Golden, changed, copy, fixture, relative_difference};

const NAME: &str = "sd-pipeline";
/// Largest difference from diffusers in float32, relative to the largest number of a stage.
const RELATIVE: f64 = 1e-5;
/// As in `tools/golden_sd_pipeline.py`.
const TIMESTEP: f64 = 501.0;

fn prompts() -> Vec<String> {
    ["a photo of a cat", "", "two dogs and the lake, in the rain and in the snow, far away"]
        .map(str::to_owned)
        .into()
}

fn open(kind: Kind) -> models::Result<SdPipeline> {
    SdPipeline::open(&fixture(NAME), kind, Device::Cpu)
}

fn check(ours: &Tensor, golden: &Tensor, stage: &str) {
    let difference = relative_difference(ours, golden);
    println!("{stage}: {difference:.1e}");
    assert!(difference <= RELATIVE, "{stage} differs by {difference:e}");
}

#[test]
fn a_pipeline_describes_itself() -> models::Result<()> {
    let pipeline = open(Kind::Half)?;
    assert_eq!(
        (pipeline.kind(), pipeline.device(), pipeline.dir()),
        (Kind::Half, Device::Cpu, &*fixture(NAME))
    );
    assert_eq!(pipeline.default_size(), (32, 32));
    assert_eq!(pipeline.latent_shape((32, 48))?, [4, 16, 24]);
    assert_eq!(pipeline.tokenizer().context_length(), 14);
    assert_eq!((pipeline.unet_config().levels(), pipeline.vae_config().scaling_factor), (2, 0.18215));
    assert!(pipeline.scheduler_dir().join("scheduler_config.json").is_file());
    let message = pipeline.latent_shape((32, 34)).expect_err("accepted").to_string();
    assert!(
        message.contains("32 by 34 pixels; both sides must be multiples of 4, since a latent"),
        "{message}"
    );

    // Stored in float16, so the size equals that of the files without their headers.
    let bytes = pipeline.weight_bytes()?;
    let networks: Vec<Component> = bytes.iter().map(|&(component, _)| component).collect();
    assert_eq!(networks, [Component::Vae, Component::ClipText, Component::Unet]);
    for (component, bytes) in bytes {
        let file = std::fs::read(&models::weight_files(&fixture(NAME).join(component.folder()))?[0]);
        let file = file.expect("a committed fixture");
        let header = u64::from_le_bytes(file[..8].try_into().expect("eight bytes"));
        assert_eq!(bytes, file.len() as u64 - 8 - header, "{component}");
    }

    let hash = pipeline.sha256()?;
    assert_eq!(hash, open(Kind::Float)?.sha256()?);
    for file in ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"] {
        let dir = changed(NAME, file, "{", "{ ");
        assert_ne!(SdPipeline::open(dir.path(), Kind::Float, Device::Cpu)?.sha256()?, hash, "{file}");
    }
    Ok(())
}

#[test]
fn texts_and_a_pass_are_those_of_diffusers() -> models::Result<()> {
    let golden = Golden::open(NAME);
    let log = Arc::new(Mutex::new(Vec::new()));
    let entries = Arc::clone(&log);
    let pipeline = open(Kind::Float)?.watch(move |component, phase| {
        entries.lock().expect("one thread").push((component, phase));
    });
    let texts = pipeline.encode_texts(&prompts())?;
    assert!(texts.iter().all(|text| text.size() == [14, 8]), "padded to the full length");
    let text = Tensor::stack(&texts, 0);
    check(&text, &golden.get("text"), "text");
    let unet = pipeline.unet()?;
    let predicted = unet.forward(&golden.get("input.latents"), TIMESTEP, &text, 0, &mut NoProbe)?;
    check(&predicted, &golden.get("predicted"), "predicted");

    let text_tower = [Phase::Loading, Phase::Loaded, Phase::Left].map(|phase| (Component::ClipText, phase));
    let unet = [Phase::Loading, Phase::Loaded].map(|phase| (Component::Unet, phase));
    assert_eq!(*log.lock().expect("one thread"), [&text_tower[..], &unet].concat());
    assert!(pipeline.encode_texts(&[])?.is_empty());
    Ok(())
}

#[test]
fn an_image_is_encoded_and_decoded_as_in_diffusers() -> models::Result<()> {
    let golden = Golden::open(NAME);
    let pipeline = open(Kind::Float)?;
    let encoder = pipeline.image_encoder()?;
    let latents = encoder.encode(&golden.get("input.pixels"), Draw::Mode)?;
    check(&latents, &golden.get("latents"), "latents");
    let decoded = pipeline.decoder()?.decode(&pipeline.vae_config().unscale(&latents)?)?;
    check(&decoded, &golden.get("decoded"), "decoded");
    let error = encoder.encode(&golden.get("input.pixels").narrow(2, 0, 30), Draw::Mode);
    let message = error.expect_err("accepted").to_string();
    assert!(message.contains("30 by 32 pixels"), "{message}");
    Ok(())
}

#[test]
fn the_kinds_of_pipelines_are_told_apart() -> models::Result<()> {
    assert_eq!(PipelineKind::of(&fixture(NAME))?, Some(PipelineKind::StableDiffusion));
    assert_eq!(PipelineKind::of(&fixture("flux-pipeline"))?, Some(PipelineKind::Flux));
    assert_eq!(PipelineKind::of(&fixture("unet-sd1"))?, None);
    assert!(is_pipeline(&fixture(NAME)) && !is_pipeline(&fixture("unet-sd1")));
    let other = changed(NAME, "model_index.json", "UNet2DConditionModel", "UNet3DConditionModel");
    let message = PipelineKind::of(other.path()).expect_err("accepted").to_string();
    for words in
        ["_class_name is `StableDiffusionPipeline`", "parts of FluxPipeline (", "StableDiffusionPipeline ("]
    {
        assert!(message.contains(words), "{message}");
    }
    let error =
        FluxPipeline::open(&fixture(NAME), Kind::Float, Device::Cpu).err().expect("no FLUX").to_string();
    assert!(
        error.contains("runs the parts of FluxPipeline, which is FLUX.1-schnell and FLUX.1-dev"),
        "{error}"
    );
    Ok(())
}

/// The classes of diffusers 0.42 with the components of `StableDiffusionPipeline`.
const CLASSES: [&str; 13] = [
    "CycleDiffusionPipeline",
    "LEditsPPPipelineStableDiffusion",
    "SemanticStableDiffusionPipeline",
    "StableDiffusionAttendAndExcitePipeline",
    "StableDiffusionDiffEditPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionPAGImg2ImgPipeline",
    "StableDiffusionPAGPipeline",
    "StableDiffusionPanoramaPipeline",
    "StableDiffusionParadigmsPipeline",
    "StableDiffusionSAGPipeline",
    "TextToVideoZeroPipeline",
];

#[test]
fn the_parts_decide_and_not_the_class() -> models::Result<()> {
    for class in CLASSES {
        let class = format!("\"{class}\"");
        let dir = changed(NAME, "model_index.json", "\"StableDiffusionPipeline\"", &class);
        assert_eq!(PipelineKind::of(dir.path())?, Some(PipelineKind::StableDiffusion), "{class}");
        SdPipeline::open(dir.path(), Kind::Float, Device::Cpu)?;
    }
    Ok(())
}

/// Published pipelines name optional parts, which may exist or not.
#[test]
fn optional_parts_are_ignored() -> models::Result<()> {
    for (from, to) in [
        ("\"vae\": [", "\"inverse_scheduler\": [\"diffusers\", \"DDIMInverseScheduler\"], \"vae\": ["),
        ("\"vae\": [", "\"controlnet\": [null, null], \"pag_applied_layers\": \"mid\", \"vae\": ["),
        (
            "\"scheduler\": [\n    \"diffusers\",\n    \"PNDM",
            "\"scheduler\": [\n    \"diffusers\",\n    \"DDIM",
        ),
        (
            "\"safety_checker\": [\n    null,\n    null\n  ]",
            "\"safety_checker\": [\"stable_diffusion\", \"StableDiffusionSafetyChecker\"]",
        ),
    ] {
        SdPipeline::open(changed(NAME, "model_index.json", from, to).path(), Kind::Float, Device::Cpu)?;
    }
    let index = changed(NAME, "model_index.json", "  \"image_encoder\": [\n    null,\n    null\n  ],\n", "");
    SdPipeline::open(index.path(), Kind::Float, Device::Cpu)?;
    Ok(())
}

fn refusal(dir: &Path) -> String {
    match SdPipeline::open(dir, Kind::Float, Device::Cpu) {
        Ok(_) => panic!("{}: accepted", dir.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn pipelines_that_do_not_fit_are_refused() {
    for (file, from, to, words) in [
        (
            "model_index.json",
            "UNet2DConditionModel",
            "UNet3DConditionModel",
            "unet is `UNet3DConditionModel`",
        ),
        (
            "model_index.json",
            "\"vae\": [",
            "\"controlnet\": [\"diffusers\", \"ControlNetModel\"], \"vae\": [",
            "controlnet is `ControlNetModel`",
        ),
        ("model_index.json", "\"CLIPTextModel\"", "\"T5EncoderModel\"", "text_encoder is `T5EncoderModel`"),
        ("model_index.json", "\"PNDMScheduler\"", "null", "scheduler is `absent`"),
        ("model_index.json", "\"unet\"", "\"prior\"", "unet is `absent`"),
        ("text_encoder/config.json", "\"hidden_size\": 8", "\"hidden_size\": 10", "hidden_size 10 and unet"),
        ("vae/config.json", "\"latent_channels\": 4", "\"latent_channels\": 5", "in_channels 4 do not fit"),
        ("unet/config.json", "\"out_channels\": 4", "\"out_channels\": 8", "unet out_channels 8"),
        ("unet/config.json", "\"in_channels\": 4", "\"in_channels\": 9", "in_channels 9"),
        (
            "unet/config.json",
            "\"class_embed_type\": null",
            "\"class_embed_type\": \"identity\"",
            "class_embed_type",
        ),
        (
            "tokenizer/tokenizer_config.json",
            "\"model_max_length\": 14",
            "\"model_max_length\": 15",
            "15 tokens",
        ),
    ] {
        let message = refusal(changed(NAME, file, from, to).path());
        assert!(message.contains(words), "{to}: {message}");
    }
}

#[test]
fn every_missing_file_is_named() {
    let dir = copy(NAME);
    std::fs::remove_dir_all(dir.path().join("unet")).expect("removed");
    for file in
        ["text_encoder/model.safetensors", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"]
    {
        std::fs::remove_file(dir.path().join(file)).expect("removed");
    }
    let message = refusal(dir.path());
    for words in
        ["unet/,", "text_encoder/weights (no weights", "scheduler/scheduler_config.json", "tokenizer/"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    let empty = tempfile::tempdir().expect("a scratch folder");
    assert!(refusal(empty.path()).contains("no model_index.json; a Stable Diffusion pipeline"));
}
