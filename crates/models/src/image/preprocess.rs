//! Preprocessing of images for a network, as described by its configuration.

use ndarray::Array3;
use serde::Serialize;

use super::antialias::resize_plane;
use super::crop::{CropRule, crop_middle};
use super::pixels::checked_area;
use super::{ImageError, Resample, Rgb8, resize};
use crate::limits::MAX_PIXELS;

/// Rule for the new size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeRule {
    /// A fixed size, whatever the proportions of the image.
    Exact {
        /// New height in pixels.
        height: usize,
        /// New width in pixels.
        width: usize,
    },
    /// The shorter side gets `shortest` pixels and the proportions are kept; if the longer side would exceed `longest`,
    /// both are reduced.
    ShortestEdge {
        /// Pixels of the shorter side.
        shortest: usize,
        /// Maximum number of pixels of the longer side.
        longest: Option<usize>,
    },
    /// The largest size of the same proportions within these bounds.
    Within {
        /// Maximum height in pixels.
        max_height: usize,
        /// Maximum width in pixels.
        max_width: usize,
    },
    /// The smallest size of the same proportions that covers both sides (timm).
    Covering {
        /// Height to cover, in pixels.
        height: usize,
        /// Width to cover, in pixels.
        width: usize,
    },
    /// The largest size of the same proportions that exceeds neither side (timm).
    Fitting {
        /// Maximum height in pixels.
        height: usize,
        /// Maximum width in pixels.
        width: usize,
    },
}

impl ResizeRule {
    /// Returns the new `(width, height)` of an image of `(width, height)`, truncated and rounded as in `transformers`
    /// 5.23 (`get_resize_output_image_size` and its neighbours in `image_transforms.py` and `image_utils.py`) and in
    /// `ResizeKeepRatio` of timm 1.0.
    #[must_use]
    pub fn target(&self, (width, height): (usize, usize)) -> (usize, usize) {
        let (short, long) = (width.min(height), width.max(height));
        let oriented = |short, long| if width <= height { (short, long) } else { (long, short) };
        // `side × long / short`, rounded down; the product of two sides fits 128 bits always.
        let grown = |side: usize| {
            usize::try_from(side as u128 * long as u128 / short.max(1) as u128).unwrap_or(usize::MAX)
        };
        match *self {
            Self::Exact { height, width } => (width, height),
            Self::ShortestEdge { shortest, longest: None } => oriented(shortest, grown(shortest)),
            Self::ShortestEdge { shortest, longest: Some(longest) } => {
                let ratio = long as f64 / short as f64;
                if ratio * shortest as f64 <= longest as f64 {
                    return if short == shortest {
                        (width, height)
                    } else {
                        oriented(shortest, grown(shortest))
                    };
                }
                let exact = longest as f64 * short as f64 / long as f64;
                let side = exact.round_ties_even() as usize;
                if short == side {
                    (width, height)
                } else {
                    oriented(side, (exact * long as f64 / short as f64) as usize)
                }
            }
            Self::Within { max_height, max_width } => {
                let scale = (max_height as f64 / height as f64).min(max_width as f64 / width as f64);
                ((width as f64 * scale) as usize, (height as f64 * scale) as usize)
            }
            Self::Covering { height: to_height, width: to_width } => {
                let ratio = (height as f64 / to_height as f64).min(width as f64 / to_width as f64);
                divided((width, height), ratio)
            }
            Self::Fitting { height: to_height, width: to_width } => {
                let ratio = (height as f64 / to_height as f64).max(width as f64 / to_width as f64);
                divided((width, height), ratio)
            }
        }
    }
}

/// Divides both sides of an image by `ratio` and rounds them as Python does.
fn divided((width, height): (usize, usize), ratio: f64) -> (usize, usize) {
    let side = |side: usize| (side as f64 / ratio).round_ties_even() as usize;
    (side(width), side(height))
}

/// Resize, crop, rescale and normalise, in the order and arithmetic of `transformers`' Pillow-backed processors, of its
/// torchvision-backed processor for DINOv3, or of timm's transforms for evaluation.
///
/// ```no_run
/// use models::image::{Preprocessor, Rgb8};
/// # fn main() -> Result<(), models::image::ImageError> {
/// let preprocessor = Preprocessor::from_dir("checkpoints/vit-tiny-patch16-224")?;
/// let pixels = preprocessor.apply(&Rgb8::open("tench.jpeg")?)?; // [3, 224, 224]
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preprocessor {
    /// The processor class whose defaults apply, without the suffix for its backend (`"ViTImageProcessor"`).
    pub(super) processor: &'static str,
    pub(super) arithmetic: Arithmetic,
    pub(super) resize: Option<ResizeRule>,
    pub(super) resample: Resample,
    pub(super) crop: Option<Crop>,
    pub(super) rescale_factor: Option<f64>,
    pub(super) normalize: Option<Normalize>,
}

/// A crop in the middle of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Crop {
    /// `(height, width)`.
    pub(super) size: (usize, usize),
    pub(super) rule: CropRule,
}

/// The order and arithmetic of a processor class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Arithmetic {
    /// Pillow: 8-bit samples are resized, then rescaled and normalised.
    EightBit,
    /// torchvision: samples are rescaled, then resized in float32 with antialiasing, then normalised.
    Float,
}

/// Mean and standard deviation per channel, in the units after rescaling.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Normalize {
    pub(super) mean: [f64; 3],
    pub(super) std: [f64; 3],
}

impl Normalize {
    /// Mean and standard deviation of ImageNet.
    pub(super) const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
}

impl Preprocessor {
    /// Returns the preprocessing for another resolution: a direct resize to `height × width` pixels without crop, with
    /// filter, rescaling and normalisation unchanged.
    ///
    /// # Errors
    /// [`ImageError::Empty`] or [`ImageError::TooLarge`] for a size that no image can have.
    pub fn with_size(&self, height: usize, width: usize) -> Result<Self, ImageError> {
        checked_area(width, height, MAX_PIXELS)?;
        Ok(Self { resize: Some(ResizeRule::Exact { height, width }), crop: None, ..self.clone() })
    }

    /// Returns the `(height, width)` after preprocessing if it is the same for every image.
    #[must_use]
    pub fn output_size(&self) -> Option<(usize, usize)> {
        match (self.crop, self.resize) {
            (Some(Crop { size, .. }), _) => Some(size),
            (None, Some(ResizeRule::Exact { height, width })) => Some((height, width)),
            (None, _) => None,
        }
    }

    /// The rule by which images are resized, if they are resized.
    #[must_use]
    pub fn resize_rule(&self) -> Option<ResizeRule> {
        self.resize
    }

    /// The filter that images are resized with.
    #[must_use]
    pub fn resample(&self) -> Resample {
        self.resample
    }

    /// Returns the 8-bit image after resizing and cropping, on which figures draw overlays: the pixels that
    /// [`Preprocessor::apply`] normalises, rounded if that resizes float samples.
    ///
    /// # Errors
    /// The errors of [`resize()`] and [`super::center_crop`].
    pub fn apply_geometry(&self, image: &Rgb8) -> Result<Rgb8, ImageError> {
        let resized = match self.resize {
            Some(rule) => Some(resize(image, rule.target((image.width, image.height)), self.resample)?),
            None => None,
        };
        let resized = resized.as_ref().unwrap_or(image);
        match self.crop {
            Some(Crop { size: (height, width), rule }) => crop_middle(resized, (width, height), rule),
            None => Ok(resized.clone()),
        }
    }

    /// Returns the network's input `[3, height, width]`.
    ///
    /// The result equals that of `transformers`' Pillow-backed processors to the bit: samples are rescaled in double
    /// precision and rounded to `f32`, then mean and standard deviation are applied in `f32`. It equals that of the
    /// torchvision-backed processor, which rescales in `f32` before it resizes, within 4e-6. It equals that of timm's
    /// transforms for Pillow images to the bit.
    ///
    /// # Errors
    /// The errors of [`Preprocessor::apply_geometry`].
    pub fn apply(&self, image: &Rgb8) -> Result<Array3<f32>, ImageError> {
        match self.arithmetic {
            Arithmetic::EightBit => self.apply_to_bytes(image),
            Arithmetic::Float => self.apply_to_floats(image),
        }
    }

    /// Resizes float samples. Processors of this kind do not crop.
    fn apply_to_floats(&self, image: &Rgb8) -> Result<Array3<f32>, ImageError> {
        image.check()?;
        let from = (image.width, image.height);
        let to = self.resize.map_or(from, |rule| rule.target(from));
        checked_area(to.0, to.1, MAX_PIXELS)?;
        let factor = self.rescale_factor.unwrap_or(1.0) as f32;
        let mut values = Vec::with_capacity(3 * to.0 * to.1);
        for channel in 0..3 {
            let samples = image.data.iter().skip(channel).step_by(3);
            let plane = samples.map(|&sample| f32::from(sample) * factor).collect();
            let resized = resize_plane(plane, from, to, self.resample);
            values.extend(resized.into_iter().map(|value| self.normalized(value, channel)));
        }
        planes(to, values)
    }

    fn apply_to_bytes(&self, image: &Rgb8) -> Result<Array3<f32>, ImageError> {
        let Rgb8 { width, height, data } = self.apply_geometry(image)?;
        let mut values = Vec::with_capacity(data.len());
        for channel in 0..3 {
            let table = self.table(channel);
            values.extend(data.iter().skip(channel).step_by(3).map(|&sample| table[usize::from(sample)]));
        }
        planes((width, height), values)
    }

    /// Returns the three values of a black pixel in the network's input.
    #[must_use]
    pub fn black(&self) -> [f32; 3] {
        std::array::from_fn(|channel| self.normalized(0.0, channel))
    }

    /// Applies mean and standard deviation of a channel.
    fn normalized(&self, value: f32, channel: usize) -> f32 {
        match self.normalize {
            Some(Normalize { mean, std }) => (value - mean[channel] as f32) / std[channel] as f32,
            None => value,
        }
    }

    /// Returns the normalised value of each of the 256 sample values in one channel.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|sample| {
            let value = match self.rescale_factor {
                Some(factor) => (sample as f64 * factor) as f32,
                None => sample as f32,
            };
            self.normalized(value, channel)
        })
    }
}

/// Returns three channels as one array `[3, height, width]`.
fn planes((width, height): (usize, usize), values: Vec<f32>) -> Result<Array3<f32>, ImageError> {
    let (expected, found) = (width * height * 3, values.len());
    Array3::from_shape_vec((3, height, width), values).map_err(|_| ImageError::Buffer {
        width,
        height,
        expected,
        found,
    })
}
