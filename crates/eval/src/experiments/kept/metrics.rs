//! The fraction of tokens that are kept.

use ndarray::Array2;
use tasks::kept::KeptRecord;

use crate::experiments::measure::Measure;
use crate::experiments::spec::{Better, MetricSpec};
use crate::metrics::bootstrap::{Additive, BootstrapError, Formula};

/// Fraction of the image tokens of all images that are kept.
pub struct KeptFraction;

impl KeptFraction {
    /// Returns the description of the metric for the shared code.
    pub fn spec(&self) -> MetricSpec {
        MetricSpec { better: Better::Neither, ..MetricSpec::percent("kept", "tokens kept") }
    }
}

/// Returns all metrics.
pub fn measures() -> Vec<Measure<KeptRecord>> {
    vec![Measure::new(KeptFraction.spec(), KeptFraction)]
}

impl Additive for KeptFraction {
    type Record = KeptRecord;

    /// Returns a pair: the number of kept tokens and the number of tokens.
    fn contributions(&self, records: &[KeptRecord], method: &str) -> Result<Array2<f64>, BootstrapError> {
        let mut pairs = Array2::zeros((records.len(), 2));
        for (mut pair, record) in pairs.rows_mut().into_iter().zip(records) {
            let missing = || BootstrapError::Missing { method: method.into(), item: record.id.clone() };
            pair[0] = *record.kept.get(method).ok_or_else(missing)? as f64;
            pair[1] = record.tokens as f64;
        }
        Ok(pairs)
    }

    fn formula(&self) -> Formula {
        Formula::Ratios
    }
}
