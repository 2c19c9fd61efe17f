//! Metrics that are sums over the items, together with their settings. The values of a run, the comparisons of its methods and the
//! columns of its table are computed from them.

use super::spec::{Level, Listed, MethodInfo, MetricSpec};
use crate::experiments::target::PaperTarget;
use crate::metrics::bootstrap::{Additive, RESAMPLES, paired_each};
use crate::results::{Comparison, MetricValue};

/// A metric with the way it is computed from records of type `R`.
pub struct Measure<R> {
    /// Title, unit and other properties of the metric.
    pub spec: MetricSpec,
    /// The contributions of an item and the formula.
    pub metric: Box<dyn Additive<Record = R>>,
}

impl<R> Measure<R> {
    /// Makes a metric.
    pub fn new(spec: MetricSpec, metric: impl Additive<Record = R> + 'static) -> Self {
        Self { spec, metric: Box::new(metric) }
    }

    /// Returns whether the metric has a value for each method rather than one for the run.
    pub fn is_of_methods(&self) -> bool {
        self.spec.level == Level::Method
    }

    /// Returns the keys of the methods that have a value; one empty key for a metric of the run.
    pub(crate) fn rows(&self, methods: &[MethodInfo]) -> Vec<String> {
        match self.spec.level {
            Level::Run => vec![String::new()],
            Level::Method => methods.iter().map(|method| method.key.clone()).collect(),
        }
    }
}

/// Returns the value of every metric: metrics of the run first, then method by method in the order of their keys.
pub(crate) fn values<R>(
    measures: &[Measure<R>],
    records: &[R],
    methods: &[MethodInfo],
    paper: Option<&PaperTarget>,
) -> Vec<MetricValue> {
    let mut keys: Vec<&str> = methods.iter().map(|method| method.key.as_str()).collect();
    keys.sort_unstable();
    let of_run = measures.iter().filter(|measure| !measure.is_of_methods()).map(|measure| (measure, None));
    let of_methods = keys.into_iter().flat_map(|key| {
        let measures = measures.iter().filter(|measure| measure.is_of_methods());
        measures.map(move |measure| (measure, Some(key)))
    });
    let value = |(measure, method): (&Measure<R>, Option<&str>)| {
        let spec = &measure.spec;
        let value = measure.metric.value_over(records, method.unwrap_or_default());
        (value.is_some() || spec.listed == Listed::Always).then(|| MetricValue {
            name: spec.key.to_owned(),
            method: method.map(str::to_owned),
            value,
            higher_is_better: spec.better.higher_is_better(),
            published: method.and_then(|method| paper?.published(spec, method)),
        })
    };
    of_run.chain(of_methods).filter_map(value).collect()
}

/// Returns the differences of pairs of methods (first minus second) in every metric in which methods are compared. A metric that is
/// not defined for one of the two is left out.
pub(crate) fn comparisons<R>(
    measures: &[Measure<R>],
    records: &[R],
    pairs: &[(&str, &str)],
    seed: u64,
) -> Vec<Comparison> {
    let compared: Vec<&Measure<R>> =
        measures.iter().filter(|measure| measure.spec.compared && measure.is_of_methods()).collect();
    let found = |measure: &&Measure<R>| paired_each(records, pairs, &*measure.metric, RESAMPLES, seed);
    let found: Vec<_> = compared.iter().map(found).collect();
    let mut comparisons = Vec::new();
    for (pair, &(method, minus)) in pairs.iter().enumerate() {
        for (measure, found) in compared.iter().zip(&found) {
            let Ok(difference) = &found[pair] else { continue };
            comparisons.push(Comparison {
                metric: measure.spec.key.to_owned(),
                method: method.to_owned(),
                minus: minus.to_owned(),
                difference: *difference,
            });
        }
    }
    comparisons
}
