//! Counts the pixels on which two label maps agree.

use std::collections::BTreeMap;

use ndarray::ArrayView2;

use super::IGNORED;
use crate::segment::record::{ClassCounts, MapScore};

/// Compares predicted classes with labels of the same shape; ignored pixels are not counted.
pub(super) fn count(predicted: ArrayView2<u8>, labels: ArrayView2<u8>) -> MapScore {
    let mut counts = [ClassCounts::default(); 256];
    let mut score = MapScore::default();
    for (&class, &label) in predicted.iter().zip(&labels) {
        if label == IGNORED {
            continue;
        }
        score.labelled += 1;
        counts[usize::from(class)].predicted += 1;
        counts[usize::from(label)].labelled += 1;
        if class == label {
            score.correct += 1;
            counts[usize::from(class)].intersection += 1;
        }
    }
    let seen = (0..=u8::MAX).zip(counts).filter(|(_, counts)| counts.union() > 0);
    score.classes = BTreeMap::from_iter(seen);
    score
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn every_pixel_counts_once_for_each_side() {
        let predicted = array![[0, 0, 7], [1, 1, 1]];
        let labels = array![[0, 1, IGNORED], [1, 3, 1]];
        let score = count(predicted.view(), labels.view());
        assert_eq!((score.correct, score.labelled), (3, 5));
        let counts = |intersection, predicted, labelled| ClassCounts { intersection, predicted, labelled };
        // Class 7 was predicted on an ignored pixel only.
        let classes = BTreeMap::from([(0, counts(1, 2, 1)), (1, counts(2, 3, 3)), (3, counts(0, 0, 1))]);
        assert_eq!(score.classes, classes);
        assert_eq!(score.classes[&1].union(), 4);
    }
}
