//! What every experiment looks like from outside.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;

/// An experiment: a manifest of items, each answered by one record.
pub trait Task {
    /// One unit of the data, such as an image.
    type Item;
    /// What the experiment has found out about one item.
    type Record: Serialize + DeserializeOwned;

    /// The items, in the order in which they are run.
    fn manifest(&self) -> &[Self::Item];

    /// Name of an item, unique within the manifest.
    fn id(item: &Self::Item) -> &str;

    /// Name of the item a record answers.
    fn answered(record: &Self::Record) -> &str;

    /// Items that are run together. Batches are cut from the manifest, never from what is left to do, so that the
    /// arithmetic of an item does not depend on when the run was interrupted.
    fn batch_size(&self) -> usize;

    /// Runs the items `range` of the manifest, a whole batch, and answers each with a record, in order.
    ///
    /// # Errors
    /// The first item that cannot be answered ends the batch.
    fn run(&mut self, range: std::ops::Range<usize>) -> Result<Vec<Self::Record>>;
}
