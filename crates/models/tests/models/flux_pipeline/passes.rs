//! The results of a pipeline, and the lifetimes of its components.

use std::sync::{Arc, Mutex};

use models::attend::{AttentionProbe, NoProbe, View, Want};
use models::flux::pipeline::{Component, Denoising, Draw, FluxPipeline, Generation, Phase};
use models::{Device, Error, Kind, Site, Stream};
use tch::Tensor;

use super::{GENERATION, LENGTH, SIZE, open, prompts};
use crate::golden::{Golden, changed, relative_difference};

/// Tolerance of the project: largest difference from diffusers in float32, relative to the largest number of a stage.
pub(super) const RELATIVE: f64 = 1e-4;
/// Tolerance if both compute one network in bfloat16, whose numbers are 2⁻⁸ apart.
pub(super) const RELATIVE_BF16: f64 = 2e-2;
/// Tolerance in bfloat16 after several passes of several networks.
pub(super) const CHAINED_BF16: f64 = 6e-2;

/// As in `tools/golden_flux_pipeline.py`.
const AGAIN_STEPS: usize = 4;
const STRENGTH: f64 = 0.6;

/// Returns the latents of all images; none of the fixture's is out of range.
pub(super) fn whole(latents: Vec<Result<Tensor, models::NotFinite>>) -> models::Result<Vec<Tensor>> {
    Ok(latents.into_iter().collect::<Result<_, _>>()?)
}

pub(super) fn check(ours: &Tensor, golden: &Tensor, stage: &str, tolerance: f64) {
    let difference = relative_difference(ours, golden);
    println!("{stage}: {difference:.1e}");
    assert!(difference <= tolerance, "{stage} differs by {difference:e}");
}

/// The images of the fixture, one per batch.
fn pictures(golden: &Golden) -> Vec<models::Result<Tensor>> {
    (0..2).map(|i| Ok(golden.get("input.pixels").narrow(0, i, 1))).collect()
}

#[test]
fn texts_are_encoded_as_diffusers_encodes_them() -> models::Result<()> {
    let golden = Golden::open("flux-pipeline");
    for (kind, suffix, tolerance) in [(Kind::Float, "", RELATIVE), (Kind::BFloat16, ".bf16", RELATIVE_BF16)] {
        let texts = open(kind)?.encode_texts(&prompts(), LENGTH)?;
        for (i, text) in (0..).zip(&texts) {
            assert_eq!((text.text.kind(), text.pooled.kind()), (kind, kind));
            let ids: Vec<f64> = Vec::try_from(golden.get("ids").select(0, i).to_kind(Kind::Double))?;
            assert_eq!(text.ids.iter().map(|&id| id as f64).collect::<Vec<_>>(), ids);
            let stage = |name: &str| golden.get(&format!("{name}{suffix}")).select(0, i);
            check(&text.pooled, &stage("pooled"), "pooled", tolerance);
            check(&text.text, &stage("text"), "text", tolerance);
        }
    }
    Ok(())
}

/// The published text towers call 2 the end of text, which means the largest id; here that is 673.
#[test]
fn both_ways_to_name_the_end_of_text_are_read() -> models::Result<()> {
    let dir =
        changed("flux-pipeline", "text_encoder/config.json", "\"eos_token_id\": 2", "\"eos_token_id\": 673");
    let right = FluxPipeline::open(dir.path(), Kind::Float, Device::Cpu)?.encode_texts(&prompts(), LENGTH)?;
    let legacy = open(Kind::Float)?.encode_texts(&prompts(), LENGTH)?;
    assert_eq!(legacy[0].pooled, right[0].pooled);
    assert_eq!(legacy[1].pooled, right[1].pooled);
    Ok(())
}

#[test]
fn a_picture_is_made_as_diffusers_makes_it() -> models::Result<()> {
    let golden = Golden::open("flux-pipeline");
    for (kind, suffix, tolerance) in [(Kind::Float, "", RELATIVE), (Kind::BFloat16, ".bf16", CHAINED_BF16)] {
        let pipeline = open(kind)?;
        let made = pipeline.generate(&prompts(), &golden.get("input.noise"), GENERATION, &mut NoProbe)?;
        assert_eq!(made.kind(), kind);
        check(&made, &golden.get(&format!("made.pixels{suffix}")), "made.pixels", tolerance);
    }
    let pipeline = open(Kind::Float)?;
    let decoded = pipeline.decode(&golden.get("made.latents"))?;
    check(&decoded, &golden.get("made.pixels"), "decoded", RELATIVE);
    Ok(())
}

#[test]
fn a_picture_is_noised_and_passed_as_in_diffusers() -> models::Result<()> {
    let golden = Golden::open("flux-pipeline");
    for (kind, suffix, tolerance) in [(Kind::Float, "", RELATIVE), (Kind::BFloat16, ".bf16", CHAINED_BF16)] {
        let pipeline = open(kind)?;
        let texts = pipeline.encode_texts(&prompts(), LENGTH)?;
        let latents = whole(pipeline.encode_images(pictures(&golden), Draw::Mode)?)?;
        let transformer = pipeline.transformer()?;
        let schedule = pipeline.schedule(AGAIN_STEPS, SIZE)?;
        let first = schedule.first_step(STRENGTH)?;
        assert_eq!(first, 1);
        for (i, text) in (0..).zip(&texts) {
            let of = |name: &str| golden.get(name).select(0, i);
            let latents = &latents[i as usize];
            check(latents, &of(&format!("latents{suffix}")), "latents", tolerance);
            let noise = of("input.noise");
            let run = Denoising {
                transformer: &transformer,
                schedule: &schedule,
                text,
                reference: None,
                guidance: GENERATION.guidance,
            };
            let velocity = run.noised_pass(first, latents, &noise, &mut NoProbe)?;
            check(&velocity.squeeze_dim(0), &of(&format!("again.velocity{suffix}")), "velocity", tolerance);
            if kind == Kind::Float {
                let noised = models::flow_match::add_noise(latents, &noise, schedule.sigma(first)?)?;
                let rest = run.denoise(first, &noised, &mut NoProbe)?;
                check(&rest, &of("again.latents"), "again.latents", RELATIVE);
            }
        }
    }
    Ok(())
}

#[test]
fn latents_are_drawn_image_by_image() -> models::Result<()> {
    let golden = Golden::open("flux-pipeline");
    let pipeline = open(Kind::Float)?;
    let draw = Draw::Sample { seed: 5 };
    let one_by_one = whole(pipeline.encode_images(pictures(&golden), draw)?)?;
    let batch = whole(pipeline.encode_images([Ok::<_, Error>(golden.get("input.pixels"))], draw)?)?;
    assert_eq!(one_by_one, batch);
    let encoder = pipeline.image_encoder()?;
    let second = encoder.encode(&golden.get("input.pixels").narrow(0, 1, 1), Draw::Sample { seed: 6 })?;
    assert_eq!(second.squeeze_dim(0), batch[1]);

    // Drawn as diffusers draws: the fixture's noise is undone here, since a seed cannot give it.
    let mode = encoder.encode(&golden.get("input.pixels"), Draw::Mode)?;
    let deviation = (golden.get("drawn") - golden.get("latents")) / golden.get("input.noise");
    let noise = models::noise::normal(&[1, 4, 12, 8], 6)?;
    let ours = mode.narrow(0, 1, 1) + deviation.narrow(0, 1, 1) * noise;
    check(&second, &ours, "drawn", 1e-3);
    Ok(())
}

/// Records the sites that it sees.
#[derive(Default)]
struct Sites(Vec<(Stream, usize, usize)>);

impl AttentionProbe for Sites {
    fn want(&mut self, site: &Site) -> Want {
        assert_eq!((site.layout.text, site.layout.image), (LENGTH as i64, (6, 4)));
        self.0.push((site.stream, site.block, site.step));
        Want::NONE
    }

    fn see(&mut self, _: &Site, _: std::ops::Range<i64>, _: &View<'_>) -> models::Result<()> {
        Ok(())
    }
}

#[test]
fn a_probe_sees_every_step_of_every_text() -> models::Result<()> {
    let mut sites = Sites::default();
    let noise = Golden::open("flux-pipeline").get("input.noise");
    let _made = open(Kind::Float)?.generate(&prompts(), &noise, GENERATION, &mut sites)?;
    let text = (0..3).flat_map(|step| [(Stream::Dual, 0, step), (Stream::Single, 0, step)]);
    assert_eq!(sites.0, text.clone().chain(text).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn guidance_has_a_default_where_the_network_needs_one() -> models::Result<()> {
    let golden = Golden::open("flux-pipeline");
    let pipeline = open(Kind::Float)?;
    let make = |guidance| {
        let options = Generation { guidance, ..GENERATION };
        pipeline.generate(&prompts(), &golden.get("input.noise"), options, &mut NoProbe)
    };
    assert_eq!(make(None)?, make(Some(3.5))?);
    assert_ne!(make(None)?, make(Some(2.5))?);
    Ok(())
}

/// Each component is unloaded before the next one is loaded, in every call, even in one that fails.
#[test]
fn no_two_components_are_loaded_at_once() -> models::Result<()> {
    type Log = Arc<Mutex<Vec<(Component, Phase)>>>;
    let log = Log::default();
    let writer = Arc::clone(&log);
    let pipeline = open(Kind::Float)?.watch(move |component, phase| {
        writer.lock().expect("one thread").push((component, phase));
    });
    let told = || std::mem::take(&mut *log.lock().expect("one thread"));
    let alone = |component| [Phase::Loading, Phase::Loaded, Phase::Left].map(|phase| (component, phase));
    let golden = Golden::open("flux-pipeline");

    let _made = pipeline.generate(&prompts(), &golden.get("input.noise"), GENERATION, &mut NoProbe)?;
    let order = [Component::ClipText, Component::T5, Component::Transformer, Component::Vae];
    assert_eq!(told(), order.map(alone).concat());

    pipeline.encode_images(pictures(&golden), Draw::Mode)?;
    assert_eq!(told(), alone(Component::Vae));

    let broken = [Ok(golden.get("input.pixels")), Err(Error::Probe("no such picture".into()))];
    let error = pipeline.encode_images(broken, Draw::Mode).expect_err("the error was lost");
    assert_eq!(error.to_string(), "attention probe: no such picture");
    assert_eq!(told(), alone(Component::Vae));

    let odd = [Ok::<_, Error>(golden.get("input.pixels").narrow(2, 0, 22))];
    let error = pipeline.encode_images(odd, Draw::Mode).expect_err("accepted").to_string();
    assert!(error.contains("22 by 16 pixels; both sides must be multiples of 4"), "{error}");
    assert_eq!(told(), alone(Component::Vae));

    assert!(pipeline.encode_texts(&[], LENGTH)?.is_empty());
    assert_eq!(told(), []);
    Ok(())
}

#[test]
fn inputs_that_do_not_fit_are_refused() -> models::Result<()> {
    let pipeline = open(Kind::Float)?;
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for shape in [vec![1, 4, 12, 8], vec![2, 3, 12, 8], vec![4, 12, 8]] {
        let error = pipeline.generate(&prompts(), &zeros(&shape), GENERATION, &mut NoProbe);
        let message = error.expect_err("accepted").to_string();
        assert!(message.contains("noise: shape") && message.contains(", 4, h, w]"), "{message}");
    }
    let message = pipeline.schedule(4, (24, 18)).expect_err("accepted").to_string();
    assert!(message.contains("24 by 18 pixels; both sides must be multiples of 4"), "{message}");
    let error = pipeline.encode_texts(&prompts(), 21).expect_err("accepted").to_string();
    assert!(error.contains("2 to 20 tokens"), "{error}");
    Ok(())
}
