//! The classes that segments are matched to.

use std::collections::BTreeSet;

use tasks::dataset::DatasetConfig;
use tasks::diffseg::DiffSegRecord;

/// Classes that take part in the matching, by their numbers from 0. Each takes a segment of every image that has segments left,
/// so a class that does not exist would cost others theirs and count with an IoU of 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes(BTreeSet<usize>);

impl Classes {
    /// The first `count` classes, whether or not an image has them: those of a published protocol.
    pub fn all(count: usize) -> Self {
        Self((0..count).collect())
    }

    /// Those that some pixel of the records has. All methods of a record see the same labels.
    pub fn present(records: &[DiffSegRecord]) -> Self {
        let overlaps =
            records.iter().flat_map(|record| record.methods.values()).flat_map(|found| &found.overlap);
        Self(overlaps.filter(|(.., pixels)| *pixels > 0).map(|(class, ..)| usize::from(*class)).collect())
    }

    /// Those of a data set with `count` classes: all where the data set fixes them, else those that the records have.
    pub fn of(dataset: &DatasetConfig, count: usize, records: &[DiffSegRecord]) -> Self {
        if dataset.has_fixed_classes() { Self::all(count) } else { Self::present(records) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// In rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }
}
