//! What every experiment looks like from outside.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dataset::Sourced;
use crate::error::Result;

/// An experiment: a manifest of items, each answered by one record.
pub trait Task {
    /// One unit of the data, such as an image.
    type Item: Sourced + Sync;
    /// What the experiment has found out about one item.
    type Record: Serialize + DeserializeOwned + Sync;

    /// The items, in the order in which they are run.
    fn manifest(&self) -> &[Self::Item];

    /// Name of an item, unique within the manifest.
    fn id(item: &Self::Item) -> &str;

    /// Name of the item a record answers.
    fn answered(record: &Self::Record) -> &str;

    /// SHA-256 of what the item of a record was made from ([`Sourced::sha256`]); none where the record does not say.
    fn made_from(record: &Self::Record) -> Option<&str> {
        let _ = record;
        None
    }

    /// Items that are run together. Batches are cut from the manifest, never from what is left to do, so that the
    /// arithmetic of an item does not depend on when the run was interrupted.
    fn batch_size(&self) -> usize;

    /// Whether what a record of this task refers to is still there. If not, its batch is run again.
    fn is_whole(&self, record: &Self::Record) -> bool {
        let _ = record;
        true
    }

    /// Hears, before the first batch, which batches this process will run and in which order: a shard has every `N`th, a
    /// resumed run what is left. What they need may be read ahead.
    fn expect(&mut self, batches: &[Range<usize>]) {
        let _ = batches;
    }

    /// Runs the items `range` of the manifest, a whole batch, and answers each, in order.
    ///
    /// # Errors
    /// What is wrong with the run. What is wrong with the data of one item is its [`Answer::Failed`].
    fn run(&mut self, range: Range<usize>) -> Result<Vec<Answer<Self::Record>>>;
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<R> {
    /// It was answered.
    Record(R),
    /// Its data cannot be read.
    Failed(Failure),
}

/// An item whose data cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Name of the item.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

impl<R> Answer<R> {
    /// The record, if there is one.
    pub fn record(self) -> Option<R> {
        match self {
            Self::Record(record) => Some(record),
            Self::Failed(_) => None,
        }
    }
}

impl Failure {
    /// Of an item, with what was said when it was read.
    pub(crate) fn new(id: &str, reason: impl ToString) -> Self {
        Self { id: id.to_owned(), reason: reason.to_string() }
    }
}

/// Puts the failures of a batch back among the records of its other items. `places` are those of the records.
pub(crate) fn in_order<R>(
    records: impl IntoIterator<Item = (usize, R)>,
    failures: impl IntoIterator<Item = (usize, Failure)>,
) -> Vec<Answer<R>> {
    let records = records.into_iter().map(|(place, record)| (place, Answer::Record(record)));
    let failures = failures.into_iter().map(|(place, failure)| (place, Answer::Failed(failure)));
    let mut answers: Vec<(usize, Answer<R>)> = records.chain(failures).collect();
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
