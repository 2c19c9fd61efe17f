//! How far values may lie from a baseline's.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::noise::{noise, tolerance};
use super::snapshot::Runs;

/// What stands for every metric that no other tolerance is for.
pub(super) const DEFAULT: &str = "default";

/// Share by which a difference may be above its tolerance: 0.3 − 0.2 is within 0.1, whatever its last binary digit.
const ROUNDING: f64 = 1e-9;

/// Tolerances of a baseline: absolute, in the units of the metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerances {
    /// Where nothing else is said.
    pub default: f64,
    /// By metric, as `auc`, or by run and metric, as `segment/miou`, which goes before.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

impl Default for Tolerances {
    /// Half a point of a share.
    fn default() -> Self {
        Self { default: 0.005, metrics: BTreeMap::new() }
    }
}

impl Tolerances {
    /// The tolerance of a metric of a run.
    pub fn of(&self, run: &str, metric: &str) -> f64 {
        let known = self.metrics.get(&format!("{run}/{metric}")).or_else(|| self.metrics.get(metric));
        known.copied().unwrap_or(self.default)
    }

    /// For these runs, from how far each metric moves where nothing but the machine changes: see [`Noise`](crate::experiments::spec::Noise). A tolerance is one for
    /// all runs where it is the same in all of them, and left out where it is the default.
    pub(super) fn for_runs(runs: &Runs) -> Self {
        let mut tolerances = Self::default();
        tolerances.take_in(runs, &Runs::new());
        tolerances
    }

    /// Adds tolerances for the metrics that no run of `known` has. What is there already stays.
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

    /// Takes one from the command line.
    pub(super) fn set(&mut self, one: &Tolerance) {
        match &*one.metric {
            DEFAULT => self.default = one.value,
            metric => _ = self.metrics.insert(metric.to_owned(), one.value),
        }
    }

    /// Leaves out what is for none of these metrics of runs.
    pub(super) fn keep_only<'a>(&mut self, known: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
        self.metrics.retain(|name, _| is_known(name, known.clone()));
    }

    /// A name that is none of the metrics of any run, or a number that is no tolerance, as a sentence.
    pub(super) fn check<'a>(
        &self,
        known: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<(), String> {
        if let Some(value) = std::iter::once(&self.default).chain(self.metrics.values()).find(|v| !valid(**v))
        {
            return Err(format!("the tolerance {value} is no number from 0"));
        }
        match self.metrics.keys().find(|name| !is_known(name, known.clone())) {
            Some(name) => Err(format!(
                "there is a tolerance for `{name}`, which is no metric of these runs; names are as in `auc` or \
                 `masking-vit/auc`"
            )),
            None => Ok(()),
        }
    }
}

/// Whether a name is that of a metric, or of a run and a metric.
fn is_known<'a>(name: &str, mut known: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    known.any(|(run, metric)| name == metric || name.rsplit_once('/') == Some((run, metric)))
}

fn valid(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// Whether a difference is more than a tolerance.
pub(super) fn exceeds(difference: f64, tolerance: f64) -> bool {
    difference.abs() > tolerance * (1.0 + ROUNDING)
}

/// `METRIC=VALUE` of the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Tolerance {
    /// A metric, a run and a metric, or `default`.
    pub metric: String,
    /// From 0.
    pub value: f64,
}

impl FromStr for Tolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (metric, value) = text.rsplit_once('=').ok_or("expected METRIC=VALUE, such as auc=0.01")?;
        match value.trim().parse() {
            Ok(value) if valid(value) => Ok(Self { metric: metric.trim().to_owned(), value }),
            _ => Err(format!("`{value}` is no tolerance; give a number from 0, such as 0.01")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_goes_first() {
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
    fn the_edge_is_within() {
        assert!(!exceeds(0.3 - 0.2, 0.1) && !exceeds(-0.1, 0.1));
        assert!(exceeds(0.1000001, 0.1) && exceeds(f64::MIN_POSITIVE, 0.0) && !exceeds(0.0, 0.0));
    }

    #[test]
    fn what_is_no_tolerance_is_refused() {
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
