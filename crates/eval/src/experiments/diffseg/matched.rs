//! Matches the segments of one image to its classes.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;
use tasks::diffseg::Segments;

use super::classes::Classes;
use super::matching::assign;

/// The segments of one image, matched to classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// By class, the matched segment; `None` if it shares no pixel with the class, or the class does not take part.
    pub segments: Vec<Option<u32>>,
    /// By class, counts of right and wrong pixels.
    pub classes: Vec<Tally>,
    /// Pixels that are not ignored.
    pub labelled: u64,
}

/// Pixel counts of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pixels of the class inside its segment.
    pub true_positives: u64,
    /// Pixels of other classes inside its segment.
    pub false_positives: u64,
    /// Pixels of the class in other segments.
    pub false_negatives: u64,
    /// False positives that lie in a segment without any pixel of the class: a left-over segment that the class was given
    /// because no other was left.
    pub idle_positives: u64,
}

impl Tally {
    /// Returns the number of pixels of the class.
    pub fn labelled(self) -> u64 {
        self.true_positives + self.false_negatives
    }

    /// Returns the number of pixels of the class or in its segment. A left-over segment counts, as published.
    pub fn union(self) -> u64 {
        self.labelled() + self.false_positives
    }

    /// Returns the number of pixels of the class or in its segment, not counting a left-over segment.
    pub fn overlapping_union(self) -> u64 {
        self.union() - self.idle_positives
    }
}

impl Matched {
    /// Matches each of `classes` (and of any others in the labels) to a segment so that as many pixels as possible agree over
    /// the whole image, by [`assign`] on the histogram of `C × max(C, K)` for C classes. Pixels in unmatched segments are only false
    /// negatives of their classes.
    ///
    /// K counts the segments up to the last that has a labelled pixel, as in the published evaluation of DiffSeg
    /// (<https://github.com/google/diffseg>, `diffseg/utils.py`): segments after it do not enlarge the matrix.
    pub fn of(segments: &Segments, classes: &Classes) -> Self {
        let overlap = || segments.overlap.iter().map(|&(class, segment, n)| (usize::from(class), segment, n));
        let matched: BTreeSet<usize> = classes.iter().chain(overlap().map(|(class, ..)| class)).collect();
        let matched: Vec<usize> = matched.into_iter().collect();
        let rows: BTreeMap<usize, usize> = matched.iter().copied().zip(0..).collect();
        let columns =
            overlap().map(|(_, segment, _)| segment as usize + 1).max().unwrap_or(0).max(matched.len());
        let mut histogram = Array2::<u64>::zeros((matched.len(), columns));
        overlap().for_each(|(class, segment, n)| histogram[(rows[&class], segment as usize)] += n);

        let (of_class, of_segment) =
            (histogram.sum_axis(ndarray::Axis(1)), histogram.sum_axis(ndarray::Axis(0)));
        let count = matched.last().map_or(0, |last| last + 1);
        let mut found = Self {
            segments: vec![None; count],
            classes: vec![Tally::default(); count],
            labelled: histogram.sum(),
        };
        for (row, segment) in assign(histogram.view()) {
            let true_positives = histogram[(row, segment)];
            let false_positives = of_segment[segment] - true_positives;
            let class = matched[row];
            found.classes[class] = Tally {
                true_positives,
                false_positives,
                false_negatives: of_class[row] - true_positives,
                idle_positives: if true_positives == 0 { false_positives } else { 0 },
            };
            found.segments[class] = (true_positives > 0).then_some(segment as u32);
        }
        found
    }

    /// Pixels in the segment of their class.
    pub fn correct(&self) -> u64 {
        self.classes.iter().map(|class| class.true_positives).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(overlap: &[(u16, u32, u64)]) -> Segments {
        Segments { overlap: overlap.to_vec(), ..Segments::default() }
    }

    fn tally(true_positives: u64, false_positives: u64, false_negatives: u64, idle_positives: u64) -> Tally {
        Tally { true_positives, false_positives, false_negatives, idle_positives }
    }

    #[test]
    fn a_class_cut_in_two_loses_the_smaller_part() {
        // Class 0 in segments 0 and 1, class 2 in segment 2 and partly in 0; class 1 does not occur.
        let found =
            Matched::of(&segments(&[(0, 0, 30), (0, 1, 20), (2, 0, 5), (2, 2, 40)]), &Classes::all(3));
        assert_eq!(found.segments, [Some(0), None, Some(2)]);
        // Segment 1 is left over and goes to the class that does not occur.
        assert_eq!(found.classes, [tally(30, 5, 20, 0), tally(0, 20, 0, 20), tally(40, 0, 5, 0)]);
        assert_eq!((found.labelled, found.correct()), (95, 70));
        let absent = found.classes[1];
        assert_eq!((absent.labelled(), absent.union(), absent.overlapping_union()), (0, 20, 0));
    }

    #[test]
    fn with_more_segments_than_classes_some_stay_unmatched() {
        let found = Matched::of(&segments(&[(0, 0, 1), (0, 5, 9), (1, 3, 4)]), &Classes::all(2));
        assert_eq!(found.segments, [Some(5), Some(3)]);
        assert_eq!(found.classes, [tally(9, 0, 1, 0), tally(4, 0, 0, 0)]);
    }

    #[test]
    fn an_image_without_labels_has_no_errors() {
        let found = Matched::of(&segments(&[]), &Classes::all(2));
        assert_eq!((found.labelled, found.classes), (0, vec![Tally::default(); 2]));
        // A label beyond the classes is not lost.
        assert_eq!(Matched::of(&segments(&[(4, 0, 7)]), &Classes::all(2)).correct(), 7);
    }
}
