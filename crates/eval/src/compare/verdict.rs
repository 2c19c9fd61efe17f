//! The verdict on one value.

use std::fmt;

use super::snapshot::{Measured, Snapshot};
use super::tolerance::exceeds;
use crate::metrics::significance::{Interval, PairedDifference, Significance};

/// How a value compares with the baseline's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Equal to the last bit.
    Same,
    /// Within the tolerance.
    Within,
    /// Within the tolerance, but the difference is significant: the items have moved to one side.
    Systematic,
    /// Outside the tolerance.
    Moved {
        /// Whether ours is better; `None` if neither larger nor smaller is better.
        better: Option<bool>,
    },
    /// Defined in only one of the two runs.
    Undefined,
    /// Defined in neither run, so that nothing was compared.
    UndefinedBoth,
    /// Not in the result.
    Missing,
    /// Not in the baseline.
    New,
}

impl Verdict {
    /// Returns whether the verdict fails the comparison; `strict` makes systematic differences fail.
    pub fn fails(self, strict: bool) -> bool {
        match self {
            Self::Same | Self::Within | Self::UndefinedBoth => false,
            Self::Systematic => strict,
            Self::Moved { .. } | Self::Undefined | Self::Missing | Self::New => true,
        }
    }

    /// Returns the rank for sorting, the worst verdict first.
    pub(super) fn rank(self) -> usize {
        match self {
            Self::Missing | Self::New | Self::Undefined => 0,
            Self::Moved { .. } => 1,
            Self::Systematic => 2,
            Self::UndefinedBoth => 3,
            Self::Within => 4,
            Self::Same => 5,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Within => "within tolerance",
            Self::Systematic => "within, systematic",
            Self::Moved { better: Some(true) } => "moved, better",
            Self::Moved { better: Some(false) } => "moved, worse",
            Self::Moved { better: None } => "moved",
            Self::Undefined => "undefined",
            Self::UndefinedBoth => "undefined on both sides",
            Self::Missing => "missing",
            Self::New => "new",
        })
    }
}

/// A value compared with the baseline's.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Name of the run.
    pub run: String,
    /// Name of the metric.
    pub metric: String,
    /// Key of the method; `None` for values of the whole run.
    pub method: Option<String>,
    /// The baseline's value.
    pub baseline: Option<f64>,
    /// The result's value.
    pub ours: Option<f64>,
    /// How far apart the two values may be.
    pub tolerance: f64,
    /// Ours minus the baseline's with its interval, if items have changed and both sides have the contributions of the items or
    /// the metric over the same resamples.
    pub paired: Option<PairedDifference>,
    /// Number of items whose contribution or image has changed; `None` if unknown.
    pub changed: Option<usize>,
    /// Number of items of both sides; `None` if the sides have different items.
    pub items: Option<usize>,
    /// The verdict.
    pub verdict: Verdict,
}

impl Compared {
    /// Compares a metric of a method; one of the two values may be missing.
    pub(super) fn new(
        run: &str,
        ours: (&Snapshot, Option<&Measured>),
        baseline: (&Snapshot, Option<&Measured>),
        tolerance: f64,
    ) -> Option<Self> {
        let either = ours.1.or(baseline.1)?;
        let mut compared = Self {
            run: run.to_owned(),
            metric: either.metric.clone(),
            method: either.method.clone(),
            baseline: baseline.1.and_then(|measured| measured.value),
            ours: ours.1.and_then(|measured| measured.value),
            tolerance,
            paired: None,
            changed: None,
            items: None,
            verdict: Verdict::Same,
        };
        match (ours.1, baseline.1) {
            (Some(a), Some(b)) => {
                // Items can only be compared if both sides have the same ones.
                if ours.0.ids == baseline.0.ids {
                    compared.items = Some(ours.0.ids.len());
                    compared.compare_items((ours.0, a), (baseline.0, b));
                }
                compared.verdict = compared.judge(either.higher_is_better);
            }
            (None, _) => compared.verdict = Verdict::Missing,
            (_, None) => compared.verdict = Verdict::New,
        }
        Some(compared)
    }

    fn compare_items(&mut self, ours: (&Snapshot, &Measured), baseline: (&Snapshot, &Measured)) {
        if let (Some(a), Some(b)) = (&ours.1.per_item, &baseline.1.per_item) {
            self.changed = Some(a.changed(b));
            if self.changed > Some(0) {
                // A baseline of an earlier version does not know which items share an image.
                let known = if ours.0.images.is_empty() { baseline.0 } else { ours.0 };
                self.paired = a.minus(b, &known.clusters());
            }
        } else if let Some(method) = &self.method {
            let pictures = ours.0.pictures.get(method).zip(baseline.0.pictures.get(method));
            self.changed = pictures.map(|(a, b)| a.iter().zip(b).filter(|(a, b)| a != b).count());
            if self.changed > Some(0) && ours.0.seed() == baseline.0.seed() {
                self.paired = resampled(ours.1, baseline.1, ours.0.ids.len());
            }
        }
    }

    fn judge(&self, higher_is_better: Option<bool>) -> Verdict {
        let defined = |value: Option<f64>| value.filter(|value| value.is_finite());
        let difference = match (defined(self.ours), defined(self.baseline)) {
            (Some(ours), Some(baseline)) if ours.to_bits() == baseline.to_bits() => return Verdict::Same,
            (Some(ours), Some(baseline)) => ours - baseline,
            (None, None) => return Verdict::UndefinedBoth,
            (Some(_), None) | (None, Some(_)) => return Verdict::Undefined,
        };
        if exceeds(difference, self.tolerance) {
            return Verdict::Moved { better: higher_is_better.map(|higher| (difference > 0.0) == higher) };
        }
        match self.paired.map(|paired| paired.significance(higher_is_better)) {
            Some(Significance::Yes { .. }) => Verdict::Systematic,
            None | Some(Significance::No | Significance::TooFewItems | Significance::Biased) => {
                Verdict::Within
            }
        }
    }

    /// Returns the interval of the difference, if there is one.
    pub fn interval(&self) -> Option<&Interval> {
        self.paired.as_ref()?.interval()
    }

    /// Returns ours minus the baseline's.
    pub fn difference(&self) -> Option<f64> {
        Some(self.ours? - self.baseline?)
    }

    /// Returns metric and method as text: `auc of tokenrank`.
    pub fn name(&self) -> String {
        match &self.method {
            Some(method) => format!("{} of {method}", self.metric),
            None => self.metric.clone(),
        }
    }

    /// Describes the comparison in one sentence.
    pub fn sentence(&self) -> String {
        let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.5}"));
        let name = self.name();
        let advice = "if that is meant, update the baseline to include it";
        let mut text = match self.verdict {
            Verdict::Missing => return format!("{name} is in the baseline but not in the result; {advice}"),
            Verdict::New => {
                return format!("{name} is {} and missing in the baseline; {advice}", number(self.ours));
            }
            Verdict::UndefinedBoth => return format!("{name} is undefined on both sides"),
            Verdict::Undefined => {
                return format!("{name}: {} → {}", number(self.baseline), number(self.ours));
            }
            Verdict::Same | Verdict::Within | Verdict::Systematic | Verdict::Moved { .. } => {
                format!("{name}: {} → {}, {}", number(self.baseline), number(self.ours), self.verdict)
            }
        };
        if let Some(difference) = self.difference() {
            text.push_str(&format!(" ({difference:+.5}, tolerance {})", self.tolerance));
        }
        if let Some(interval) = self.interval() {
            let (low, high) = (interval.low(), interval.high());
            text.push_str(&format!("; 95 % interval {low:+.5} … {high:+.5}, p {}", interval.p_value()));
        }
        if let (Some(changed), Some(items)) = (self.changed, self.items) {
            text.push_str(&format!("; {changed} of {items} items changed"));
        }
        text
    }
}

/// Returns the difference over resamples that drew the same items on both sides.
fn resampled(ours: &Measured, baseline: &Measured, items: usize) -> Option<PairedDifference> {
    let (a, b) = (&ours.resampled, &baseline.resampled);
    let differences = || a.iter().zip(b).map(|(a, b)| a - b).collect();
    let known = !a.is_empty() && a.len() == b.len();
    known.then(|| PairedDifference::of(ours.value? - baseline.value?, items, differences))?
}
