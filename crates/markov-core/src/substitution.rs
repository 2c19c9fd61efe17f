//! The steady state of a teleported triangular chain by substitution: exact to rounding, in one pass over the matrix.
//!
//! Without the jumps, a walk through a triangular matrix never returns to a token it has left. So the mass of a token
//! follows from the masses of the tokens before it on such walks, in the order of the triangle.

use ndarray::Array1;

use crate::kernel;
use crate::triangle::Triangle;

/// Reader of the rows of a triangular matrix in rising or, if `true`, falling order. It calls its argument with the
/// number of each row, the first of some neighbouring columns and the entries in these columns; other entries are 0.
pub(crate) type Rows<'r> = dyn Fn(bool, &mut dyn FnMut(usize, usize, &[f64])) + 'r;

/// A pivot below this has lost half of its digits.
const LEAST_PIVOT: f64 = 1e-8;

/// Returns the steady state of the forward chain `α A + (1-α) 1 tᵀ`, `α < 1`, and the L1 change of one step, for a
/// triangular `A` and `t = target` `[n]`.
///
/// It is `(1-α) t (I - αA)⁻¹`. No subtraction occurs, so every entry is accurate to rounding, tiny ones too.
pub(crate) fn forward(triangle: Triangle, rows: &Rows<'_>, alpha: f64, target: &[f64]) -> (Array1<f64>, f64) {
    let mut pi = Array1::zeros(target.len());
    // The mass that comes from other tokens, and after the visit of a row also from the token itself.
    let mut coming = vec![0.0; target.len()];
    rows(triangle == Triangle::Lower, &mut |row, from, values| {
        let (before, _, after) = split(row, from, values);
        let leave = (1.0 - alpha) + alpha * (kernel::sum(before) + kernel::sum(after));
        let mass = ((1.0 - alpha) * target[row] + alpha * coming[row]) / leave;
        pi[row] = mass;
        kernel::axpy(mass, values, &mut coming[from..from + values.len()]);
    });
    let total = pi.sum();
    let step = coming.iter().zip(target).map(|(coming, t)| alpha * coming / total + (1.0 - alpha) * t);
    pi /= total;
    let change = step.zip(&pi).map(|(step, pi)| (step - pi).abs()).sum();
    (pi, change)
}

/// Returns the steady state of the backward chain `B[j, i] = T[i, j] · columns[j]` of `T = α A + (1-α) 1 tᵀ`, `α < 1`, and
/// the L1 change of one step, for a triangular `A`, `t = target` `[n]` and the reciprocals `columns` `[n]` of the column
/// sums of `T`. Returns `None` if a token is left so rarely that its mass would lose half of its digits.
///
/// With `y = π · columns`, `π = α A y + (1-α) (t·y) 1`: a triangular system up to the constant `(1-α) (t·y)`, which follows
/// from the sum of `π`.
pub(crate) fn backward(
    triangle: Triangle,
    rows: &Rows<'_>,
    alpha: f64,
    target: &[f64],
    columns: &[f64],
) -> Option<(Array1<f64>, f64)> {
    let n = target.len();
    let (mut pi, mut y, mut coming) = (Array1::zeros(n), vec![0.0; n], vec![0.0; n]);
    let mut least = f64::INFINITY;
    rows(triangle == Triangle::Upper, &mut |row, from, values| {
        let (_, stay, _) = split(row, from, values);
        let others = kernel::dot(values, &y[from..from + values.len()]);
        let leave = 1.0 - alpha * stay * columns[row];
        least = least.min(leave);
        pi[row] = (alpha * others + 1.0) / leave;
        y[row] = pi[row] * columns[row];
        coming[row] = alpha * (others + stay * y[row]);
    });
    if least < LEAST_PIVOT {
        return None;
    }
    let total = pi.sum();
    let jumps: f64 = (1.0 - alpha) * y.iter().zip(target).map(|(y, t)| y * t).sum::<f64>() / total;
    pi /= total;
    let change = coming.iter().zip(&pi).map(|(coming, pi)| (coming / total + jumps - pi).abs()).sum();
    Some((pi, change))
}

/// Splits the entries of a row into those before the diagonal, the diagonal, and those after it.
fn split(row: usize, from: usize, values: &[f64]) -> (&[f64], f64, &[f64]) {
    let (before, rest) = values.split_at(row.saturating_sub(from).min(values.len()));
    match rest.split_first() {
        Some((stay, after)) if from + before.len() == row => (before, *stay, after),
        Some(_) | None => (before, 0.0, rest),
    }
}
