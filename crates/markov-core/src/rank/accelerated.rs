//! The steady state from a Krylov space: tens of steps where the power method needs hundreds.
//!
//! With `r = x P - x` the correction `z` of the steady state `x + z` solves `z (I - P) = r` among the vectors that
//! sum to zero, where `I - P` is regular. GMRES (Saad and Schultz 1986) finds it in the space of the Arnoldi
//! iteration that also gives λ₂, restarted until one plain step changes less than the tolerance.

use ndarray::Array1;

use super::TokenRank;
use crate::Result;
use crate::propagate::{Block, Propagate};
use crate::spectrum::krylov::Arnoldi;
use crate::spectrum::matrix::Small;

/// Number of plain steps at the start: most heads of a network need few, and they smooth the start of the Krylov space.
const PLAIN: usize = 4;
/// Products between restarts.
const SPACE: usize = 30;

/// Computes the steady states of every chain of the carrier, until one step changes each by less than `tolerance` in
/// L1.
pub(crate) fn steady<P: Propagate>(
    chain: &P,
    start: P::Block,
    tolerance: f64,
    budget: usize,
) -> Result<Vec<TokenRank>> {
    let n = chain.states();
    let rows = start.rows();
    let mut x = start;
    let mut found: Vec<Option<TokenRank>> = vec![None; rows];
    let mut products = 0;
    loop {
        let mut next = x.zeros_like()?;
        chain.step(&x, &mut next)?;
        products += 1;
        next.scale(&next.sums()?.iter().map(|sum| sum.recip()).collect::<Vec<_>>())?;
        let change = next.l1(&x)?;
        let spent = products >= budget;
        if spent || change.iter().zip(&found).any(|(c, f)| f.is_none() && *c < tolerance) {
            let host = next.lower()?;
            for (row, residual) in change.iter().copied().enumerate() {
                if found[row].is_none() && (residual < tolerance || spent) {
                    let pi = positive(host.row(row).to_owned());
                    let converged = residual < tolerance;
                    found[row] = Some(TokenRank { pi, iterations: products, residual, converged });
                }
            }
        }
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
        if products <= PLAIN || n == 1 {
            x = next;
            continue;
        }
        let mut residual = next;
        residual.add(&vec![-1.0; rows], &x)?;
        let (mut space, norms) = Arnoldi::new(chain, residual, SPACE.min(n - 1))?;
        let mut fits: Vec<LeastSquares> = norms.iter().map(|norm| LeastSquares::new(*norm)).collect();
        // L1 norms are at most √n L2 norms.
        let goal = tolerance / (n as f64).sqrt() / 2.0;
        while space.dimension() < SPACE.min(n - 1) && products + 1 < budget {
            space.extend()?;
            products += 1;
            let j = space.dimension() - 1;
            for (fit, h) in fits.iter_mut().zip(&space.h) {
                fit.push(h, j);
            }
            let open = fits.iter().zip(&found).any(|(fit, found)| found.is_none() && fit.residual() > goal);
            if !open {
                break;
            }
        }
        let m = space.dimension();
        let mut y = vec![vec![0.0; m]; rows];
        for ((y, fit), found) in y.iter_mut().zip(&fits).zip(&found) {
            if found.is_none() {
                *y = fit.solve();
            }
        }
        x.combine(&y, &space.basis[..m])?;
    }
}

/// Replaces entries that rounding has left slightly below zero.
fn positive(pi: Array1<f64>) -> Array1<f64> {
    if pi.iter().all(|p| *p >= 0.0) {
        return pi;
    }
    let pi = pi.mapv(|p| p.max(0.0));
    let sum = pi.sum();
    pi / sum
}

/// Incremental least squares `min ‖β e₁ - (I - H) y‖` by plane rotations.
pub(crate) struct LeastSquares {
    /// Columns of the triangular factor.
    columns: Vec<Vec<f64>>,
    rotations: Vec<(f64, f64)>,
    right: Vec<f64>,
}

impl LeastSquares {
    pub(crate) fn new(norm: f64) -> Self {
        LeastSquares { columns: Vec::new(), rotations: Vec::new(), right: vec![norm] }
    }

    /// Adds column `j` of `h`.
    pub(crate) fn push(&mut self, h: &Small<f64>, j: usize) {
        let mut column: Vec<f64> = (0..=j + 1).map(|i| f64::from(u8::from(i == j)) - h[(i, j)]).collect();
        for (i, (c, s)) in self.rotations.iter().enumerate() {
            let (a, b) = (column[i], column[i + 1]);
            (column[i], column[i + 1]) = (c * a + s * b, c * b - s * a);
        }
        let norm = column[j].hypot(column[j + 1]);
        let (c, s) = if norm > 0.0 { (column[j] / norm, column[j + 1] / norm) } else { (1.0, 0.0) };
        column[j] = norm;
        column.truncate(j + 1);
        let last = self.right[j];
        self.right[j] = c * last;
        self.right.push(-s * last);
        self.rotations.push((c, s));
        self.columns.push(column);
    }

    pub(crate) fn residual(&self) -> f64 {
        self.right.last().map_or(0.0, |r| r.abs())
    }

    pub(crate) fn solve(&self) -> Vec<f64> {
        let m = self.columns.len();
        let mut y = self.right[..m].to_vec();
        for i in (0..m).rev() {
            for j in i + 1..m {
                y[i] -= self.columns[j][i] * y[j];
            }
            // A vanishing pivot belongs to a direction that the right-hand side does not use.
            y[i] = if self.columns[i][i].abs() > f64::MIN_POSITIVE { y[i] / self.columns[i][i] } else { 0.0 };
        }
        y
    }
}
