//! The records of the experiment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pixels::pixels;

/// The scores of all methods on one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Name of the image.
    pub id: String,
    /// SHA-256 of image and labels, as computed by the data set; empty in records that do not store it.
    #[serde(default)]
    pub sha256: String,
    /// SHA-256 of the image alone, if items are objects, several of which may be in one image; otherwise, and in records of earlier
    /// versions, `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_sha256: Option<String>,
    /// Names of the classes that were searched for.
    pub names: Vec<String>,
    /// Score of each method's signal, by method.
    pub methods: BTreeMap<String, MapScore>,
    /// Signals by method, for the images that are drawn in figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<SegmentMaps>,
}

impl SegmentRecord {
    /// Returns the name of the image: that of the item without the name of the object that `[dataset.masks]` adds to it.
    pub fn image(&self) -> &str {
        let without = |name: &String| self.id.strip_suffix(name.as_str())?.strip_suffix(':');
        match self.names.as_slice() {
            [name] => without(name).unwrap_or(&self.id),
            _ => &self.id,
        }
    }
}

/// Comparison of a signal with the labels of its image, in pixels. Ignored pixels are not counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MapScore {
    /// Counts of every class that was predicted or labelled; 0 is the background.
    pub classes: BTreeMap<u8, ClassCounts>,
    /// Number of pixels whose class is right.
    #[serde(deserialize_with = "pixels")]
    pub correct: u64,
    /// Number of pixels that are not ignored.
    #[serde(deserialize_with = "pixels")]
    pub labelled: u64,
    /// Average precision of the two channels `[1 - s, s]` against one-hot labels, pooled (the paper's mAP is its mean
    /// over the images). `None` if there are more than two classes, or no labelled pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled_ap: Option<f64>,
    /// Average precision of `s` against the foreground. `None` if there are more than two classes, or no foreground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground_ap: Option<f64>,
}

/// Pixel counts of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCounts {
    /// Number of pixels both predicted and labelled as the class.
    #[serde(deserialize_with = "pixels")]
    pub intersection: u64,
    /// Number of pixels predicted as the class.
    #[serde(deserialize_with = "pixels")]
    pub predicted: u64,
    /// Number of pixels labelled as the class.
    #[serde(deserialize_with = "pixels")]
    pub labelled: u64,
}

impl ClassCounts {
    /// Number of pixels predicted or labelled as the class.
    pub fn union(self) -> u64 {
        (self.predicted + self.labelled).saturating_sub(self.intersection)
    }
}

/// Signals over the tokens of one image, each scaled to [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentMaps {
    /// Rows and columns of the grid of image tokens.
    pub grid: (usize, usize),
    /// One value per token in row order, by method.
    pub maps: BTreeMap<String, Vec<f32>>,
}
