//! A small dense matrix: at most a few hundred rows.

/// A small dense matrix, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Small<T> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(super) values: Vec<T>,
}

impl<T: Copy + Default> Small<T> {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Small { rows, columns, values: vec![T::default(); rows * columns] }
    }

    pub(crate) fn from_fn(rows: usize, columns: usize, f: impl Fn(usize, usize) -> T) -> Self {
        let mut all = Self::zeros(rows, columns);
        for i in 0..rows {
            for j in 0..columns {
                all[(i, j)] = f(i, j);
            }
        }
        all
    }
}

impl Small<f64> {
    /// Frobenius norm of the leading `m × m` part.
    pub(crate) fn norm(&self, m: usize) -> f64 {
        (0..m).flat_map(|i| (0..m).map(move |j| (i, j))).map(|at| self[at].powi(2)).sum::<f64>().sqrt()
    }
}

impl<T> std::ops::Index<(usize, usize)> for Small<T> {
    type Output = T;
    #[inline]
    fn index(&self, (i, j): (usize, usize)) -> &T {
        &self.values[i * self.columns + j]
    }
}

impl<T> std::ops::IndexMut<(usize, usize)> for Small<T> {
    #[inline]
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut T {
        &mut self.values[i * self.columns + j]
    }
}
