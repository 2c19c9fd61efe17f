//! Large matrix products in double precision, in blocks on all cores.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

/// Number of rows or columns of a block: a block of products (2 MB) stays in the cache of a core.
const BLOCK: usize = 512;

fn blocks(length: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..length).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(length))
}

/// Returns `Xᵀ X` `[columns, columns]` of `x` `[rows, columns]`; only blocks on and above the diagonal are computed, then mirrored.
pub(super) fn gram(x: ArrayView2<'_, f64>) -> Array2<f64> {
    let columns = x.ncols();
    let pairs: Vec<(Range<usize>, Range<usize>)> =
        blocks(columns).flat_map(|a| blocks(columns).map(move |b| (a.clone(), b))).collect();
    let products: Vec<_> = pairs
        .into_par_iter()
        .filter(|(a, b)| a.start <= b.start)
        .map(|(a, b)| {
            let product = x.slice(s![.., a.clone()]).t().dot(&x.slice(s![.., b.clone()]));
            (a, b, product)
        })
        .collect();
    let mut gram = Array2::zeros((columns, columns));
    for (a, b, product) in products {
        gram.slice_mut(s![b.clone(), a.clone()]).assign(&product.t());
        gram.slice_mut(s![a, b]).assign(&product);
    }
    gram
}

/// Returns `A B` `[m, n]` of `a` `[m, k]` and `b` `[k, n]`, in blocks of rows.
pub(super) fn product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    let rows: Vec<_> = product.axis_chunks_iter_mut(Axis(0), BLOCK).zip(blocks(a.nrows())).collect();
    rows.into_par_iter().for_each(|(mut out, rows)| {
        ndarray::linalg::general_mat_mul(1.0, &a.slice(s![rows, ..]), &b, 0.0, &mut out);
    });
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_in_blocks_equal_whole_products() {
        let (rows, columns) = (37, 2 * BLOCK + 5);
        let x =
            Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 31 + j * 17) % 101) as f64 / 50.0 - 1.0);
        let close = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().all(|d| d.abs() < 1e-10);
        let all = gram(x.view());
        assert!(close(&all, &x.t().dot(&x)));
        assert_eq!(all, all.t());
        assert!(close(&product(x.t(), x.view()), &all));
        assert_eq!(gram(Array2::zeros((0, 3)).view()), Array2::<f64>::zeros((3, 3)));
    }
}
