//! The experiments: a folder for each, behind the trait [`Kind`](kind::Kind).
//!
//! To add one, write its folder here and one of the same name in the crate `tasks`, a variant of [`TaskConfig`] with its arm below,
//! and its line in [`KINDS`]. Everything else asks the traits of [`kind`].

pub mod diffseg;
mod figures;
pub mod guidance;
pub mod kind;
pub mod masking;
pub mod measure;
pub mod segment;
mod setup;
pub mod spec;
pub(crate) mod tables;
pub mod view;

use crate::error::Result;
use crate::experiment::{Experiment, TaskConfig};
use crate::results::Results;
use kind::Kind;
use spec::{Facts, MethodInfo, MetricSpec};
pub use tables::difference_notes;

/// Every experiment, as data.
pub const KINDS: [&Facts; 4] = [&masking::FACTS, &segment::FACTS, &guidance::FACTS, &diffseg::FACTS];

impl TaskConfig {
    /// The settings as what the shared code asks.
    pub fn kind(&self) -> &dyn Kind {
        match self {
            Self::Masking(task) => task,
            Self::Segment(task) => task,
            Self::Guidance(task) => task,
            Self::Diffseg(task) => task,
        }
    }

    /// The name of the variant, as in the experiment file.
    pub fn name(&self) -> &'static str {
        self.kind().facts().name
    }
}

impl Experiment {
    /// Its methods, in the order of its table's rows.
    pub fn methods(&self) -> Vec<MethodInfo> {
        self.task.kind().methods()
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range or contradicts another one.
    pub(crate) fn check(&self) -> Result<()> {
        self.task.kind().validate(self)
    }
}

/// A metric of finished results, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The metric.
    pub spec: MetricSpec,
    /// Its key in results: that of the metric, or of one that this program does not know.
    pub key: String,
    /// Its title, which may depend on the results.
    pub title: String,
    /// Its column in the paper's table beside which the run stands.
    pub column: Option<String>,
}

impl Head {
    /// The title with an arrow to the better side.
    pub fn with_arrow(&self) -> String {
        format!("{}{}", self.title, self.spec.better.arrow())
    }

    /// A value in the unit of the metric as text.
    pub fn text(&self, value: f64) -> String {
        format!("{value:.*}", self.spec.digits)
    }
}

/// The metric of finished results with this key.
pub fn head(results: &Results, key: &str) -> Head {
    let kind = results.experiment.task.kind();
    let unknown = MetricSpec::plain("", "", spec::Better::Neither);
    let spec = kind.facts().metric(key);
    let title = spec.map_or_else(|| key.to_owned(), |spec| kind.title(&spec, results));
    let filled = results.experiment.fills.as_ref().and_then(|fills| fills.column.as_deref());
    let column = spec.and_then(|spec| spec.paper_column(filled).map(str::to_owned));
    Head { spec: spec.unwrap_or(unknown), key: key.to_owned(), title, column }
}

/// The metrics of methods that have a value, in the order of the results.
pub fn heads(results: &Results) -> Vec<Head> {
    let mut heads: Vec<Head> = Vec::new();
    for value in results.metrics.iter().filter(|value| value.method.is_some() && value.value.is_some()) {
        if !heads.iter().any(|head| head.key == value.name) {
            heads.push(head(results, &value.name));
        }
    }
    heads
}

/// Whether differences of these results from the paper's values are meaningful.
pub fn is_comparable(results: &Results) -> bool {
    results.experiment.is_comparable() && results.experiment.task.kind().judged_as_published(results)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_keys_are_unique() {
        let names: BTreeSet<&str> = KINDS.iter().map(|facts| facts.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for facts in KINDS {
            let metrics = (facts.metrics)();
            let keys: BTreeSet<&str> = metrics.iter().map(|metric| metric.key).collect();
            assert_eq!(keys.len(), metrics.len(), "{}", facts.name);
            assert!(facts.metric(facts.goal.metric).is_some(), "{}", facts.name);
        }
    }
}
