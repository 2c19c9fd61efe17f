//! TokenRank of a batch of chains, without waiting for the device at every step.
//!
//! The method is that of [`accelerated`](crate::rank::accelerated): plain steps, then corrections from Krylov spaces. The
//! spaces are in single precision, the states in double: a step shows what a correction has left, and the next one starts
//! there. The host reads a few numbers at the dimensions in [`CHECKS`] and after each step.

use tch::{Kind, Tensor};

use super::space::{Products, Space};
use super::{LAST, to_vec};
use crate::Result;
use crate::rank::accelerated::LeastSquares;

/// Number of plain steps at the start.
const PLAIN: usize = 4;
/// Dimensions of a Krylov space at which the host looks at it; it does not grow beyond the last.
const CHECKS: [usize; 5] = [6, 10, 16, 24, 32];
/// Corrections in single precision leave about this part of a change at least.
const PART: f64 = 2e-6;
/// Maximum number of Krylov spaces. Chains that need more are rare.
const SPACES: usize = 12;
/// Smallest L1 change of a step that single precision resolves.
pub(super) const LEAST_CHANGE: f64 = 5e-7;

/// Steady states in double precision.
pub(super) struct Steady {
    /// `[b, n]`.
    pub(super) pi: Tensor,
    /// How each chain ended.
    pub(super) ends: Vec<End>,
}

/// How the iteration of one chain ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct End {
    /// L1 change of the last step.
    pub(super) residual: f64,
    /// Whether it fell below the tolerance.
    pub(super) converged: bool,
    /// Number of products with the chain until then.
    pub(super) products: usize,
}

/// Moves states `[b, 1, n]` in double precision one step, and scales them to sum to 1.
fn step<P: Products>(products: &P, x: &Tensor) -> Result<Tensor> {
    let next = products.step(x)?;
    Ok(next.f_div(&next.f_sum_dim_intlist(LAST.as_slice(), true, Kind::Double)?)?)
}

/// Computes the steady states of `batch` chains on the device of `like`, until one step changes each by less than
/// `tolerance` in L1. A chain whose products are not finite does not converge.
///
/// # Errors
/// libtorch fails.
pub(super) fn steady<P: Products>(
    mut products: P,
    batch: usize,
    tolerance: f64,
    like: &Tensor,
) -> Result<Steady> {
    let states = products.states();
    let shape = [batch as i64, 1, states];
    let mut x = Tensor::f_full(shape, 1.0 / states as f64, (Kind::Double, like.device()))?;
    for _ in 0..PLAIN {
        x = step(&products, &x)?;
    }
    let mut spent = PLAIN;
    let capacity = CHECKS[CHECKS.len() - 1].min(states as usize - 1);
    // L1 norms are at most √n L2 norms.
    let goal = tolerance / (states as f64).sqrt() / 2.0;
    let mut ends = vec![End { residual: f64::INFINITY, converged: false, products: 0 }; batch];
    for round in 0.. {
        let next = step(&products, &x)?;
        spent += 1;
        let change = next.f_sub(&x)?;
        let norm = change.f_norm_scalaropt_dim(2.0, LAST.as_slice(), true)?;
        let sizes = change.f_abs()?.f_sum_dim_intlist(LAST.as_slice(), true, Kind::Double)?;
        let sizes: Vec<f64> = to_vec(&Tensor::f_cat(&[sizes, norm.shallow_clone()], 2)?)?;
        let norms: Vec<f64> = sizes.chunks_exact(2).map(|sizes| sizes[1]).collect();
        for (end, sizes) in ends.iter_mut().zip(sizes.chunks_exact(2)).filter(|(end, _)| !end.converged) {
            *end = End { residual: sizes[0], converged: sizes[0] < tolerance, products: spent };
        }
        if round == SPACES || capacity == 0 || ends.iter().all(|end| end.converged) {
            x = next;
            break;
        }
        let start = change.f_div(&norm.f_clamp_min(f64::MIN_POSITIVE)?)?.f_to_kind(Kind::Float)?;
        let mut space = Space::new(products, &start, capacity)?;
        let by = corrections(&mut space, capacity, &norms, &ends, goal)?;
        spent += space.dimension();
        let by = Tensor::f_from_slice(&by)?.f_reshape([batch as i64, 1, -1])?.f_to_device(like.device())?;
        let correction = space.combined(&by.f_to_kind(Kind::Float)?)?.f_to_kind(Kind::Double)?;
        x = x.f_add(&correction)?;
        products = space.into_products();
    }
    // Rounding may leave entries slightly below zero.
    let pi = x.f_clamp_min(0.0)?.f_reshape([batch as i64, states])?;
    let pi = pi.f_div(&pi.f_sum_dim_intlist(LAST.as_slice(), true, Kind::Double)?)?;
    Ok(Steady { pi, ends })
}

/// Grows the space until the corrections in it leave at most `goal` of every change, which has the length in `norms`. Returns the
/// coefficients of the corrections, as many for each chain as the space has dimensions; 0 for chains that have ended.
fn corrections<P: Products>(
    space: &mut Space<P>,
    capacity: usize,
    norms: &[f64],
    ends: &[End],
    goal: f64,
) -> Result<Vec<f64>> {
    let mut by = Vec::new();
    for m in CHECKS.map(|check| check.min(capacity)) {
        while space.dimension() < m {
            space.extend()?;
        }
        let matrices = space.matrices()?;
        by = vec![0.0; norms.len() * m];
        let mut done = true;
        for (row, (h, by)) in matrices.iter().zip(by.chunks_exact_mut(m)).enumerate() {
            if ends[row].converged || !h.norm(m).is_finite() {
                continue;
            }
            let mut fit = LeastSquares::new(norms[row]);
            let goal = goal.max(PART * norms[row]);
            // Columns after the last that is needed may be rounding.
            for j in 0..m {
                if fit.residual() <= goal {
                    break;
                }
                fit.push(h, j);
            }
            done &= fit.residual() <= goal;
            by.iter_mut().zip(fit.solve()).for_each(|(by, part)| *by = part);
        }
        if done || m == capacity {
            break;
        }
    }
    Ok(by)
}
