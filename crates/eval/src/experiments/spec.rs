//! What the shared code must know of a metric, a method and an experiment, as data.

use crate::paper::PaperTable;

/// Which side of a metric is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Larger values.
    Higher,
    /// Smaller values.
    Lower,
    /// Neither: the metric describes.
    Neither,
}

impl Better {
    /// As in results: `None` where the metric is neither good nor bad.
    pub fn higher_is_better(self) -> Option<bool> {
        match self {
            Self::Higher => Some(true),
            Self::Lower => Some(false),
            Self::Neither => None,
        }
    }

    /// What follows the title of the metric in the head of a column.
    pub fn arrow(self) -> &'static str {
        match self {
            Self::Higher => " ↑",
            Self::Lower => " ↓",
            Self::Neither => "",
        }
    }
}

/// In which unit a metric is shown. Results hold fractions of 1 in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As in results.
    Plain,
    /// In percent.
    Percent,
}

impl Unit {
    /// What shown numbers are multiplied by.
    pub fn scale(self) -> f64 {
        match self {
            Self::Plain => 1.0,
            Self::Percent => 100.0,
        }
    }
}

/// The column of the paper's table beside which a metric stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaperColumn {
    /// None: the paper does not report the metric.
    No,
    /// The column of this name.
    Named(&'static str),
    /// The column that the experiment file fills.
    Filled,
}

/// What a metric is a value of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Of the run as a whole.
    Run,
    /// Of each method.
    Method,
}

/// Whether results list a metric without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Always, as `null` where it is not defined.
    Always,
    /// Only where it is defined.
    WhereDefined,
}

/// How far a metric moves where only the machine changes: its threads or its instruction set. A tolerance is the largest of
/// the three parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// In the units of the metric.
    pub absolute: f64,
    /// As a fraction of the value.
    pub relative: f64,
    /// How much one item may move, divided by the number of items.
    pub item: f64,
}

impl Noise {
    /// Of a fraction that pixels or predictions add up to.
    pub const FRACTION: Self = Self { absolute: 0.005, relative: 0.0, item: 0.12 };
    /// Of a mean over the items to which one item may contribute 1 more or less.
    pub const ITEM: Self = Self { absolute: 0.005, relative: 0.0, item: 1.0 };
}

/// A metric: everything about it except how it is computed, which stands beside it in the experiment's `metrics.rs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricSpec {
    /// Its name in results.
    pub key: &'static str,
    /// Its name in tables and pages.
    pub title: &'static str,
    /// The unit in which it is shown.
    pub unit: Unit,
    /// Digits after the decimal point on pages.
    pub digits: usize,
    /// Which side is better.
    pub better: Better,
    /// What it is a value of.
    pub level: Level,
    /// Where it stands in the paper's table.
    pub column: PaperColumn,
    /// Whether tables of a run show it.
    pub in_table: bool,
    /// Whether methods are compared in it.
    pub compared: bool,
    /// Whether results list it without a value.
    pub listed: Listed,
    /// How far it moves with the machine.
    pub noise: Noise,
}

impl MetricSpec {
    /// A fraction shown in percent, better if higher, in the table of the run and compared between methods.
    pub const fn percent(key: &'static str, title: &'static str) -> Self {
        Self {
            key,
            title,
            unit: Unit::Percent,
            digits: 2,
            better: Better::Higher,
            level: Level::Method,
            column: PaperColumn::No,
            in_table: true,
            compared: true,
            listed: Listed::WhereDefined,
            noise: Noise::FRACTION,
        }
    }

    /// A number shown as it is, listed even without a value.
    pub const fn plain(key: &'static str, title: &'static str, better: Better) -> Self {
        Self { unit: Unit::Plain, digits: 3, better, listed: Listed::Always, ..Self::percent(key, title) }
    }

    /// Its title with an arrow to the better side.
    pub fn head(&self) -> String {
        format!("{}{}", self.title, self.better.arrow())
    }

    /// The name of its column in the paper's table; `filled` is the column that the experiment file fills.
    pub fn paper_column<'a>(&self, filled: Option<&'a str>) -> Option<&'a str> {
        match self.column {
            PaperColumn::No => None,
            PaperColumn::Named(name) => Some(name),
            PaperColumn::Filled => filled,
        }
    }
}

/// A method of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodInfo {
    /// Its key in results.
    pub key: String,
    /// Its name in tables and figures.
    pub label: String,
    /// What it has in common with its variants within a run, such as a score with CLS in the chain and without.
    pub family: String,
    /// The family's name in tables.
    pub family_label: String,
    /// Whether it is the paper's.
    pub ours: bool,
    /// Whether the seed of the experiment decides what it does.
    pub seeded: bool,
}

impl MethodInfo {
    /// A method without variants, which the seed decides.
    pub fn new(key: &str, label: &str) -> Self {
        let (key, label) = (key.to_owned(), label.to_owned());
        Self { family: key.clone(), family_label: label.clone(), key, label, ours: false, seeded: true }
    }
}

/// A figure that a run may draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FigureFile {
    /// Its file in the run's folder.
    pub file: &'static str,
    /// Its title on the page.
    pub title: &'static str,
}

/// What a run of an experiment fills in a table of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// One column, since columns are networks.
    Column,
    /// Every column, since columns are metrics.
    Table,
}

/// What the tables of a sweep show.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Key of the metric.
    pub metric: &'static str,
    /// Its name over a column, with an arrow to the better side.
    pub head: &'static str,
    /// The paper's methods together.
    pub ours: &'static str,
    /// The key under which `sweep.json` says whether they win.
    pub wins_key: &'static str,
    /// What the metric is, in a sentence.
    pub note: &'static str,
    /// What winning means, in a sentence.
    pub wins_note: &'static str,
}

/// An experiment as data.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its key in `[task]`, and the name of its folders.
    pub name: &'static str,
    /// Its metrics, in the order of results and tables.
    pub metrics: fn() -> Vec<MetricSpec>,
    /// What the rows of its table are.
    pub rows: &'static str,
    /// The figures it may draw.
    pub figures: &'static [FigureFile],
    /// The table of the paper with the name of the experiment: the content of its file in `eval/tables`.
    pub paper_table: Option<&'static str>,
    /// What a run fills in that table.
    pub filling: Filling,
    /// What the tables of a sweep show.
    pub goal: Goal,
    /// What a reader of the paper's values must know.
    pub source_note: fn(&PaperTable) -> String,
}

impl Facts {
    /// The metric with this key in results.
    pub fn metric(&self, key: &str) -> Option<MetricSpec> {
        (self.metrics)().into_iter().find(|metric| metric.key == key)
    }
}
