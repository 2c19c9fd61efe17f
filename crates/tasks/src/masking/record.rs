//! The records of the experiment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The predictions for one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskingRecord {
    /// Name of the image.
    pub id: String,
    /// SHA-256 of the image file; empty in records that do not store it.
    #[serde(default)]
    pub sha256: String,
    /// Its class.
    pub label: usize,
    /// The class predicted from all tokens.
    pub unmasked: usize,
    /// The class predicted at each fraction, by method.
    pub predicted: BTreeMap<String, Vec<usize>>,
    /// How sure the network was at each fraction, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Scores of the patches by method, for the images that are drawn in figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoreMaps>,
}

/// Probability and logit of the class that was predicted before masking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Before masking.
    pub unmasked: ClassScore,
    /// At each fraction, by method.
    pub masked: BTreeMap<String, Vec<ClassScore>>,
}

/// Probability and logit of a class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Probability under the softmax.
    #[serde(rename = "p")]
    pub probability: f32,
    /// What enters the softmax.
    #[serde(rename = "l")]
    pub logit: f32,
}

/// Scores of the patches of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreMaps {
    /// Rows and columns of the patch grid.
    pub grid: (usize, usize),
    /// One value per patch in row order, by method.
    pub maps: BTreeMap<String, Vec<f32>>,
}
