//! Metrics: states that records are added to and that merge, so that resumed and sharded runs give the same numbers.

pub mod bootstrap;
pub mod diffseg;
mod exact;
pub mod fidelity;
mod masking;
mod segment;
pub mod significance;

pub use diffseg::{DiffSegMetric, DiffSegMetrics, DiffSegScores};
pub use masking::{MaskingCurves, MaskingMetric, MethodCurve, OverFractions, area_under, item_area};
pub use segment::{MethodScores, SegmentMetric, SegmentMetrics};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A metric over the records of a run.
pub trait Metric: Serialize + DeserializeOwned {
    /// What one item contributes.
    type Record;
    /// What comes out.
    type Values;

    /// Takes one record into account.
    fn add(&mut self, record: &Self::Record);

    /// Takes everything into account that `other` has seen.
    fn merge(&mut self, other: Self);

    /// The values over all records.
    fn finish(&self) -> Self::Values;
}
