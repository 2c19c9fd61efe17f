//! λ₂ of a batch of float32 maps in single precision, without waiting for the device at every step.
//!
//! The Krylov spaces of all chains are one tensor on the device, orthogonalised by batched products. Only their small
//! Hessenberg matrices travel to the host, at the dimensions in [`CHECKS`]. Chains that are not settled by the last of
//! them are left to the general iteration.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::{LAST, indices, to_vec};
use crate::Result;
use crate::random::Random;
use crate::spectrum::Effort;
use crate::spectrum::krylov::{BREAKDOWN, Projected, goal, judge};
use crate::spectrum::matrix::Small;
use crate::tolerance::ROW_TOLERANCE;

/// Dimensions of the Krylov spaces at which the host looks at them.
const CHECKS: [usize; 8] = [8, 14, 22, 32, 46, 64, 90, 124];
const EPSILON: f64 = f32::EPSILON as f64;
/// Keeps the direction of a vanished vector finite.
const LEAST_NORM: f64 = 1e-30;

/// Whether all maps `[b, n, n]` are transition matrices with positive entries only, so that each is one component.
fn positive(maps: &Tensor, sums: &Tensor) -> Result<bool> {
    let sums = sums.f_sub_scalar(1.0)?.f_abs()?.f_le(ROW_TOLERANCE)?.f_all()?;
    // Comparisons with NaN are false.
    Ok(maps
        .f_amin([-2i64, -1].as_slice(), false)?
        .f_gt(0.0)?
        .f_all()?
        .f_logical_and(&sums)?
        .f_int64_value(&[])?
        != 0)
}

/// Computes λ₂ of every map `[b, n, n]` (float32): the modulus, or `None` where another method has to find it. No map is
/// checked further than [`positive`]: if one is not, all are `None`.
///
/// # Errors
/// libtorch fails, or the small eigensolver.
pub(super) fn lambda2(maps: &Tensor, effort: Effort) -> Result<Vec<Option<f64>>> {
    let (batch, states, _) = maps.size3()?;
    let mut found = vec![None; batch as usize];
    if states < 2 {
        return Ok(found);
    }
    let sums = maps.f_sum_dim_intlist(LAST.as_slice(), true, Kind::Double)?;
    if !positive(maps, &sums)? {
        return Ok(found);
    }
    let free = states as usize - 1;
    let mut space = Space::new(maps, &sums, free.min(CHECKS[CHECKS.len() - 1]))?;
    // Rows of the space whose λ₂ is not known yet.
    let mut open: Vec<usize> = (0..found.len()).collect();
    for check in CHECKS {
        let m = check.min(free);
        if m > effort.max_products {
            break;
        }
        while space.dimension < m {
            space.extend()?;
        }
        let matrices = space.matrices()?;
        let moduli: Vec<Option<f64>> = open
            .par_iter()
            .map(|row| modulus(&matrices[*row], m, m == free, effort.tolerance))
            .collect::<Result<_>>()?;
        for (row, modulus) in open.iter().zip(moduli) {
            found[space.chains[*row]] = modulus;
        }
        open.retain(|row| found[space.chains[*row]].is_none());
        if open.is_empty() || m == free {
            break;
        }
        // To copy the maps of the open chains costs about two products with them.
        if 2 * open.len() <= space.chains.len() {
            space = space.of(&open)?;
            open = (0..open.len()).collect();
        }
    }
    Ok(found)
}

/// Returns the modulus of λ₂ from the Hessenberg matrix of a space of dimension `m`, if it is accurate enough. A `whole` space
/// has all dimensions.
fn modulus(h: &Small<f64>, m: usize, whole: bool, tolerance: f64) -> Result<Option<f64>> {
    // A direction that vanished: the space is invariant, and no further eigenvalue is in it.
    let closed = (0..m).find(|&j| h[(j + 1, j)] <= BREAKDOWN * EPSILON).map(|j| j + 1);
    let (m, whole) = (closed.unwrap_or(m), closed.is_some() || whole);
    let projected = Projected { h, m, starts: 1, whole };
    let ritz = judge(&projected, 1, |modulus| goal(modulus, tolerance, EPSILON), EPSILON, m)?;
    Ok(ritz.values.first().filter(|_| ritz.converged).map(|first| first.value.norm().min(1.0)))
}

/// A growing Krylov space of row vectors that sum to zero, for each of some chains.
struct Space {
    /// Which chains of the batch these are.
    chains: Vec<usize>,
    /// `[b, n, n]`.
    maps: Tensor,
    /// Reciprocals of the row sums, `[b, 1, n]`.
    scales: Tensor,
    /// Orthonormal rows, `[b, capacity + 1, n]`.
    basis: Tensor,
    /// Hessenberg matrices, `[b, capacity + 1, capacity]`.
    h: Tensor,
    dimension: usize,
}

impl Space {
    fn new(maps: &Tensor, sums: &Tensor, capacity: usize) -> Result<Self> {
        let (batch, states, _) = maps.size3()?;
        let options = (Kind::Float, maps.device());
        let basis = Tensor::f_zeros([batch, capacity as i64 + 1, states], options)?;
        let mut random = Random::new(0x1abe1);
        let start: Vec<f32> = (0..states).map(|_| random.symmetric() as f32).collect();
        let start = Tensor::f_from_slice(&start)?.f_to_device(maps.device())?;
        let start = start.f_sub(&start.f_mean(Kind::Float)?)?;
        let start = start.f_div(&start.f_norm()?)?;
        basis.f_select(1, 0)?.f_copy_(&start.f_expand([batch, states], false)?)?;
        Ok(Self {
            chains: (0..batch as usize).collect(),
            maps: maps.shallow_clone(),
            scales: sums.f_reciprocal()?.f_to_kind(Kind::Float)?.f_transpose(1, 2)?,
            basis,
            h: Tensor::f_zeros([batch, capacity as i64 + 1, capacity as i64], options)?,
            dimension: 0,
        })
    }

    /// Extends every space by one dimension. Nothing is read from the device.
    fn extend(&mut self) -> Result<()> {
        let j = self.dimension as i64;
        let known = self.basis.f_narrow(1, 0, j + 1)?;
        let transposed = known.f_transpose(1, 2)?;
        let last = self.basis.f_narrow(1, j, 1)?;
        let mut next = last.f_mul(&self.scales)?.f_bmm(&self.maps)?;
        next = next.f_sub(&next.f_mean_dim(LAST.as_slice(), true, Kind::Float)?)?;
        // Gram–Schmidt twice is enough (Kahan; Giraud et al. 2005).
        let first = next.f_bmm(&transposed)?;
        next = next.f_baddbmm(&first, &known, 1.0, -1.0)?;
        let second = next.f_bmm(&transposed)?;
        next = next.f_baddbmm(&second, &known, 1.0, -1.0)?;
        let norm = next.f_norm_scalaropt_dim(2.0, LAST.as_slice(), true)?;
        let column = Tensor::f_cat(&[first.f_add(&second)?, norm.shallow_clone()], 2)?.f_transpose(1, 2)?;
        self.h.f_narrow(2, j, 1)?.f_narrow(1, 0, j + 2)?.f_copy_(&column)?;
        let next = next.f_div(&norm.f_clamp_min(LEAST_NORM)?)?;
        self.basis.f_narrow(1, j + 1, 1)?.f_copy_(&next)?;
        self.dimension += 1;
        Ok(())
    }

    /// Copies the Hessenberg matrices to the host.
    fn matrices(&self) -> Result<Vec<Small<f64>>> {
        let m = self.dimension;
        let numbers: Vec<f32> = to_vec(&self.h.f_narrow(1, 0, m as i64 + 1)?.f_narrow(2, 0, m as i64)?)?;
        let of = |numbers: &[f32]| Small::from_fn(m + 1, m, |i, j| f64::from(numbers[i * m + j]));
        Ok(numbers.chunks_exact(((m + 1) * m).max(1)).map(of).collect())
    }

    /// Returns the spaces of some of the chains.
    fn of(&self, rows: &[usize]) -> Result<Self> {
        let index = indices(rows, self.maps.device())?;
        let pick = |tensor: &Tensor| tensor.f_index_select(0, &index);
        Ok(Self {
            chains: rows.iter().map(|row| self.chains[*row]).collect(),
            maps: pick(&self.maps)?,
            scales: pick(&self.scales)?,
            basis: pick(&self.basis)?,
            h: pick(&self.h)?,
            dimension: self.dimension,
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn positive_maps_are_settled_here_and_others_are_left() {
        tch::manual_seed(5);
        let effort = Effort::tolerance(1e-4);
        let logits = Tensor::randn([3, 150, 150], (Kind::Float, Device::Cpu)) * 2.0;
        let maps = logits.softmax(-1, Kind::Float);
        let found = lambda2(&maps, effort).unwrap();
        assert!(found.iter().all(|modulus| modulus.is_some_and(|modulus| modulus > 0.01)), "{found:?}");
        let uniform = Tensor::full([1, 60, 60], 1.0 / 60.0, (Kind::Float, Device::Cpu));
        assert!(lambda2(&uniform, effort).unwrap()[0].is_some_and(|modulus| modulus < 1e-6));
        for other in [
            Tensor::eye(4, (Kind::Float, Device::Cpu)).unsqueeze(0),
            maps.narrow(0, 0, 1) * 1.1,
            maps.narrow(0, 0, 1) * f64::NAN,
        ] {
            assert_eq!(lambda2(&other, effort).unwrap(), [None]);
        }
    }
}
