//! Descriptions of metrics, methods and experiments, as data for the shared code.

use crate::paper::PaperTable;

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Larger values are better.
    Higher,
    /// Smaller values are better.
    Lower,
    /// Neither: the metric only describes.
    Neither,
}

impl Better {
    /// Converts to the form in results: `None` for [`Better::Neither`].
    pub fn higher_is_better(self) -> Option<bool> {
        match self {
            Self::Higher => Some(true),
            Self::Lower => Some(false),
            Self::Neither => None,
        }
    }

    /// Returns the arrow that follows the title of the metric in the head of a column.
    pub fn arrow(self) -> &'static str {
        match self {
            Self::Higher => " ↑",
            Self::Lower => " ↓",
            Self::Neither => "",
        }
    }
}

/// The unit in which a metric is shown. Results hold fractions between 0 and 1 in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The number as in results.
    Plain,
    /// In percent.
    Percent,
}

impl Unit {
    /// Returns the factor by which shown numbers are multiplied.
    pub fn scale(self) -> f64 {
        match self {
            Self::Plain => 1.0,
            Self::Percent => 100.0,
        }
    }
}

/// The column of the paper's table that a metric is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaperColumn {
    /// No column: the paper does not report the metric.
    No,
    /// The column of this name.
    Named(&'static str),
    /// The column that the experiment file fills.
    Filled,
}

/// Whether a metric has one value for the run or one for each method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// One value for the run.
    Run,
    /// One value for each method.
    Method,
}

/// Whether results list a metric without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Always, as `null` if it is not defined.
    Always,
    /// Only if it is defined.
    WhereDefined,
}

/// How far a metric moves if only the machine changes: its threads or its instruction set. A tolerance is the largest of the
/// three parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Absolute part, in the unit of results.
    pub absolute: f64,
    /// Relative part, as a fraction of the value.
    pub relative: f64,
    /// Largest change by one item; it is divided by the number of items.
    pub item: f64,
}

impl Noise {
    /// Noise of a fraction that is a sum over pixels or predictions.
    pub const FRACTION: Self = Self { absolute: 0.005, relative: 0.0, item: 0.12 };
    /// Noise of a mean over the items to which one item may contribute 1 more or less.
    pub const ITEM: Self = Self { absolute: 0.005, relative: 0.0, item: 1.0 };
}

/// The description of a metric: everything except its computation, which is in the experiment's `metrics.rs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricSpec {
    /// Name in results.
    pub key: &'static str,
    /// Name in tables and pages.
    pub title: &'static str,
    /// Unit in which the metric is shown.
    pub unit: Unit,
    /// Number of digits after the decimal point on pages.
    pub digits: usize,
    /// Which values are better.
    pub better: Better,
    /// Whether the metric belongs to the run or to each method.
    pub level: Level,
    /// Column of the paper's table.
    pub column: PaperColumn,
    /// Whether tables of a run show the metric.
    pub in_table: bool,
    /// Whether methods are compared in this metric.
    pub compared: bool,
    /// Whether results list the metric without a value.
    pub listed: Listed,
    /// How far the metric moves with the machine.
    pub noise: Noise,
}

impl MetricSpec {
    /// Describes a fraction shown in percent, better if higher, in the table of the run and compared between methods.
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

    /// Describes a number shown as it is, listed even without a value.
    pub const fn plain(key: &'static str, title: &'static str, better: Better) -> Self {
        Self { unit: Unit::Plain, digits: 3, better, listed: Listed::Always, ..Self::percent(key, title) }
    }

    /// Returns the title with an arrow towards better values.
    pub fn head(&self) -> String {
        format!("{}{}", self.title, self.better.arrow())
    }

    /// Returns the name of the column in the paper's table; `filled` is the column that the experiment file fills.
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
    /// Key in results.
    pub key: String,
    /// Name in tables and figures.
    pub label: String,
    /// Key shared by the variants of a method in a run, such as a score with and without CLS in the chain.
    pub family: String,
    /// Name of the family in tables.
    pub family_label: String,
    /// Whether the method is the paper's.
    pub ours: bool,
    /// Whether the seed of the experiment affects the method.
    pub seeded: bool,
}

impl MethodInfo {
    /// Describes a method without variants that depends on the seed.
    pub fn new(key: &str, label: &str) -> Self {
        let (key, label) = (key.to_owned(), label.to_owned());
        Self { family: key.clone(), family_label: label.clone(), key, label, ours: false, seeded: true }
    }
}

/// A figure that a run may draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FigureFile {
    /// File in the folder of the run.
    pub file: &'static str,
    /// Title on the page.
    pub title: &'static str,
}

/// The part of a table of the paper that a run fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// One column, since columns are networks.
    Column,
    /// Every column, since columns are metrics.
    Table,
}

/// The metric that the tables of a sweep show, and the method that is compared with all others.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Key of the metric.
    pub metric: &'static str,
    /// Head of a column, with an arrow towards better values.
    pub head: &'static str,
    /// Family of the method that the paper proposes, in its plain form: without λ₂ and with default settings.
    pub plain: &'static str,
    /// Explanation of the metric, in a sentence.
    pub note: &'static str,
}

/// The description of an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Key in `[task]`, and name of the experiment's folders.
    pub name: &'static str,
    /// The metrics, in the order of results and tables.
    pub metrics: fn() -> Vec<MetricSpec>,
    /// Head of the rows of the table.
    pub rows: &'static str,
    /// The figures that a run may draw.
    pub figures: &'static [FigureFile],
    /// The paper's table with the name of the experiment: the content of its file in `eval/tables`.
    pub paper_table: Option<&'static str>,
    /// The part of that table that a run fills.
    pub filling: Filling,
    /// The goal that the tables of a sweep show.
    pub goal: Goal,
    /// Returns the note on the paper's values.
    pub source_note: fn(&PaperTable) -> String,
}

impl Facts {
    /// Returns the metric with this key in results.
    pub fn metric(&self, key: &str) -> Option<MetricSpec> {
        (self.metrics)().into_iter().find(|metric| metric.key == key)
    }
}
