//! Attacks: networks whose numbers are not finite. None of them becomes a prediction, an image, a metric or a file.
//!
//! A line of [`ATTACKS`] is an attack: a tensor of a miniature that is damaged, a command, and what its message names.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::Value;
use tempfile::TempDir;

use crate::checkpoints::{copy, tensors, write};
use crate::common::{arg, root, run, scratch, words};

/// What is done to a tensor.
#[derive(Clone, Copy)]
enum Damage {
    /// Its first number is NaN.
    Nan,
    /// All its numbers are multiplied.
    Times(f32),
}
use Damage::{Nan, Times};

/// The command that meets the damaged network.
#[derive(Clone, Copy)]
enum Meets {
    /// `run` of this experiment, twelve items, with more arguments.
    Run(&'static str, &'static [&'static str]),
    /// `attend` with more arguments.
    Attend(&'static [&'static str]),
    /// `show`.
    Show,
}
use Meets::{Attend, Run, Show};

const VIT: Meets = Run("configs/mini/masking-vit.toml", &[]);
const CLIP: Meets = Run("configs/mini/masking-clip.toml", &[]);
const SEGMENT: Meets = Run("configs/mini/segment.toml", &["--set", "task.segment.batch=12"]);
const GUIDANCE: Meets = Run("configs/mini/guidance.toml", &["--set", "task.guidance.steps=2"]);
const GUIDANCE_F16: Meets =
    Run("configs/mini/guidance.toml", &["--set", "task.guidance.steps=2", "--set", "model.dtype=f16"]);
const DIFFSEG: Meets = Run("configs/mini/diffseg.toml", &[]);
const KEPT: Meets = Run("configs/examples/kept-vit-mini.toml", &[]);

const MODEL: &str = "model.safetensors";
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const SD_VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const FLUX: &str = "transformer/diffusion_pytorch_model.safetensors";

/// Miniature, file, tensor, damage, command, what the message names.
type Attack = (&'static str, &'static str, &'static str, Damage, Meets, &'static [&'static str]);

const ATTACKS: &[Attack] = &[
    ("vit", MODEL, "classifier.weight", Nan, VIT, &["class logits", "float32", "the first is `"]),
    ("vit", MODEL, "vit.encoder.layer.3.attention.attention.query.weight", Nan, VIT, &["block.3 (head 0)"]),
    (
        "vit",
        MODEL,
        "vit.encoder.layer.4.output.dense.bias",
        Nan,
        VIT,
        &["encoded tokens of the vision network"],
    ),
    ("vit", MODEL, "vit.encoder.layer.2.attention.attention.value.weight", Nan, KEPT, &["block.2 (head 0)"]),
    ("vit", MODEL, "classifier.bias", Nan, Attend(&[]), &["class logits", "download them again"]),
    (
        "vit",
        MODEL,
        "vit.encoder.layer.1.attention.attention.key.weight",
        Nan,
        Attend(&[]),
        &["block.1 (head"],
    ),
    ("vit", MODEL, "vit.encoder.layer.1.attention.attention.key.weight", Nan, Show, &["block.1 (head"]),
    ("clip", MODEL, "visual_projection.weight", Nan, CLIP, &["class logits of the vision network"]),
    ("clip", MODEL, "text_projection.weight", Nan, CLIP, &["text embeddings of CLIP"]),
    (
        "clip",
        MODEL,
        "text_model.final_layer_norm.weight",
        Nan,
        Attend(&["--prompt", "a red circle"]),
        &["token embeddings of CLIP's text tower"],
    ),
    ("flux", FLUX, "transformer_blocks.1.attn.to_q.weight", Nan, SEGMENT, &["dual.1 (head 0)"]),
    ("flux", FLUX, "single_transformer_blocks.0.attn.to_v.weight", Nan, SEGMENT, &["single.0 (head 0)"]),
    ("flux", "vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.bias", Nan, SEGMENT, &["latents"]),
    ("flux", "text_encoder/model.safetensors", "final_layer_norm.bias", Nan, SEGMENT, &["for the text `"]),
    (
        "flux",
        "text_encoder_2/model.safetensors",
        "final_layer_norm.weight",
        Nan,
        SEGMENT,
        &["T5 for the text `"],
    ),
    ("sd", UNET, "conv_out.bias", Nan, GUIDANCE, &["predictions of the UNet", "float32"]),
    (
        "sd",
        UNET,
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
        Nan,
        GUIDANCE,
        &["mid_block"],
    ),
    (
        "sd",
        UNET,
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_v.weight",
        Nan,
        DIFFSEG,
        &["mid_block"],
    ),
    ("sd", SD_VAE, "encoder.conv_out.bias", Nan, DIFFSEG, &["latents of the autoencoder"]),
    ("sd", SD_VAE, "decoder.conv_out.bias", Nan, GUIDANCE, &["decoded images of the autoencoder"]),
    ("sd", "text_encoder/model.safetensors", "final_layer_norm.bias", Nan, GUIDANCE, &["CLIP's text tower"]),
    ("sd", UNET, "conv_in.weight", Times(3e4), GUIDANCE_F16, &["float16", "65,504", "model.dtype to f32"]),
];

/// A copy of a miniature with a damaged tensor. Names may lack a prefix.
fn damaged(model: &str, file: &str, name: &str, damage: Damage) -> TempDir {
    let dir = copy(&root().join("datasets/mini/models").join(model));
    change(&dir.path().join(file), name, damage);
    dir
}

fn change(path: &Path, name: &str, damage: Damage) {
    let mut stored = tensors(path);
    let tensor = stored.iter_mut().find(|tensor| tensor.0 == name || tensor.0.ends_with(&format!(".{name}")));
    let (_, kind, _, data) = tensor.unwrap_or_else(|| panic!("{}: no tensor {name}", path.display()));
    assert_eq!(*kind, Dtype::F16);
    let half = |pair: &[u8]| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
    let mut numbers: Vec<f32> = data.chunks_exact(2).map(half).collect();
    match damage {
        Nan => numbers[0] = f32::NAN,
        Times(factor) => numbers.iter_mut().for_each(|number| *number *= factor),
    }
    (*kind, *data) = (Dtype::F32, numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
    write(path, &stored);
}

/// The arguments of a command, and a file that it must not leave.
fn arguments(meets: Meets, model: &Path, dir: &Path) -> (Vec<String>, PathBuf) {
    let image = root().join("crates/cli/tests/fixtures/exif/images/p0.jpg");
    let (args, absent): (Vec<&str>, PathBuf) = match meets {
        Run(config, more) => {
            let out = dir.join("run");
            let start = ["run", config, "--limit", "12", "--out"];
            let more = more.iter().copied();
            let set = format!("model.path={}", arg(model));
            let args = start.into_iter().map(str::to_owned).chain([arg(&out).to_owned()]);
            let args = args.chain(more.map(str::to_owned)).chain(["--set".to_owned(), set]);
            return (args.collect(), out.join("results.json"));
        }
        Attend(more) => {
            let args = ["attend", "--model", arg(model), "--image", arg(&image)];
            (args.into_iter().chain(more.iter().copied()).collect(), dir.join("out.safetensors"))
        }
        Show => (vec!["show", "--model", arg(model), "--image", arg(&image)], dir.join("page.html")),
    };
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    args.extend(["--out".to_owned(), arg(&absent).to_owned()]);
    (args, absent)
}

#[test]
fn numbers_that_are_not_finite_never_become_results() {
    for &(model, file, name, damage, meets, parts) in ATTACKS {
        let network = damaged(model, file, name, damage);
        let dir = scratch();
        let (args, absent) = arguments(meets, network.path(), dir.path());
        let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>(), 3);
        let message = words(&output);
        for part in ["not finite"].iter().chain(parts) {
            assert!(message.contains(part), "{model}, {name}: {part} is missing in: {message}");
        }
        assert!(!absent.exists(), "{model}, {name}: {}", absent.display());
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The numbers of items and the failed items of a run.
fn results(out: &Path) -> (u64, Vec<Value>) {
    let text = fs::read(out.join("results.json")).expect("results");
    let results: Value = serde_json::from_slice(&text).expect("JSON");
    (results["items"].as_u64().expect("a number"), results["failed"].as_array().cloned().unwrap_or_default())
}

/// The arguments of a short run of guidance in float16.
fn in_f16<'a>(set: &'a str, out: &'a Path) -> Vec<&'a str> {
    let config = "configs/mini/guidance.toml";
    let short = ["--limit", "12", "--set", "task.guidance.steps=2", "--set", "model.dtype=f16"];
    [&["run", config, "--out", arg(out), "--set", set][..], &short].concat()
}

#[test]
fn an_autoencoder_that_overflows_in_float16_computes_in_float32_if_its_configuration_says_so() {
    let network = damaged("sd", SD_VAE, "decoder.conv_in.weight", Times(3e4));
    let dir = scratch();
    let out = dir.path().join("run");
    let set = format!("model.path={}", arg(network.path()));
    run(&in_f16(&set, &out), 0);
    assert_eq!(results(&out).0, 12);

    // The same network without that setting: the images it fails on are named and left out.
    let config = network.path().join("vae/config.json");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("\"force_upcast\": true", "\"force_upcast\": false")).expect("writable");
    let out = dir.path().join("f16");
    let message = words(&run(&in_f16(&set, &out), 3));
    assert!(
        message.contains("decoded images of the autoencoder") && message.contains("float16"),
        "{message}"
    );
    assert!(!out.join("results.json").exists());
}

#[test]
fn an_image_that_overflows_does_not_take_its_neighbours_along() {
    let network = damaged("sd", SD_VAE, "decoder.conv_out.weight", Times(SOME_OVERFLOW));
    let config = network.path().join("vae/config.json");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("\"force_upcast\": true", "\"force_upcast\": false")).expect("writable");
    let dir = scratch();
    let out = dir.path().join("run");
    let set = format!("model.path={}", arg(network.path()));
    let message = words(&run(&in_f16(&set, &out), 3));
    let (items, failed) = results(&out);
    assert!(items >= 2 && !failed.is_empty() && items + failed.len() as u64 == 12, "{items}: {message}");
    for item in &failed {
        let reason = item["reason"].as_str().expect("a reason");
        assert!(reason.contains("decoded images") && reason.contains("float16"), "{reason}");
        let id = item["id"].as_str().expect("a name");
        assert!(!out.join("pictures/none").join(format!("{id}.png")).exists(), "{id} has an image");
    }
}

/// Factor at which some of the twelve images exceed float16's range and others do not.
const SOME_OVERFLOW: f32 = 6.5e4;

#[test]
fn a_text_that_overflows_concerns_the_items_that_have_it() {
    // The embedding of the word `circle`, which only some prompts contain.
    let network = copy(&root().join("datasets/mini/models/flux"));
    let path = network.path().join("text_encoder_2/model.safetensors");
    let mut stored = tensors(&path);
    let shared = stored.iter_mut().find(|tensor| tensor.0 == "shared.weight").expect("embeddings");
    let token = 14 * shared.2[1] * 2;
    shared.3[token..token + 2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    write(&path, &stored);
    let dir = scratch();
    let out = dir.path().join("run");
    let set = format!("model.path={}", arg(network.path()));
    let args =
        ["run", "configs/mini/segment.toml", "--limit", "40", "--out", arg(&out), "--set", &set, "--set"];
    let message = words(&run(&[&args[..], &["task.segment.methods=[\"row-select\"]"]].concat(), 3));
    let (items, failed) = results(&out);
    assert!(items > 0 && !failed.is_empty() && items + failed.len() as u64 == 40, "{items}: {message}");
    assert!(failed.iter().all(|item| item["reason"].as_str().expect("a reason").contains("for the text `")));
}

#[test]
fn a_network_that_scores_images_names_the_one_it_fails_on() {
    let network = damaged("clip", MODEL, "visual_projection.weight", Nan);
    let folder = "crates/cli/tests/fixtures/exif/images";
    let features = format!("clip:{}", arg(network.path()));
    let message =
        words(&run(&["metrics", "--generated", folder, "--reference", folder, "--features", &features], 3));
    for part in ["p0.jpg` cannot be scored", "embeddings of the vision network", "not finite"] {
        assert!(message.contains(part), "{message}");
    }
}
