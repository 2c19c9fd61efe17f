//! Assigns one segment to each class so that as many pixels as possible agree.
//!
//! Several assignments can be best, and the metric depends on the choice: classes that an image does not show get
//! left-over segments, whose pixels are then wrong. Published numbers use SciPy's `linear_sum_assignment`, so ties
//! are broken as in SciPy. It follows from its method: rows are placed one after another, each by the
//! shortest augmenting path (D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52, 2016),
//! and among equally near columns the search prefers a free one, and among those the one it visited last.

use ndarray::{Array2, ArrayView2};

/// Largest number of pixels that is exact in the doubles that SciPy uses.
const MOST: u64 = 1 << 53;

/// Returns pairs of row and column with the largest possible sum of entries, in ascending order of the rows. Each row and
/// column occurs at most once. There are as many pairs as the shorter side is long.
pub fn assign(gains: ArrayView2<'_, u64>) -> Vec<(usize, usize)> {
    let wide = gains.ncols() >= gains.nrows();
    // Every row of the search gets a column, so the columns must be the longer side.
    let gains = if wide { gains } else { gains.reversed_axes() };
    let mut search = Search::new(gains);
    (0..gains.nrows()).for_each(|row| search.place(row));
    let pairs = search.column_of.iter().enumerate().filter_map(|(row, &column)| Some((row, column?)));
    if wide {
        return pairs.collect();
    }
    let mut turned: Vec<(usize, usize)> = pairs.map(|(row, column)| (column, row)).collect();
    turned.sort_unstable();
    turned
}

/// The assignment of the rows placed so far, and the prices that prove it optimal: every cost minus the prices of its row and
/// column is at least 0, and exactly 0 for assigned pairs.
struct Search {
    costs: Array2<i64>,
    row_price: Vec<i64>,
    column_price: Vec<i64>,
    column_of: Vec<Option<usize>>,
    row_of: Vec<Option<usize>>,
}

impl Search {
    fn new(gains: ArrayView2<'_, u64>) -> Self {
        let (rows, columns) = gains.dim();
        Self {
            costs: gains.mapv(|gain| -(gain.min(MOST) as i64)),
            row_price: vec![0; rows],
            column_price: vec![0; columns],
            column_of: vec![None; rows],
            row_of: vec![None; columns],
        }
    }

    /// Assigns one more row, moving other rows to other columns if that is cheaper.
    fn place(&mut self, row: usize) {
        let columns = self.row_of.len();
        // The order in which columns are visited decides ties: the first row of equal costs gets column 0.
        let mut open: Vec<usize> = (0..columns).rev().collect();
        let mut distance = vec![i64::MAX; columns];
        let mut reached_from = vec![row; columns];
        let mut settled = Vec::new();
        let (mut at, mut length) = (row, 0);
        let free = loop {
            let mut nearest: Option<(usize, i64)> = None;
            for (position, &column) in open.iter().enumerate() {
                let reduced = self.costs[(at, column)] - self.row_price[at] - self.column_price[column];
                if length + reduced < distance[column] {
                    distance[column] = length + reduced;
                    reached_from[column] = at;
                }
                let here = distance[column];
                let preferred = nearest
                    .is_none_or(|(_, near)| here < near || (here == near && self.row_of[column].is_none()));
                if preferred {
                    nearest = Some((position, here));
                }
            }
            let Some((position, near)) = nearest else { return };
            length = near;
            let column = open.swap_remove(position);
            settled.push(column);
            match self.row_of[column] {
                Some(holder) => at = holder,
                None => break column,
            }
        };

        self.row_price[row] += length;
        for column in settled {
            let slack = length - distance[column];
            self.column_price[column] -= slack;
            if let Some(holder) = self.row_of[column] {
                self.row_price[holder] += slack;
            }
        }
        let mut column = Some(free);
        while let Some(taken) = column {
            let taker = reached_from[taken];
            self.row_of[taken] = Some(taker);
            column = self.column_of[taker].replace(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(rows: usize, gains: &[u64]) -> Vec<usize> {
        let gains = ArrayView2::from_shape((rows, gains.len() / rows), gains).unwrap();
        assign(gains).into_iter().map(|(_, column)| column).collect()
    }

    #[test]
    fn by_hand() {
        assert_eq!(columns(2, &[5, 4, 4, 0]), [1, 0]);
        assert_eq!(columns(2, &[5, 4, 3, 4, 0, 4]), [0, 2]);
        // Equal entries: the identity.
        assert_eq!(columns(3, &[2; 9]), [0, 1, 2]);
        assert_eq!(columns(2, &[0; 8]), [0, 1]);
        assert_eq!(assign(Array2::zeros((0, 3)).view()), []);
        assert_eq!(assign(Array2::zeros((3, 0)).view()), []);
        // More rows than columns: pairs still in the order of the rows.
        let tall = Array2::from_shape_vec((3, 2), vec![1, 9, 0, 0, 7, 8]).unwrap();
        assert_eq!(assign(tall.view()), [(0, 1), (2, 0)]);
    }

    /// Returns the largest sum over all assignments of the rows from `row` on.
    fn best(gains: &Array2<u64>, row: usize, taken: u32) -> u64 {
        if row == gains.nrows() {
            return 0;
        }
        let free = (0..gains.ncols()).filter(|column| taken >> column & 1 == 0);
        free.map(|column| gains[(row, column)] + best(gains, row + 1, taken | 1 << column)).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn no_assignment_is_better(
            rows in 1_usize..6, more in 0_usize..3, most in 1_u64..12, entries in prop::collection::vec(any::<u64>(), 40),
        ) {
            let columns = rows + more;
            let gains = Array2::from_shape_fn((rows, columns), |(i, j)| entries[i * columns + j] % most);
            for gains in [gains.clone(), gains.reversed_axes()] {
                let pairs = assign(gains.view());
                prop_assert_eq!(pairs.len(), rows);
                prop_assert!(pairs.is_sorted_by(|a, b| a.0 < b.0));
                let mut used: Vec<usize> = pairs.iter().map(|pair| pair.1).collect();
                used.sort_unstable();
                used.dedup();
                prop_assert_eq!(used.len(), rows);
                let sum: u64 = pairs.iter().map(|&pair| gains[pair]).sum();
                let wide = if gains.nrows() <= gains.ncols() { gains } else { gains.reversed_axes() };
                prop_assert_eq!(sum, best(&wide, 0, 0));
            }
        }
    }
}
