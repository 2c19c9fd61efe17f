//! Shows an image in a network that takes only images.

use std::path::Path;

use chain_page::MAP_BUDGET;
use models::attend::ChainTokens;
use models::capture::Chains;
use models::image::Rgb8;
use models::{Device, LayerSelection, LoadOptions, VisionConfig, VisionModel};
use serde_json::json;

use super::findings::LAMBDA_TOLERANCE;
use super::record::Record;
use super::tokens::{Start, Tokens};
use super::{Drawing, Pass, Shown, check, model_name, publish, stem};
use eval::Result;
use eval::analysis::AnalysisError;
use plot::Rgb;

/// Options of [`show`].
#[derive(Debug, Clone)]
pub struct ShowOptions {
    /// Start of the bounces.
    pub start: Start,
    /// Settings of the figures.
    pub drawing: Drawing,
    /// The layers to show and average.
    pub layers: LayerSelection,
    /// The tokens that are states.
    pub tokens: ChainTokens,
    /// Side in pixels of a square that the image is resized to, instead of the published preprocessing.
    pub image_size: Option<usize>,
    /// Device of the network.
    pub device: Device,
}

/// Runs `image` through the network in `dir` and writes figures, a page and the numbers behind them to the folder `out`. Files of
/// the same names are replaced, others stay; an error leaves the folder unchanged.
///
/// # Errors
/// Fails if options do not fit the network or the image, weights or the image cannot be read, an attention map does not have the
/// requested steady state, or the folder cannot be written.
pub fn show(dir: &Path, image: &Path, options: &ShowOptions, out: &Path) -> Result<Shown> {
    check(options.drawing, out)?;
    let config = VisionConfig::from_dir(dir)?;
    options.layers.resolve(config.depth())?;
    if options.tokens == ChainTokens::WithoutSpecial && config.special_tokens() == 0 {
        let reason = "this network has neither CLS nor registers, so there is nothing to leave out".into();
        return Err(AnalysisError::Option { option: "without-special", reason }.into());
    }
    let decoded = Rgb8::open(image).map_err(models::Error::from)?;
    let load = LoadOptions {
        device: options.device,
        image_size: options.image_size.map(|side| (side, side)),
        ..LoadOptions::default()
    };
    let model = VisionModel::load(dir, &load)?;
    let Chains { layers, sequence, states } =
        Chains::vision(&model, &decoded, &options.layers, options.tokens, LAMBDA_TOLERANCE, MAP_BUDGET)?;

    let tokens = Tokens::new(states, sequence);
    let seen = model.preprocessor.apply_geometry(&decoded).map_err(models::Error::from)?;
    let pass = Pass {
        title: format!("{} · {}", model_name(dir), stem(image)),
        image: covered(&seen, tokens.grid(), config.patch_size()),
        reference: None,
        generated: false,
        start: tokens.start(&options.start)?,
        tokens,
        drawing: options.drawing,
        about: Vec::new(),
        record: Record {
            model: dir.into(),
            image: Some(image.into()),
            reference: None,
            settings: vec![("without_special", json!(options.tokens == ChainTokens::WithoutSpecial))],
        },
    };
    publish(pass, layers, out)
}

/// Returns the part of the image that complete patches cover; the convolution ignores the rest.
pub(super) fn covered(seen: &Rgb8, (rows, cols): (usize, usize), (patch_h, patch_w): (i64, i64)) -> Rgb {
    let (height, width) = (rows * patch_h as usize, cols * patch_w as usize);
    let line = |y: usize| &seen.data[y * seen.width * 3..][..width.min(seen.width) * 3];
    let pixels = (0..height.min(seen.height)).flat_map(|y| line(y).iter().copied()).collect();
    Rgb { width: width.min(seen.width), height: height.min(seen.height), pixels }
}
