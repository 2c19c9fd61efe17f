//! Compares segments with the labels of an image.

use ndarray::{Array2, ArrayView2};

use super::record::{Boundary, Segments};
use crate::dataset::segmentation::IGNORE;

/// Counts the common pixels of segments and classes, and the boundaries that were found. `proposals` is the number of
/// segments, `reach` the maximum distance in pixels between a true and a predicted boundary.
pub(super) fn score(
    segments: ArrayView2<'_, u16>,
    truth: ArrayView2<'_, u8>,
    proposals: usize,
    reach: f64,
) -> Segments {
    let mut counts = Array2::<u64>::zeros((usize::from(IGNORE), proposals));
    for (&segment, &class) in segments.iter().zip(&truth).filter(|(_, class)| **class != IGNORE) {
        counts[(usize::from(class), usize::from(segment))] += 1;
    }
    let met = counts.indexed_iter().filter(|(_, pixels)| **pixels > 0);
    let overlap = met.map(|((class, segment), &pixels)| (class as u16, segment as u32, pixels)).collect();
    Segments { proposals, overlap, boundary: boundary(segments, truth, reach) }
}

/// Counts the pixels of true boundaries that have a predicted boundary within `reach` pixels.
///
/// A pixel lies on a predicted boundary if one of its four neighbours belongs to another segment. It lies on a true
/// boundary if it and one of its four neighbours have different labels, neither of them [`IGNORE`]. A boundary between
/// two regions is therefore two pixels wide. Distances are Euclidean, between the centres of pixels. Each true pixel is
/// checked by itself: unlike in the Berkeley benchmark, pixels are not matched one to one, and additional predicted
/// boundaries are not penalised.
pub fn boundary(segments: ArrayView2<'_, u16>, truth: ArrayView2<'_, u8>, reach: f64) -> Boundary {
    let predicted = edges(segments, |a, b| a != b);
    let labelled = edges(truth, |a, b| a != b && a != IGNORE && b != IGNORE);
    let (rows, columns) = truth.dim();
    let offsets = disc(reach);
    let mut counts = Boundary::default();
    for ((row, column), _) in labelled.indexed_iter().filter(|(_, edge)| **edge) {
        counts.labelled += 1;
        let near = |&(down, right): &(isize, isize)| {
            let at = (row.checked_add_signed(down), column.checked_add_signed(right));
            matches!(at, (Some(row), Some(column)) if row < rows && column < columns && predicted[(row, column)])
        };
        counts.found += u64::from(offsets.iter().any(near));
    }
    counts
}

/// Returns the pixels for which `divided` holds with one of their four neighbours.
fn edges<T: Copy>(map: ArrayView2<'_, T>, divided: impl Fn(T, T) -> bool) -> Array2<bool> {
    let (rows, columns) = map.dim();
    let mut edges = Array2::from_elem((rows, columns), false);
    for ((row, column), &here) in map.indexed_iter() {
        for next in [(row, column + 1), (row + 1, column)] {
            if next.0 < rows && next.1 < columns && divided(here, map[next]) {
                edges[(row, column)] = true;
                edges[next] = true;
            }
        }
    }
    edges
}

/// Returns the offsets within `reach`, nearest first.
fn disc(reach: f64) -> Vec<(isize, isize)> {
    let whole = reach.max(0.0).floor() as isize;
    let square = |(down, right): &(isize, isize)| (down * down + right * right) as f64;
    let all = (-whole..=whole).flat_map(|down| (-whole..=whole).map(move |right| (down, right)));
    let mut within: Vec<(isize, isize)> = all.filter(|offset| square(offset) <= reach * reach).collect();
    within.sort_by(|a, b| square(a).total_cmp(&square(b)));
    within
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    #[test]
    fn ignored_pixels_count_nowhere() {
        let segments = array![[0u16, 0, 1, 2], [0, 0, 1, 2]];
        let truth = array![[3u8, 3, 255, 0], [3, 0, 255, 0]];
        let found = score(segments.view(), truth.view(), 4, 0.0);
        assert_eq!(found.proposals, 4);
        assert_eq!(found.overlap, [(0, 0, 1), (0, 2, 2), (3, 0, 3)]);
        // The true boundary runs around the 0 in the second row; next to 255 there is no boundary. The predicted
        // boundary touches two of its three pixels.
        assert_eq!(found.boundary, Boundary { labelled: 3, found: 2 });
    }

    #[test]
    fn boundaries_count_within_reach() {
        // True boundary between columns 3 and 4, predicted between 6 and 7.
        let truth = Array2::from_shape_fn((5, 10), |(_, column)| u8::from(column > 3));
        let segments = Array2::from_shape_fn((5, 10), |(_, column)| u16::from(column > 6));
        for (reach, found) in [(0.0, 0), (1.9, 0), (2.0, 5), (2.9, 5), (3.0, 10)] {
            let counts = boundary(segments.view(), truth.view(), reach);
            assert_eq!(counts, Boundary { labelled: 10, found }, "within {reach}");
        }
        let none = Array2::<u16>::zeros((5, 10));
        assert_eq!(boundary(none.view(), truth.view(), 20.0), Boundary { labelled: 10, found: 0 });
    }

    #[test]
    fn discs_are_round() {
        assert_eq!(disc(0.5), [(0, 0)]);
        assert_eq!(disc(1.0).len(), 5);
        assert_eq!(disc(1.5).len(), 9);
        assert_eq!(disc(5.43).len(), 97);
    }

    proptest! {
        #[test]
        fn overlaps_are_all_labelled_pixels_and_right_segments_find_all(
            labels in proptest::collection::vec(0u8..4, 48), ignored in proptest::collection::vec(0usize..48, 0..20),
        ) {
            let mut truth = Array2::from_shape_vec((6, 8), labels).expect("48 labels");
            let segments = truth.mapv(u16::from);
            for place in ignored {
                truth[(place / 8, place % 8)] = IGNORE;
            }
            let found = score(segments.view(), truth.view(), 4, 0.0);
            let labelled = truth.iter().filter(|label| **label != IGNORE).count() as u64;
            prop_assert_eq!(found.overlap.iter().map(|(.., pixels)| pixels).sum::<u64>(), labelled);
            prop_assert!(found.overlap.iter().all(|(class, segment, _)| u32::from(*class) == *segment));
            prop_assert!(found.overlap.is_sorted());
            prop_assert_eq!(found.boundary.found, found.boundary.labelled);
        }
    }
}
