//! Guided sampling against diffusers, pass by pass, and what must not depend on the batch.
//!
//! `tools/golden_sag.py` makes the fixture.

use std::path::{Path, PathBuf};

use models::attend::{AttentionProbe, NoProbe};
use models::diffusion::{Sampler, SamplerConfig, SamplerKind};
use models::pipeline::{ClassifierFree, Guide, Pass, Start, sample, to_pixels};
use models::sd::pipeline::SdPipeline;
use models::{Device, Kind, noise};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tasks::guidance::{
    Blur, Guidance, GuidanceConfig, Importance, Method, PerturbedGuide, Sag, SagGuide, Threshold,
    read_picture,
};
use tasks::{Answer, Error, Task};
use tch::Tensor;

#[derive(Deserialize)]
struct Cases {
    steps: usize,
    alpha: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    sampler: SamplerKind,
    guidance_scale: f64,
    prompt: String,
    mask: Option<Importance>,
    #[serde(default)]
    threshold: Threshold,
    scale: Option<f64>,
    /// `pag` or `seg`.
    method: Option<String>,
    #[serde(default)]
    blocks: Vec<String>,
    sigma: Option<f64>,
}

impl Case {
    /// The guide of the case.
    fn guide(&self, alpha: f64) -> Guided {
        if let (Some(importance), Some(scale)) = (self.mask, self.scale) {
            let sag = Sag { importance, threshold: self.threshold, alpha, scale, blur: Blur::default() };
            return Guided::Sag(SagGuide::new(sag, 2));
        }
        let Some(name) = &self.method else { return Guided::Not(NoProbe) };
        let mut settings = serde_json::json!({ "blocks": self.blocks });
        let more = [("scale", self.scale), ("sigma", self.sigma)];
        for (key, value) in more.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            settings[key] = value.into();
        }
        let method: Method =
            serde_json::from_value(serde_json::json!({ name.as_str(): settings })).expect("a method");
        let (change, scale) = method.perturbation().expect("PAG or SEG");
        Guided::Perturbed(PerturbedGuide::new(change, scale))
    }
}

enum Guided {
    Not(NoProbe),
    Sag(SagGuide),
    Perturbed(PerturbedGuide),
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sag")
}

fn pipeline() -> SdPipeline {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/sd-pipeline");
    SdPipeline::open(&dir, Kind::Float, Device::Cpu).expect("a committed fixture")
}

fn golden(file: &SafeTensors, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap_or_else(|_| panic!("there is no golden {name}"));
    let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
    let kind = if view.dtype() == Dtype::U8 { Kind::Uint8 } else { Kind::Float };
    Tensor::from_data_size(view.data(), &shape, kind).to_kind(Kind::Float)
}

fn relative_difference(ours: &Tensor, golden: &Tensor) -> f64 {
    assert_eq!(ours.size(), golden.size());
    ((ours - golden).abs().max() / golden.abs().max()).double_value(&[])
}

/// Remembers what every pass was shown.
struct Watched {
    inner: Guided,
    seen: Vec<Tensor>,
}

impl Guide for Watched {
    fn probe(&mut self) -> &mut dyn AttentionProbe {
        match &mut self.inner {
            Guided::Sag(guide) => guide.probe(),
            Guided::Perturbed(guide) => guide.probe(),
            Guided::Not(probe) => probe,
        }
    }

    fn change(&mut self, pass: &Pass<'_>) -> models::Result<Tensor> {
        self.seen.push(pass.latents.shallow_clone());
        match &mut self.inner {
            Guided::Sag(guide) => guide.change(pass),
            Guided::Perturbed(guide) => guide.change(pass),
            Guided::Not(_) => Ok(pass.prompted.output.zeros_like()),
        }
    }
}

#[test]
fn trajectories_agree_with_diffusers() -> models::Result<()> {
    let _guard = models::no_grad();
    let text = std::fs::read_to_string(fixtures().join("golden.json")).expect("a committed fixture");
    let Cases { steps, alpha, cases } = serde_json::from_str(&text).expect("a committed fixture");
    let bytes = std::fs::read(fixtures().join("golden.safetensors")).expect("a committed fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a committed fixture");
    let pipeline = pipeline();
    let (unet, decoder) = (pipeline.unet()?, pipeline.decoder()?);
    let begun = golden(&file, "noise");
    let shape = &begun.size()[1..];
    let noise = Tensor::stack(&[noise::normal(shape, 5)?, noise::normal(shape, 6)?], 0);
    // The last digits depend on the processor.
    assert!(relative_difference(&noise, &begun) < 1e-5);
    for case in cases {
        let Case { name, sampler, guidance_scale, prompt, .. } = &case;
        let texts = pipeline.encode_texts(&[prompt.clone(), String::new()])?;
        let [text, unconditional] = [0, 1].map(|i| texts[i].unsqueeze(0).expand([2, -1, -1], false));
        let guidance = ClassifierFree { unconditional: &unconditional, scale: *guidance_scale };
        let start = Start { noise: &begun, text: &text, guidance: Some(guidance) };
        let config = SamplerConfig::from_dir(&pipeline.scheduler_dir(), Some(*sampler))?;
        let mut watched = Watched { inner: case.guide(alpha), seen: Vec::new() };
        let last = sample(&unet, Sampler::new(&config, steps)?, &start, Some(&mut watched))?;

        let latents = golden(&file, &format!("{name}.latents"));
        if let Guided::Sag(guide) = watched.inner {
            let masks = golden(&file, &format!("{name}.masks"));
            let ours = Tensor::stack(&guide.into_masks(), 0).reshape(masks.size()).to_kind(Kind::Float);
            assert_eq!(ours, masks, "{name}: masks");
        }
        let mut worst: f64 = 0.0;
        let after: Vec<&Tensor> = watched.seen.iter().skip(1).chain([&last]).collect();
        for (pass, ours) in (0..).zip(after) {
            // What Euler's method shows the network is not its sample.
            if *sampler == SamplerKind::Euler && pass + 1 < latents.size()[0] {
                continue;
            }
            let difference = relative_difference(ours, &latents.get(pass));
            assert!(difference < 1e-4, "{name}, pass {pass}: {difference:e}");
            worst = worst.max(difference);
        }
        assert_eq!(watched.seen.len() as i64, latents.size()[0], "{name}");
        let pixels = to_pixels(&decoder.decode(&pipeline.vae_config().unscale(&last)?)?)?;
        let theirs = golden(&file, &format!("{name}.pixels"));
        let levels = (pixels.to_kind(Kind::Float) - theirs).abs().max().double_value(&[]);
        assert!(levels <= 1.0, "{name}: pixels differ by {levels} levels");
        println!("{name}: latents within {worst:e}, pixels within {levels} levels");
    }
    Ok(())
}

fn config(settings: &str) -> GuidanceConfig {
    let all = r#"methods = ["none", "sag", { sag = { mask = "tokenrank" } }]"#;
    toml::from_str(&format!("{all}\ncount = 5\nsteps = 4\n{settings}")).expect("a configuration")
}

fn guidance(config: GuidanceConfig, folder: &Path) -> Result<Guidance, Error> {
    config.check()?;
    let items = Guidance::items(&config, 7)?;
    Guidance::new(config, pipeline(), items, folder)
}

/// The pixels of every image of a run, by method and number.
fn drawn(config: GuidanceConfig) -> Result<Vec<Vec<u8>>, Error> {
    let _guard = models::no_grad();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut task = guidance(config, folder.path())?;
    let (items, batch) = (task.manifest().len(), task.batch_size());
    let mut images = Vec::new();
    for first in (0..items).step_by(batch) {
        for record in task.run(first..(first + batch).min(items))?.into_iter().filter_map(Answer::record) {
            for (method, generated) in &record.methods {
                let path = Guidance::file(folder.path(), method, &record.id);
                images.push((method.clone(), record.id.clone(), read_picture(&path, generated)?.data));
            }
        }
    }
    images.sort();
    Ok(images.into_iter().map(|(_, _, pixels)| pixels).collect())
}

fn levels_apart(a: &[Vec<u8>], b: &[Vec<u8>]) -> u8 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).flat_map(|(a, b)| a.iter().zip(b));
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap_or_default()
}

#[test]
fn an_image_does_not_depend_on_the_rest_of_its_batch() -> Result<(), Error> {
    let one = drawn(config("batch = 1"))?;
    assert_eq!(one.len(), 15);
    for batch in [2, 5] {
        assert!(levels_apart(&one, &drawn(config(&format!("batch = {batch}")))?) <= 1, "batches of {batch}");
    }
    // Two parts of the numbers.
    let parts = [drawn(config("batch = 1\nfirst = 0"))?, drawn(config("batch = 3\nfirst = 3"))?];
    let of = |part: &[Vec<u8>], method: usize, number: usize| part[method * 5 + number].clone();
    for method in 0..3 {
        let again = [of(&parts[1], method, 0), of(&parts[1], method, 1)];
        assert!(levels_apart(&[of(&one, method, 3), of(&one, method, 4)], &again) <= 1);
    }
    assert!(levels_apart(&one[..5], &one[5..10]) > 1, "guidance changes nothing");
    Ok(())
}

#[test]
fn records_say_what_was_masked() -> Result<(), Error> {
    let _guard = models::no_grad();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut task = guidance(config("shown = 1"), folder.path())?;
    let records: Vec<_> = task.run(0..5)?.into_iter().filter_map(Answer::record).collect();
    let ids: Vec<(&str, u64)> = records.iter().map(|record| (record.id.as_str(), record.seed)).collect();
    assert_eq!(ids[0], ("00000000", 7));
    assert_eq!(ids[4], ("00000004", 11));
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record.methods["none"].mask_area, None);
        let sag = &record.methods["sag"];
        let area = sag.mask_area.expect("a mask");
        assert!(area > 0.0 && area < 1.0, "{area}");
        match &sag.masks {
            Some(masks) if number == 0 => {
                // PNDM takes one pass more than steps.
                assert_eq!(masks.passes.len(), 5);
                assert!(masks.passes.iter().all(|pass| pass.len() == masks.grid.0 * masks.grid.1));
            }
            masks => assert!(masks.is_none() && number > 0),
        }
    }
    let path = Guidance::file(folder.path(), "sag", "00000002");
    std::fs::copy(Guidance::file(folder.path(), "sag", "00000003"), &path).expect("writable");
    let message = read_picture(&path, &records[2].methods["sag"]).expect_err("accepted").to_string();
    assert!(message.contains("00000002.png") && message.contains("not the image"), "{message}");
    Ok(())
}

#[test]
fn each_image_is_drawn_for_its_own_prompt() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("prompts.txt");
    std::fs::write(&file, "a cat\na dog\n\na cat\na house\n").expect("writable");
    let settings = |more: &str| format!("guidance_scale = 7.5\n{more}");
    let many = drawn(config(&settings(&format!("prompts = {file:?}\nbatch = 2"))))?;
    for (number, prompt) in ["a cat", "a dog", "", "a cat", "a house"].into_iter().enumerate() {
        let one = drawn(config(&settings(&format!("prompt = {prompt:?}"))))?;
        for method in 0..3 {
            let place = method * 5 + number;
            assert!(levels_apart(&many[place..=place], &one[place..=place]) <= 1, "{prompt}");
        }
    }
    let changed = drawn(config(&settings("prompt = \"a cat\"")))?;
    assert!(levels_apart(&many[1..2], &changed[1..2]) > 1, "the prompt changes nothing");
    let mut config = config(&format!("prompts = {file:?}"));
    config.first = 2;
    let message = Guidance::items(&config, 0).expect_err("accepted").to_string();
    assert!(message.contains("has 5 lines") && message.contains("each of 7"), "{message}");
    Ok(())
}

#[test]
fn images_may_be_wider_than_high() -> Result<(), Error> {
    let _guard = models::no_grad();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let methods =
        r#"methods = ["none", "sag-tokenrank", "pag", "seg", { seg = { name = "narrow", sigma = 1.5 } }]"#;
    let config = toml::from_str(&format!(
        "{methods}\ncount = 1\nsteps = 3\nsampler = \"unipc\"\nheight = 32\nwidth = 64"
    ));
    let mut task = guidance(config.expect("a configuration"), folder.path())?;
    let record = task.run(0..1)?.into_iter().find_map(Answer::record).expect("a record");
    for (method, generated) in &record.methods {
        let image = read_picture(&Guidance::file(folder.path(), method, &record.id), generated)?;
        assert_eq!((image.height, image.width), (32, 64), "{method}");
    }
    let hashes: std::collections::BTreeSet<&String> =
        record.methods.values().map(|drawn| &drawn.sha256).collect();
    assert_eq!(hashes.len(), 5, "two methods drew the same image");
    Ok(())
}

#[test]
fn impossible_settings_are_refused() {
    let folder = Path::new("nowhere");
    for (settings, words) in [
        ("image_size = 30", "30"),
        ("height = 32\nwidth = 30", "32 by 30"),
        ("image_size = 32\nheight = 32\nwidth = 64", "no effect next to height and width"),
        ("width = 4611686018427387904", "task.guidance.width"),
        ("prompts = \"nowhere.txt\"", "nowhere.txt"),
        ("prompts = \"nowhere.txt\"\nprompt = \"a cat\"", "leave one out"),
        ("blur = { kernel = 8 }", "must be odd"),
        ("blur = { kernel = 63 }", "kernel of 63 is too large"),
        ("batch = 0", "task.guidance.batch"),
        ("alpha = 1.5", "(0, 1]"),
        ("scale = inf", "task.guidance.scale"),
        ("guidance_scale = nan", "guidance_scale"),
        ("first = 99999999", "task.guidance.count"),
    ] {
        let message =
            guidance(config(settings), folder).err().unwrap_or_else(|| panic!("{settings}: accepted"));
        assert!(message.to_string().contains(words), "{settings}: {message}");
    }
    for (methods, words) in [
        ("[]", "no methods"),
        (r#"["sag", { sag = { threshold = "area" } }]"#, "two methods are called `sag`"),
        (r#"[{ sag = { name = "../up" } }]"#, "`../up` must begin"),
        (r#"[{ seg = { sigma = 0.0 } }]"#, "sigma = 0 of `seg` must be"),
        (r#"[{ pag = { scale = nan } }]"#, "scale of `pag` must be a finite number"),
        (r#"["none", { pag = { blocks = ["down_blocks.1"] } }]"#, "`pag` names down_blocks.1"),
    ] {
        let config = toml::from_str(&format!("methods = {methods}\ncount = 1")).expect("a configuration");
        let message = guidance(config, folder).err().unwrap_or_else(|| panic!("{methods}: accepted"));
        assert!(message.to_string().contains(words), "{methods}: {message}");
    }
}
