//! From maps in a tensor to chain quantities.

use markov_core::torch::to_vec;
use markov_core::{Direction, Effort, Stop, lambda2_many, token_rank_many};
use ndarray::ArrayView3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::error::{Error, Result};

/// Relative accuracy asked of λ₂ where it is a weight.
pub const LAMBDA_TOLERANCE: f64 = 1e-4;

/// L1 change at which TokenRank stops where it orders tokens: far below any difference of two shares.
const RANK_TOLERANCE: f64 = 1e-8;

/// Weight of a head without structure, so that heads share equally where none has any.
const LEAST_WEIGHT: f64 = 1e-12;

/// States up to which a map is small enough to be answered on the host faster than on an accelerator, where each step of
/// an iteration waits for the one before.
const HOST_STATES: i64 = 256;

/// How a head's weight grows with its λ₂. The paper gives no formula.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LambdaWeight {
    /// In proportion to |λ₂|.
    #[default]
    Proportional,
    /// In proportion to |λ₂|², which favours heads with much structure.
    Squared,
}

impl LambdaWeight {
    /// Unnormalised weights from moduli, same shape.
    pub(super) fn apply(self, lambda: &Tensor) -> Result<Tensor> {
        let lambda = lambda.f_clamp_min(LEAST_WEIGHT)?;
        Ok(match self {
            Self::Proportional => lambda,
            Self::Squared => lambda.f_square()?,
        })
    }
}

/// λ₂ modulus of each map of `maps` `[..., n, n]` (float32, rows summing to 1): `[...]`, float64, on the maps' device.
///
/// # Errors
/// A map that is no transition matrix (NaN from a network that overflowed), or libtorch's.
pub fn lambda2(maps: &Tensor, tolerance: f64) -> Result<Tensor> {
    let (outer, n) = split(maps)?;
    if !on_host_is_faster(maps, n) {
        return Ok(markov_core::torch::lambda2(maps, Effort::tolerance(tolerance))?);
    }
    let lambdas = on_host(maps, |maps| Ok(lambda2_many(maps, tolerance)?.to_vec()))?;
    Ok(Tensor::f_from_slice(&lambdas)?.f_reshape(outer)?.f_to_device(maps.device())?)
}

/// TokenRank of each map of `maps` `[..., n, n]` in the forward direction: `[..., n]`, float64, on the maps' device.
///
/// # Errors
/// As [`lambda2`], or no unique steady state at `alpha` = 1.
pub fn token_rank(maps: &Tensor, alpha: f64) -> Result<Tensor> {
    let (mut shape, n) = split(maps)?;
    let stop = Stop::accelerated(RANK_TOLERANCE);
    if !on_host_is_faster(maps, n) {
        return Ok(markov_core::torch::token_rank(maps, alpha, Direction::Forward, stop)?.pi);
    }
    let ranks = on_host(maps, |maps| Ok(token_rank_many(maps, alpha, stop)?.into_iter().collect()))?;
    shape.push(n);
    Ok(Tensor::f_from_slice::<f64>(&ranks)?.f_reshape(shape)?.f_to_device(maps.device())?)
}

fn on_host_is_faster(maps: &Tensor, states: i64) -> bool {
    maps.device() == Device::Cpu || states <= HOST_STATES
}

/// The shape before the last two dimensions, and the number of states.
fn split(maps: &Tensor) -> Result<(Vec<i64>, i64)> {
    match maps.size().as_slice() {
        [outer @ .., rows, columns] if rows == columns => Ok((outer.to_vec(), *rows)),
        other => Err(Error::Probe(format!("expected maps [..., n, n], found shape {other:?}"))),
    }
}

/// Hands the maps to the host's cores as `[maps, n, n]`. libtorch is idle meanwhile, so the two never compete.
fn on_host(maps: &Tensor, reduce: impl FnOnce(ArrayView3<'_, f32>) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    let (_, n) = split(maps)?;
    let data: Vec<f32> = to_vec(maps)?;
    let n = n as usize;
    let count = data.len() / (n * n).max(1);
    let view = ArrayView3::from_shape((count, n, n), &data)
        .map_err(|e| Error::Probe(format!("maps of {n} states: {e}")))?;
    reduce(view)
}
