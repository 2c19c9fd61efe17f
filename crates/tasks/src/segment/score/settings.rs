//! How a signal becomes a mask.

use serde::{Deserialize, Serialize};

use super::Threshold;
use crate::error::{Error, Result};

/// How a signal over image tokens becomes a mask over pixels. The defaults are those of ConceptAttention's evaluation
/// without its blur; `docs/protocols.md` says which program does what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreSettings {
    /// Side of the square, in pixels, at which mask and labels are compared.
    pub side: usize,
    /// How the token map comes to that size.
    pub upsample: Upsample,
    /// Where the signal, brought to 0…1, is cut: what lies above is foreground.
    pub threshold: Threshold,
    /// Whether it is cut before or after it comes to that size.
    pub threshold_at: ThresholdAt,
    /// Whether the token map is first blurred by a Gaussian of 3×3 tokens, σ = 1.
    pub blur: bool,
}

impl Default for ScoreSettings {
    fn default() -> Self {
        Self {
            side: 224,
            upsample: Upsample::default(),
            threshold: Threshold::default(),
            threshold_at: ThresholdAt::default(),
            blur: false,
        }
    }
}

/// How a token map comes to the size of the labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upsample {
    /// Each pixel takes the token at the floor of its corner, as torch's `interpolate(mode="nearest")`.
    #[default]
    Nearest,
    /// Between the centres of four tokens, as torch's `interpolate(mode="bilinear", align_corners=False)`.
    Bilinear,
}

/// Where the signal is brought to 0…1 and cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdAt {
    /// On the token map, as ConceptAttention does. The mask comes to pixels by nearest neighbour whatever `upsample`
    /// says, which then only decides the signal that average precision sees.
    #[default]
    Map,
    /// On the pixels, as the evaluation of Chefer et al. and the demo of the paper's authors do.
    Pixels,
}

impl ScoreSettings {
    /// Largest side in pixels.
    pub(crate) const MAX_SIDE: usize = 8192;

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting out of range.
    pub fn check(&self) -> Result<()> {
        if !(1..=Self::MAX_SIDE).contains(&self.side) {
            let reason = format!("must lie between 1 and {}, found {}", Self::MAX_SIDE, self.side);
            return Err(Error::Setting { setting: "task.segment.score.side", reason });
        }
        self.threshold
            .check()
            .map_err(|reason| Error::Setting { setting: "task.segment.score.threshold", reason })
    }
}
