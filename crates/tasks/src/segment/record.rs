//! What the experiment writes down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pixels::pixels;

/// How the signals of one image fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// The image.
    pub id: String,
    /// SHA-256 of image and labels, as the data set gives it; empty where it was not written down.
    #[serde(default)]
    pub sha256: String,
    /// Names of what the image was searched for.
    pub names: Vec<String>,
    /// What came of each method's signal, by method.
    pub methods: BTreeMap<String, MapScore>,
    /// Signals by method, for the images of which pictures are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<SegmentMaps>,
}

/// A signal against the labels of its image, in pixels. Ignored pixels count nowhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MapScore {
    /// Counts of every class that was predicted or labelled; 0 is the background.
    pub classes: BTreeMap<u8, ClassCounts>,
    /// Pixels whose class is right.
    #[serde(deserialize_with = "pixels")]
    pub correct: u64,
    /// Pixels that are not ignored.
    #[serde(deserialize_with = "pixels")]
    pub labelled: u64,
    /// Average precision of the two channels `[1 - s, s]` against one-hot labels, pooled (the paper's mAP is its mean
    /// over the images). None with more than two classes, or where nothing is labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled_ap: Option<f64>,
    /// Average precision of `s` against the foreground. None with more than two classes, or without foreground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground_ap: Option<f64>,
}

/// Pixels of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCounts {
    /// Predicted and labelled as the class.
    #[serde(deserialize_with = "pixels")]
    pub intersection: u64,
    /// Predicted as the class.
    #[serde(deserialize_with = "pixels")]
    pub predicted: u64,
    /// Labelled as the class.
    #[serde(deserialize_with = "pixels")]
    pub labelled: u64,
}

impl ClassCounts {
    /// Predicted or labelled as the class.
    pub fn union(self) -> u64 {
        (self.predicted + self.labelled).saturating_sub(self.intersection)
    }
}

/// Signals over the tokens of one image, each brought to 0…1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentMaps {
    /// Image tokens as (rows, columns).
    pub grid: (usize, usize),
    /// One value per token in row order, by method.
    pub maps: BTreeMap<String, Vec<f32>>,
}
