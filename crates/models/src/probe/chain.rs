//! Chain quantities of maps in a tensor.

use markov_core::{Direction, Effort, Stop, lambda2_many, token_rank_many};
use ndarray::ArrayView3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Relative accuracy of λ₂ when it is used as a weight.
pub const LAMBDA_TOLERANCE: f64 = 1e-4;

/// L1 change at which TokenRank stops when it is used to order tokens: far below any difference between two entries.
pub(super) const RANK_TOLERANCE: f64 = 1e-8;

/// Minimum weight of a head, so that all heads count equally if none has structure.
const LEAST_WEIGHT: f64 = 1e-12;

/// Up to this number of states TokenRank is faster on the host than on an accelerator, on which each step of the iteration
/// waits for the previous one.
const HOST_RANKS: i64 = 256;

/// The same for λ₂, which waits only a few times.
const HOST_LAMBDAS: i64 = 128;

/// Formula for a head's weight from its λ₂. The paper does not give one.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LambdaWeight {
    /// Proportional to |λ₂|.
    #[default]
    Proportional,
    /// Proportional to |λ₂|², which favours heads with much structure.
    Squared,
}

impl LambdaWeight {
    /// Returns unnormalised weights from moduli, in the same shape.
    pub(super) fn apply(self, lambda: &Tensor) -> Result<Tensor> {
        let lambda = lambda.f_clamp_min(LEAST_WEIGHT)?;
        Ok(match self {
            Self::Proportional => lambda,
            Self::Squared => lambda.f_square()?,
        })
    }
}

/// Returns the λ₂ modulus of each map of `maps` `[..., n, n]` (float32, rows summing to 1): `[...]`, float64, on the
/// maps' device.
///
/// # Errors
/// A map is not a transition matrix (NaN from a network that overflowed); libtorch fails.
pub fn lambda2(maps: &Tensor, tolerance: f64) -> Result<Tensor> {
    let (outer, n) = split(maps)?;
    if !on_host_is_faster(maps, n, HOST_LAMBDAS) {
        return Ok(markov_core::torch::lambda2(maps, Effort::tolerance(tolerance))?);
    }
    let lambdas = on_host(maps, |maps| Ok(lambda2_many(maps, tolerance)?.to_vec()))?;
    Ok(Tensor::f_from_slice(&lambdas)?.f_reshape(outer)?.f_to_device(maps.device())?)
}

/// Returns the TokenRank of each map of `maps` `[..., n, n]` in the backward direction (outgoing attention): `[..., n]`, float64, on
/// the maps' device. Teleport comes first, reversal second.
///
/// # Errors
/// As [`token_rank`].
pub fn token_rank_backward(maps: &Tensor, alpha: f64) -> Result<Tensor> {
    Ok(markov_core::torch::token_rank(maps, alpha, Direction::Backward, Stop::accelerated(RANK_TOLERANCE))?
        .pi)
}

/// Returns the TokenRank of each map of `maps` `[..., n, n]` in the forward direction: `[..., n]`, float64, on the
/// maps' device.
///
/// # Errors
/// As [`lambda2`]; also if there is no unique steady state at `alpha` = 1.
pub fn token_rank(maps: &Tensor, alpha: f64) -> Result<Tensor> {
    let (mut shape, n) = split(maps)?;
    let stop = Stop::accelerated(RANK_TOLERANCE);
    if !on_host_is_faster(maps, n, HOST_RANKS) {
        return Ok(markov_core::torch::token_rank(maps, alpha, Direction::Forward, stop)?.pi);
    }
    let ranks = on_host(maps, |maps| Ok(token_rank_many(maps, alpha, stop)?.into_iter().collect()))?;
    shape.push(n);
    Ok(Tensor::f_from_slice::<f64>(&ranks)?.f_reshape(shape)?.f_to_device(maps.device())?)
}

fn on_host_is_faster(maps: &Tensor, states: i64, most: i64) -> bool {
    maps.device() == Device::Cpu || states <= most
}

/// Returns the shape before the last two dimensions, and the number of states.
fn split(maps: &Tensor) -> Result<(Vec<i64>, i64)> {
    match maps.size().as_slice() {
        [outer @ .., rows, columns] if rows == columns => Ok((outer.to_vec(), *rows)),
        other => Err(Error::Probe(format!("expected maps [..., n, n], found shape {other:?}"))),
    }
}

/// Reduces the maps on the host's cores as `[maps, n, n]`. Maps in host memory are read where they are. libtorch is idle meanwhile,
/// so they do not compete for cores.
fn on_host(maps: &Tensor, reduce: impl FnOnce(ArrayView3<'_, f32>) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    let (_, n) = split(maps)?;
    let maps = maps.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let numbers: &[f32] = if maps.numel() == 0 {
        &[]
    } else {
        // SAFETY: the tensor is contiguous float32 in host memory, so its data are this many numbers. `maps` keeps them alive, and
        // nothing writes to them in this function.
        unsafe { std::slice::from_raw_parts(maps.data_ptr().cast::<f32>().cast_const(), maps.numel()) }
    };
    let n = n as usize;
    let count = numbers.len() / (n * n).max(1);
    let view = ArrayView3::from_shape((count, n, n), numbers)
        .map_err(|e| Error::Probe(format!("maps of {n} states: {e}")))?;
    reduce(view)
}
