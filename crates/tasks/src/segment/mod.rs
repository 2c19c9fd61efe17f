//! Zero-shot segmentation: a signal over image tokens, cut into a mask and held against a label map.

mod record;
pub mod score;

pub use record::{ClassCounts, MapScore, SegmentMaps, SegmentRecord};
