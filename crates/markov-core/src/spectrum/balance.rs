//! Balancing: a diagonal similarity that makes rows and columns of a matrix equally long before its eigenvalues are
//! taken (Parlett and Reinsch 1969; James, Langou and Lowery 2014, as in LAPACK's `gebal`). faer has no such function.
//! The diagonal, which scaling does not change, is ignored: a large diagonal would hide how uneven the rest is.

use ndarray::{Array2, ArrayView2};

/// Maximum number of sweeps over the rows. A few are usual; a chain whose way back gets less and less likely needs
/// about one per state.
const SWEEPS: usize = 100;

/// Returns `D⁻¹ A D` for the diagonal matrix `D` that balances `matrix` `[n, n]`. Its entries are powers of two, so
/// nothing is rounded.
pub(super) fn balance(matrix: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut a = matrix.to_owned();
    for _ in 0..SWEEPS {
        let mut balanced = true;
        for i in 0..a.nrows() {
            let norm = |entries: ndarray::ArrayView1<'_, f64>| {
                entries.indexed_iter().filter(|(j, _)| *j != i).map(|(_, v)| v * v).sum::<f64>().sqrt()
            };
            let (column, row) = (norm(a.column(i)), norm(a.row(i)));
            if !(column > 0.0 && row > 0.0 && column.is_finite() && row.is_finite()) {
                continue;
            }
            // The power of two nearest to √(row / column), in the exponent range that keeps every entry a normal number.
            let exponent = ((row / column).log2() / 2.0).round().clamp(-500.0, 500.0);
            let factor = exponent.exp2();
            if exponent != 0.0 && column * factor + row / factor < column + row {
                balanced = false;
                a.column_mut(i).mapv_inplace(|v| v * factor);
                a.row_mut(i).mapv_inplace(|v| v / factor);
            }
        }
        if balanced {
            break;
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_graded_matrix_is_made_even_and_keeps_its_invariants() {
        let a = array![[0.5, 1e-12, 0.0], [0.3, 0.2, 1e-9], [0.1, 0.4, 0.5]];
        let b = balance(a.view());
        assert_eq!(a.diag(), b.diag());
        // A similarity keeps the product of an entry and its mirror image, and powers of two round nothing.
        for (i, j) in [(0, 1), (1, 2)] {
            assert_eq!(a[(i, j)] * a[(j, i)], b[(i, j)] * b[(j, i)]);
        }
        assert!(b[(0, 1)] > 1e-8 && b[(1, 0)] < 1e-3, "{b}");
        // A balanced matrix stays unchanged.
        let even = array![[0.5, 0.25], [0.25, 0.5]];
        assert_eq!(balance(even.view()), even);
    }
}
