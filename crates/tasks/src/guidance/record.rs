//! What the experiment writes down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One picture number under every method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuidanceRecord {
    /// Number of the picture, eight digits: the name of its files.
    pub id: String,
    /// Seed of the noise that it begins with.
    pub seed: u64,
    /// What became of it, by method.
    pub methods: BTreeMap<String, Generated>,
}

/// A picture in the folder of its method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// SHA-256 of its pixels, 8-bit RGB row by row.
    pub sha256: String,
    /// Share of the tokens that were degraded, on average over the passes; none where there is no mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_area: Option<f64>,
    /// The masks, for the pictures that are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<Masks>,
}

/// Which tokens were degraded in which pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masks {
    /// Tokens as (rows, columns).
    pub grid: (usize, usize),
    /// For each pass a character a token in row order, `#` where it was degraded, `.` elsewhere.
    pub passes: Vec<String>,
}
