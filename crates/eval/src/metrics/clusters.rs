//! Items that belong together in a bootstrap: objects of one image are drawn together.

use std::collections::BTreeMap;
use std::fmt;

use ndarray::{Array2, ArrayView2};

/// The image of every item. A bootstrap draws images, and all items of a drawn image come along (cluster bootstrap).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    /// The number of each item's image; images are numbered from 0 in the order of their first items.
    of_item: Vec<usize>,
    /// Number of images.
    count: usize,
}

impl Clusters {
    /// Returns this number of items, each with an image of its own.
    pub fn singles(items: usize) -> Self {
        Self { of_item: (0..items).collect(), count: items }
    }

    /// Returns items of which those with equal keys share an image; there is one key for each item.
    pub fn of<K: Ord>(keys: impl IntoIterator<Item = K>) -> Self {
        let mut numbers = BTreeMap::new();
        let mut number = |key| {
            let next = numbers.len();
            *numbers.entry(key).or_insert(next)
        };
        let of_item: Vec<usize> = keys.into_iter().map(&mut number).collect();
        Self { of_item, count: numbers.len() }
    }

    /// Returns the number of items.
    pub fn items(&self) -> usize {
        self.of_item.len()
    }

    /// Returns the number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns whether some items share an image.
    pub fn are_shared(&self) -> bool {
        self.count < self.of_item.len()
    }

    /// Returns the number of each item's image.
    pub fn of_items(&self) -> &[usize] {
        &self.of_item
    }

    /// Sums the rows of each image: `[items, sums]` becomes `[images, sums]`, unchanged if every item has its own image. `None` if
    /// there is not one row for each item.
    pub(crate) fn sums(&self, rows: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
        if rows.nrows() != self.items() {
            return None;
        }
        if !self.are_shared() {
            return Some(rows.as_standard_layout().into_owned());
        }
        let mut sums = Array2::zeros((self.count, rows.ncols()));
        for (row, &image) in rows.rows().into_iter().zip(&self.of_item) {
            let mut sum = sums.row_mut(image);
            sum += &row;
        }
        Some(sums)
    }
}

impl fmt::Display for Clusters {
    /// Writes `200 images`, or `354 objects in 126 images` if some share one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (items, images) = (self.items(), self.count);
        if self.are_shared() {
            write!(f, "{items} objects in {images} image{}", if images == 1 { "" } else { "s" })
        } else {
            write!(f, "{items} images")
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn items_with_equal_keys_share_an_image() {
        let shared = Clusters::of(["b", "a", "b", "c"]);
        assert_eq!((shared.of_items(), shared.count(), shared.items()), (&[0, 1, 0, 2][..], 3, 4));
        assert!(shared.are_shared());
        assert_eq!(Clusters::of(["b", "a", "c"]), Clusters::singles(3));
        assert!(!Clusters::singles(3).are_shared());
    }

    #[test]
    fn rows_of_an_image_are_summed() {
        let rows = array![[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]];
        let sums = Clusters::of([7, 3, 7]).sums(rows.view()).unwrap();
        assert_eq!(sums, array![[17.0, 34.0], [4.0, 8.0]]);
        assert_eq!(Clusters::singles(3).sums(rows.view()).unwrap(), rows);
        assert_eq!(Clusters::singles(2).sums(rows.view()), None);
    }

    #[test]
    fn objects_are_named_only_if_they_share_images() {
        let said =
            [Clusters::singles(200), Clusters::of([1, 2, 1]), Clusters::of([1, 1])].map(|c| c.to_string());
        assert_eq!(said, ["200 images", "3 objects in 2 images", "2 objects in 1 image"]);
    }
}
