//! The metric of a sweep against a setting that is a number: a curve with a band for each method.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use plot::{CurvePlot, Series, stacked_curves};

use super::names::letters;
use super::stored::{StoredCombination, StoredSweep, unique};
use crate::error::Result;
use crate::evidence::{Evidence, interval};
use crate::experiments::figures::write_figure;
use crate::experiments::spec::{MetricSpec, Unit};

/// Maximum number of panels, one for each combination of the other settings. With more combinations, one panel shows their mean.
const PANELS: usize = 6;

/// Settings whose numbers only tell random draws apart.
const SEED: &str = "seed";

/// Looks up the evidence of a method in a combination.
pub(super) type Lookup<'a> = &'a dyn Fn(&StoredCombination, &str) -> Option<&'a Evidence>;

impl StoredSweep {
    /// Returns the indices of the axes with at least two values, all of them numbers.
    fn numbers(&self) -> Vec<usize> {
        let is_number = |axis: &String| {
            let values = unique(self.combinations.iter().filter_map(|one| one.settings.get(axis)));
            let seed = axis.rsplit('.').next() == Some(SEED);
            !seed && values.len() > 1 && values.iter().all(|value| number(value).is_some())
        };
        (0..self.axes.len()).filter(|&index| is_number(&self.axes[index])).collect()
    }

    /// Draws a figure for each axis of numbers and returns their paths in the folder of the sweep.
    ///
    /// # Errors
    /// Fails if a figure cannot be drawn or written.
    pub(super) fn draw_curves(
        &self,
        folder: &Path,
        metric: &MetricSpec,
        evidence: Lookup<'_>,
    ) -> Result<Vec<PathBuf>> {
        let draw = |axis: usize| {
            let png = stacked_curves(&self.plots(axis, metric, evidence));
            write_figure(folder.join(curve_file(&self.axes[axis])), png)
        };
        self.numbers().into_iter().map(draw).collect()
    }

    /// Returns the panels of an axis.
    fn plots(&self, axis: usize, metric: &MetricSpec, evidence: Lookup<'_>) -> Vec<CurvePlot> {
        let mut panels: BTreeMap<Vec<String>, Vec<&StoredCombination>> = BTreeMap::new();
        let mut order: Vec<Vec<String>> = Vec::new();
        for combination in &self.combinations {
            let mut others = self.values(combination);
            others.remove(axis);
            if !order.contains(&others) {
                order.push(others.clone());
            }
            panels.entry(others).or_default().push(combination);
        }
        let names: Vec<&String> =
            self.axes.iter().enumerate().filter(|(index, _)| *index != axis).map(|(_, name)| name).collect();
        if order.len() > PANELS {
            let all: Vec<&StoredCombination> = self.combinations.iter().collect();
            let title = format!("Mean over {} combinations of {}", order.len(), listed(&names));
            return vec![self.panel(title, axis, &all, metric, evidence)];
        }
        let title = |values: &[String]| match names.is_empty() {
            true => self.title.clone(),
            false => {
                let pairs: Vec<String> =
                    names.iter().zip(values).map(|(name, value)| format!("{name} {value}")).collect();
                pairs.join(", ")
            }
        };
        let panel = |others: &Vec<String>| {
            let having = panels.get(others).map_or(&[][..], Vec::as_slice);
            self.panel(title(others), axis, having, metric, evidence)
        };
        order.iter().map(panel).collect()
    }

    fn panel(
        &self,
        title: String,
        axis: usize,
        combinations: &[&StoredCombination],
        metric: &MetricSpec,
        evidence: Lookup<'_>,
    ) -> CurvePlot {
        let setting = &self.axes[axis];
        let values = unique(combinations.iter().filter_map(|one| one.settings.get(setting)));
        let mut places: Vec<(f64, String)> =
            values.into_iter().filter_map(|value| Some((number(&value)?, value))).collect();
        places.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let series = self.columns.iter().map(|column| {
            let scale = metric.unit.scale();
            let mut one = Series { name: column.label.clone(), points: Vec::new(), band: Vec::new() };
            for (x, value) in &places {
                let having = combinations.iter().filter(|one| one.settings.get(setting) == Some(value));
                let found: Vec<&Evidence> = having.filter_map(|one| evidence(one, &column.key)).collect();
                let (value, ends) = mean(&found).unwrap_or((f64::NAN, None));
                let (low, high) = ends.unwrap_or((f64::NAN, f64::NAN));
                one.points.push((*x, scale * value));
                one.band.push((scale * low, scale * high));
            }
            one
        });
        let unit = match metric.unit {
            Unit::Percent => ", %",
            Unit::Plain => "",
        };
        CurvePlot {
            title,
            x_label: setting.clone(),
            y_label: format!("{}{unit}, with 95 % bands over the items", metric.head()),
            y_range: None,
            series: series.collect(),
        }
    }
}

/// Returns the names of the figures that a sweep over these settings may draw.
pub(super) fn files<'a>(axes: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    axes.into_iter().map(String::as_str).map(curve_file).collect()
}

fn curve_file(axis: &str) -> String {
    format!("curve-{}.png", letters(axis))
}

/// Reads a value of a setting as a finite number.
fn number(value: &str) -> Option<f64> {
    value.trim().replace('_', "").parse().ok().filter(|number: &f64| number.is_finite())
}

/// Lists names as in a sentence: `a, b and c`.
fn listed(names: &[&String]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).clone(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(|name| name.as_str()).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

/// Returns the mean of some values with its interval over common resamples of the items; `None` without values. Evidence on different
/// items has no common resamples and so no interval.
fn mean(found: &[&Evidence]) -> Option<(f64, Option<(f64, f64)>)> {
    let (first, count) = (found.first()?, found.len() as f64);
    let value = found.iter().map(|one| one.value).sum::<f64>() / count;
    let same_items = found.iter().all(|one| one.ids() == first.ids());
    let lengths: BTreeSet<usize> = found.iter().map(|one| one.over_resamples().len()).collect();
    let resamples = match (same_items, lengths.first(), lengths.len()) {
        (true, Some(&resamples), 1) => resamples,
        _ => 0,
    };
    let of_resample = |index: usize| found.iter().map(|one| one.over_resamples()[index]).sum::<f64>() / count;
    Some((value, interval(value, first.images(), (0..resamples).map(of_resample).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::spec::Better;
    use crate::sweep::stored::StoredColumn;

    /// Returns a sweep of one method over all combinations of some values.
    fn swept(axes: &[(&str, &[&str])]) -> StoredSweep {
        let mut all: Vec<BTreeMap<String, String>> = vec![BTreeMap::new()];
        for (axis, values) in axes {
            let with = |one: &BTreeMap<String, String>, value: &&str| {
                let mut one = one.clone();
                one.insert((*axis).to_owned(), (*value).to_owned());
                one
            };
            all = all.iter().flat_map(|one| values.iter().map(move |value| with(one, value))).collect();
        }
        let combination = |settings| StoredCombination {
            settings,
            methods: BTreeMap::new(),
            differences: Vec::new(),
            metrics: BTreeMap::new(),
        };
        StoredSweep {
            schema: 1,
            title: "A sweep".into(),
            items: 9,
            failed: Vec::new(),
            metric: "auc".into(),
            axes: axes.iter().map(|(axis, _)| (*axis).to_owned()).collect(),
            columns: vec![StoredColumn { key: "ours".into(), label: "Ours".into() }],
            combinations: all.into_iter().map(combination).collect(),
            code: None,
            environment: None,
        }
    }

    fn plots(sweep: &StoredSweep, axis: usize) -> Vec<CurvePlot> {
        let metric = MetricSpec::plain("auc", "AUC", Better::Lower);
        // The metric is the number of the axis, with a spread of ± 1 over the items.
        let known: Vec<(String, Evidence)> =
            unique(sweep.combinations.iter().map(|one| &one.settings["alpha"]))
                .into_iter()
                .map(|value| {
                    let x: f64 = value.parse().expect("a number");
                    (value, Evidence::of_mean(&[x, x, x - 1.0, x + 1.0, x, x, x + 1.0, x - 1.0]))
                })
                .collect();
        let lookup = |one: &StoredCombination, _: &str| {
            known.iter().find(|(value, _)| *value == one.settings["alpha"]).map(|(_, evidence)| evidence)
        };
        sweep.plots(axis, &metric, &lookup)
    }

    #[test]
    fn only_settings_that_are_numbers_have_curves() {
        let sweep = swept(&[
            ("alpha", &["0.9", "0.5"]),
            ("layers", &["1", "all"]),
            ("dataset.mini.seed", &["0", "1"]),
            ("steps", &["3"]),
        ]);
        assert_eq!(sweep.numbers(), [0]);
        assert_eq!(files(&sweep.axes)[2], "curve-dataset.mini.seed.png");
    }

    #[test]
    fn few_combinations_of_the_others_have_a_panel_each_and_many_one_for_their_mean() {
        let three =
            plots(&swept(&[("alpha", &["0.9", "0.5", "10"]), ("layers", &["first", "last", "all"])]), 0);
        let titles: Vec<&str> = three.iter().map(|plot| plot.title.as_str()).collect();
        assert_eq!(titles, ["layers first", "layers last", "layers all"]);
        let series = &three[1].series[0];
        let places: Vec<f64> = series.points.iter().map(|(x, _)| *x).collect();
        assert_eq!(places, [0.5, 0.9, 10.0]);
        assert!(series.points.iter().all(|(x, y)| (x - y).abs() < 1e-12), "{:?}", series.points);
        assert!(series.points.iter().zip(&series.band).all(|((_, y), (low, high))| low < y && y < high));

        let seven = ["a", "b", "c", "d", "e", "f", "g"];
        let mean = plots(&swept(&[("layers", &seven), ("alpha", &["0.5", "0.9"])]), 1);
        assert_eq!((mean.len(), mean[0].title.as_str()), (1, "Mean over 7 combinations of layers"));
        // All combinations have the same items, so the mean has the band of one of them.
        assert_eq!(mean[0].series[0].points.len(), 2);
        let widths =
            |plot: &CurvePlot| plot.series[0].band.iter().map(|(low, high)| high - low).collect::<Vec<_>>();
        assert!((widths(&mean[0])[0] - widths(&three[0])[0]).abs() < 1e-9);
        assert_eq!(plots(&swept(&[("alpha", &["0.5", "0.9"])]), 0)[0].title, "A sweep");
    }
}
