//! The interface of every experiment.

use std::ops::Range;

use models::NotFinite;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dataset::Sourced;
use crate::error::Result;

/// An experiment: a manifest of items, each answered by one record.
pub trait Task {
    /// One unit of the data, such as an image.
    type Item: Sourced + Sync;
    /// Result of the experiment for one item.
    type Record: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Name of the experiment, as in `[task.NAME]`.
    const NAME: &'static str;

    /// Settings of an experiment file that decide how much memory a batch takes, the most effective first.
    const MEMORY_SETTINGS: &'static [&'static str];

    /// The items, in the order in which they are run.
    fn manifest(&self) -> &[Self::Item];

    /// Name of an item, unique within the manifest.
    fn id(item: &Self::Item) -> &str;

    /// Name of the item that a record answers.
    fn answered(record: &Self::Record) -> &str;

    /// SHA-256 of the data from which the record was computed ([`Sourced::sha256`]), or `None` if the record does not
    /// store it.
    fn made_from(record: &Self::Record) -> Option<&str> {
        let _ = record;
        None
    }

    /// Number of items that are run together. Batches are cut from the manifest, not from the items that are left, so
    /// that the arithmetic of an item does not depend on when the run was interrupted.
    fn batch_size(&self) -> usize;

    /// Whether the files that a record refers to still exist. If not, the batch of the record is run again.
    fn is_whole(&self, record: &Self::Record) -> bool {
        let _ = record;
        true
    }

    /// Announces, before the first batch, the batches that this process will run, in order: a shard has every `N`th
    /// batch, a resumed run the batches that are left. The task may load their data ahead of time.
    fn prefetch(&mut self, batches: &[Range<usize>]) {
        let _ = batches;
    }

    /// Runs the networks on the items `range` of the manifest, which must be a whole batch, and returns the rest of the work.
    ///
    /// # Errors
    /// Fails if the run cannot go on. An item whose own data is unreadable is an [`Answer::Failed`] instead.
    fn start(&mut self, range: Range<usize>) -> Result<Rest<Self::Record>>;

    /// Runs a batch to its end: the rest of [`Task::start`].
    ///
    /// # Errors
    /// As [`Task::start`].
    fn run(&mut self, range: Range<usize>) -> Result<Vec<Answer<Self::Record>>> {
        self.start(range)?()
    }
}

/// What is left of a batch after its networks: scores and files. It returns one answer for each item, in order, and may run on
/// another thread while the networks compute the next batch.
pub type Rest<R> = Box<dyn FnOnce() -> Result<Vec<Answer<R>>> + Send>;

/// The outcome of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<R> {
    /// The record of the item.
    Record(R),
    /// The item cannot be answered.
    Failed(Failure),
}

/// An item that cannot be answered: its data cannot be read, or a network returns numbers for it that are not finite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Name of the item.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
    /// What failed; known only to the process that ran the item.
    #[serde(skip)]
    pub fault: Fault,
}

/// What failed on an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Its data cannot be read.
    #[default]
    Data,
    /// A network returned numbers that are not finite.
    Network,
}

impl<R> From<R> for Answer<R> {
    fn from(record: R) -> Self {
        Self::Record(record)
    }
}

impl<R> Answer<R> {
    /// The record, if there is one.
    pub fn record(self) -> Option<R> {
        match self {
            Self::Record(record) => Some(record),
            Self::Failed(_) => None,
        }
    }

    /// Goes on with the record, if there is one.
    ///
    /// # Errors
    /// The errors of `next`.
    pub(crate) fn and_then<S>(self, next: impl FnOnce(R) -> Result<Answer<S>>) -> Result<Answer<S>> {
        match self {
            Self::Record(record) => next(record),
            Self::Failed(failure) => Ok(Answer::Failed(failure)),
        }
    }
}

impl Failure {
    /// A failure of the item `id`; `reason` is usually the error that occurred while its data was read.
    pub(crate) fn new(id: &str, reason: impl ToString) -> Self {
        Self { id: id.to_owned(), reason: reason.to_string(), fault: Fault::Data }
    }

    /// A failure of the item `id` on which a network failed.
    pub(crate) fn of_network(id: &str, reason: &NotFinite) -> Self {
        Self { id: id.to_owned(), reason: reason.to_string(), fault: Fault::Network }
    }
}

/// One thing for some items of a batch, each with its position in the batch.
pub(crate) type Placed<T> = Vec<(usize, T)>;

/// Parts what was read of the items of a batch from the failures.
pub(crate) fn parted<T>(
    each: impl IntoIterator<Item = std::result::Result<T, Failure>>,
) -> (Placed<T>, Placed<Failure>) {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for (place, read) in each.into_iter().enumerate() {
        match read {
            Ok(one) => found.push((place, one)),
            Err(failure) => failures.push((place, failure)),
        }
    }
    (found, failures)
}

/// Merges the answers and the failures of a batch in the order of its items, each given with its position.
pub(crate) fn in_order<R>(
    mut answers: Vec<(usize, Answer<R>)>,
    failures: impl IntoIterator<Item = (usize, Failure)>,
) -> Vec<Answer<R>> {
    answers.extend(failures.into_iter().map(|(place, failure)| (place, Answer::Failed(failure))));
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
