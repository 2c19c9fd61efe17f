//! The items of a finished run: their contributions to the metrics, and the data that a page shows.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use models::image::Rgb8;
use runs::since_run;
use tasks::{Answer, Task};

use super::measure::Measure;
use super::spec::MethodInfo;
use crate::error::Result;
use crate::folder::RunFolder;
use crate::metrics::bootstrap::{RESAMPLES, Spread, each, paired_each};
use crate::metrics::clusters::Clusters;
use crate::metrics::per_item::PerItem;
use crate::results::Comparison;

/// Number of resamples for the interval of one method's value.
pub(crate) const SPREAD_RESAMPLES: usize = 2_000;

/// What each item of a run adds to its metrics.
#[derive(Debug, Default)]
pub struct ItemSums {
    /// Names of the items.
    pub ids: Vec<String>,
    /// Which items share an image; `None` if no metric is a sum over items.
    pub clusters: Option<Clusters>,
    /// Contributions by metric and method; the method is empty for values of the whole run.
    pub sums: BTreeMap<(&'static str, String), PerItem>,
    /// Hashes of generated images, by method.
    pub generated: BTreeMap<String, Vec<String>>,
}

impl ItemSums {
    /// Computes the contributions of records, for metrics that are sums over them.
    ///
    /// # Errors
    /// Fails if an item has no answer of a method.
    pub(crate) fn of<R>(
        measures: &[Measure<R>],
        records: &[R],
        methods: &[MethodInfo],
        id: impl Fn(&R) -> &str,
    ) -> Result<Self> {
        let mut sums = BTreeMap::new();
        for measure in measures {
            for method in measure.rows(methods) {
                let of_items = measure.metric.contributions(records, &method)?;
                let sum = PerItem { formula: measure.metric.formula(), sums: of_items };
                sums.insert((measure.spec.key, method), sum);
            }
        }
        let ids = records.iter().map(|record| id(record).to_owned()).collect();
        // The metrics of an experiment agree on the images.
        let clusters = measures.first().map(|measure| measure.metric.clusters(records));
        Ok(Self { ids, clusters, sums, generated: BTreeMap::new() })
    }
}

/// Every item of a run in manifest order, including those that could not be answered.
pub struct ItemView {
    /// The items.
    pub rows: Vec<Item>,
    /// Names of [`Item::facts`].
    pub facts: Vec<&'static str>,
    /// The methods.
    pub methods: Vec<MethodInfo>,
    /// Index of the method that a table of items shows first.
    pub lead: usize,
    /// Scores of every item and method.
    pub scores: Vec<Score>,
    /// A group of items that gets a filter: its name and the indices of the items.
    pub flagged: Option<(&'static str, Vec<usize>)>,
    /// Right and wrong answers, step by step.
    pub strips: Option<Strips>,
    /// Source of the images of the items.
    pub images: ImageSource,
    /// Hash of each item's data at the time of the run; `None` if unknown.
    pub expected: Vec<Option<String>>,
    /// Files of the images that the methods have generated.
    pub generated: Option<Generated>,
    /// Notes on the data, a sentence each.
    pub notes: Vec<String>,
    /// How far the metrics move with the items.
    pub spreads: Spreads,
}

/// An item of a run.
#[derive(Clone)]
pub struct Item {
    /// Name of the item.
    pub id: String,
    /// Line of `records.jsonl`, from 1.
    pub line: usize,
    /// Values in the order of [`ItemView::facts`].
    pub facts: Vec<String>,
    /// Why the item could not be answered.
    pub failed: Option<String>,
}

/// A score of every method for every item.
pub struct Score {
    /// Name of the score.
    pub title: &'static str,
    /// Explanation, in a sentence.
    pub meaning: &'static str,
    /// Whether larger values are better; `None` if neither larger nor smaller is better.
    pub higher_is_better: Option<bool>,
    /// Number of digits after the decimal point.
    pub digits: usize,
    /// Values by method, then by item; `None` if not defined.
    pub values: Vec<Vec<Option<f64>>>,
}

/// Right and wrong answers, step by step.
pub struct Strips {
    /// Title of the steps.
    pub title: &'static str,
    /// The name of each step.
    pub steps: Vec<String>,
    /// By method, then by item: one character per step, `1` for right and `0` for wrong; empty without answers.
    pub right: Vec<Vec<String>>,
}

/// A function that reads an item's image, together with the hash of what was read.
pub type ReadImage = Box<dyn Fn() -> Option<(Rgb8, Option<String>)> + Send + Sync>;

/// Where images of the items come from.
pub enum ImageSource {
    /// A reader for each item, by its name.
    Items(HashMap<String, ReadImage>),
    /// No images, with the reason.
    Missing(String),
}

impl ImageSource {
    /// Reads images from the data set.
    pub(crate) fn items<I: Send + Sync + 'static>(
        found: tasks::Result<Vec<I>>,
        id: impl Fn(&I) -> &str,
        read: impl Fn(&I) -> Option<(Rgb8, Option<String>)> + Copy + Send + Sync + 'static,
    ) -> Self {
        match found {
            Ok(items) => {
                let with_id = |item: I| {
                    let name = id(&item).to_owned();
                    let read: ReadImage = Box::new(move || read(&item));
                    (name, read)
                };
                Self::Items(items.into_iter().map(with_id).collect())
            }
            Err(error) => Self::Missing(error.to_string()),
        }
    }

    /// Reads images from files, by the names of the items.
    pub(crate) fn files(files: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let with_id = |(name, path): (String, PathBuf)| {
            let read: ReadImage = Box::new(move || Some((Rgb8::open(&path).ok()?, None)));
            (name, read)
        };
        Self::Items(files.into_iter().map(with_id).collect())
    }
}

/// Images that methods have generated, a folder for each method.
pub struct Generated {
    /// Folders of the methods, in the order of the methods.
    pub folders: Vec<PathBuf>,
    /// By item, then by method: the file.
    pub files: Vec<Vec<PathBuf>>,
    /// Name of the first of an item's facts, shown before its value: `seed`.
    pub row: &'static str,
}

/// How far the metrics of methods move with the items.
#[derive(Default)]
pub struct Spreads {
    /// Values with intervals, by metric and method.
    pub values: BTreeMap<(String, String), Spread>,
    /// Number of resamples for the intervals; 0 without intervals.
    pub resamples: usize,
    /// Differences between methods that the results do not have.
    pub comparisons: Vec<Comparison>,
}

impl Spreads {
    /// Computes the spread of every method in every metric of methods.
    pub(crate) fn of<R>(measures: &[Measure<R>], records: &[R], methods: &[MethodInfo], seed: u64) -> Self {
        let keys: Vec<&str> = methods.iter().map(|method| method.key.as_str()).collect();
        let mut spreads = Self::default();
        for measure in measures.iter().filter(|measure| measure.is_of_methods()) {
            spreads.resamples = SPREAD_RESAMPLES;
            let found = each(records, &keys, &*measure.metric, SPREAD_RESAMPLES, seed);
            for (key, spread) in keys.iter().zip(found) {
                if let Some(spread) = spread {
                    spreads.values.insert((measure.spec.key.to_owned(), (*key).to_owned()), spread);
                }
            }
        }
        spreads
    }

    /// Adds the method at `lead` minus each of the others.
    pub(crate) fn compare<R>(
        &mut self,
        measures: &[Measure<R>],
        records: &[R],
        (methods, lead): (&[MethodInfo], usize),
        seed: u64,
    ) {
        let Some(method) = methods.get(lead) else { return };
        let others = methods.iter().filter(|other| other.key != method.key);
        let pairs: Vec<(&str, &str)> = others.map(|other| (&*method.key, &*other.key)).collect();
        for measure in measures.iter().filter(|measure| measure.is_of_methods()) {
            let found = paired_each(records, &pairs, &*measure.metric, RESAMPLES, seed);
            for (&(method, minus), found) in pairs.iter().zip(found) {
                // A metric that is not defined for one of the two is left out.
                let Ok(difference) = found else { continue };
                let (metric, method, minus) =
                    (measure.spec.key.to_owned(), method.to_owned(), minus.to_owned());
                self.comparisons.push(Comparison { metric, method, minus, difference });
            }
        }
    }
}

impl ItemView {
    /// Makes a view without scores and images. `facts` returns the facts of a record, whose names are `heads`.
    pub(crate) fn of<R>(
        methods: Vec<MethodInfo>,
        answers: &[(usize, Answer<R>)],
        heads: Vec<&'static str>,
        id: impl Fn(&R) -> &str,
        facts: impl Fn(&R) -> Vec<String>,
    ) -> Self {
        let row = |(line, answer): &(usize, Answer<R>)| match answer {
            Answer::Record(record) => {
                Item { id: id(record).to_owned(), line: *line, facts: facts(record), failed: None }
            }
            Answer::Failed(failure) => Item {
                id: failure.id.clone(),
                line: *line,
                facts: vec![String::new(); heads.len()],
                failed: Some(failure.reason.clone()),
            },
        };
        Self {
            rows: answers.iter().map(row).collect(),
            facts: heads,
            // The paper's own methods are shown first.
            lead: methods.iter().position(|method| method.ours).unwrap_or(0),
            methods,
            scores: Vec::new(),
            flagged: None,
            strips: None,
            images: ImageSource::Missing("the run has none".into()),
            expected: Vec::new(),
            generated: None,
            notes: Vec::new(),
            spreads: Spreads::default(),
        }
    }

    /// Adds a score if some item has it. Values are rounded to two digits more than are shown, so that sorting by the rounded values
    /// gives the same order everywhere.
    pub(crate) fn score(&mut self, mut score: Score) {
        let unit = 10f64.powi(score.digits as i32 + 2);
        for value in score.values.iter_mut().flatten().flatten() {
            *value = (*value * unit).round() / unit;
        }
        if score.values.iter().flatten().any(Option::is_some) {
            self.scores.push(score);
        }
    }

    /// Keeps these items, given by their indices in ascending order, and drops all others.
    pub fn keep(&mut self, items: &[usize]) {
        fn kept<T: Clone>(all: &[T], items: &[usize]) -> Vec<T> {
            items.iter().filter_map(|&item| all.get(item).cloned()).collect()
        }
        self.rows = kept(&self.rows, items);
        self.expected = kept(&self.expected, items);
        let scores = self.scores.iter_mut().flat_map(|score| &mut score.values);
        scores.for_each(|values| *values = kept(values, items));
        let strips = self.strips.iter_mut().flat_map(|strips| &mut strips.right);
        strips.for_each(|right| *right = kept(right, items));
        if let Some(generated) = &mut self.generated {
            generated.files = kept(&generated.files, items);
        }
        if let Some((_, flagged)) = &mut self.flagged {
            *flagged = flagged.iter().filter_map(|item| items.binary_search(item).ok()).collect();
        }
    }

    /// Compares the records with the present data set, if there is one.
    pub(crate) fn compare_data<T: Task>(
        &mut self,
        run: &RunFolder,
        found: &tasks::Result<Vec<T::Item>>,
        answers: &[(usize, Answer<T::Record>)],
    ) {
        let records: Vec<&T::Record> = answers.iter().filter_map(record).collect();
        self.notes.extend(found.iter().flat_map(|items| since_run::<T>(&run.path, items, &records)));
        self.expected = answers
            .iter()
            .map(|answer| record(answer).and_then(|record| T::made_from(record)).map(str::to_owned))
            .collect();
    }
}

/// Returns the record of an answer.
pub(crate) fn record<R>((_, answer): &(usize, Answer<R>)) -> Option<&R> {
    match answer {
        Answer::Record(record) => Some(record),
        Answer::Failed(_) => None,
    }
}

/// Returns all records of the answers.
pub(crate) fn records<R: Clone>(answers: &[(usize, Answer<R>)]) -> Vec<R> {
    answers.iter().filter_map(|answer| record(answer).cloned()).collect()
}

/// Returns, by method and then by item, the `value` of a record for the key of a method.
pub(crate) fn values<R>(
    methods: &[MethodInfo],
    answers: &[(usize, Answer<R>)],
    value: impl Fn(&R, &str) -> Option<f64>,
) -> Vec<Vec<Option<f64>>> {
    let of = |key: &str| answers.iter().map(|answer| value(record(answer)?, key)).collect();
    methods.iter().map(|method| of(&method.key)).collect()
}
