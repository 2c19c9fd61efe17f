//! The autoencoder (encoder and decoder) against diffusers, on two tiny random networks whose configurations differ in
//! every field.
//!
//! `tools/golden_vae.py` makes the fixtures.

use std::path::Path;

use models::vae::{Autoencoder, Decoder, Encoder};
use models::{Device, Error, Kind};
use tch::Tensor;

use crate::golden::{Golden, changed, copy, fixture, relative_difference};
use crate::torch_file::{read, torch_file};

/// Tolerance of the project: largest difference from diffusers in float32, relative to the largest number of a stage.
const RELATIVE: f64 = 1e-4;
/// Tolerance if both compute in bfloat16, whose numbers are 2⁻⁸ apart.
const RELATIVE_BF16: f64 = 2e-2;

const FIXTURES: [&str; 2] = ["vae-flux", "vae-sd"];

fn load(dir: &Path) -> models::Result<Autoencoder> {
    Autoencoder::load(dir, Kind::Float, Device::Cpu)
}

#[test]
fn every_stage_is_that_of_diffusers() -> models::Result<()> {
    for name in FIXTURES {
        let golden = Golden::open(name);
        let vae = load(&fixture(name))?;
        let posterior = vae.encode(&golden.get("input.pixels"))?;
        let sample = posterior.sample(&golden.get("input.noise"))?;
        let scaled = vae.scale(&golden.get("sample"))?;
        let stages = [
            ("mean", posterior.mode()),
            ("mean", posterior.mean),
            ("logvar", posterior.logvar),
            ("sample", sample),
            ("sample", vae.unscale(&golden.get("scaled"))?),
            ("scaled", scaled),
            ("decoded", vae.decode(&golden.get("sample"))?),
        ];
        for (stage, ours) in &stages {
            let difference = relative_difference(ours, &golden.get(stage));
            println!("{name}: {stage} {difference:.1e}");
            assert!(
                difference <= RELATIVE,
                "{name}: {stage} is the first stage that differs, by {difference:e}"
            );
        }
    }
    Ok(())
}

#[test]
fn separate_halves_equal_the_whole_autoencoder() -> models::Result<()> {
    for name in FIXTURES {
        let golden = Golden::open(name);
        let whole = load(&fixture(name))?;
        let encoder = Encoder::load(&fixture(name), Kind::Float, Device::Cpu)?;
        let decoder = Decoder::load(&fixture(name), Kind::Float, Device::Cpu)?;
        let (pixels, latents) = (golden.get("input.pixels"), golden.get("sample"));
        assert_eq!(encoder.encode(&pixels)?.mean, whole.encode(&pixels)?.mean, "{name}");
        assert_eq!(decoder.decode(&latents)?, whole.decode(&latents)?, "{name}");
    }
    Ok(())
}

/// Compares the network in bfloat16 with diffusers in bfloat16.
#[test]
fn bfloat16_is_within_its_rounding_noise() -> models::Result<()> {
    let golden = Golden::open("vae-flux");
    let vae = Autoencoder::load(&fixture("vae-flux"), Kind::BFloat16, Device::Cpu)?;
    let posterior = vae.encode(&golden.get("input.pixels"))?;
    let sample = posterior.sample(&golden.get("input.noise"))?;
    let stages = [("mean", posterior.mean), ("logvar", posterior.logvar), ("decoded", vae.decode(&sample)?)];
    for (stage, ours) in stages {
        assert_eq!(ours.kind(), Kind::BFloat16);
        let difference = relative_difference(&ours, &golden.get(&format!("{stage}.bf16")));
        println!("bfloat16: {stage} {difference:.1e}");
        assert!(difference <= RELATIVE_BF16, "{stage}: {difference:e}");
    }
    Ok(())
}

#[test]
fn inputs_that_do_not_fit_are_refused() -> models::Result<()> {
    let vae = load(&fixture("vae-flux"))?;
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for (shape, words) in [
        (vec![1, 3, 12, 18], "12 by 18 pixels; both sides must be multiples of 4"),
        (vec![1, 3, 0, 4], "0 by 4 pixels"),
        (vec![1, 4, 12, 20], "4 channels where 3"),
        (vec![3, 12, 20], "[batch, 3, height, width]"),
    ] {
        let error = vae.encode(&zeros(&shape)).expect_err("the pixels were accepted");
        assert!(matches!(error, Error::Input { input: "pixels", .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for shape in [vec![1, 4, 3, 5], vec![5, 3, 5]] {
        let error = vae.decode(&zeros(&shape)).expect_err("the latents were accepted").to_string();
        assert!(error.contains("latents: shape") && error.contains("[batch, 5, height, width]"), "{error}");
    }
    let posterior = vae.encode(&zeros(&[1, 3, 4, 4]))?;
    let error = posterior.sample(&zeros(&[1, 5, 1, 2])).expect_err("the noise was accepted").to_string();
    assert!(error.contains("noise: shape [1, 5, 1, 2]"), "{error}");
    Ok(())
}

#[test]
fn directories_that_do_not_fit_are_refused() {
    for (name, from, to, words) in [
        // Weights whose shape differs from the configuration's.
        ("vae-flux", "\"layers_per_block\": 1", "\"layers_per_block\": 2", "encoder.down_blocks.0.resnets.1"),
        ("vae-sd", "\"layers_per_block\": 2", "\"layers_per_block\": 1", "does not use"),
        ("vae-sd", "\"use_quant_conv\": true", "\"use_quant_conv\": false", "`quant_conv.bias`"),
        (
            "vae-flux",
            "\"use_post_quant_conv\": false",
            "\"use_post_quant_conv\": true",
            "`post_quant_conv.weight`",
        ),
        (
            "vae-sd",
            "\"mid_block_add_attention\": true",
            "\"mid_block_add_attention\": false",
            "mid_block.attentions.0",
        ),
        ("vae-sd", "\"latent_channels\": 4", "\"latent_channels\": 3", "encoder.conv_out.weight"),
        // Unsupported or contradictory configurations.
        ("vae-sd", "\"AutoencoderKL\"", "\"AutoencoderTiny\"", "AutoencoderTiny"),
        ("vae-sd", "\"DownEncoderBlock2D\"", "\"AttnDownEncoderBlock2D\"", "AttnDownEncoderBlock2D"),
        ("vae-sd", "\"UpDecoderBlock2D\"", "\"AttnUpDecoderBlock2D\"", "AttnUpDecoderBlock2D"),
        ("vae-sd", "\"silu\"", "\"gelu\"", "act_fn is `gelu`"),
        ("vae-sd", "\"norm_num_groups\": 2", "\"norm_num_groups\": 4", "6 is not a multiple"),
        ("vae-sd", "\"norm_num_groups\": 2", "\"norm_num_groups\": 0", "norm_num_groups is 0; it must lie"),
        ("vae-sd", "\"scaling_factor\": 0.18215", "\"scaling_factor\": 0", "does not scale latents"),
        ("vae-sd", "\"latents_mean\": null", "\"latents_mean\": [0, 0, 0, 0]", "latents_mean"),
        ("vae-sd", "    6,", "    6, 6,", "3 block_out_channels"),
    ] {
        let dir = changed(name, "config.json", from, to);
        let message = load(dir.path()).err().unwrap_or_else(|| panic!("{to}: accepted")).to_string();
        assert!(message.contains(words), "{to}: {message}");
    }
    let nowhere = load(Path::new("nowhere")).err().expect("nothing is there").to_string();
    assert!(nowhere.contains("no such directory"), "{nowhere}");

    let dir = copy("vae-flux");
    let weights = dir.path().join("diffusion_pytorch_model.safetensors");
    let torch = torch_file(&read(&weights), |dict| dict);
    std::fs::write(dir.path().join("diffusion_pytorch_model.bin"), torch).expect("writable");
    std::fs::remove_file(weights).expect("a copy");
    load(dir.path()).map(drop).expect("as torch.save writes it");
}
