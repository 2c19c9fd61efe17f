//! The records of the experiment.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::config::MOST_ANCHORS;
use crate::pixels::{in_an_image, pixels};

/// The segmentations of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffSegRecord {
    /// Name of the image.
    pub id: String,
    /// SHA-256 of image and labels, as computed by the data set; empty in records that do not store it.
    #[serde(default)]
    pub sha256: String,
    /// SHA-256 of the image alone, if items are objects, several of which may be in one image; otherwise, and in records of earlier
    /// versions, `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_sha256: Option<String>,
    /// Segments by method.
    pub methods: BTreeMap<String, Segments>,
    /// Segments and anchors by method, for the images that are drawn in figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<Pictures>,
}

/// Comparison of segments with the labels of an image, in pixels of the label map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Segments {
    /// Number of segments, including those without a pixel.
    #[serde(deserialize_with = "proposals")]
    pub proposals: usize,
    /// `(class, segment, pixels)` for every pair with common pixels, in ascending order. Classes count from 0; ignored
    /// pixels are not counted.
    #[serde(deserialize_with = "overlap")]
    pub overlap: Vec<(u16, u32, u64)>,
    /// Recall of the true boundaries.
    pub boundary: Boundary,
}

/// Pixels of true boundaries, and how many of them have a segment's boundary nearby ([`boundary`](super::boundary())).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// Number of pixels of true boundaries.
    #[serde(deserialize_with = "pixels")]
    pub labelled: u64,
    /// Number of these pixels with a predicted boundary within the tolerance.
    #[serde(deserialize_with = "pixels")]
    pub found: u64,
}

/// Deserializes a number of proposals. Fails if no configuration allows that many.
fn proposals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let proposals = usize::deserialize(deserializer)?;
    match proposals <= MOST_ANCHORS {
        true => Ok(proposals),
        false => Err(D::Error::custom(format!("{proposals} segments; there are at most {MOST_ANCHORS}"))),
    }
}

/// Deserializes the overlaps of one image. Fails if they are out of range: they become a matrix of classes and
/// segments.
fn overlap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(u16, u32, u64)>, D::Error> {
    let overlap = Vec::<(u16, u32, u64)>::deserialize(deserializer)?;
    let possible = |&(class, segment, _): &(u16, u32, u64)| {
        class <= u8::MAX.into() && usize::try_from(segment).is_ok_and(|segment| segment < MOST_ANCHORS)
    };
    if let Some((class, segment, _)) = overlap.iter().find(|pair| !possible(pair)) {
        return Err(D::Error::custom(format!("class {class} and segment {segment} are out of range")));
    }
    let all = overlap.iter().fold(0, |all: u64, (.., pixels)| all.saturating_add(*pixels));
    in_an_image(all).map(|_| overlap)
}

/// The data from which figures of an image are drawn, in addition to the image itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// Rows and columns of the label maps.
    pub size: (usize, usize),
    /// Rows and columns of the token grid.
    pub grid: (usize, usize),
    /// Segments and anchors by method.
    pub methods: BTreeMap<String, SegmentPicture>,
}

/// The segments of one method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPicture {
    /// The segment of every pixel, row by row.
    pub labels: Runs,
    /// The anchors as (row, column) of the tokens, in the order in which they were merged.
    pub anchors: Vec<(u16, u16)>,
}

/// A run-length encoded list of labels: `(label, number of repetitions)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(Vec<(u16, u32)>);

impl Runs {
    /// Encodes labels.
    pub fn encode(labels: impl IntoIterator<Item = u16>) -> Self {
        let mut runs: Vec<(u16, u32)> = Vec::new();
        for label in labels {
            match runs.last_mut() {
                Some((last, count)) if *last == label && *count < u32::MAX => *count += 1,
                _ => runs.push((label, 1)),
            }
        }
        Self(runs)
    }

    /// Returns the labels one by one.
    pub fn decode(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|&(label, count)| (0..count).map(move |_| label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_gives_back_the_encoded_labels(labels in proptest::collection::vec(0u16..4, 0..200)) {
            let runs = Runs::encode(labels.iter().copied());
            prop_assert!(runs.0.windows(2).all(|pair| pair[0].0 != pair[1].0));
            prop_assert_eq!(runs.decode().collect::<Vec<_>>(), labels);
        }
    }

    #[test]
    fn a_record_without_pictures_omits_the_key() -> serde_json::Result<()> {
        let boundary = Boundary { labelled: 8, found: 5 };
        let segments = Segments { proposals: 3, overlap: vec![(0, 1, 20), (2, 0, 7)], boundary };
        let record = DiffSegRecord {
            id: "a".into(),
            sha256: "00".into(),
            image_sha256: None,
            methods: [("uniform".to_owned(), segments)].into(),
            pictures: None,
        };
        let json = serde_json::to_string(&record)?;
        assert_eq!(
            json,
            concat!(
                r#"{"id":"a","sha256":"00","methods":{"uniform":{"proposals":3,"overlap":[[0,1,20],[2,0,7]],"#,
                r#""boundary":{"labelled":8,"found":5}}}}"#
            )
        );
        assert_eq!(serde_json::from_str::<DiffSegRecord>(&json)?, record);
        Ok(())
    }
}
