//! The experiments: a folder for each, behind the trait [`Kind`](kind::Kind).
//!
//! To add one, write its folder here and one of the same name in the crate `tasks`, a variant of [`TaskConfig`] with its arm below,
//! and its line in [`KINDS`]. Everything else asks the traits of [`kind`].

pub mod diffseg;
pub(crate) mod figures;
pub mod guidance;
pub mod kept;
pub mod kind;
pub mod masking;
pub mod measure;
pub mod segment;
mod setup;
pub mod spec;
pub(crate) mod tables;
mod target;
pub mod view;

use crate::error::{Error, Result};
use crate::experiment::{Experiment, TaskConfig};
use crate::paper::PaperTable;
use crate::results::Results;
use kind::Kind;
use spec::{Facts, MethodInfo, MetricSpec};
pub use tables::difference_notes;
pub use target::PaperTarget;

/// The descriptions of all experiments.
pub const KINDS: [&Facts; 5] =
    [&masking::FACTS, &segment::FACTS, &guidance::FACTS, &diffseg::FACTS, &kept::FACTS];

impl TaskConfig {
    /// Returns the settings as the trait that the shared code uses.
    pub fn kind(&self) -> &dyn Kind {
        match self {
            Self::Masking(task) => task,
            Self::Segment(task) => task,
            Self::Guidance(task) => task,
            Self::Diffseg(task) => task,
            Self::Kept(task) => task,
        }
    }

    /// Returns the name of the variant, as in the experiment file.
    pub fn name(&self) -> &'static str {
        self.kind().facts().name
    }
}

impl Experiment {
    /// Returns the methods, in the order of the table's rows.
    pub fn methods(&self) -> Vec<MethodInfo> {
        self.task.kind().methods()
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Fails if a setting is out of range or contradicts another one.
    pub(crate) fn check(&self) -> Result<()> {
        self.task.kind().validate(self)
    }
}

/// Returns the paper's tables by name, in the order of their names.
pub fn paper_tables() -> Vec<(&'static str, PaperTable)> {
    let table = |facts: &&Facts| Some((facts.name, PaperTable::read(facts.name, facts.paper_table?).ok()?));
    let mut tables: Vec<_> = KINDS.iter().filter_map(table).collect();
    tables.sort_by_key(|(name, _)| *name);
    tables
}

/// Returns the paper's table with this name.
///
/// # Errors
/// Fails if there is no such table; the message lists the existing ones.
pub fn paper_table(name: &str) -> Result<PaperTable> {
    let text = KINDS.iter().find(|facts| facts.name == name).and_then(|facts| facts.paper_table);
    let known = || paper_tables().into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    let text = text.ok_or_else(|| Error::Config {
        path: format!("eval/tables/{name}.toml").into(),
        reason: format!("no such table; the tables are {}", known()),
    })?;
    PaperTable::read(name, text)
}

/// A metric of finished results, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The metric.
    pub spec: MetricSpec,
    /// Key in results; it may belong to a metric that this program does not know.
    pub key: String,
    /// Title, which may depend on the results.
    pub title: String,
    /// Column of the paper's table that the metric is compared with.
    pub column: Option<String>,
}

impl Head {
    /// Returns the title with an arrow towards better values.
    pub fn with_arrow(&self) -> String {
        format!("{}{}", self.title, self.spec.better.arrow())
    }

    /// Formats a value that is in the unit of the metric.
    pub fn text(&self, value: f64) -> String {
        format!("{value:.*}", self.spec.digits)
    }
}

/// Returns the metric of finished results with this key.
pub fn head(results: &Results, key: &str) -> Head {
    let kind = results.experiment.task.kind();
    let unknown = MetricSpec::plain("", "", spec::Better::Neither);
    let spec = kind.facts().metric(key);
    let title = spec.map_or_else(|| key.to_owned(), |spec| kind.title(&spec, results));
    let filled = results.experiment.fills.as_ref().and_then(|fills| fills.column.as_deref());
    let column = spec.and_then(|spec| spec.paper_column(filled).map(str::to_owned));
    Head { spec: spec.unwrap_or(unknown), key: key.to_owned(), title, column }
}

/// Returns the metrics of methods that have a value, in the order of the results.
pub fn heads(results: &Results) -> Vec<Head> {
    let mut heads: Vec<Head> = Vec::new();
    for value in results.metrics.iter().filter(|value| value.method.is_some() && value.value.is_some()) {
        if !heads.iter().any(|head| head.key == value.name) {
            heads.push(head(results, &value.name));
        }
    }
    heads
}

/// Returns whether differences of these results from the paper's values are meaningful.
pub fn is_comparable(results: &Results) -> bool {
    results.experiment.is_comparable() && results.experiment.task.kind().judged_as_published(results)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_table_of_the_paper_is_complete() -> Result<()> {
        assert_eq!(paper_tables().len(), KINDS.iter().filter(|facts| facts.paper_table.is_some()).count());
        for (name, table) in paper_tables() {
            table.check().map_err(|reason| Error::Config { path: name.into(), reason })?;
        }
        let masking = paper_table("masking")?;
        assert_eq!(masking.published("tokenrank", "DINOv2"), Some(0.64));
        assert_eq!(masking.published("tokenrank", "none"), None);
        let better = |ours| masking.difference("DINOv2", (ours, 0.64)).better();
        assert_eq!([0.6, 0.644, 0.7].map(better), [Some(true), None, Some(false)]);
        let guidance = paper_table("guidance")?;
        let better = |column, pair| guidance.difference(column, pair).better();
        let found =
            [better("IS", (17.0, 16.32)), better("FID", (50.0, 45.77)), better("KID", (0.0183, 0.018))];
        assert_eq!(found, [Some(true), Some(false), None]);
        Ok(())
    }

    #[test]
    fn only_the_miou_of_concept_attention_follows_from_its_accuracy() -> Result<()> {
        let table = paper_table("segment")?;
        let methods = ["row-select", "column-select", "concept-attention", "bounce", "bounce-lambda2"];
        // The mIoU of ConceptAttention's row is a function of its accuracy; no other row's mIoU is.
        let follows = |method: &&str| {
            let value = |column| table.published(method, column).expect("a published value");
            let accuracy = value("Acc") / 100.0;
            (100.0 * accuracy / (2.0 - accuracy) - value("mIoU")).abs() <= 0.005
        };
        assert_eq!(methods.into_iter().filter(follows).collect::<Vec<_>>(), ["concept-attention"]);
        Ok(())
    }

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
