//! Krylov spaces of a batch of chains in single precision, without waiting for the device at every step.
//!
//! The spaces of all chains are one tensor on the device, orthogonalised by batched products. Only their small
//! projected matrices travel to the host, at the dimensions in [`CHECKS`]. Chains whose λ₂ is not settled by the last of
//! them are left to another method.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::{LAST, indices, to_vec};
use crate::Result;
use crate::random::Random;
use crate::spectrum::Effort;
use crate::spectrum::krylov::{BREAKDOWN, Projected, goal, judge};
use crate::spectrum::matrix::Small;

/// Dimensions of the Krylov spaces at which the host looks at them.
const CHECKS: [usize; 8] = [8, 14, 22, 32, 46, 64, 90, 124];
const EPSILON: f64 = f32::EPSILON as f64;
/// Keeps the direction of a vanished vector finite.
const LEAST_NORM: f64 = 1e-30;
/// Largest error of λ₂, in absolute terms, that rounding in single precision may cause.
const ROUNDING: f64 = 1e-5;

/// A linear map for each chain of a batch, on a device. It maps the vectors that sum to zero to themselves, after
/// [`centred`], and has on them the eigenvalues of its chain without the 1.
pub(super) trait Products: Sized {
    /// Number of states of each chain, `n`.
    fn states(&self) -> i64;

    /// Returns the image of each row of `x` `[b, k, n]` (float32), in the same shape.
    ///
    /// # Errors
    /// libtorch fails.
    fn apply(&self, x: &Tensor) -> Result<Tensor>;

    /// Returns the image of `x` `[b, 1, n]` in double precision, as exactly as the maps are known.
    ///
    /// # Errors
    /// libtorch fails.
    fn step(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.apply(&x.f_to_kind(Kind::Float)?)?.f_to_kind(Kind::Double)?)
    }
}

/// Products of which some can go on alone.
pub(super) trait Select: Products {
    /// Returns the products of some of the chains.
    ///
    /// # Errors
    /// libtorch fails.
    fn of(&self, rows: &Tensor) -> Result<Self>;
}

/// Subtracts from each row of `x` `[..., n]` its mean.
fn centred(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_sub(&x.f_mean_dim(LAST.as_slice(), true, Kind::Float)?)?)
}

/// Returns random rows `[count, n]` of about unit length, the same on every device.
fn random_rows(count: usize, states: usize, like: &Tensor) -> Result<Tensor> {
    let mut random = Random::new(0x1abe1);
    let numbers: Vec<f32> = (0..count * states).map(|_| random.symmetric() as f32).collect();
    let rows = Tensor::f_from_slice(&numbers)?.f_reshape([count as i64, states as i64])?;
    let rows = centred(&rows.f_to_device(like.device())?)?;
    Ok(rows.f_div(&rows.f_norm_scalaropt_dim(2.0, LAST.as_slice(), true)?)?)
}

/// Computes λ₂ of `batch` chains on the device of `like` from spaces of `starts` start vectors each: the modulus, or
/// `None` where another method has to find it. That is so for a chain whose products are not finite, and for an eigenvalue
/// whose condition number is above `most_condition`.
///
/// # Errors
/// libtorch fails, or the small eigensolver.
pub(super) fn second<P: Select>(
    products: P,
    batch: usize,
    starts: usize,
    most_condition: f64,
    effort: Effort,
    like: &Tensor,
) -> Result<Vec<Option<f64>>> {
    let mut found = vec![None; batch];
    let states = products.states() as usize;
    if states < 2 {
        return Ok(found);
    }
    let free = states - 1;
    // Some directions of a block may be noise; that of a nearly complete space would not be orthogonal to it.
    let most = if starts == 1 { free } else { 2 * free / 3 };
    let most = most.min(CHECKS[CHECKS.len() - 1]) / starts * starts;
    if most == 0 {
        return Ok(found);
    }
    let start = random_rows(starts, states, like)?.f_expand([batch as i64, -1, -1], false)?;
    let mut space = Space::new(products, &start, most)?;
    // Rows of the space whose λ₂ is not known yet.
    let mut open: Vec<usize> = (0..batch).collect();
    for check in CHECKS {
        let m = check.next_multiple_of(starts).min(most);
        if m > effort.max_products {
            break;
        }
        while space.dimension < m {
            space.extend()?;
        }
        let matrices = space.matrices()?;
        let outcomes: Vec<Outcome> = open
            .par_iter()
            .map(|row| {
                let projected = Projected { h: &matrices[*row], m, starts, whole: m == free };
                outcome(&projected, effort.tolerance, most_condition)
            })
            .collect::<Result<_>>()?;
        let mut still = Vec::with_capacity(open.len());
        for (row, outcome) in open.iter().zip(outcomes) {
            match outcome {
                Outcome::Found(modulus) => found[space.chains[*row]] = Some(modulus),
                Outcome::Left => {}
                Outcome::Open => still.push(*row),
            }
        }
        open = still;
        if open.is_empty() || m == most {
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

/// What a space says about λ₂ of its chain.
enum Outcome {
    /// The modulus.
    Found(f64),
    /// A larger space may find it.
    Open,
    /// Another method has to find it.
    Left,
}

/// Looks for λ₂ in the projected matrix of a space.
fn outcome(projected: &Projected<'_>, tolerance: f64, most_condition: f64) -> Result<Outcome> {
    let Projected { h, m, starts, whole } = *projected;
    if !h.norm(m).is_finite() {
        return Ok(Outcome::Left);
    }
    // Directions that vanished: the space is invariant, and no further eigenvalue is in it.
    let vanished = |end: &usize| {
        let new = (end - starts..*end).flat_map(|j| (*end..end + starts).map(move |i| h[(i, j)]));
        new.map(f64::abs).fold(0.0, f64::max) <= BREAKDOWN * EPSILON
    };
    let closed = (starts..=m).step_by(starts).find(vanished);
    let (m, whole) = (closed.unwrap_or(m), closed.is_some() || whole);
    let goal = |modulus| goal(modulus, tolerance, EPSILON);
    let ritz = judge(&Projected { h, m, starts, whole }, 1, goal, EPSILON, m)?;
    let Some(first) = ritz.values.first().filter(|_| ritz.converged) else {
        return Ok(if whole { Outcome::Left } else { Outcome::Open });
    };
    // An ill-conditioned eigenvalue, as of a nearly causal map, moves with the rounding of the products.
    let modulus = first.value.norm();
    let rounding = EPSILON * h.norm(m) * first.condition;
    let sound = first.condition <= most_condition && rounding <= goal(modulus).max(ROUNDING);
    Ok(if sound { Outcome::Found(modulus.min(1.0)) } else { Outcome::Left })
}

/// A growing Krylov space of row vectors that sum to zero, for each of some chains.
pub(super) struct Space<P> {
    /// Which chains of the batch these are.
    chains: Vec<usize>,
    products: P,
    starts: i64,
    /// Orthonormal rows, `[b, capacity + starts, n]`.
    basis: Tensor,
    /// Projected matrices, `[b, capacity + starts, capacity]`: entry `(i, j)` is the part of the image of row `j` along
    /// row `i`.
    h: Tensor,
    /// Random rows `[starts, n]` of the length of rounding, which give a vanished vector of a block a direction.
    noise: Option<Tensor>,
    /// Number of basis vectors whose images are known.
    dimension: usize,
}

impl<P: Products> Space<P> {
    /// Creates the space of `start` `[b, starts, n]`, rows of about unit length that sum to zero, for `capacity` images, a
    /// multiple of the starts.
    pub(super) fn new(products: P, start: &Tensor, capacity: usize) -> Result<Self> {
        let (batch, starts, states) = start.size3()?;
        let capacity = capacity as i64;
        let options = (Kind::Float, start.device());
        let basis = Tensor::f_zeros([batch, capacity + starts, states], options)?;
        let noise = if starts == 1 {
            basis.f_narrow(1, 0, 1)?.f_copy_(start)?;
            None
        } else {
            let noise = random_rows(starts as usize, states as usize, start)?.f_mul_scalar(EPSILON)?;
            basis.f_narrow(1, 0, starts)?.f_copy_(&orthonormal(&orthonormal(start)?.0)?.0)?;
            Some(noise)
        };
        Ok(Self {
            chains: (0..batch as usize).collect(),
            products,
            starts,
            basis,
            h: Tensor::f_zeros([batch, capacity + starts, capacity], options)?,
            noise,
            dimension: 0,
        })
    }

    /// Extends every space by the images of its last vectors. Nothing is read from the device.
    pub(super) fn extend(&mut self) -> Result<()> {
        let (j, starts) = (self.dimension as i64, self.starts);
        let known = self.basis.f_narrow(1, 0, j + starts)?;
        let transposed = known.f_transpose(1, 2)?;
        let next = centred(&self.products.apply(&self.basis.f_narrow(1, j, starts)?)?)?;
        // Gram–Schmidt twice is enough (Kahan; Giraud et al. 2005).
        let first = next.f_bmm(&transposed)?;
        let next = next.f_baddbmm(&first, &known, 1.0, -1.0)?;
        let second = next.f_bmm(&transposed)?;
        let next = next.f_baddbmm(&second, &known, 1.0, -1.0)?;
        let (next, factor) = match &self.noise {
            None => {
                let norm = next.f_norm_scalaropt_dim(2.0, LAST.as_slice(), true)?;
                (next.f_div(&norm.f_clamp_min(LEAST_NORM)?)?, norm)
            }
            Some(noise) => {
                // A short vector gets a direction that is mostly rounding; it is made orthogonal at full length.
                let (next, first) = orthonormal(&next.f_add(noise)?)?;
                let next = next.f_baddbmm(&next.f_bmm(&transposed)?, &known, 1.0, -1.0)?;
                let (next, second) = orthonormal(&next)?;
                (next, first.f_bmm(&second)?.f_to_kind(Kind::Float)?)
            }
        };
        let columns = Tensor::f_cat(&[first.f_add(&second)?, factor], 2)?.f_transpose(1, 2)?;
        self.h.f_narrow(2, j, starts)?.f_narrow(1, 0, j + 2 * starts)?.f_copy_(&columns)?;
        self.basis.f_narrow(1, j + starts, starts)?.f_copy_(&next)?;
        self.dimension += starts as usize;
        Ok(())
    }

    /// Copies the projected matrices to the host, `[dimension + starts, dimension]` for each chain.
    pub(super) fn matrices(&self) -> Result<Vec<Small<f64>>> {
        let (m, rows) = (self.dimension, self.dimension + self.starts as usize);
        let numbers: Vec<f32> = to_vec(&self.h.f_narrow(1, 0, rows as i64)?.f_narrow(2, 0, m as i64)?)?;
        let of = |numbers: &[f32]| Small::from_fn(rows, m, |i, j| f64::from(numbers[i * m + j]));
        Ok(numbers.chunks_exact((rows * m).max(1)).map(of).collect())
    }

    /// Returns `Σ_j by[..., j] · row j` of each basis, `[b, 1, n]`, for `by` `[b, 1, dimension]`.
    pub(super) fn combined(&self, by: &Tensor) -> Result<Tensor> {
        Ok(by.f_bmm(&self.basis.f_narrow(1, 0, self.dimension as i64)?)?)
    }

    /// Number of basis vectors whose images are known.
    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Ends the space.
    pub(super) fn into_products(self) -> P {
        self.products
    }
}

impl<P: Select> Space<P> {
    /// Returns the spaces of some of the chains.
    fn of(&self, rows: &[usize]) -> Result<Self> {
        let index = indices(rows, self.basis.device())?;
        let pick = |tensor: &Tensor| tensor.f_index_select(0, &index);
        Ok(Self {
            chains: rows.iter().map(|row| self.chains[*row]).collect(),
            products: self.products.of(&index)?,
            starts: self.starts,
            basis: pick(&self.basis)?,
            h: pick(&self.h)?,
            noise: self.noise.as_ref().map(Tensor::shallow_clone),
            dimension: self.dimension,
        })
    }
}

/// Returns orthonormal rows `Q` `[b, k, n]` in single precision and the lower triangle `L` `[b, k, k]` in double precision
/// with `x = L Q`, from the Cholesky factor of `x xᵀ`. Rows that are nearly dependent leave `Q` inexact, so call it twice.
/// `Q` is NaN where `x` is not finite or dependent.
fn orthonormal(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let x = x.f_to_kind(Kind::Double)?;
    let (lower, info) = x.f_bmm(&x.f_transpose(1, 2)?)?.f_linalg_cholesky_ex(false, false)?;
    // The factor of a matrix that is not positive is unspecified.
    let failed = info.f_ne(0)?.f_reshape([-1, 1, 1])?;
    let lower = lower.f_masked_fill(&failed, f64::NAN)?.f_tril(0)?;
    let rows = lower.f_linalg_solve_triangular(&x, false, true, false)?;
    Ok((rows.f_to_kind(Kind::Float)?, lower))
}
