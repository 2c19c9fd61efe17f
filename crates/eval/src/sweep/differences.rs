//! The plain method of the paper against each other method: how often it is better, tied or worse.

use std::collections::BTreeSet;

use super::stored::{StoredCombination, StoredMethod, StoredSweep, unique};
use crate::experiments::spec::MetricSpec;
use crate::metrics::significance::Significance;
use crate::results::Comparison;
use crate::table::{Cell, Row, Table};

/// Label of the rows over all combinations.
const ALL: &str = "(all)";

/// How a method compares with another one over some combinations. Combinations that share the runs of both count once.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    distinct: usize,
    better: usize,
    tie: usize,
    worse: usize,
    /// Sum of the differences.
    sum: f64,
}

impl Tally {
    fn of<'a>(
        combinations: impl Iterator<Item = &'a StoredCombination>,
        minus: &str,
        higher_is_better: Option<bool>,
    ) -> Self {
        let mut seen: BTreeSet<(&StoredMethod, &StoredMethod)> = BTreeSet::new();
        let mut tally = Self::default();
        for combination in combinations {
            let Some(found) = combination.differences.iter().find(|one| one.minus == minus) else { continue };
            let run = |key: &str| combination.methods.get(key);
            if let Some(pair) = run(&found.method).zip(run(minus))
                && !seen.insert(pair)
            {
                continue;
            }
            tally.distinct += 1;
            tally.sum += found.difference.value();
            match found.difference.significance(higher_is_better) {
                Significance::Yes { better: Some(true) } => tally.better += 1,
                Significance::Yes { better: Some(false) } => tally.worse += 1,
                Significance::No => tally.tie += 1,
                Significance::Yes { better: None } | Significance::TooFewItems | Significance::Biased => {}
            }
        }
        tally
    }

    fn cells(&self, scale: f64) -> Vec<Cell> {
        let verdicts = [self.better, self.tie, self.worse];
        let known = verdicts.iter().sum::<usize>() > 0;
        let mean = scale * self.sum / self.distinct as f64;
        let mut cells = vec![Cell::Difference { value: mean, better: None }];
        cells.extend(verdicts.map(|count| if known { Cell::Count(count) } else { Cell::Empty }));
        cells.push(Cell::Count(self.distinct));
        cells
    }
}

impl StoredSweep {
    /// Returns the table of how often the paper's plain method is better than each other method, tied with it, or worse: over all
    /// combinations, and over those with each value of a setting. `None` if no combination compares methods.
    pub fn differences_table(&self, metric: &MetricSpec) -> Option<Table> {
        let all: Vec<&Comparison> = self.combinations.iter().flat_map(|one| &one.differences).collect();
        let plain = &all.first()?.method;
        let others = unique(all.iter().map(|one| &one.minus));
        let mut rows = Vec::new();
        let mut add = |labels: [&str; 2], holds: &dyn Fn(&StoredCombination) -> bool| {
            for other in &others {
                let having = self.combinations.iter().filter(|one| holds(one));
                let tally = Tally::of(having, other, metric.better.higher_is_better());
                if tally.distinct > 0 {
                    let labels = [labels[0], labels[1], self.label(other)].map(str::to_owned).to_vec();
                    rows.push(Row { labels, cells: tally.cells(metric.unit.scale()) });
                }
            }
        };
        add([ALL, ""], &|_| true);
        for axis in &self.axes {
            let values = self.combinations.iter().filter_map(|one| one.settings.get(axis));
            for value in unique(values) {
                add([axis, &value], &|one| one.settings.get(axis) == Some(&value));
            }
        }
        let plain = self.label(plain);
        let resamples =
            all.iter().filter_map(|one| one.difference.interval()).map(|one| one.resamples()).min();
        let intervals = resamples.map(|resamples| {
            format!(
                "Better or worse: the 95 % interval of the difference over the same items (paired bootstrap, {resamples} \
                 resamples) leaves out 0 and p is at most 0.05; tie: otherwise."
            )
        });
        let mut notes = vec![format!(
            "Δ: {plain} − the other method, mean over the distinct combinations. Combinations that share the runs of both methods \
             are one distinct combination. All combinations share their items, so their verdicts are not independent."
        )];
        notes.extend(intervals);
        Some(Table {
            title: format!("{}: {plain} against each other method, {}", self.title, metric.head()),
            labels: ["setting", "value", "other method"].map(str::to_owned).to_vec(),
            columns: ["Δ", "better", "tie", "worse", "distinct"].map(str::to_owned).to_vec(),
            rows,
            notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metrics::significance::PairedDifference;

    fn combination(run: &str, difference: f64, spread: f64) -> StoredCombination {
        let resampled = || (0..100).map(|step| difference + spread * f64::from(step - 50)).collect();
        let difference = PairedDifference::of(difference, 20, resampled).expect("finite");
        let comparison = |minus: &str| Comparison {
            metric: "auc".into(),
            method: "ours".into(),
            minus: minus.into(),
            difference,
        };
        let method = |key: &str| (key.to_owned(), StoredMethod { run: run.into(), method: key.into() });
        StoredCombination {
            settings: BTreeMap::new(),
            methods: BTreeMap::from(["ours", "other"].map(method)),
            differences: vec![comparison("other")],
            metrics: BTreeMap::new(),
        }
    }

    #[test]
    fn combinations_that_share_both_runs_count_once() {
        let all = [
            combination("a", -0.2, 0.001),
            combination("a", -0.2, 0.001),
            combination("b", 0.01, 0.01),
            combination("c", 0.4, 0.001),
        ];
        let tally = Tally::of(all.iter(), "other", Some(false));
        assert_eq!((tally.distinct, tally.better, tally.tie, tally.worse), (3, 1, 1, 1));
        assert!((tally.sum - 0.21).abs() < 1e-12, "{tally:?}");
        let turned = Tally::of(all.iter(), "other", Some(true));
        assert_eq!((turned.better, turned.tie, turned.worse), (1, 1, 1));
        assert_eq!(Tally::of(all.iter(), "nothing", Some(true)), Tally::default());
    }
}
