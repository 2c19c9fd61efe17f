//! Significance of a difference over items: one rule for tables, pages, sweeps and comparisons of runs. Items that share an image
//! count as one here.
//!
//! - **Fewer than [`LEAST_ITEMS`] items give no interval, no p value and no verdict.** Five items all move to one side by chance
//!   once in 16, and a bootstrap of five items does not show that.
//! - **p is never 0.** Of `n` resamples, `k` lie at 0 or beyond it; the observed difference counts as one more in both numbers.
//!   One side has `(k + 1) / (n + 1)`; p is two-sided, twice that of the side with fewer, and at most 1.
//! - **Significant** means that the interval leaves out 0 and that p is at most 0.05. With very few resamples the interval is
//!   shorter than it should be; p is then too large for a verdict.
//! - **An interval that leaves out its own value is not shown, and there is no verdict.** The resamples then lie on one side of the
//!   value: a resample has fewer different items than the sample, and that moves the metric further than chance does.
//!
//! Only a [`PairedDifference`], which has its number of items, gives an [`Interval`], a [`PValue`] or a [`Significance`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// Minimum number of items for an interval and a verdict.
pub const LEAST_ITEMS: usize = 6;

/// Fraction of the resampled values inside an interval.
pub const LEVEL: f64 = 0.95;

/// How far a value may lie outside its interval, relative to the larger of the value and 1: sums of the same numbers differ by this
/// if their order differs.
const ROUNDING: f64 = 1e-12;

/// A metric of one side minus that of the other over the same items, with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct PairedDifference {
    value: f64,
    items: usize,
    interval: Option<Interval>,
}

/// The percentile interval of a difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    low: f64,
    high: f64,
    p_value: PValue,
    resamples: usize,
}

/// A two-sided p value, above 0 and at most 1. It is displayed with three digits, or as `< 0.001` if it is smaller.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct PValue(f64);

/// Whether a difference is significant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Significance {
    /// There are fewer than [`LEAST_ITEMS`] items.
    TooFewItems,
    /// The resampled differences lie to one side of the difference.
    Biased,
    /// The difference is not significant.
    No,
    /// The difference is significant.
    Yes {
        /// Whether the first side is better; `None` if neither larger nor smaller is better.
        better: Option<bool>,
    },
}

impl fmt::Display for Significance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooFewItems => "too few items",
            Self::Biased => "no interval",
            Self::No => "no",
            Self::Yes { better: None } => "yes",
            Self::Yes { better: Some(true) } => "yes, better",
            Self::Yes { better: Some(false) } => "yes, worse",
        })
    }
}

impl PairedDifference {
    /// Makes a difference over this number of items; `resampled` computes the differences over resamples of the items and is
    /// called only if there are enough items. `None` if the difference, or every resampled one, is not finite.
    pub(crate) fn of(value: f64, items: usize, resampled: impl FnOnce() -> Vec<f64>) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let interval = match items < LEAST_ITEMS {
            true => None,
            false => Some(Interval::of(resampled())?),
        };
        Some(Self::new(value, items, interval))
    }

    /// Makes a difference, without its interval if the rules allow none.
    fn new(value: f64, items: usize, interval: Option<Interval>) -> Self {
        let allowed =
            |interval: &Interval| items >= LEAST_ITEMS && encloses((interval.low, interval.high), value);
        Self { value, items, interval: interval.filter(allowed) }
    }

    /// Returns the difference over all items.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns the number of items that contribute to the metric; items that share an image count as one.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Returns the percentile interval; `None` with fewer than [`LEAST_ITEMS`] items, or if it would leave out the difference.
    pub fn interval(&self) -> Option<&Interval> {
        self.interval.as_ref()
    }

    /// Returns the significance of the difference, for a metric in which larger values are better, worse or neither.
    pub fn significance(&self, higher_is_better: Option<bool>) -> Significance {
        match &self.interval {
            None if self.items < LEAST_ITEMS => Significance::TooFewItems,
            None => Significance::Biased,
            Some(interval) if interval.is_significant() => {
                let better = higher_is_better.map(|higher| (self.value > 0.0) == higher);
                Significance::Yes { better }
            }
            Some(_) => Significance::No,
        }
    }

    /// Returns whether the first side is better; `None` if the difference is not significant.
    pub fn better(&self, higher_is_better: Option<bool>) -> Option<bool> {
        match self.significance(higher_is_better) {
            Significance::Yes { better } => better,
            Significance::No | Significance::TooFewItems | Significance::Biased => None,
        }
    }
}

impl Interval {
    /// Returns the lower end.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Returns the upper end.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Returns the probability of a difference at least this large if there is no true difference.
    pub fn p_value(&self) -> PValue {
        self.p_value
    }

    /// Returns the number of resamples on which both sides have the metric.
    pub fn resamples(&self) -> usize {
        self.resamples
    }

    /// Computes the interval of the differences over resamples; `None` if none of them is finite.
    fn of(mut resampled: Vec<f64>) -> Option<Self> {
        resampled.retain(|value| value.is_finite());
        resampled.sort_unstable_by(f64::total_cmp);
        let (low, high) = ends(&resampled)?;
        Some(Self { low, high, p_value: PValue::of(&resampled), resamples: resampled.len() })
    }

    fn is_significant(&self) -> bool {
        (self.low > 0.0 || self.high < 0.0) && self.p_value.0 <= 1.0 - LEVEL
    }
}

impl PValue {
    /// Returns the number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// Computes the p value of the differences over resamples, which are in ascending order.
    fn of(sorted: &[f64]) -> Self {
        let not_above = sorted.partition_point(|&difference| difference <= 0.0);
        let not_below = sorted.len() - sorted.partition_point(|&difference| difference < 0.0);
        let beyond = not_above.min(not_below);
        Self((2.0 * (beyond + 1) as f64 / (sorted.len() + 1) as f64).min(1.0))
    }
}

impl fmt::Display for PValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0.001 { f.write_str("< 0.001") } else { write!(f, "{:.3}", self.0) }
    }
}

/// Returns the percentile interval of a value, from its values over resamples of this number of items in ascending order. `None` with
/// fewer than [`LEAST_ITEMS`] items, without resamples, or if it would leave out the value.
pub(crate) fn spread(value: f64, items: usize, sorted: &[f64]) -> Option<(f64, f64)> {
    if items < LEAST_ITEMS { None } else { ends(sorted).filter(|ends| encloses(*ends, value)) }
}

/// Returns whether an interval has a value inside, up to rounding.
fn encloses((low, high): (f64, f64), value: f64) -> bool {
    let rounding = ROUNDING * value.abs().max(1.0);
    (low - rounding..=high + rounding).contains(&value)
}

/// Returns the ends of the middle [`LEVEL`] of sorted values; `None` without values.
pub(crate) fn ends(sorted: &[f64]) -> Option<(f64, f64)> {
    let outside = (1.0 - LEVEL) / 2.0;
    (!sorted.is_empty()).then(|| (quantile(sorted, outside), quantile(sorted, 1.0 - outside)))
}

/// Returns a quantile, linear between neighbours as in `numpy.quantile`; `sorted` is not empty.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = fraction * last as f64;
    let below = (position as usize).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    low + (high - low) * (position - below as f64)
}

/// Returns the note for tables in which some difference has too few items.
pub fn too_few() -> String {
    format!(
        "Fewer than {LEAST_ITEMS} items have no interval and no verdict: five items all move to one side by chance once in 16."
    )
}

/// Returns the note for tables in which some interval would leave out its own value.
pub fn biased() -> String {
    "No interval: it would leave out the value itself, since resamples, which have fewer different items, move the metric to one side."
        .to_owned()
}

/// Returns the notes that say why differences have no interval; none if all have one.
pub fn without_interval<'a>(differences: impl IntoIterator<Item = &'a PairedDifference>) -> Vec<String> {
    let (mut few, mut moved) = (false, false);
    for difference in differences {
        match difference.significance(None) {
            Significance::TooFewItems => few = true,
            Significance::Biased => moved = true,
            Significance::No | Significance::Yes { .. } => {}
        }
    }
    few.then(too_few).into_iter().chain(moved.then(biased)).collect()
}

/// A [`PairedDifference`] as stored in `results.json`.
#[derive(Serialize, Deserialize)]
struct Stored {
    difference: f64,
    items: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    low: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resamples: Option<usize>,
}

impl From<PairedDifference> for Stored {
    fn from(found: PairedDifference) -> Self {
        let PairedDifference { value, items, interval } = found;
        Self {
            difference: value,
            items,
            low: interval.map(|one| one.low),
            high: interval.map(|one| one.high),
            level: interval.map(|_| LEVEL),
            p_value: interval.map(|one| one.p_value.0),
            resamples: interval.map(|one| one.resamples),
        }
    }
}

impl From<Stored> for PairedDifference {
    /// Applies the rules also to results of an earlier version, which stored every interval.
    fn from(stored: Stored) -> Self {
        let Stored { difference, items, low, high, p_value, resamples, .. } = stored;
        let interval = || {
            let resamples = resamples?;
            // A p value below the smallest possible one is raised to it.
            let p_value = PValue(p_value?.clamp(1.0 / (resamples + 1) as f64, 1.0));
            Some(Interval { low: low?, high: high?, p_value, resamples })
        };
        Self::new(difference, items, interval())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(items: usize, resampled: &[f64]) -> PairedDifference {
        PairedDifference::of(1.0, items, || resampled.to_vec()).unwrap()
    }

    #[test]
    fn five_items_give_no_interval_and_six_do() {
        let few = PairedDifference::of(1.0, LEAST_ITEMS - 1, || panic!("nothing to resample")).unwrap();
        assert_eq!((few.value(), few.items(), few.interval()), (1.0, 5, None));
        assert_eq!(few.significance(Some(true)), Significance::TooFewItems);
        assert_eq!(few.better(Some(true)), None);
        let enough = of(LEAST_ITEMS, &[1.0; 1000]);
        assert_eq!(enough.significance(Some(true)), Significance::Yes { better: Some(true) });
        assert_eq!((enough.better(Some(false)), enough.better(None)), (Some(false), None));
        assert_eq!(spread(1.0, 5, &[1.0; 9]), None);
        assert_eq!(spread(1.0, 6, &[1.0; 9]), Some((1.0, 1.0)));
    }

    #[test]
    fn an_interval_that_leaves_out_its_value_is_not_shown() {
        let moved = of(100, &[1.5; 100]);
        assert_eq!(
            (moved.value(), moved.interval(), moved.significance(Some(true))),
            (1.0, None, Significance::Biased)
        );
        assert_eq!(
            (moved.better(Some(true)), Significance::Biased.to_string().as_str()),
            (None, "no interval")
        );
        assert_eq!(without_interval([&moved, &of(100, &[1.0; 100])]), [biased()]);
        assert_eq!(without_interval([&of(5, &[]), &moved]), [too_few(), biased()]);
        assert_eq!(spread(1.0, 6, &[1.5; 9]), None);
        // Rounding does not count.
        assert!(of(100, &[1.0 + 1e-15; 100]).interval().is_some());
        // Results of an earlier version may have such an interval.
        let stored = serde_json::json!({
            "difference": 0.5, "items": 9, "low": 0.6, "high": 0.9, "level": 0.95, "p_value": 0.01, "resamples": 999,
        });
        let read: PairedDifference = serde_json::from_value(stored).unwrap();
        assert_eq!(read.significance(None), Significance::Biased);
        let back: PairedDifference = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(back, read);
    }

    #[test]
    fn p_is_never_printed_as_zero() {
        let shown = |resamples: usize| of(6, &vec![1.0; resamples]).interval().unwrap().p_value().to_string();
        assert_eq!(
            [shown(100), shown(1_998), shown(1_999), shown(2_000)],
            ["0.020", "0.001", "0.001", "< 0.001"]
        );
        assert_eq!(PValue(0.000_999_9).to_string(), "< 0.001");
        assert_eq!(PValue(0.001).to_string(), "0.001");
    }

    /// All of 20 resamples on one side: the interval leaves out 0, but p is 2 / 21.
    #[test]
    fn few_resamples_give_no_verdict() {
        assert_eq!(of(100, &[1.0; 20]).significance(None), Significance::No);
        assert_eq!(of(100, &[1.0; 39]).significance(None), Significance::Yes { better: None });
    }

    #[test]
    fn values_that_are_not_finite_give_no_interval() {
        assert_eq!(PairedDifference::of(f64::NAN, 9, Vec::new), None);
        assert_eq!(PairedDifference::of(1.0, 9, || vec![f64::NAN, f64::INFINITY]), None);
        let some = of(9, &[0.5, f64::NAN, 2.0, 3.0]);
        assert_eq!(some.interval().unwrap().resamples(), 3);
    }

    #[test]
    fn the_rule_applies_to_results_of_an_earlier_version() {
        let read = |items: usize, p: f64| -> PairedDifference {
            let old = serde_json::json!({
                "difference": 0.5, "items": items, "low": 0.1, "high": 0.9, "level": 0.95, "p_value": p, "resamples": 999,
            });
            serde_json::from_value(old).unwrap()
        };
        assert_eq!(read(2, 0.0).significance(None), Significance::TooFewItems);
        assert_eq!(
            serde_json::to_value(read(2, 0.0)).unwrap(),
            serde_json::json!({ "difference": 0.5, "items": 2 })
        );
        let p = read(8, 0.0).interval().unwrap().p_value();
        assert_eq!((p.value(), p.to_string().as_str()), (0.001, "0.001"));
    }

    proptest! {
        #[test]
        fn p_is_within_its_bounds_and_round_trips(
            items in 0_usize..20, resampled in prop::collection::vec(-2.0..2.0, 1..300), ties in 0_usize..40,
        ) {
            let mut resampled = resampled;
            resampled.extend(std::iter::repeat_n(0.0, ties));
            let found = PairedDifference::of(0.25, items, || resampled.clone()).unwrap();
            prop_assert!(found.interval().is_none() || items >= LEAST_ITEMS);
            if items >= LEAST_ITEMS {
                let mut sorted = resampled.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                prop_assert_eq!(found.interval().is_some(), ends(&sorted).is_some_and(|ends| encloses(ends, 0.25)));
            }
            if let Some(interval) = found.interval() {
                let least = 1.0 / (resampled.len() + 1) as f64;
                let p = interval.p_value().value();
                prop_assert!(p >= least && p <= 1.0);
                prop_assert!(interval.low() <= interval.high());
                // Significance implies that nearly all resamples lie on one side.
                if found.significance(None) != Significance::No {
                    let positive = resampled.iter().filter(|value| **value > 0.0).count();
                    let negative = resampled.iter().filter(|value| **value < 0.0).count();
                    prop_assert!(positive.max(negative) as f64 >= LEVEL * resampled.len() as f64);
                }
            }
            let json = serde_json::to_string(&found).unwrap();
            prop_assert_eq!(serde_json::from_str::<PairedDifference>(&json).unwrap(), found);
        }
    }
}
