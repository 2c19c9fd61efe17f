//! How patches are masked, and in which order: `mechanism` and `direction` of `[task.masking]`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use models::image::Preprocessor;
use models::vision::{Blank, Embedded, VisionTransformer};

use crate::error::{Error, Result};

/// The mechanism by which a patch is masked. CLS and registers are never masked.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Its token is removed after the embedding; that equals adding -∞ to its keys in every layer. At least one patch remains.
    #[default]
    Remove,
    /// The embedding of its pixels becomes 0; its position is kept.
    ZeroEmbedding,
    /// The token that enters the first layer becomes 0, so that the position is lost too.
    ZeroToken,
    /// The network's own mask token takes the place of the embedding (DINOv2, DINOv3); its position is kept.
    MaskToken,
    /// Its pixels are replaced in the network's input.
    Pixels(Fill),
}

/// What takes the place of masked pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// 0 after normalisation: the mean colour that the network's preprocessing subtracts.
    Grey,
    /// Black before normalisation.
    Black,
    /// The mean colour of the image.
    Mean,
    /// The image after a Gaussian blur whose standard deviation is a sixteenth of the shorter side.
    Blur,
}

/// The order in which patches are masked, and what a fraction counts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The most important patches are masked first; a fraction counts the masked patches. Low curves are good.
    #[default]
    Deletion,
    /// The least important patches are masked first; a fraction counts the masked patches. High curves are good.
    LeastFirst,
    /// All patches are masked, and the most important ones come back first; a fraction counts the visible patches. High curves
    /// are good.
    Insertion,
}

impl Direction {
    /// All directions.
    pub const ALL: [Self; 3] = [Self::Deletion, Self::LeastFirst, Self::Insertion];

    /// Splits patches, the most important first, into the masked and the visible ones at a number of patches that a fraction
    /// counts.
    pub(super) fn split(self, patches: &[usize], count: usize) -> (&[usize], &[usize]) {
        let count = count.min(patches.len());
        match self {
            Self::Deletion => patches.split_at(count),
            Self::LeastFirst => {
                let (visible, masked) = patches.split_at(patches.len() - count);
                (masked, visible)
            }
            Self::Insertion => {
                let (visible, masked) = patches.split_at(count);
                (masked, visible)
            }
        }
    }

    /// Returns the number of patches, of `patches`, that a fraction counts: the nearest whole number, but [`Mechanism::Remove`] leaves
    /// at least one patch.
    pub(super) fn count(self, mechanism: Mechanism, fraction: f64, patches: usize) -> usize {
        let nearest = ((fraction * patches as f64).round() as usize).min(patches);
        match (mechanism, self) {
            (Mechanism::Remove, Self::Deletion | Self::LeastFirst) => nearest.min(patches.saturating_sub(1)),
            (Mechanism::Remove, Self::Insertion) => nearest.max(1),
            (
                Mechanism::ZeroEmbedding | Mechanism::ZeroToken | Mechanism::MaskToken | Mechanism::Pixels(_),
                _,
            ) => nearest,
        }
    }
}

impl fmt::Display for Mechanism {
    /// Writes the name in the keys of methods.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remove => "remove",
            Self::ZeroEmbedding => "zero-embedding",
            Self::ZeroToken => "zero-token",
            Self::MaskToken => "mask-token",
            Self::Pixels(Fill::Grey) => "grey",
            Self::Pixels(Fill::Black) => "black",
            Self::Pixels(Fill::Mean) => "mean",
            Self::Pixels(Fill::Blur) => "blur",
        })
    }
}

impl Mechanism {
    /// All mechanisms.
    pub const ALL: [Self; 8] = [
        Self::Remove,
        Self::ZeroEmbedding,
        Self::ZeroToken,
        Self::MaskToken,
        Self::Pixels(Fill::Grey),
        Self::Pixels(Fill::Black),
        Self::Pixels(Fill::Mean),
        Self::Pixels(Fill::Blur),
    ];

    /// What follows the key of a method.
    pub(super) fn key_suffix(self) -> String {
        if self == Self::Remove { String::new() } else { format!("-{self}") }
    }

    /// What follows the label of a method.
    pub(super) fn label_suffix(self) -> &'static str {
        match self {
            Self::Remove => "",
            Self::ZeroEmbedding => ", zero embedding",
            Self::ZeroToken => ", zero token",
            Self::MaskToken => ", mask token",
            Self::Pixels(Fill::Grey) => ", grey pixels",
            Self::Pixels(Fill::Black) => ", black pixels",
            Self::Pixels(Fill::Mean) => ", mean colour",
            Self::Pixels(Fill::Blur) => ", blurred pixels",
        }
    }

    /// Describes a masked patch in a sentence about the figure's x axis or the metric: "patches removed".
    pub fn participle(self) -> &'static str {
        match self {
            Self::Remove => "removed",
            Self::ZeroEmbedding => "with embedding 0",
            Self::ZeroToken => "with token 0",
            Self::MaskToken => "replaced by the mask token",
            Self::Pixels(Fill::Grey) => "painted grey",
            Self::Pixels(Fill::Black) => "painted black",
            Self::Pixels(Fill::Mean) => "painted in the image's mean colour",
            Self::Pixels(Fill::Blur) => "blurred",
        }
    }

    /// Returns the images in which every patch is masked, as tokens: one image for each of the batch, or one for all. `None` for
    /// [`Mechanism::Remove`]. `pixels` `[batch, 3, h, w]` are the network's input.
    ///
    /// # Errors
    /// The network has no mask token; libtorch fails.
    pub(super) fn blank(
        self,
        network: &VisionTransformer,
        preprocessor: &Preprocessor,
        pixels: &Tensor,
        embedded: &Embedded,
    ) -> Result<Option<Embedded>> {
        let blank = |blank: Blank| -> Result<Option<Embedded>> {
            network.embed_blank(embedded, blank)?.map(Some).ok_or_else(no_mask_token)
        };
        match self {
            Self::Remove => Ok(None),
            Self::ZeroEmbedding => blank(Blank::ZeroEmbedding),
            Self::ZeroToken => blank(Blank::ZeroToken),
            Self::MaskToken => blank(Blank::MaskToken),
            Self::Pixels(fill) => Ok(Some(network.embed(&fill.of(pixels, preprocessor)?)?)),
        }
    }
}

/// The error about a network without a mask token.
pub(super) fn no_mask_token() -> Error {
    let reason = "`mask-token` needs a network that was trained with one (`embeddings.mask_token`, as DINOv2 has it), and this one \
                  has none; leave this mechanism out";
    Error::Setting { setting: "task.masking.mechanism", reason: reason.into() }
}

impl Fill {
    /// Returns the pixels that take the place of `pixels` `[batch, 3, h, w]`: as many images, or one of one pixel's colour for all.
    fn of(self, pixels: &Tensor, preprocessor: &Preprocessor) -> Result<Tensor> {
        let (_, channels, height, width) = pixels.size4()?;
        Ok(match self {
            Self::Grey => pixels.f_new_zeros([1, channels, height, width], (Kind::Float, pixels.device()))?,
            Self::Black => {
                let black = Tensor::f_from_slice(&preprocessor.black())?.f_to_device(pixels.device())?;
                black.f_reshape([1, channels, 1, 1])?.f_expand([1, channels, height, width], false)?
            }
            Self::Mean => pixels.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float)?.f_expand_as(pixels)?,
            Self::Blur => blurred(pixels, height.min(width) as f64 / 16.0)?,
        })
    }
}

/// Returns `pixels` `[batch, c, h, w]` after a Gaussian blur, first along columns, then along rows. The kernel ends at three standard
/// deviations; the image is mirrored at its edges.
fn blurred(pixels: &Tensor, sigma: f64) -> Result<Tensor> {
    let radius = (3.0 * sigma).ceil() as i64;
    let (batch, channels, height, width) = pixels.size4()?;
    let weight = |offset: i64| (-0.5 * (offset as f64 / sigma).powi(2)).exp();
    let weights: Vec<f64> = (-radius..=radius).map(weight).collect();
    let total: f64 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|weight| (weight / total) as f32).collect();
    let kernel = Tensor::f_from_slice(&weights)?.f_to_device(pixels.device())?;
    let along = |planes: &Tensor, padding: [i64; 4], size: [i64; 4]| -> Result<Tensor> {
        let padded = planes.f_reflection_pad2d(padding)?;
        Ok(padded.f_conv2d::<Tensor>(&kernel.f_reshape(size)?, None, [1, 1], [0, 0], [1, 1], 1)?)
    };
    let planes = pixels.f_reshape([batch * channels, 1, height, width])?;
    let columns = along(&planes, [0, 0, radius, radius], [1, 1, -1, 1])?;
    let both = along(&columns, [radius, radius, 0, 0], [1, 1, 1, -1])?;
    Ok(both.f_reshape([batch, channels, height, width])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_is_masked_or_visible() {
        let patches = [4, 2, 0, 3, 1];
        for direction in Direction::ALL {
            for mechanism in Mechanism::ALL {
                for step in 0..=10 {
                    let count = direction.count(mechanism, f64::from(step) / 10.0, patches.len());
                    let (masked, visible) = direction.split(&patches, count);
                    assert_eq!(masked.len() + visible.len(), patches.len());
                    assert!(mechanism != Mechanism::Remove || !visible.is_empty(), "{direction:?} {step}");
                    let first = |part: &[usize]| part.first().copied();
                    match direction {
                        Direction::Deletion => assert!(masked.is_empty() || first(masked) == Some(4)),
                        Direction::LeastFirst | Direction::Insertion => {
                            assert!(visible.is_empty() || first(visible) == Some(4));
                        }
                    }
                }
            }
        }
        assert_eq!(Direction::Deletion.split(&patches, 2), (&patches[..2], &patches[2..]));
        assert_eq!(Direction::LeastFirst.split(&patches, 2), (&patches[3..], &patches[..3]));
        assert_eq!(Direction::Insertion.split(&patches, 2), (&patches[2..], &patches[..2]));
    }

    #[test]
    fn names_are_read_back_and_unique() {
        let mut keys: Vec<String> = Mechanism::ALL.iter().map(|mechanism| mechanism.to_string()).collect();
        for mechanism in Mechanism::ALL {
            let json = serde_json::to_value(mechanism).unwrap();
            assert_eq!(serde_json::from_value::<Mechanism>(json).unwrap(), mechanism);
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), Mechanism::ALL.len());
        let pixels: Mechanism = serde_json::from_value(serde_json::json!({ "pixels": "blur" })).unwrap();
        assert_eq!(pixels, Mechanism::Pixels(Fill::Blur));
    }

    #[test]
    fn a_blur_keeps_constant_images_and_their_mean() {
        let even = Tensor::full([1, 3, 64, 48], 0.75, (Kind::Float, tch::Device::Cpu));
        let off = (blurred(&even, 3.0).unwrap() - &even).abs().max().double_value(&[]);
        assert!(off < 1e-6, "{off}");
        // A single bright pixel far from the edges becomes a Gaussian of the same sum.
        let point = Tensor::zeros([1, 1, 64, 64], (Kind::Float, tch::Device::Cpu));
        let _ = point.narrow(2, 32, 1).narrow(3, 30, 1).fill_(1.0);
        let spread = blurred(&point, 2.0).unwrap();
        assert!((spread.sum(Kind::Double).double_value(&[]) - 1.0).abs() < 1e-5);
        let ratio = spread.double_value(&[0, 0, 34, 30]) / spread.double_value(&[0, 0, 32, 30]);
        assert!((ratio - (-0.5f64).exp()).abs() < 1e-4, "{ratio}");
    }
}
