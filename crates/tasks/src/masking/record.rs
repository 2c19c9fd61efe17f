//! What the experiment writes down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What masking has done to one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskingRecord {
    /// The image.
    pub id: String,
    /// SHA-256 of the image file; empty where it was not written down.
    #[serde(default)]
    pub sha256: String,
    /// Its class.
    pub label: usize,
    /// The class predicted from all tokens.
    pub unmasked: usize,
    /// The class predicted at each share, by method.
    pub predicted: BTreeMap<String, Vec<usize>>,
    /// Patch scores by method, for the images of which pictures are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoreMaps>,
}

/// Scores of the patches of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreMaps {
    /// Patches as (rows, columns).
    pub grid: (usize, usize),
    /// One value per patch in row order, by method.
    pub maps: BTreeMap<String, Vec<f32>>,
}
