//! How far values may lie from a baseline's.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::noise::{noise, tolerance};
use super::snapshot::Runs;

/// Name that stands for every metric without a tolerance of its own.
pub(super) const DEFAULT: &str = "default";

/// Fraction by which a difference may exceed its tolerance: 0.3 − 0.2 is within 0.1, whatever its last binary digit.
const ROUNDING: f64 = 1e-9;

/// Tolerances of a baseline: absolute, in the units of the metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerances {
    /// Tolerance of all other metrics.
    pub default: f64,
    /// Tolerances by metric (`auc`), or by run and metric (`segment/miou`), which takes precedence.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

impl Default for Tolerances {
    /// Returns a default of half a percentage point.
    fn default() -> Self {
        Self { default: 0.005, metrics: BTreeMap::new() }
    }
}

impl Tolerances {
    /// Returns the tolerance of a metric of a run.
    pub fn of(&self, run: &str, metric: &str) -> f64 {
        let known = self.metrics.get(&format!("{run}/{metric}")).or_else(|| self.metrics.get(metric));
        known.copied().unwrap_or(self.default)
    }

    /// Returns the tolerances for these runs, from how far each metric moves if only the machine changes (see
    /// [`Noise`](crate::experiments::spec::Noise)). A tolerance that is equal in all runs is listed once, without a run; the
    /// default is not listed.
    pub(super) fn for_runs(runs: &Runs) -> Self {
        let mut tolerances = Self::default();
        tolerances.take_in(runs, &Runs::new());
        tolerances
    }

    /// Adds tolerances for the metrics that no run of `known` has. Existing tolerances stay.
    pub(super) fn take_in(&mut self, runs: &Runs, known: &Runs) {
        let has = |runs: &Runs, metric: &str| {
            runs.values().any(|run| run.values.iter().any(|value| value.metric == metric))
        };
        let metrics: BTreeSet<&str> =
            runs.values().flat_map(|run| &run.values).map(|value| &*value.metric).collect();
        for metric in metrics.into_iter().filter(|metric| !has(known, metric)) {
            let of_run = |name: &String| {
                let values = runs[name].values.iter().filter(|value| value.metric == metric);
                let noise = noise(metric);
                values.map(|value| tolerance(noise, value.value, runs[name].items)).reduce(f64::max)
            };
            let each: BTreeMap<&String, f64> =
                runs.keys().filter_map(|name| Some((name, of_run(name)?))).collect();
            let one =
                each.values().copied().reduce(f64::max).filter(|one| each.values().all(|other| other == one));
            match one {
                Some(one) => self.add(metric.to_owned(), one),
                None => each.into_iter().for_each(|(name, one)| self.add(format!("{name}/{metric}"), one)),
            }
        }
    }

    fn add(&mut self, name: String, tolerance: f64) {
        let metric = name.rsplit_once('/').map_or(&*name, |(_, metric)| metric);
        let is_said = self.metrics.contains_key(metric) || self.metrics.contains_key(&name);
        if !is_said && tolerance != self.default {
            self.metrics.insert(name, tolerance);
        }
    }

    /// Sets a tolerance from the command line.
    pub(super) fn set(&mut self, one: &Tolerance) {
        match &*one.metric {
            DEFAULT => self.default = one.value,
            metric => _ = self.metrics.insert(metric.to_owned(), one.value),
        }
    }

    /// Removes tolerances for none of these pairs of run and metric.
    pub(super) fn keep_only<'a>(&mut self, known: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
        self.metrics.retain(|name, _| is_known(name, known.clone()));
    }

    /// Returns a sentence if a name is not a metric of any run, or if a number is not a valid tolerance.
    pub(super) fn check<'a>(
        &self,
        known: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<(), String> {
        if let Some(value) = std::iter::once(&self.default).chain(self.metrics.values()).find(|v| !valid(**v))
        {
            return Err(format!("tolerance must be a finite number ≥ 0, found {value}"));
        }
        match self.metrics.keys().find(|name| !is_known(name, known.clone())) {
            Some(name) => Err(format!(
                "there is a tolerance for `{name}`, which is not a metric of these runs; write names as in `auc` or \
                 `masking-vit/auc`"
            )),
            None => Ok(()),
        }
    }
}

/// Returns whether a name is a known metric, or a known run and metric.
fn is_known<'a>(name: &str, mut known: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    known.any(|(run, metric)| name == metric || name.rsplit_once('/') == Some((run, metric)))
}

fn valid(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// Returns whether a difference exceeds a tolerance.
pub(super) fn exceeds(difference: f64, tolerance: f64) -> bool {
    difference.abs() > tolerance * (1.0 + ROUNDING)
}

/// A tolerance from the command line, `METRIC=VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tolerance {
    /// A metric, a run and a metric, or `default`.
    pub metric: String,
    /// The tolerance, at least 0.
    pub value: f64,
}

impl FromStr for Tolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (metric, value) = text.rsplit_once('=').ok_or("expected METRIC=VALUE, such as auc=0.01")?;
        match value.trim().parse() {
            Ok(value) if valid(value) => Ok(Self { metric: metric.trim().to_owned(), value }),
            _ => Err(format!("tolerance must be a finite number ≥ 0, such as 0.01, found `{value}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_tolerance_takes_precedence() {
        let mut tolerances = Tolerances::default();
        for text in ["default=0.1", "auc=0.2", "vit/auc=0.3"] {
            tolerances.set(&text.parse().unwrap());
        }
        assert_eq!(
            [("vit", "auc"), ("clip", "auc"), ("vit", "miou")]
                .map(|(run, metric)| tolerances.of(run, metric)),
            [0.3, 0.2, 0.1]
        );
    }

    #[test]
    fn difference_equal_to_tolerance_passes() {
        assert!(!exceeds(0.3 - 0.2, 0.1) && !exceeds(-0.1, 0.1));
        assert!(exceeds(0.1000001, 0.1) && exceeds(f64::MIN_POSITIVE, 0.0) && !exceeds(0.0, 0.0));
    }

    #[test]
    fn invalid_tolerances_are_refused() {
        for text in ["auc", "auc=", "auc=-1", "auc=nan", "auc=inf", "=x"] {
            assert!(text.parse::<Tolerance>().is_err(), "{text}");
        }
        let known = [("vit", "auc")];
        for (name, right) in [("auc", true), ("vit/auc", true), ("acu", false), ("clip/auc", false)] {
            let tolerances = Tolerances { metrics: [(name.to_owned(), 0.1)].into(), ..Tolerances::default() };
            assert_eq!(tolerances.check(known.into_iter()).is_ok(), right, "{name}");
        }
    }
}
