//! What the metrics of a run are called in its tables, and the paper's columns beside which they stand.

use crate::experiment::TaskConfig;
use crate::metrics::{DiffSegMetric, SegmentMetric};
use crate::paper::PaperTable;
use crate::picture_metrics::Titles;
use crate::results::Results;
use crate::{diffseg_report, guidance_report, segment_report, work};

/// What the features of the published Inception are called.
const INCEPTION: &str = "Inception-v3";

/// A metric of a run.
pub(super) struct Head {
    /// Its name in results.
    pub name: String,
    /// For people.
    pub title: String,
    /// What its values are multiplied by.
    pub scale: f64,
    /// Digits after the point.
    pub digits: usize,
    pub higher_is_better: Option<bool>,
    /// Column of the paper's table.
    pub column: Option<String>,
}

impl Head {
    /// With an arrow to the better side.
    pub fn with_arrow(&self) -> String {
        match self.higher_is_better {
            Some(true) => format!("{} ↑", self.title),
            Some(false) => format!("{} ↓", self.title),
            None => self.title.clone(),
        }
    }

    pub fn text(&self, value: f64) -> String {
        format!("{value:.*}", self.digits)
    }
}

/// The metrics of the methods, in the order of the results.
pub(super) fn heads(results: &Results) -> Vec<Head> {
    let mut heads: Vec<Head> = Vec::new();
    for value in &results.metrics {
        if value.method.is_some()
            && value.value.is_some()
            && !heads.iter().any(|head| head.name == value.name)
        {
            heads.push(head(results, &value.name, value.higher_is_better));
        }
    }
    heads
}

/// A metric by its name in results.
pub(super) fn head(results: &Results, name: &str, higher_is_better: Option<bool>) -> Head {
    let of = |title: &str, scale: f64, digits: usize, column: Option<&str>| Head {
        name: name.to_owned(),
        title: title.to_owned(),
        scale,
        digits,
        higher_is_better,
        column: column.map(str::to_owned),
    };
    match &results.experiment.task {
        TaskConfig::Masking(_) => {
            let fills = results.experiment.fills.as_ref();
            match name {
                "auc" => of("AUC", 1.0, 3, fills.and_then(|fills| fills.column.as_deref())),
                "auc-still-right" => of("AUC, right before", 1.0, 3, None),
                other => of(other, 1.0, 3, None),
            }
        }
        TaskConfig::Segment(_) => {
            match SegmentMetric::ALL.into_iter().find(|metric| metric.to_string() == name) {
                Some(metric) => of(segment_report::head(metric), 100.0, 2, work::paper_column(metric)),
                None => of(name, 100.0, 2, None),
            }
        }
        TaskConfig::Diffseg(_) => {
            match DiffSegMetric::ALL.into_iter().find(|metric| metric.to_string() == name) {
                Some(metric) => {
                    let scale = diffseg_report::scale(metric);
                    of(diffseg_report::head(metric), scale, 2, diffseg_report::paper_column(metric))
                }
                None => of(name, 100.0, 2, None),
            }
        }
        TaskConfig::Guidance(_) => {
            let titles = titles(results);
            let column = guidance_report::paper_column(name);
            match name {
                "inception-score" => of(&titles.score, 1.0, 3, column),
                "frechet" => of(&titles.frechet, 1.0, 3, column),
                "kernel" => of(&titles.kernel, 1.0, 5, column),
                other => of(other, 1.0, 3, column),
            }
        }
    }
}

/// What the metrics of generated pictures are called.
pub(super) fn titles(results: &Results) -> Titles {
    let features = results.judge.as_ref().map_or("", |judge| judge.features.as_str());
    Titles::new(features, features == INCEPTION)
}

/// The paper's table beside which a run stands.
pub(super) fn paper(results: &Results) -> Option<PaperTable> {
    PaperTable::named(&results.experiment.fills.as_ref()?.table).ok()
}

/// Whether differences to the paper's values say something.
pub(super) fn is_comparable(results: &Results) -> bool {
    let judged = results.judge.as_ref().is_none_or(|judge| judge.features == INCEPTION);
    results.experiment.is_comparable() && judged
}
