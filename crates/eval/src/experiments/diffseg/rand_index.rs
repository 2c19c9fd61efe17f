//! Agreement of two partitions of the same pixels, independent of the names of their parts.

use std::collections::BTreeMap;

/// Returns the adjusted Rand index (Hubert and Arabie 1985) between classes and segments, from `(class, segment, pixels)`: 1 for
/// equal partitions, about 0 for unrelated ones. `None` without pixels. Unlike a matching of segments to classes, it
/// penalises a class that is cut into several segments.
///
/// Counted over ordered pairs of pixels, as in scikit-learn's `adjusted_rand_score`; the counts are whole numbers.
pub fn adjusted_rand_index(overlap: &[(u16, u32, u64)]) -> Option<f64> {
    let (mut classes, mut segments) = (BTreeMap::<u16, i128>::new(), BTreeMap::<u32, i128>::new());
    let mut pairs = BTreeMap::<(u16, u32), i128>::new();
    for &(class, segment, pixels) in overlap {
        let pixels = i128::from(pixels);
        *classes.entry(class).or_default() += pixels;
        *segments.entry(segment).or_default() += pixels;
        *pairs.entry((class, segment)).or_default() += pixels;
    }
    let squares = |counts: &mut dyn Iterator<Item = &i128>| counts.map(|&count| count * count).sum::<i128>();
    let all: i128 = classes.values().sum();
    let (of_classes, of_segments) = (squares(&mut classes.values()), squares(&mut segments.values()));
    let of_both = squares(&mut pairs.values());
    // Pairs of pixels that are together in both, only in the classes, only in the segments, in neither.
    let together = of_both - all;
    let (cut, joined) = (of_classes - of_both, of_segments - of_both);
    let apart = all * all - together - all - cut - joined;
    if all == 0 {
        return None;
    }
    if cut == 0 && joined == 0 {
        return Some(1.0);
    }
    let [together, cut, joined, apart] = [together, cut, joined, apart].map(|pairs| pairs as f64);
    let chance = (together + cut) * (cut + apart) + (together + joined) * (joined + apart);
    Some(2.0 * (together * apart - cut * joined) / chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        assert_eq!(adjusted_rand_index(&[]), None);
        assert_eq!(adjusted_rand_index(&[(3, 9, 0)]), None);
        // Names do not matter.
        assert_eq!(adjusted_rand_index(&[(0, 7, 5), (4, 1, 9)]), Some(1.0));
        assert_eq!(adjusted_rand_index(&[(0, 0, 1)]), Some(1.0));
        // One segment for two classes is as good as chance; crossing halves are worse than chance.
        assert_eq!(adjusted_rand_index(&[(0, 0, 5), (1, 0, 5)]), Some(0.0));
        assert_eq!(adjusted_rand_index(&[(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1)]), Some(-0.5));
        // scikit-learn's own example: [0, 0, 1, 2] against [0, 0, 1, 1].
        let found = adjusted_rand_index(&[(0, 0, 2), (1, 1, 1), (2, 1, 1)]).unwrap();
        assert_relative_eq!(found, 0.571_428_571_428_571_4, epsilon = 1e-15);
    }

    #[test]
    fn large_images_do_not_overflow() {
        let side = 100_000_u64 * 100_000 / 4;
        let overlap = [(0, 0, side), (0, 1, side), (1, 0, side), (1, 1, side)];
        assert_relative_eq!(adjusted_rand_index(&overlap).unwrap(), 0.0, epsilon = 1e-9);
    }

    proptest! {
        #[test]
        fn the_sides_may_be_swapped_and_it_stays_within_its_bounds(
            pairs in prop::collection::vec((0_u16..4, 0_u16..5, 0_u64..30), 1..15),
        ) {
            let forth: Vec<_> = pairs.iter().map(|&(a, b, n)| (a, u32::from(b), n)).collect();
            let back: Vec<_> = pairs.iter().map(|&(a, b, n)| (b, u32::from(a), n)).collect();
            let found = adjusted_rand_index(&forth);
            prop_assert_eq!(found, adjusted_rand_index(&back));
            prop_assert!(found.is_none_or(|index| (-0.5..=1.0).contains(&index)));
        }
    }
}
