//! The conditioning of all blocks: noise level, guidance and the pooled text.

use tch::Tensor;

use super::config::{FluxConfig, SINUSOIDS};
use crate::error::Result;
use crate::nn::{Embedder, Sinusoids};
use crate::weights::Weights;

/// Noise level and guidance are multiplied by this before the sinusoids.
const SCALAR_SCALE: f64 = 1000.0;

/// `value` → `[1, width]` of the type of `like`.
fn scalar(embedder: &Embedder, value: f64, like: &Tensor) -> Result<Tensor> {
    // In bfloat16 diffusers rounds the scalar before and after this product; so does this code.
    let value = Tensor::f_full([1, 1], value, (like.kind(), like.device()))?.f_mul_scalar_(SCALAR_SCALE)?;
    let sinusoids = Sinusoids { count: SINUSOIDS, cosines_first: true, shift: 0.0 };
    embedder.forward(&sinusoids.of(&value)?.f_to_kind(like.kind())?)
}

/// The checkpoint's `time_text_embed`.
pub(super) struct Conditioning {
    timestep_embedder: Embedder,
    /// Only in networks distilled with guidance.
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

    /// `pooled` `[batch, pooled_projection_dim]` → `[batch, width]`. The caller has checked that `guidance` is given
    /// exactly if the network takes one.
    pub(super) fn forward(&self, timestep: f64, guidance: Option<f64>, pooled: &Tensor) -> Result<Tensor> {
        let mut sum = scalar(&self.timestep_embedder, timestep, pooled)?;
        if let Some((embedder, guidance)) = self.guidance_embedder.as_ref().zip(guidance) {
            sum = sum.f_add_(&scalar(embedder, guidance, pooled)?)?;
        }
        Ok(sum.f_add(&self.text_embedder.forward(pooled)?)?)
    }
}
