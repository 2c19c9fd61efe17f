//! A block of the encoder: attention, then MLP, each after a layer norm and with a residual connection, all without
//! bias.

use tch::{Kind, Tensor};

use super::{FeedForward, T5Config};
use crate::attend::{AttentionProbe, KeyBias};
use crate::error::Result;
use crate::nn::{Activation, Attention, Linear, Queries};
use crate::site::Site;
use crate::weights::Weights;

/// T5 was trained without the factor `1/√d`.
const SCALE: f64 = 1.0;

/// Layer normalisation without mean or bias (RMS norm, arXiv 1910.07467), in float32 whatever the network's type.
pub(super) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(super) fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        Ok(Self { weight: weights.get(&[config.d_model], "weight")?, eps: config.layer_norm_epsilon })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mean_square = x.f_to_kind(Kind::Float)?.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
        let normal = x.f_mul(&mean_square.f_add_scalar(self.eps)?.f_rsqrt()?)?;
        Ok(self.weight.f_mul(&normal.f_to_kind(self.weight.kind())?)?)
    }
}

/// One block.
pub(super) struct Block {
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: Mlp,
}

impl Block {
    /// Reads a block; `weights` is `encoder.block.{i}`.
    pub(super) fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let (first, mlp) = (weights.pp("layer.0"), weights.pp("layer.1"));
        Ok(Self {
            attention_norm: RmsNorm::load(&first.pp("layer_norm"), config)?,
            attention: attention(&first.pp("SelfAttention"), config)?,
            mlp_norm: RmsNorm::load(&mlp.pp("layer_norm"), config)?,
            mlp: Mlp::load(&mlp.pp("DenseReluDense"), config)?,
        })
    }

    /// `x` `[batch, n, d_model]` → the same shape.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        site: &Site,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let attended = self.attention.forward(
            &self.attention_norm.forward(x)?,
            Queries::All,
            None,
            site,
            bias,
            probe,
        )?;
        let x = x.f_add(&attended)?;
        Ok(x.f_add(&self.mlp.forward(&self.mlp_norm.forward(&x)?)?)?)
    }
}

/// Reads the attention. The heads together may be narrower or wider than a token.
fn attention(weights: &Weights, config: &T5Config) -> Result<Attention> {
    let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
    let projection = |name: &str| Linear::load(&weights.pp(name), width, inner, false);
    Ok(Attention {
        query: projection("q")?,
        key: projection("k")?,
        value: projection("v")?,
        head_norms: None,
        output: Linear::load(&weights.pp("o"), inner, width, false)?,
        heads: config.num_heads,
        scale: Some(SCALE),
    })
}

struct Mlp {
    widen: Linear,
    activation: Activation,
    /// Gate, multiplied with the activated layer (T5 v1.1, arXiv 2002.05202).
    gate: Option<Linear>,
    narrow: Linear,
}

impl Mlp {
    fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let (width, inner) = (config.d_model, config.d_ff);
        let FeedForward { activation, gated } = config.feed_forward;
        let widen = |name: &str| Linear::load(&weights.pp(name), width, inner, false);
        let (widen, gate) = if gated { (widen("wi_0")?, Some(widen("wi_1")?)) } else { (widen("wi")?, None) };
        // As in transformers: the range of float16 is too small for the output of this layer.
        let half = widen.weight.kind() == Kind::Half;
        let narrow = if half { weights.pp("wo").in_kind(Kind::Float) } else { weights.pp("wo") };
        Ok(Self { widen, activation, gate, narrow: Linear::load(&narrow, inner, width, false)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut hidden = self.activation.apply(&self.widen.forward(x)?)?;
        if let Some(gate) = &self.gate {
            hidden = hidden.f_mul_(&gate.forward(x)?)?;
        }
        self.narrow.forward(&hidden.f_to_kind(self.narrow.weight.kind())?)
    }
}
