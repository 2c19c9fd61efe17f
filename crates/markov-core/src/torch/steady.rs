//! TokenRank of a batch of chains in single precision, without waiting for the device at every step.
//!
//! The method is that of [`accelerated`](crate::rank::accelerated): plain steps, then corrections from Krylov spaces. The
//! states are kept in double precision; the host reads a few numbers twice for each space.

use tch::{Kind, Tensor};

use super::space::{Products, Space};
use super::{LAST, to_vec};
use crate::Result;
use crate::rank::accelerated::LeastSquares;

/// Number of plain steps at the start.
const PLAIN: usize = 4;
/// Products of a Krylov space.
const SPACE: usize = 16;
/// Maximum number of Krylov spaces. Chains that need more are rare.
const SPACES: usize = 12;
/// Smallest L1 change of a step that single precision resolves.
pub(super) const LEAST_CHANGE: f64 = 5e-7;

/// Steady states in double precision.
pub(super) struct Steady {
    /// `[b, n]`.
    pub(super) pi: Tensor,
    /// Whether the L1 change of a step fell below the tolerance, for each chain.
    pub(super) converged: Vec<bool>,
}

/// Moves states `[b, 1, n]` in double precision one step, and scales them to sum to 1.
fn step<P: Products>(products: &P, x: &Tensor) -> Result<Tensor> {
    let next = products.apply(&x.f_to_kind(Kind::Float)?)?.f_to_kind(Kind::Double)?;
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
    let capacity = SPACE.min(states as usize - 1);
    // L1 norms are at most √n L2 norms.
    let goal = tolerance / (states as f64).sqrt() / 2.0;
    let mut converged = vec![false; batch];
    for round in 0.. {
        let next = step(&products, &x)?;
        let change = next.f_sub(&x)?;
        let norm = change.f_norm_scalaropt_dim(2.0, LAST.as_slice(), true)?;
        let sizes = change.f_abs()?.f_sum_dim_intlist(LAST.as_slice(), true, Kind::Double)?;
        let sizes: Vec<f64> = to_vec(&Tensor::f_cat(&[sizes, norm.shallow_clone()], 2)?)?;
        for (converged, sizes) in converged.iter_mut().zip(sizes.chunks_exact(2)) {
            *converged = sizes[0] < tolerance;
        }
        if round == SPACES || capacity == 0 || converged.iter().all(|converged| *converged) {
            x = next;
            break;
        }
        let start = change.f_div(&norm.f_clamp_min(f64::MIN_POSITIVE)?)?.f_to_kind(Kind::Float)?;
        let mut space = Space::new(products, &start, capacity)?;
        for _ in 0..capacity {
            space.extend()?;
        }
        let mut by = vec![0.0; batch * capacity];
        let matrices = space.matrices()?;
        for (row, (h, by)) in matrices.iter().zip(by.chunks_exact_mut(capacity)).enumerate() {
            if converged[row] || !h.norm(capacity).is_finite() {
                continue;
            }
            let mut fit = LeastSquares::new(sizes[2 * row + 1]);
            // Columns after the last that is needed may be rounding.
            for j in 0..capacity {
                if fit.residual() <= goal {
                    break;
                }
                fit.push(h, j);
            }
            by.iter_mut().zip(fit.solve()).for_each(|(by, part)| *by = part);
        }
        let by = Tensor::f_from_slice(&by)?.f_reshape([batch as i64, 1, -1])?.f_to_device(like.device())?;
        let correction = space.combined(&by.f_to_kind(Kind::Float)?)?.f_to_kind(Kind::Double)?;
        x = x.f_add(&correction)?;
        products = space.into_products();
    }
    // Rounding may leave entries slightly below zero.
    let pi = x.f_clamp_min(0.0)?.f_reshape([batch as i64, states])?;
    let pi = pi.f_div(&pi.f_sum_dim_intlist(LAST.as_slice(), true, Kind::Double)?)?;
    Ok(Steady { pi, converged })
}
