//! What every block is told besides its tokens: noise level, guidance and the text as a whole.

use tch::{Kind, Tensor};

use super::config::FluxConfig;
use crate::error::Result;
use crate::nn::Linear;
use crate::weights::Weights;

/// Numbers that a scalar is spread over.
pub(super) const SINUSOIDS: i64 = 256;
const MAX_PERIOD: f64 = 10_000.0;
/// Noise level and guidance enter the sinusoids a thousandfold.
const SCALAR_SCALE: f64 = 1000.0;

/// Two dense layers around a SiLU.
struct Embedder {
    linear_1: Linear,
    linear_2: Linear,
}

impl Embedder {
    fn load(weights: &Weights, input: i64, width: i64) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::load(&weights.pp("linear_1"), input, width, true)?,
            linear_2: Linear::load(&weights.pp("linear_2"), width, width, true)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.linear_2.forward(&self.linear_1.forward(x)?.f_silu_()?)
    }

    /// `value` → `[1, width]` of the type of `like`.
    fn scalar(&self, value: f64, like: &Tensor) -> Result<Tensor> {
        // In bfloat16 the peer rounds the scalar before and after this product; so do we.
        let value =
            Tensor::f_full([1, 1], value, (like.kind(), like.device()))?.f_mul_scalar_(SCALAR_SCALE)?;
        self.forward(&sinusoids(&value)?.f_to_kind(like.kind())?)
    }
}

/// Cosines, then sines, of `x` `[batch, 1]` times falling frequencies: `[batch, SINUSOIDS]`, float32.
fn sinusoids(x: &Tensor) -> Result<Tensor> {
    let half = SINUSOIDS / 2;
    let exponents = Tensor::f_arange(half, (Kind::Float, x.device()))?
        .f_mul_scalar_(-MAX_PERIOD.ln())?
        .f_div_scalar_(half as f64)?;
    let angles = x.f_to_kind(Kind::Float)?.f_mul(&exponents.f_exp()?)?;
    Ok(Tensor::f_cat(&[angles.f_cos()?, angles.f_sin()?], -1)?)
}

/// The checkpoint's `time_text_embed`.
pub(super) struct Conditioning {
    timestep_embedder: Embedder,
    /// In networks distilled with guidance.
    guidance_embedder: Option<Embedder>,
    text_embedder: Embedder,
}

impl Conditioning {
    pub(super) fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        let width = config.width();
        let scalar = |name: &str| Embedder::load(&weights.pp(name), SINUSOIDS, width);
        Ok(Self {
            timestep_embedder: scalar("timestep_embedder")?,
            guidance_embedder: config.guidance_embeds.then(|| scalar("guidance_embedder")).transpose()?,
            text_embedder: Embedder::load(&weights.pp("text_embedder"), config.pooled_projection_dim, width)?,
        })
    }

    /// `pooled` `[batch, pooled_projection_dim]` → `[batch, width]`. `guidance` is given exactly where the network
    /// takes one; the caller has checked that.
    pub(super) fn forward(&self, timestep: f64, guidance: Option<f64>, pooled: &Tensor) -> Result<Tensor> {
        let mut sum = self.timestep_embedder.scalar(timestep, pooled)?;
        if let Some((embedder, guidance)) = self.guidance_embedder.as_ref().zip(guidance) {
            sum = sum.f_add_(&embedder.scalar(guidance, pooled)?)?;
        }
        Ok(sum.f_add(&self.text_embedder.forward(pooled)?)?)
    }
}
