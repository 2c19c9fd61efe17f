//! The coarsest level, with attention between all pixels.

use tch::Tensor;

use super::config::AutoencoderConfig;
use crate::attend::{KeyBias, NoProbe, attend};
use crate::error::Result;
use crate::nn::{GroupNorm, Groups, Linear, Residual};
use crate::site::{Site, Stream, TokenLayout};
use crate::weights::Weights;

/// Names of query, key, value and output in current files and in files from the time of Stable Diffusion 1.
const NAMES: [[&str; 4]; 2] = [["to_q", "to_k", "to_v", "to_out.0"], ["query", "key", "value", "proj_attn"]];

/// `UNetMidBlock2D`: two residual blocks and, between them, attention.
pub(super) struct MidBlock {
    first: Residual,
    attention: Option<Attention>,
    second: Residual,
}

impl MidBlock {
    /// `weights` is `encoder.mid_block` or `decoder.mid_block`.
    pub(super) fn load(weights: &Weights, config: &AutoencoderConfig) -> Result<Self> {
        let (_, channels) = config.outer_levels();
        let groups = config.groups();
        let resnets = weights.pp("resnets");
        let attention = || Attention::load(&weights.pp("attentions.0"), channels, groups);
        Ok(Self {
            first: Residual::load(&resnets.pp(0), (channels, channels), groups, None)?,
            attention: config.mid_block_add_attention.then(attention).transpose()?,
            second: Residual::load(&resnets.pp(1), (channels, channels), groups, None)?,
        })
    }

    /// `x` `[batch, channels, h, w]` → the same shape. `block` is the number of this attention layer.
    pub(super) fn forward(&self, x: &Tensor, block: usize) -> Result<Tensor> {
        let mut x = self.first.forward(x, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x, block)?;
        }
        self.second.forward(&x, None)
    }
}

/// Attention with a single head.
struct Attention {
    group_norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Attention {
    fn load(weights: &Weights, channels: i64, groups: Groups) -> Result<Self> {
        let [today, old] = NAMES;
        let has = |names: &[&str; 4]| weights.contains(&format!("{}.weight", names[0]));
        let [query, key, value, output] = if has(&old) && !has(&today) { old } else { today };
        let linear = |name: &str| dense(&weights.pp(name), channels);
        Ok(Self {
            group_norm: GroupNorm::load(&weights.pp("group_norm"), channels, groups)?,
            query: linear(query)?,
            key: linear(key)?,
            value: linear(value)?,
            output: linear(output)?,
        })
    }

    fn forward(&self, x: &Tensor, block: usize) -> Result<Tensor> {
        let (batch, channels, rows, columns) = x.size4()?;
        // [b, c, h, w] → [b, h·w, c]
        let tokens = self.group_norm.forward(x)?.f_flatten(2, -1)?.f_transpose(1, 2)?;
        // [b, h·w, c] → [b, 1, h·w, c]
        let head = |linear: &Linear| -> Result<Tensor> { Ok(linear.forward(&tokens)?.f_unsqueeze(1)?) };
        let (q, k, v) = (head(&self.query)?, head(&self.key)?, head(&self.value)?);
        let layout = TokenLayout::vision(0, (rows, columns));
        let site = Site { stream: Stream::Autoencoder, block, step: 0, layout };
        let attended = attend(&q, &k, &v, &KeyBias::none(), &site, &mut NoProbe)?;
        let update = self.output.forward(&attended.f_squeeze_dim(1)?)?;
        Ok(update.f_transpose(1, 2)?.f_reshape([batch, channels, rows, columns])?.f_add(x)?)
    }
}

/// Reads a dense layer, which some converted files store as a convolution of one pixel.
fn dense(weights: &Weights, channels: i64) -> Result<Linear> {
    let convolution = weights.shape("weight")?.len() == 4;
    Linear::of_pixels(weights, channels, channels, convolution)
}
