//! Reads the transform for evaluation of a network of timm, which `config.json` describes under `pretrained_cfg`.
//!
//! It is the one of `timm.data.create_transform` in timm 1.0, which transformers' `TimmWrapperImageProcessor` calls:
//! resize, crop, rescale and normalise.

use serde::Deserialize;
use serde_json::Value;

use super::crop::CropRule;
use super::pixels::checked_area;
use super::preprocess::{Arithmetic, Crop, Normalize};
use super::{ImageError, Preprocessor, Resample, ResizeRule};
use crate::limits::MAX_PIXELS;

/// The keys of `pretrained_cfg` that decide the transform.
#[derive(Deserialize)]
struct Transform {
    /// Channels, height and width.
    input_size: Option<[usize; 3]>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
}

/// Fraction of the resized image that is left after the crop, unless the configuration says it.
const CROP_PCT: f64 = 0.875;

/// Whether a `config.json` describes a network of timm: transformers wrote it, or it has the configuration of timm and no
/// `model_type`.
pub(crate) fn is_of_timm(config: &Value) -> bool {
    match config.get("model_type") {
        Some(model_type) => model_type == "timm_wrapper",
        None => config.get("pretrained_cfg").is_some(),
    }
}

/// Returns the transform of a `config.json` of timm.
pub(super) fn preprocessor(config: &Value) -> Result<Preprocessor, ImageError> {
    let transform = config.get("pretrained_cfg").filter(|transform| !transform.is_null()).ok_or_else(|| {
        ImageError::config(
            "there is no `pretrained_cfg`, which says how images are resized and normalised for a network of timm; copy it \
             from where the weights came from",
        )
    })?;
    let Transform { input_size, interpolation, crop_pct, crop_mode, mean, std } =
        Transform::deserialize(transform)
            .map_err(|error| ImageError::config(format!("pretrained_cfg: {error}")))?;
    let [channels, height, width] = input_size.unwrap_or([3, 224, 224]);
    if channels != 3 {
        return Err(ImageError::config(format!(
            "pretrained_cfg.input_size has {channels} channels; images are read as RGB, so it must have 3"
        )));
    }
    checked_area(width, height, MAX_PIXELS)?;
    let resample = match interpolation.as_deref() {
        None | Some("") => Resample::Bicubic,
        Some(name) => Resample::from_name(name).ok_or_else(|| {
            ImageError::config(format!(
                "pretrained_cfg.interpolation is `{name}`; it must be one of {}",
                Resample::ALL.map(Resample::name).join(", ")
            ))
        })?,
    };
    let crop_pct = crop_pct.filter(|fraction| *fraction != 0.0).unwrap_or(CROP_PCT);
    let scaled = |side: usize| (side as f64 / crop_pct).floor();
    if crop_pct <= 0.0 || scaled(height.max(width)) > MAX_PIXELS as f64 || scaled(height.min(width)) < 1.0 {
        return Err(ImageError::config(format!(
            "pretrained_cfg.crop_pct is {crop_pct}; it must be the fraction of the image's side that the crop keeps, such as \
             0.9"
        )));
    }
    let (scaled_height, scaled_width) = (scaled(height) as usize, scaled(width) as usize);
    let mean = channels_of("mean", mean)?.unwrap_or(Normalize::IMAGENET.mean);
    let std = channels_of("std", std)?.unwrap_or(Normalize::IMAGENET.std);
    if std.iter().any(|&std| std as f32 <= 0.0) {
        return Err(ImageError::config("pretrained_cfg.std must be positive in every channel"));
    }
    let mut fill = [0; 3];
    let resize = match crop_mode.as_deref() {
        None | Some("" | "center") if scaled_height == scaled_width => {
            ResizeRule::ShortestEdge { shortest: scaled_height, longest: None }
        }
        None | Some("" | "center") => ResizeRule::Covering { height: scaled_height, width: scaled_width },
        Some("squash") => ResizeRule::Exact { height: scaled_height, width: scaled_width },
        Some("border") => {
            fill = mean.map(|mean| (255.0 * mean).round_ties_even() as u8);
            ResizeRule::Fitting { height: scaled_height, width: scaled_width }
        }
        Some(other) => {
            return Err(ImageError::config(format!(
                "pretrained_cfg.crop_mode is `{other}`; it must be center, squash or border"
            )));
        }
    };
    Ok(Preprocessor {
        processor: "TimmWrapperImageProcessor",
        arithmetic: Arithmetic::EightBit,
        resize: Some(resize),
        resample,
        crop: Some(Crop { size: (height, width), rule: CropRule::Torchvision { fill } }),
        rescale_factor: Some(1.0 / 255.0),
        normalize: Some(Normalize { mean, std }),
    })
}

/// Returns three numbers, one for each channel, of a list of three or one.
fn channels_of(key: &str, list: Option<Vec<f64>>) -> Result<Option<[f64; 3]>, ImageError> {
    match list.as_deref() {
        None | Some([]) => Ok(None),
        Some(&[number]) => Ok(Some([number; 3])),
        Some(&[r, g, b]) => Ok(Some([r, g, b])),
        Some(other) => Err(ImageError::config(format!(
            "pretrained_cfg.{key} has {} numbers; it must have one for each of R, G and B",
            other.len()
        ))),
    }
}
