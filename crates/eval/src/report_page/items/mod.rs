//! The items of a run, one by one: what each method made of each.

mod diffseg;
mod guidance;
mod masking;
mod segment;
mod thumbnails;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use tasks::{Answer, Task};

use super::budget::Budget;
use crate::error::Result;
use crate::experiment::TaskConfig;
use crate::folder::RunFolder;
use crate::html::plain;
use crate::metrics::bootstrap::{Additive, Spread, each, paired};
use crate::results::Comparison;
use runs::progress;
use runs::since_run;
use thumbnails::Source;
pub(super) use thumbnails::{Thumbnails, shrunk};

/// Resamples behind the interval of a method's own value.
const RESAMPLES: usize = 2_000;

/// Every item of a run, those that could not be read too, in manifest order.
pub(super) struct Items {
    pub rows: Vec<Item>,
    /// What [`Item::facts`] are.
    pub facts: Vec<&'static str>,
    /// Names of the methods.
    pub methods: Vec<String>,
    /// The method that the table opens with.
    pub lead: usize,
    pub scores: Vec<Score>,
    /// Items of a kind that is worth a filter: what they are called, and their places.
    pub flagged: Option<(&'static str, Vec<usize>)>,
    pub strips: Option<Strips>,
    pub thumbnails: Thumbnails,
    /// What a reader must know of the data.
    pub notes: Vec<String>,
    /// Folders of the methods with a picture of each item, as links.
    pub folders: Vec<String>,
}

pub(super) struct Item {
    pub id: String,
    /// Line of `records.jsonl`, from 1.
    pub line: usize,
    /// As many as [`Items::facts`].
    pub facts: Vec<String>,
    /// Why it could not be read.
    pub failed: Option<String>,
}

/// A number that every method has for every item.
pub(super) struct Score {
    pub title: &'static str,
    /// What it is, in a sentence.
    pub meaning: &'static str,
    pub higher_is_better: Option<bool>,
    /// Digits after the point.
    pub digits: usize,
    /// By method, then by item; none where it is not defined.
    pub values: Vec<Vec<Option<f64>>>,
}

/// Right and wrong step by step.
pub(super) struct Strips {
    pub title: &'static str,
    /// What each step is called.
    pub steps: Vec<String>,
    /// By method, then by item: a character a step, `1` for right and `0` for wrong; empty where there is nothing.
    pub right: Vec<Vec<String>>,
}

/// How far the metrics of methods move with the items.
#[derive(Default)]
pub(super) struct Spreads {
    /// By metric and method.
    pub values: BTreeMap<(String, String), Spread>,
    pub resamples: usize,
    /// Differences that the results do not have.
    pub comparisons: Vec<Comparison>,
}

impl Spreads {
    fn add<M: Additive>(
        &mut self,
        name: &str,
        metric: &M,
        records: &[M::Record],
        methods: &[(String, String)],
        seed: u64,
    ) {
        let keys: Vec<&str> = methods.iter().map(|(key, _)| key.as_str()).collect();
        self.resamples = RESAMPLES;
        for (key, spread) in keys.iter().zip(each(records, &keys, metric, RESAMPLES, seed)) {
            if let Some(spread) = spread {
                self.values.insert((name.to_owned(), (*key).to_owned()), spread);
            }
        }
    }
}

impl Spreads {
    /// Adds the method `lead` minus each of the others.
    fn compare<M: Additive>(
        &mut self,
        name: &str,
        metric: &M,
        records: &[M::Record],
        (methods, lead): (&[(String, String)], usize),
        seed: u64,
    ) {
        let Some((method, _)) = methods.get(lead) else { return };
        for (minus, _) in methods.iter().filter(|(key, _)| key != method) {
            // Nothing right before masking: nothing to compare.
            let Ok(difference) = paired(records, method, minus, metric, RESAMPLES, seed) else { continue };
            let (metric, method, minus) = (name.to_owned(), method.clone(), minus.clone());
            self.comparisons.push(Comparison { metric, method, minus, difference });
        }
    }
}

/// Reads the items of a run.
///
/// # Errors
/// Records are missing or damaged.
pub(super) fn read(folder: &RunFolder, budget: &mut Budget) -> Result<(Items, Spreads)> {
    match &folder.results.experiment.task {
        TaskConfig::Masking(config) => masking::read(folder, config, budget),
        TaskConfig::Segment(_) => segment::read(folder, budget),
        TaskConfig::Guidance(_) => guidance::read(folder, budget),
        TaskConfig::Diffseg(_) => diffseg::read(folder, budget),
    }
}

impl Items {
    /// Items without scores. `facts` are a record's.
    fn of<R>(
        folder: &RunFolder,
        answers: &[(usize, Answer<R>)],
        heads: Vec<&'static str>,
        id: impl Fn(&R) -> &str,
        facts: impl Fn(&R) -> Vec<String>,
    ) -> Self {
        let row = |(line, answer): &(usize, Answer<R>)| match answer {
            Answer::Record(record) => {
                let facts = facts(record).iter().map(|fact| plain(fact).into_owned()).collect();
                Item { id: id(record).to_owned(), line: *line, facts, failed: None }
            }
            Answer::Failed(failure) => Item {
                id: failure.id.clone(),
                line: *line,
                facts: vec![String::new(); heads.len()],
                failed: Some(failure.reason.clone()),
            },
        };
        let (keys, methods): (Vec<_>, Vec<_>) = folder.results.experiment.methods().into_iter().unzip();
        // The paper's own methods are what one looks at first.
        let ours =
            |key: &String| ["tokenrank", "sag-tokenrank", "bounce"].iter().any(|name| key.starts_with(name));
        Self {
            rows: answers.iter().map(row).collect(),
            facts: heads,
            lead: keys.iter().position(ours).unwrap_or(0),
            methods,
            scores: Vec::new(),
            flagged: None,
            strips: None,
            thumbnails: Thumbnails::default(),
            notes: Vec::new(),
            folders: Vec::new(),
        }
    }

    /// Adds a score that some item has, to two digits more than are shown: the script, which is told as many, must find the
    /// same order.
    fn score(&mut self, mut score: Score) {
        let unit = 10f64.powi(score.digits as i32 + 2);
        for value in score.values.iter_mut().flatten().flatten() {
            *value = (*value * unit).round() / unit;
        }
        if score.values.iter().flatten().any(Option::is_some) {
            self.scores.push(score);
        }
    }

    /// Items by a score of a method, the worst first; of a score that is neither good nor bad, the largest. Those without a
    /// value come last; equals stay in manifest order.
    pub fn worst_first(&self, score: &Score, method: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        let Some(values) = score.values.get(method) else { return order };
        order.sort_by(|&a, &b| match (values[a], values[b]) {
            (Some(a), Some(b)) if score.higher_is_better == Some(true) => a.total_cmp(&b),
            (Some(a), Some(b)) => b.total_cmp(&a),
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
        });
        order
    }

    /// Embeds pictures of the items at either end, for each method in turn, until the budget is spent.
    fn picture(&mut self, source: Source, expected: &[Option<&str>], budget: &mut Budget) {
        let Some(score) = self.scores.first() else { return };
        let orders: Vec<Vec<usize>> =
            (0..self.methods.len()).map(|method| self.worst_first(score, method)).collect();
        let mut wanted = Vec::new();
        let mut push = |item: usize| {
            if self.rows[item].failed.is_none() && !wanted.contains(&item) {
                wanted.push(item);
            }
        };
        // The lead's first: it is what the table opens with.
        let lead = orders.get(self.lead).into_iter();
        lead.flat_map(|order| order.iter().take(thumbnails::OF_LEAD)).for_each(|&item| push(item));
        for rank in 0..thumbnails::OF_EACH {
            for (method, order) in orders.iter().enumerate() {
                let has = |item: &&usize| score.values[method][**item].is_some();
                order.get(rank).into_iter().for_each(|&item| push(item));
                order.iter().rev().filter(has).nth(rank).into_iter().for_each(|&item| push(item));
            }
        }
        let ids = |item: usize| (self.rows[item].id.as_str(), expected.get(item).copied().flatten());
        self.thumbnails = Thumbnails::make(source, wanted.into_iter().map(|item| (item, ids(item))), budget);
    }
}

impl Items {
    /// Compares the records with the data set that is here; where it is not, there is nothing to say.
    fn compare_data<T: Task>(
        &mut self,
        folder: &RunFolder,
        found: &tasks::Result<Vec<T::Item>>,
        answers: &[(usize, Answer<T::Record>)],
    ) {
        let records: Vec<&T::Record> = answers.iter().filter_map(record).collect();
        let lines = found.iter().flat_map(|items| since_run::<T>(&folder.path, items, &records));
        lines.for_each(|line| self.note(folder, line));
    }

    /// Puts a sentence on the page, and says it.
    fn note(&mut self, folder: &RunFolder, line: String) {
        progress::say(&format!("{}: {line}", folder.path.display()));
        self.notes.push(line);
    }
}

/// The record of an answer.
fn record<R>((_, answer): &(usize, Answer<R>)) -> Option<&R> {
    match answer {
        Answer::Record(record) => Some(record),
        Answer::Failed(_) => None,
    }
}

/// By method, then by item, what `value` says of a record and the key of a method.
fn values<R>(
    folder: &RunFolder,
    answers: &[(usize, Answer<R>)],
    value: impl Fn(&R, &str) -> Option<f64>,
) -> Vec<Vec<Option<f64>>> {
    let methods = folder.results.experiment.methods();
    let of = |key: &str| answers.iter().map(|answer| value(record(answer)?, key)).collect();
    methods.iter().map(|(key, _)| of(key)).collect()
}
