//! How a signal becomes a mask.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Threshold;
use crate::error::{Error, Result};

/// How a signal over image tokens becomes a mask over pixels. The defaults are those of ConceptAttention's evaluation
/// without its blur; `docs/protocols.md` says which program does what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreSettings {
    /// Side in pixels of the square at which mask and labels are compared, 1 to 8192.
    pub side: usize,
    /// How the token map is enlarged to that size.
    pub upsample: Upsample,
    /// Value above which the map, scaled to [0, 1], is foreground.
    pub threshold: Threshold,
    /// Whether the threshold is applied before or after the map is enlarged.
    pub threshold_at: ThresholdAt,
    /// Whether the token map is first blurred (Gaussian, 3×3 tokens, σ = 1).
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

/// How a token map is enlarged to the size of the labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Upsample {
    /// Each pixel takes the token at the floor of its corner, as torch's `interpolate(mode="nearest")`.
    #[default]
    Nearest,
    /// Between the centres of four tokens, as torch's `interpolate(mode="bilinear", align_corners=False)`.
    Bilinear,
}

/// Where the map is scaled to [0, 1] and the threshold applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdAt {
    /// On the token map, as ConceptAttention does. The mask is then enlarged by nearest neighbour; `upsample` only affects
    /// the signal from which average precision is computed.
    #[default]
    Map,
    /// On the pixels, as the evaluation of Chefer et al. and the demo of the paper's authors do.
    Pixels,
}

impl ScoreSettings {
    /// Largest side in pixels.
    pub(crate) const MAX_SIDE: usize = 8192;

    /// Checks what the types cannot express.
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
