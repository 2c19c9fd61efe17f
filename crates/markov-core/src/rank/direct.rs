//! The steady state by elimination: exact to rounding for any chain with one closed class, however slowly it mixes.

use ndarray::{Array1, Array2};

/// Computes the steady state of an irreducible chain `[n, n]` by the state reduction of Grassmann, Taksar and Heyman
/// (1985).
///
/// No subtraction occurs, so every entry is accurate to rounding, tiny ones too. O(n³).
pub(crate) fn state_reduction(mut p: Array2<f64>) -> Array1<f64> {
    let n = p.nrows();
    for k in (1..n).rev() {
        let leave: f64 = (0..k).map(|j| p[(k, j)]).sum();
        let (mut above, rest) = p.view_mut().split_at(ndarray::Axis(0), k);
        let row = rest.row(0);
        for mut other in above.rows_mut() {
            let fraction = other[k] / leave;
            other[k] = fraction;
            if fraction != 0.0 {
                for j in 0..k {
                    other[j] += fraction * row[j];
                }
            }
        }
    }
    let mut pi = Array1::zeros(n);
    pi[0] = 1.0;
    let mut total = 1.0;
    for k in 1..n {
        pi[k] = (0..k).map(|i| pi[i] * p[(i, k)]).sum();
        total += pi[k];
    }
    pi / total
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn known_steady_states() {
        let pi = state_reduction(array![[0.9, 0.1], [0.5, 0.5]]);
        assert!((pi[0] - 5.0 / 6.0).abs() < 1e-15);
        assert_eq!(state_reduction(array![[1.0]]), array![1.0]);
        // A birth–death chain whose steady state spans 40 orders of magnitude.
        let (n, up) = (21, 0.0099);
        let p = Array2::from_shape_fn((n, n), |(i, j)| match (i, j) {
            (0, 0) => 1.0 - up,
            _ if j == i + 1 => up,
            _ if i == j + 1 => 0.99,
            _ if i == j => 1.0 - 0.99 - if i + 1 < n { up } else { 0.0 },
            _ => 0.0,
        });
        let pi = state_reduction(p);
        for k in 1..n {
            assert!((pi[k] / pi[k - 1] / (up / 0.99) - 1.0).abs() < 1e-12);
        }
    }
}
