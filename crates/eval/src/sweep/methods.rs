//! What a sweep knows of the methods of a task, and what its tables show.

use tasks::diffseg::{DiffSegConfig, Method as DiffSegMethod};
use tasks::guidance::{GuidanceConfig, Importance, Method as GuidanceMethod};
use tasks::masking::{MaskingConfig, Method, Score};
use tasks::segment::{Method as SegmentMethod, SegmentConfig};

use crate::experiment::{Experiment, TaskConfig};

/// A method as a column of a sweep's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptMethod {
    /// Its key in the results of a run.
    pub key: String,
    /// Its name for people.
    pub label: String,
    /// What it has in common with its variants within a run, such as a score with CLS in the chain and without.
    pub family: String,
    /// The family's name for people.
    pub family_label: String,
    /// Whether it is the paper's.
    pub ours: bool,
}

/// What a sweep's tables show.
#[derive(Debug)]
pub(crate) struct Goal {
    /// Name of the metric in results.
    pub(crate) metric: &'static str,
    /// Its name over a column.
    pub(crate) head: &'static str,
    /// What the numbers in the tables are multiplied by.
    pub(crate) scale: f64,
    lower_is_better: bool,
    /// The paper's methods together.
    pub(crate) ours: &'static str,
    /// The key of whether they win.
    pub(crate) wins_key: &'static str,
    pub(crate) note: &'static str,
    pub(crate) wins_note: &'static str,
}

impl Goal {
    /// Whether `a` is at least as good as `b`.
    pub(crate) fn better(&self, a: f64, b: f64) -> bool {
        if self.lower_is_better { a <= b } else { a >= b }
    }

    /// The best of some values.
    pub(crate) fn best(&self, values: impl Iterator<Item = f64>) -> Option<f64> {
        values.reduce(|a, b| if self.better(a, b) { a } else { b })
    }
}

pub(super) fn goal(task: &TaskConfig) -> &'static Goal {
    match task {
        TaskConfig::Masking(_) => &Goal {
            metric: "auc",
            head: "AUC ↓",
            scale: 1.0,
            lower_is_better: true,
            ours: "TokenRank",
            wins_key: "tokenrank_wins",
            note: "AUC: accuracy ÷ unmasked accuracy, mean over the shares removed; lower is better.",
            wins_note: "TokenRank wins: plain or weighted by λ₂, it is below every other score of the combination.",
        },
        TaskConfig::Segment(_) => &Goal {
            metric: "miou",
            head: "mIoU ↑",
            scale: 100.0,
            lower_is_better: false,
            ours: "Multi-bounce",
            wins_key: "bounce_wins",
            note: "mIoU in percent, intersections and unions summed over the images first; higher is better.",
            wins_note: "Multi-bounce wins: plain or weighted by λ₂, it is above every other method of the combination.",
        },
        TaskConfig::Guidance(_) => &Goal {
            metric: "frechet",
            head: "Fréchet distance ↓",
            scale: 1.0,
            lower_is_better: true,
            ours: "TokenRank",
            wins_key: "tokenrank_wins",
            note: "Fréchet distance between features of the drawn and of the reference pictures; lower is better. Its value \
                   depends on the features and on the number of pictures.",
            wins_note: "TokenRank wins: in some form, it is below every other method of the combination.",
        },
        TaskConfig::Diffseg(_) => &Goal {
            metric: "miou",
            head: "mIoU ↑",
            scale: 100.0,
            lower_is_better: false,
            ours: "TokenRank",
            wins_key: "tokenrank_wins",
            note: "mIoU in percent, every image's segments matched to its classes, pixels summed over the images; higher is \
                   better.",
            wins_note: "TokenRank wins: greatest or drawn, it is above every other choice of anchors of the combination.",
        },
    }
}

/// Every method of an experiment, and the experiment that has its numbers and no setting that does not decide them: two
/// that are equal need one run.
pub(super) fn taken_apart(experiment: &Experiment) -> Vec<(SweptMethod, Experiment)> {
    let alone = |task: TaskConfig| Experiment { task, ..experiment.clone() };
    // Of a method that draws nothing the seed decides nothing.
    let drawn = |draws: bool, one: Experiment| Experiment { seed: if draws { one.seed } else { 0 }, ..one };
    match &experiment.task {
        TaskConfig::Masking(config) => config
            .methods()
            .into_iter()
            .map(|method| {
                let one = alone(TaskConfig::Masking(config.of_method(method)));
                (of_masking(method), drawn(method.score == Score::Random, one))
            })
            .collect(),
        TaskConfig::Segment(config) => config
            .methods
            .iter()
            .map(|method| (of_segment(method), alone(TaskConfig::Segment(config.of_method(method)))))
            .collect(),
        TaskConfig::Guidance(config) => config
            .methods
            .iter()
            .map(|method| (of_guidance(method), alone(TaskConfig::Guidance(config.of_method(method)))))
            .collect(),
        TaskConfig::Diffseg(config) => config
            .methods
            .iter()
            .map(|method| {
                let one = alone(TaskConfig::Diffseg(config.of_method(method)));
                let draws = matches!(method, DiffSegMethod::TokenrankSampled(_) | DiffSegMethod::Random(_));
                (of_diffseg(method), drawn(draws, one))
            })
            .collect(),
    }
}

fn of_masking(method: Method) -> SweptMethod {
    SweptMethod {
        key: method.to_string(),
        label: method.label(),
        family: method.score.to_string(),
        family_label: method.score.label().to_owned(),
        ours: method.score.is_steady_state(),
    }
}

fn of_segment(method: &SegmentMethod) -> SweptMethod {
    let (key, label) = (method.key().to_owned(), method.label().to_owned());
    let ours = matches!(method, SegmentMethod::Bounce(_));
    SweptMethod { family: key.clone(), family_label: label.clone(), key, label, ours }
}

fn of_guidance(method: &GuidanceMethod) -> SweptMethod {
    let (key, label) = (method.key().to_owned(), method.label().to_owned());
    let ours = matches!(method, GuidanceMethod::Sag(sag) if sag.mask != Importance::ColumnSum);
    SweptMethod { family: key.clone(), family_label: label.clone(), key, label, ours }
}

fn of_diffseg(method: &DiffSegMethod) -> SweptMethod {
    let (key, label) = (method.key().to_owned(), method.label().to_owned());
    SweptMethod { family: key.clone(), family_label: label.clone(), key, label, ours: method.ranks() }
}

/// Leaves only methods of these families.
pub(super) fn keep_families(task: &mut TaskConfig, families: &[String]) {
    match task {
        TaskConfig::Masking(MaskingConfig { methods, .. }) => {
            methods.retain(|score| families.contains(&score.to_string()));
        }
        TaskConfig::Segment(SegmentConfig { methods, .. }) => {
            methods.retain(|method| families.iter().any(|family| family == method.key()));
        }
        TaskConfig::Guidance(GuidanceConfig { methods, .. }) => {
            methods.retain(|method| families.iter().any(|family| family == method.key()));
        }
        TaskConfig::Diffseg(DiffSegConfig { methods, .. }) => {
            methods.retain(|method| families.iter().any(|family| family == method.key()));
        }
    }
}
