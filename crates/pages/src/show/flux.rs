//! Shows an image and a prompt in a FLUX pipeline.

use std::path::{Path, PathBuf};

use chain_page::MAP_BUDGET;
use models::capture::Chains;
use models::flux::FluxLayers;
use models::flux::pipeline::{CaptureOptions, CapturePlan, FluxPipeline, PreparedReference, ReferenceSize};
use models::image::Rgb8;
use models::{Device, Kind};
use serde_json::json;

use super::findings::LAMBDA_TOLERANCE;
use super::record::Record;
use super::tokens::{Origin, Spread, Start, Tokens};
use super::{Drawing, Pass, Shown, check, file_name, model_name, publish, stem};
use eval::Result;
use plot::Rgb;

/// Options of [`show_flux`].
#[derive(Debug, Clone)]
pub struct FluxShowOptions {
    /// Start of the bounces.
    pub start: Start,
    /// Settings of the figures.
    pub drawing: Drawing,
    /// The blocks to show and average.
    pub layers: FluxLayers,
    /// The prompt, and the noise added to the image.
    pub capture: CaptureOptions,
    /// The reference image, for FLUX.1 Kontext.
    pub reference: Option<PathBuf>,
    /// The size of the reference image.
    pub reference_size: ReferenceSize,
    /// Number type of the networks' computations.
    pub kind: Kind,
    /// Device of the networks.
    pub device: Device,
}

/// Captures attention on `image`, or without one on an image that the pipeline in `dir` generates from the prompt, and writes
/// figures, a page and the numbers behind them to the folder `out`, with a generated image as `image.png`. Files of the same
/// names are replaced, others stay; an error leaves the folder unchanged.
///
/// The states of the chains are all tokens: those of the text, of the image, and of the reference image, if there is one.
/// Figures show the image tokens; the page shows those of the reference image too.
///
/// # Errors
/// Fails if options do not fit the pipeline or the image, the prompt does not contain the word, weights or the image cannot be
/// read, an attention map does not have the requested steady state, or the folder cannot be written.
pub fn show_flux(dir: &Path, image: Option<&Path>, options: &FluxShowOptions, out: &Path) -> Result<Shown> {
    let FluxShowOptions { start, drawing, layers, capture, reference, reference_size, kind, device } =
        options;
    check(*drawing, out)?;
    let pipeline = FluxPipeline::open_any(dir, *kind, *device)?;
    let depth = pipeline.transformer_config();
    let blocks = layers.resolve(depth.num_layers, depth.num_single_layers)?;
    let mut plan = capture.plan(&pipeline)?;
    let open = |path: &Path| Rgb8::open(path).map_err(models::Error::from);
    if let Some(path) = reference {
        plan = plan.with_reference(&open(path)?, *reference_size)?;
    }
    let tokenizer = plan.tokenizer()?;
    let cut = if tokenizer.truncates(&capture.prompt)? { ", cut at its end" } else { "" };
    let layout = plan.layout()?;
    let tokens = Tokens::new(layout.clone(), layout).spelling(&tokenizer.pieces(&capture.prompt)?);
    let start = match word(start, &plan)? {
        Some(word) => word,
        None => tokens.start(start)?,
    };
    let decoded = image.map(open).transpose()?;

    let (sigma, size) = (plan.sigma()?, plan.reference_size());
    let prepared = plan.prepare(decoded.as_ref())?;
    let Chains { layers, .. } = Chains::flux(&prepared, blocks, LAMBDA_TOLERANCE, MAP_BUDGET)?;
    let CaptureOptions { prompt, steps, step, seed, .. } = capture;
    let seen = |image: Rgb8| Rgb { width: image.width, height: image.height, pixels: image.data };
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let (title, source) = match image {
        Some(image) => (format!("{} · ", stem(image)), file_name(image)),
        None => (String::new(), format!("made of the prompt in {steps} steps")),
    };
    let mut about = vec![fact("image", source)];
    let mut settings = vec![
        ("prompt", json!(prompt)),
        ("noise", json!({ "steps": steps, "step": step, "sigma": sigma, "seed": seed })),
    ];
    if let Some((path, (size, (height, width)))) = reference.as_ref().zip(size) {
        about.push(fact("reference image", format!("{}, {width} × {height} pixels", file_name(path))));
        let pixels = (height, width);
        settings.push(("reference", json!({ "image": path, "size": size.to_string(), "pixels": pixels })));
    }
    about.push(fact("prompt", format!("“{prompt}”{cut}")));
    let noise = format!("{:.0} %, as before step {step} of {steps}, seed {seed}", 100.0 * sigma);
    about.push(fact("noise", noise));
    let pass = Pass {
        title: format!("{} · {title}“{prompt}”", model_name(dir)),
        image: seen(prepared.image),
        reference: prepared.reference.map(|PreparedReference { image, .. }| seen(image)),
        generated: image.is_none(),
        tokens,
        start,
        drawing: *drawing,
        about,
        record: Record {
            model: dir.into(),
            image: image.map(Into::into),
            reference: reference.clone(),
            settings,
        },
    };
    publish(pass, layers, out)
}

/// Returns the text tokens of the word that bounces start from; `None` if they do not start from a word. Text tokens come first.
fn word(start: &Start, plan: &CapturePlan<'_>) -> Result<Option<Origin>> {
    let Start::Word { word, lookup } = start else { return Ok(None) };
    let (tokenizer, clip) = (plan.tokenizer()?, plan.pipeline().clip_tokenizer());
    let states = lookup.tokens(&tokenizer, clip, &plan.options().prompt, word)?;
    Ok(Some(Origin { spread: Spread::Even(states), name: format!("“{word}”") }))
}
