//! Embedding of a number, such as a timestep, as a vector.

use tch::{Kind, Tensor};

use super::Linear;
use crate::error::Result;
use crate::weights::Weights;

const MAX_PERIOD: f64 = 10_000.0;

/// Embedding of a number by sines and cosines of falling frequencies (arXiv 1706.03762, section 3.5; diffusers'
/// `Timesteps`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sinusoids {
    /// Number of sines and cosines together; it is even.
    pub(crate) count: i64,
    /// Whether cosines come first (`flip_sin_to_cos`).
    pub(crate) cosines_first: bool,
    /// The lowest frequency is reached after `count / 2 - shift` steps (`freq_shift`).
    pub(crate) shift: f64,
}

impl Sinusoids {
    /// `x` `[batch, 1]` → `[batch, count]`, float32.
    pub(crate) fn of(&self, x: &Tensor) -> Result<Tensor> {
        let half = self.count / 2;
        let exponents = Tensor::f_arange(half, (Kind::Float, x.device()))?
            .f_mul_scalar_(-MAX_PERIOD.ln())?
            .f_div_scalar_(half as f64 - self.shift)?;
        let angles = x.f_to_kind(Kind::Float)?.f_mul(&exponents.f_exp()?)?;
        let (sines, cosines) = (angles.f_sin()?, angles.f_cos()?);
        let order = if self.cosines_first { [cosines, sines] } else { [sines, cosines] };
        Ok(Tensor::f_cat(&order, -1)?)
    }
}

/// Two dense layers around a SiLU (diffusers' `TimestepEmbedding`).
pub(crate) struct Embedder {
    linear_1: Linear,
    linear_2: Linear,
}

impl Embedder {
    pub(crate) fn load(weights: &Weights, input: i64, width: i64) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::load(&weights.pp("linear_1"), input, width, true)?,
            linear_2: Linear::load(&weights.pp("linear_2"), width, width, true)?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.linear_2.forward(&self.linear_1.forward(x)?.f_silu_()?)
    }
}
