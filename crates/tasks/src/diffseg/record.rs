//! What the experiment writes down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the segments of one image fared, by method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffSegRecord {
    /// The image.
    pub id: String,
    /// SHA-256 of the image and label files.
    pub sha256: String,
    /// What came of each method, by method.
    pub methods: BTreeMap<String, Segments>,
}

/// Segments against the labels of an image, in pixels of the label map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Segments {
    /// Number of segments (proposals that won at least one pixel are not counted apart: all proposals).
    pub proposals: usize,
    /// `(class, segment, pixels)` of every pair that meets, ascending; classes from 0; ignored pixels count nowhere.
    pub overlap: Vec<(u16, u32, u64)>,
    /// Pixels of true boundaries, and how many of them have a predicted boundary within the tolerance.
    pub boundary: Boundary,
}

/// Pixels of true boundaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// All of them.
    pub labelled: u64,
    /// Those with a predicted boundary within the tolerance.
    pub found: u64,
}
