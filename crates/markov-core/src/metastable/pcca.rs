//! PCCA+: the linear map from leading eigenvectors to memberships with maximum crispness.

use ndarray::{Array2, ArrayView2, Axis, s};

use super::simplex;

/// Returns memberships `[n, m]` from eigenvectors `[n, m]`, of which the first is constant, and their crispness.
pub(super) fn memberships(vectors: ArrayView2<'_, f64>) -> (Array2<f64>, f64) {
    let m = vectors.ncols();
    if m == 1 {
        return (Array2::ones(vectors.dim()), 1.0);
    }
    let corners = inner_simplex(vectors);
    let start = inverse(vectors.select(Axis(0), &corners));
    let parameters: Vec<f64> = start.slice(s![1.., 1..]).iter().copied().collect();
    let loss =
        |parameters: &[f64]| feasible(vectors, parameters).map_or(f64::INFINITY, |map| -crispness(&map));
    let best = simplex::minimise(loss, &parameters, 4000 * (m - 1) * (m - 1));
    let map = feasible(vectors, &best).or_else(|| feasible(vectors, &parameters)).unwrap_or(start);
    let mut memberships = vectors.dot(&map);
    for mut row in memberships.rows_mut() {
        row.mapv_inplace(|membership| membership.clamp(0.0, 1.0));
        let sum = row.sum();
        row.mapv_inplace(|membership| membership / sum);
    }
    (memberships, (crispness(&map) / m as f64).clamp(0.0, 1.0))
}

/// Returns the rows of `vectors` that span the largest simplex, found greedily: each next row is the furthest from the
/// span so far.
fn inner_simplex(vectors: ArrayView2<'_, f64>) -> Vec<usize> {
    let furthest = |rows: &Array2<f64>| -> usize {
        let length = |i: usize| rows.row(i).dot(&rows.row(i));
        (0..rows.nrows()).max_by(|a, b| length(*a).total_cmp(&length(*b))).unwrap_or(0)
    };
    let mut rows = vectors.to_owned();
    let first = furthest(&rows);
    let origin = rows.row(first).to_owned();
    rows -= &origin;
    let mut corners = vec![first];
    while corners.len() < vectors.ncols() {
        let corner = furthest(&rows);
        let direction = rows.row(corner).to_owned();
        let length = direction.dot(&direction).sqrt();
        if length > 0.0 {
            let direction = direction / length;
            let along = rows.dot(&direction);
            for (mut row, along) in rows.rows_mut().into_iter().zip(along) {
                row.scaled_add(-along, &direction);
            }
        }
        corners.push(corner);
    }
    corners
}

/// Returns the map `[m, m]` with the free inner parameters `[m-1, m-1]` whose memberships are not negative and sum
/// to one. These conditions determine its other rows and columns (Röblitz and Weber 2013, section 3). Returns `None` if
/// that is impossible.
fn feasible(vectors: ArrayView2<'_, f64>, parameters: &[f64]) -> Option<Array2<f64>> {
    let m = vectors.ncols();
    let mut map = Array2::zeros((m, m));
    for i in 1..m {
        for j in 1..m {
            map[(i, j)] = parameters[(i - 1) * (m - 1) + j - 1];
            map[(i, 0)] -= map[(i, j)];
        }
    }
    let inner = vectors.slice(s![.., 1..]).dot(&map.slice(s![1.., ..]));
    for (j, column) in inner.columns().into_iter().enumerate() {
        map[(0, j)] = column.fold(f64::NEG_INFINITY, |top, v| top.max(-v));
    }
    let sum = map.row(0).sum();
    let usable = sum.is_finite() && sum > 0.0 && map.row(0).iter().all(|v| *v > 0.0);
    usable.then(|| map / sum)
}

/// Returns the trace of the normalised Gram matrix of the memberships, `Σ_ij A_ij² / A_0j`, which is at most `m`.
fn crispness(map: &Array2<f64>) -> f64 {
    map.columns().into_iter().map(|column| column.dot(&column) / column[0]).sum()
}

/// Inverts a small matrix by Gauss–Jordan elimination. Skips columns with a vanishing pivot.
fn inverse(mut a: Array2<f64>) -> Array2<f64> {
    let m = a.nrows();
    let mut inverse = Array2::eye(m);
    for k in 0..m {
        let pivot = (k..m).max_by(|i, j| a[(*i, k)].abs().total_cmp(&a[(*j, k)].abs())).unwrap_or(k);
        for j in 0..m {
            a.swap((k, j), (pivot, j));
            inverse.swap((k, j), (pivot, j));
        }
        let divisor = a[(k, k)];
        if divisor.abs() < f64::MIN_POSITIVE {
            continue;
        }
        for j in 0..m {
            a[(k, j)] /= divisor;
            inverse[(k, j)] /= divisor;
        }
        for i in (0..m).filter(|i| *i != k) {
            let factor = a[(i, k)];
            for j in 0..m {
                let (change, other) = (factor * a[(k, j)], factor * inverse[(k, j)]);
                a[(i, j)] -= change;
                inverse[(i, j)] -= other;
            }
        }
    }
    inverse
}
