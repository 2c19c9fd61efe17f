//! The records of the experiment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One image number, with the image that each method generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuidanceRecord {
    /// Number of the image, eight digits; also the name of its files.
    pub id: String,
    /// Seed of its initial noise.
    pub seed: u64,
    /// Its prompt, if each image has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The generated image, by method.
    pub methods: BTreeMap<String, Generated>,
}

/// A generated image in the folder of its method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// SHA-256 of its pixels, 8-bit RGB row by row.
    pub sha256: String,
    /// Fraction of the tokens that were degraded, averaged over the passes; `None` for methods without a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_area: Option<f64>,
    /// The masks, for the images that are drawn in figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<Masks>,
}

/// The tokens that were degraded in each pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masks {
    /// Rows and columns of the token grid.
    pub grid: (usize, usize),
    /// One string per pass with one character per token in row order: `#` if it was degraded, `.` otherwise.
    pub passes: Vec<String>,
}
