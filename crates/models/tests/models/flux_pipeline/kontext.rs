//! FLUX.1 Kontext against diffusers: size and latents of the reference image, one pass, and a whole run.
//!
//! `tools/golden_kontext.py` makes the fixture. Its weights are those of `flux-pipeline`.

use std::collections::BTreeMap;

use models::attend::NoProbe;
use models::capture::{Capture, Chains};
use models::flux::FluxLayers;
use models::flux::pipeline::{CaptureOptions, Denoising, Draw, FluxPipeline, ReferenceSize};
use models::image::{Resample, Rgb8, resize};
use models::pipeline::{PipelineKind, pixels};
use models::probe::KeepAll;
use models::{Device, Kind, TokenKind, TokenLayout};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::passes::{CHAINED_BF16, RELATIVE, RELATIVE_BF16, check, whole};
use super::{GENERATION, LENGTH, SIZE, open, prompts};
use crate::golden::{Golden, changed, fixture};

const FIXTURE: &str = "flux-kontext";
/// Rows and columns of the tokens of the image and of the reference.
const IMAGE: (i64, i64) = (6, 4);
const REFERENCE: (i64, i64) = (4, 7);

/// Width and height in pixels.
type Size = (usize, usize);

#[derive(Deserialize)]
struct Sizes {
    chosen: Vec<Chosen>,
    preferred: Preferred,
}

#[derive(Deserialize)]
struct Chosen {
    token: usize,
    image: Size,
    preferred: Size,
    own: Size,
}

#[derive(Deserialize)]
struct Preferred {
    size: Size,
    sha256: String,
}

fn sizes() -> Sizes {
    let text = std::fs::read_to_string(fixture(FIXTURE).join("sizes.json")).expect("a committed fixture");
    serde_json::from_str(&text).expect("JSON")
}

fn reference() -> Rgb8 {
    Rgb8::open(fixture(FIXTURE).join("reference.png")).expect("a committed fixture")
}

/// A copy of `flux-pipeline` that says that it is Kontext.
fn folder(class: &str) -> TempDir {
    changed("flux-pipeline", "model_index.json", "\"FluxPipeline\"", &format!("\"{class}\""))
}

fn options() -> CaptureOptions {
    CaptureOptions {
        prompt: prompts().remove(0),
        text_tokens: Some(LENGTH),
        image_size: Some(16),
        steps: GENERATION.steps,
        step: 1,
        seed: 5,
    }
}

#[test]
fn the_reference_gets_the_size_that_diffusers_chooses() -> models::Result<()> {
    let Sizes { chosen, .. } = sizes();
    assert!(chosen.len() > 50);
    for Chosen { token, image: (width, height), preferred, own } in chosen {
        for (size, (wide, high)) in [(ReferenceSize::Preferred, preferred), (ReferenceSize::Own, own)] {
            let found = size.pixels((height, width), token)?;
            assert_eq!(found, (high, wide), "{width} × {height} pixels, {size}, {token} a token");
        }
    }
    Ok(())
}

#[test]
fn the_reference_is_resized_bit_for_bit() -> models::Result<()> {
    let Sizes { preferred: Preferred { size: (width, height), sha256 }, .. } = sizes();
    let image = reference();
    assert_eq!(ReferenceSize::Preferred.pixels((image.height, image.width), 4)?, (height, width));
    let large = resize(&image, (width, height), Resample::Lanczos)?;
    let digest = Sha256::digest(&large.data).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(digest, sha256);

    let (height, width) = ReferenceSize::Own.pixels((image.height, image.width), 4)?;
    let small = pixels(&resize(&image, (width, height), Resample::Lanczos)?)?;
    assert_eq!(small, Golden::open(FIXTURE).get("reference.pixels"));
    Ok(())
}

#[test]
fn every_stage_of_kontext_is_that_of_diffusers() -> models::Result<()> {
    let golden = Golden::open(FIXTURE);
    let dir = folder("FluxKontextPipeline");
    for (kind, suffix, once, several) in
        [(Kind::Float, "", RELATIVE, RELATIVE), (Kind::BFloat16, ".bf16", RELATIVE_BF16, CHAINED_BF16)]
    {
        let of = |name: &str| golden.get(&format!("{name}{suffix}"));
        let pipeline = FluxPipeline::open_any(dir.path(), kind, Device::Cpu)?;
        let samples = golden.get("reference.pixels").unsqueeze(0);
        let latents =
            whole(pipeline.encode_images([Ok::<_, models::Error>(samples)], Draw::Mode)?)?.remove(0);
        check(&latents, &of("reference.latents"), &format!("reference.latents{suffix}"), once);

        let (noise, text) =
            (golden.get("input.noise"), pipeline.encode_texts(&prompts()[..1], LENGTH)?.remove(0));
        let (transformer, schedule) = (pipeline.transformer()?, pipeline.schedule(GENERATION.steps, SIZE)?);
        let run = Denoising {
            transformer: &transformer,
            schedule: &schedule,
            text: &text,
            reference: Some(&latents),
            guidance: GENERATION.guidance,
        };
        // Before the first step, latents are nothing but noise.
        let mut probe = KeepAll::default();
        let velocity = run.noised_pass(0, &noise.zeros_like(), &noise, &mut probe)?;
        check(&velocity, &of("velocity"), &format!("velocity{suffix}"), several);
        if kind == Kind::Float {
            let layers = probe.finish()?;
            assert_eq!(layers.len(), 2);
            for layer in &layers {
                assert_eq!(
                    layer.site.layout,
                    TokenLayout::joint(LENGTH as i64, IMAGE).with_reference(REFERENCE)
                );
                let stage = format!("{}.probs", layer.site);
                check(&layer.probs, &golden.get(&stage), &stage, RELATIVE);
            }
        }
        let made = run.denoise(0, &noise, &mut NoProbe)?;
        check(&made, &of("made.latents"), &format!("made.latents{suffix}"), several);
        if kind == Kind::Float {
            let alone = Denoising { reference: None, ..run };
            let velocity = alone.noised_pass(0, &noise, &noise, &mut NoProbe)?;
            check(&velocity, &golden.get("alone.velocity"), "alone.velocity", RELATIVE);
        }
    }
    Ok(())
}

/// `attend` and `show` prepare the reference as diffusers does, and it is a segment of their tokens.
#[test]
fn a_capture_has_the_reference_as_a_segment() -> models::Result<()> {
    let golden = Golden::open(FIXTURE);
    let dir = folder("FluxKontextInpaintPipeline");
    let pipeline = FluxPipeline::open_any(dir.path(), Kind::Float, Device::Cpu)?;
    let (options, image) = (options(), reference());
    let plan = options.plan(&pipeline)?.with_reference(&image, ReferenceSize::Own)?;
    let layout = TokenLayout::joint(LENGTH as i64, (4, 4)).with_reference(REFERENCE);
    assert_eq!(plan.layout()?, layout);
    assert_eq!(plan.reference_size(), Some((ReferenceSize::Own, (16, 28))));
    let prepared = plan.prepare(Some(&image))?;
    let seen = prepared.reference.as_ref().expect("a reference");
    assert_eq!(seen.pixels, golden.get("reference.pixels"));
    check(&seen.latents, &golden.get("reference.latents"), "reference.latents", RELATIVE);

    let blocks = || "all".parse::<FluxLayers>()?.resolve(1, 1);
    let capture = Capture::flux(&prepared, blocks()?)?;
    assert_eq!(capture.layout, layout);
    assert_eq!(capture.metadata["reference"], r#"{"size":"own","pixels":[16,28]}"#);
    let shapes: BTreeMap<_, _> =
        capture.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
    let tokens = layout.tokens();
    for (name, shape) in [
        ("dual.0.probs", vec![2, tokens, tokens]),
        ("single.0.logits", vec![2, tokens, tokens]),
        ("output.velocity", vec![4, 8, 8]),
        ("reference.pixels", vec![3, 16, 28]),
        ("reference.latents", vec![4, 8, 14]),
    ] {
        assert_eq!(shapes[name], shape, "{name}");
    }
    let Chains { states, layers, .. } = Chains::flux(&prepared, blocks()?, 1e-6, 0)?;
    assert_eq!((states.count(TokenKind::Reference), layers.len()), (28, 2));
    assert_eq!(layers[0].mean.dim(), (tokens as usize, tokens as usize));

    // Without an image, the pipeline generates one from the prompt and the reference.
    let made = |reference: Option<&Rgb8>| {
        let plan = options.plan(&pipeline)?;
        let plan = match reference {
            Some(reference) => plan.with_reference(reference, ReferenceSize::Square(8))?,
            None => plan,
        };
        Ok::<_, models::Error>(plan.prepare(None)?.image)
    };
    assert_ne!(made(Some(&image))?, made(None)?);
    Ok(())
}

/// Without a reference, Kontext is FLUX, to the bit.
#[test]
fn kontext_without_reference_is_flux() -> models::Result<()> {
    let dir = folder("FluxKontextPipeline");
    let (kontext, flux) = (FluxPipeline::open_any(dir.path(), Kind::Float, Device::Cpu)?, open(Kind::Float)?);
    let (options, image) = (options(), reference());
    let capture = |pipeline: &FluxPipeline| {
        let prepared = options.plan(pipeline)?.prepare(Some(&image))?;
        Capture::flux(&prepared, "all".parse::<FluxLayers>()?.resolve(1, 1)?)
    };
    let (ours, wanted) = (capture(&kontext)?, capture(&flux)?);
    assert_eq!((&ours.layout, &ours.metadata), (&wanted.layout, &wanted.metadata));
    assert_eq!(ours.tensors, wanted.tensors);
    Ok(())
}

#[test]
fn kontext_is_told_apart_and_refused_where_there_is_no_reference() -> models::Result<()> {
    for class in ["FluxKontextPipeline", "FluxKontextInpaintPipeline"] {
        let dir = folder(class);
        assert_eq!(PipelineKind::of(dir.path())?, Some(PipelineKind::FluxKontext), "{class}");
        let error =
            FluxPipeline::open(dir.path(), Kind::Float, Device::Cpu).err().expect("accepted").to_string();
        for words in [class, "FLUX.1 Kontext reads a reference image", "attend and show"] {
            assert!(error.contains(words), "{error}");
        }
    }
    let flux = FluxPipeline::open_any(&fixture("flux-pipeline"), Kind::Float, Device::Cpu)?;
    assert!(!flux.is_kontext());
    let (options, image) = (options(), reference());
    let refusal = |pipeline: &FluxPipeline, image: &Rgb8, size| {
        options.plan(pipeline)?.with_reference(image, size).map(drop)
    };
    let message = refusal(&flux, &image, ReferenceSize::Own).expect_err("accepted").to_string();
    assert!(message.contains("reference image: only FLUX.1 Kontext reads one"), "{message}");

    let dir = folder("FluxKontextPipeline");
    let kontext = FluxPipeline::open_any(dir.path(), Kind::Float, Device::Cpu)?;
    let thin = Rgb8::new(3, 40, vec![0; 360])?;
    for (image, size, words) in [
        (
            &image,
            ReferenceSize::Square(30),
            "reference size: 30 by 30 pixels; both sides must be multiples of 4",
        ),
        (&image, ReferenceSize::Square(0), "reference size: 0 by 0 pixels"),
        (&image, ReferenceSize::Square(usize::MAX), "reference size: "),
        (
            &image,
            ReferenceSize::Square(1 << 40),
            "reference size: 1099511627776 by 1099511627776 pixels are more",
        ),
        (&thin, ReferenceSize::Own, "smaller than 4 by 4 pixels"),
        (&thin, ReferenceSize::Preferred, "smaller than 4 by 4 pixels"),
    ] {
        let message = refusal(&kontext, image, size).expect_err("accepted").to_string();
        assert!(message.contains(words), "{size}: {message}");
    }
    Ok(())
}
