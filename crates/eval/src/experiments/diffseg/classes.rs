//! The classes to which segments are matched.

use std::collections::BTreeSet;

use tasks::dataset::DatasetConfig;
use tasks::diffseg::DiffSegRecord;

/// Classes that take part in the matching, numbered from 0. Each class takes a segment of every image that has segments left, so
/// a class that does not exist would take segments from other classes and count with an IoU of 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes(BTreeSet<usize>);

impl Classes {
    /// Returns the first `count` classes, whether or not an image has them, as a published protocol fixes them.
    pub fn all(count: usize) -> Self {
        Self((0..count).collect())
    }

    /// Returns the classes that some pixel of the records has. All methods of a record have the same labels.
    pub fn present(records: &[DiffSegRecord]) -> Self {
        let overlaps =
            records.iter().flat_map(|record| record.methods.values()).flat_map(|found| &found.overlap);
        Self(overlaps.filter(|(.., pixels)| *pixels > 0).map(|(class, ..)| usize::from(*class)).collect())
    }

    /// Returns the classes of a data set with `count` classes: all if the data set fixes them, otherwise those in the records.
    pub fn of(dataset: &DatasetConfig, count: usize, records: &[DiffSegRecord]) -> Self {
        if dataset.has_fixed_classes() { Self::all(count) } else { Self::present(records) }
    }

    /// Returns the number of classes.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the classes in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }
}
