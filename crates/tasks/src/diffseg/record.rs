//! What the experiment writes down.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::config::MOST_ANCHORS;
use crate::pixels::{in_an_image, pixels};

/// How the segments of one image fared, by method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffSegRecord {
    /// The image.
    pub id: String,
    /// SHA-256 of image and labels, as the data set gives it; empty where it was not written down.
    #[serde(default)]
    pub sha256: String,
    /// What came of each method, by method.
    pub methods: BTreeMap<String, Segments>,
    /// Segments and anchors by method, for the images of which pictures are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<Pictures>,
}

/// Segments against the labels of an image, in pixels of the label map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Segments {
    /// Number of segments: all proposals, whether or not they won a pixel.
    #[serde(deserialize_with = "proposals")]
    pub proposals: usize,
    /// `(class, segment, pixels)` of every pair that meets, ascending; classes from 0; ignored pixels count nowhere.
    #[serde(deserialize_with = "overlap")]
    pub overlap: Vec<(u16, u32, u64)>,
    /// How many of the true boundaries were found.
    pub boundary: Boundary,
}

/// True boundaries, and those of them that a segment's boundary comes near ([`boundary`](super::boundary())).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// Pixels of true boundaries.
    #[serde(deserialize_with = "pixels")]
    pub labelled: u64,
    /// Those with a predicted boundary within the tolerance.
    #[serde(deserialize_with = "pixels")]
    pub found: u64,
}

/// A number of proposals that some configuration can have asked for.
fn proposals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let proposals = usize::deserialize(deserializer)?;
    match proposals <= MOST_ANCHORS {
        true => Ok(proposals),
        false => Err(D::Error::custom(format!("{proposals} segments; there are at most {MOST_ANCHORS}"))),
    }
}

/// Pairs that a picture can have: they become a matrix of classes and segments.
fn overlap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(u16, u32, u64)>, D::Error> {
    let overlap = Vec::<(u16, u32, u64)>::deserialize(deserializer)?;
    let possible = |&(class, segment, _): &(u16, u32, u64)| {
        class <= u8::MAX.into() && usize::try_from(segment).is_ok_and(|segment| segment < MOST_ANCHORS)
    };
    if let Some((class, segment, _)) = overlap.iter().find(|pair| !possible(pair)) {
        return Err(D::Error::custom(format!("no picture has class {class} in segment {segment}")));
    }
    let all = overlap.iter().fold(0, |all: u64, (.., pixels)| all.saturating_add(*pixels));
    in_an_image(all).map(|_| overlap)
}

/// What pictures of an image are drawn from, beside the image itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// Rows and columns of the label maps.
    pub size: (usize, usize),
    /// Tokens as (rows, columns).
    pub grid: (usize, usize),
    /// By method.
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

/// A list of labels as `(label, how often in a row)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(Vec<(u16, u32)>);

impl Runs {
    /// Writes labels down.
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

    /// The labels, one by one.
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
        fn runs_give_back_what_they_were_given(labels in proptest::collection::vec(0u16..4, 0..200)) {
            let runs = Runs::encode(labels.iter().copied());
            prop_assert!(runs.0.windows(2).all(|pair| pair[0].0 != pair[1].0));
            prop_assert_eq!(runs.decode().collect::<Vec<_>>(), labels);
        }
    }

    #[test]
    fn a_record_without_pictures_says_nothing_of_them() -> serde_json::Result<()> {
        let boundary = Boundary { labelled: 8, found: 5 };
        let segments = Segments { proposals: 3, overlap: vec![(0, 1, 20), (2, 0, 7)], boundary };
        let record = DiffSegRecord {
            id: "a".into(),
            sha256: "00".into(),
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
