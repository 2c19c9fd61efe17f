//! Layers that several networks use.

mod conv;
mod embeddings;
mod linear;
mod rotary;
mod scalar;

use serde::Deserialize;
use tch::Tensor;

use crate::attend::{AttentionProbe, KeyBias, attend, attend_scaled};
use crate::error::Result;
use crate::site::Site;
use crate::weights::Weights;
pub(crate) use conv::{Conv, Double, GroupNorm, Groups, Halve, Residual};
pub(crate) use embeddings::{Extent, PatchEmbeddings, Positions};
pub use linear::times_transposed;
pub(crate) use linear::{Input, Linear};
pub(crate) use rotary::{GridRotary, Rotation};
pub(crate) use scalar::{Embedder, Sinusoids};

/// Lays out `[a, channels, h, w]` so that the channels of a pixel are next to each other in memory (`channels_last` in torch).
/// Convolutions are faster on this layout and keep it.
///
/// # Errors
/// libtorch fails.
pub(crate) fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

/// Layer normalisation over the last dimension.
pub(crate) struct LayerNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(weights: &Weights, width: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(&[width], "weight")?, bias: weights.get(&[width], "bias")?, eps })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.weight.size();
        Ok(x.f_layer_norm(&shape, Some(&self.weight), Some(&self.bias), self.eps, false)?)
    }
}

/// Division by the root mean square over the last dimension (arXiv 1910.07467).
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(weights: &Weights, width: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(&[width], "weight")?, eps })
    }

    /// Computes the mean of squares in float32 whatever the type of `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), self.eps)?)
    }
}

/// The tokens that a block computes. All tokens are keys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Queries {
    /// Every token.
    All,
    /// The first token, which positions do not rotate.
    First,
}

impl Queries {
    /// Returns these tokens of `x` `[batch, n, width]`, `[batch, queries, width]`.
    fn of(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::All => x.shallow_clone(),
            Self::First => x.f_narrow(1, 0, 1)?,
        })
    }
}

/// Multi-head attention: projections to queries, keys and values, and of the output.
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    /// Norms of the queries and keys of each head, before positions.
    pub(crate) head_norms: Option<HeadNorms>,
    pub(crate) output: Linear,
    pub(crate) heads: i64,
    /// Factor of the products of queries and keys. By default `1/√d`.
    pub(crate) scale: Option<f64>,
}

/// Norms over the dimensions of a head (arXiv 2302.05442).
pub(crate) struct HeadNorms {
    pub(crate) query: LayerNorm,
    pub(crate) key: LayerNorm,
}

impl Attention {
    /// `x` `[batch, n, width]` → `[batch, queries, width]`. With `rotation`, queries and keys are rotated by their positions.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        queries: Queries,
        rotation: Option<&Rotation>,
        site: &Site,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let input = Input::new(x);
        let q = match queries {
            Queries::All => self.split(&self.query, &input)?,
            Queries::First => self.split(&self.query, &Input::new(&queries.of(x)?))?,
        };
        let (mut q, mut k) = self.normed(q, self.split(&self.key, &input)?)?;
        if let Some(rotation) = rotation {
            k = rotation.apply(&k)?;
            if let Queries::All = queries {
                q = rotation.apply(&q)?;
            }
        }
        self.attended(&q, &k, &self.split(&self.value, &input)?, site, bias, probe)
    }

    /// `x` `[batch, n, width]` attends to `context` `[batch, m, width of keys]` → the shape of `x`.
    pub(crate) fn across(
        &self,
        x: &Tensor,
        context: &Tensor,
        site: &Site,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let (x, context) = (Input::new(x), Input::new(context));
        let (q, k) = self.normed(self.split(&self.query, &x)?, self.split(&self.key, &context)?)?;
        self.attended(&q, &k, &self.split(&self.value, &context)?, site, bias, probe)
    }

    /// Attention in which every token of `x` `[batch, n, width]` attends to itself alone: the same shape.
    pub(crate) fn of_itself(&self, x: &Tensor) -> Result<Tensor> {
        self.output.forward(&self.value.forward(x)?)
    }

    /// Normalises queries and keys `[batch, heads, tokens, head dim]` if the network does so.
    fn normed(&self, q: Tensor, k: Tensor) -> Result<(Tensor, Tensor)> {
        match &self.head_norms {
            Some(norms) => Ok((norms.query.forward(&q)?, norms.key.forward(&k)?)),
            None => Ok((q, k)),
        }
    }

    /// Projects `[batch, n, width]` and splits it into heads: `[batch, heads, n, head dim]`.
    fn split(&self, linear: &Linear, x: &Input<'_>) -> Result<Tensor> {
        Ok(linear.of(x)?.f_unflatten(2, [self.heads, -1])?.f_transpose(1, 2)?)
    }

    /// Queries, keys and values `[batch, heads, tokens, head dim]` → `[batch, queries, width]`.
    fn attended(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        site: &Site,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let (batch, _, tokens, _) = q.size4()?;
        let attended = match self.scale {
            Some(scale) => attend_scaled(q, k, v, scale, bias, site, probe)?,
            None => attend(q, k, v, bias, site, probe)?,
        };
        self.output.forward(&attended.f_transpose(1, 2)?.f_reshape([batch, tokens, -1])?)
    }
}

/// The part of a block that processes each token separately.
pub(crate) enum Mlp {
    /// Widen, activate, narrow.
    Dense { widen: Linear, activation: Activation, narrow: Linear },
    /// `activation(gate) up` of two layers, then a third (arXiv 2002.05202).
    Gated { gate: Linear, up: Linear, activation: Activation, down: Linear },
    /// `silu(x₁) x₂` of the two halves of a layer with double width (arXiv 2002.05202).
    SwiGlu { weights_in: Linear, weights_out: Linear },
    /// `x₁ gelu(x₂)` of the two halves of a layer with double width, with the exact GELU.
    GeGlu { widen: Linear, narrow: Linear },
}

impl Mlp {
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense { widen, activation: Activation::Gelu, narrow } => widen.forward_gelu(narrow, x),
            Self::Dense { widen, activation, narrow } => {
                narrow.forward(&activation.apply(&widen.forward(x)?)?)
            }
            Self::Gated { gate, up, activation, down } => {
                down.forward(&activation.apply(&gate.forward(x)?)?.f_mul_(&up.forward(x)?)?)
            }
            Self::SwiGlu { weights_in, weights_out } => {
                let halves = weights_in.forward(x)?.f_chunk(2, -1)?;
                weights_out.forward(&halves[0].f_silu()?.f_mul(&halves[1])?)
            }
            Self::GeGlu { widen, narrow } => {
                let halves = widen.forward(x)?.f_chunk(2, -1)?;
                narrow.forward(&Activation::Gelu.apply(&halves[1])?.f_mul_(&halves[0])?)
            }
        }
    }
}

/// A pre-norm transformer block: attention, then MLP, each with a residual connection.
pub(crate) struct Block {
    pub(crate) attention_norm: LayerNorm,
    pub(crate) attention: Attention,
    /// Factor of the attention's output, `[width]` (LayerScale, arXiv 2103.17239).
    pub(crate) attention_scale: Option<Tensor>,
    pub(crate) mlp_norm: LayerNorm,
    pub(crate) mlp: Mlp,
    /// Factor of the MLP's output, `[width]`.
    pub(crate) mlp_scale: Option<Tensor>,
}

impl Block {
    /// `x` `[batch, n, width]` → `[batch, queries, width]`; `rotation` as in [`Attention::forward`].
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        queries: Queries,
        rotation: Option<&Rotation>,
        site: &Site,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let normed = self.attention_norm.forward(x)?;
        let attended = self.attention.forward(&normed, queries, rotation, site, bias, probe)?;
        let x = scaled(attended, self.attention_scale.as_ref())?.f_add_(&queries.of(x)?)?;
        let hidden = self.mlp.forward(&self.mlp_norm.forward(&x)?)?;
        Ok(scaled(hidden, self.mlp_scale.as_ref())?.f_add_(&x)?)
    }
}

fn scaled(mut x: Tensor, scale: Option<&Tensor>) -> Result<Tensor> {
    Ok(match scale {
        Some(scale) => x.f_mul_(scale)?,
        None => x,
    })
}

/// The activations that published vision transformers use, by their names in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Activation {
    /// `x Φ(x)`, exact.
    #[serde(rename = "gelu", alias = "gelu_python")]
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    /// `x σ(1.702 x)`.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// `max(x, 0)`.
    #[serde(rename = "relu")]
    Relu,
    /// `x σ(x)`.
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}

impl Activation {
    /// Applies the activation elementwise.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => x.f_gelu("none")?,
            Self::GeluTanh => x.f_gelu("tanh")?,
            Self::QuickGelu => x.f_mul_scalar(1.702)?.f_sigmoid()?.f_mul_(x)?,
            Self::Relu => x.f_relu()?,
            Self::Silu => x.f_silu()?,
        })
    }
}

/// Divides each row by its Euclidean length.
pub(crate) fn unit(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_div(&x.f_norm_scalaropt_dim(2.0, [-1i64], true)?)?)
}
