//! Layers of the networks of latent diffusion (arXiv 2112.10752): convolutions, group norms, residual blocks, and the
//! steps between levels.

use tch::Tensor;

use super::Linear;
use crate::error::Result;
use crate::weights::Weights;

/// A convolution with a bias.
pub(crate) struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv {
    /// Reads a convolution with a square kernel that keeps the size of the image.
    pub(crate) fn load(weights: &Weights, input: i64, output: i64, kernel: i64) -> Result<Self> {
        Self::strided(weights, input, output, kernel, 1, kernel / 2)
    }

    fn strided(w: &Weights, input: i64, output: i64, kernel: i64, stride: i64, padding: i64) -> Result<Self> {
        Ok(Self {
            weight: w.get(&[output, input, kernel, kernel], "weight")?,
            bias: w.get(&[output], "bias")?,
            stride,
            padding,
        })
    }

    /// `x` `[batch, input, h, w]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], 1)?)
    }
}

/// Settings of group normalisation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Groups {
    /// Number of groups.
    pub(crate) count: i64,
    /// Added to the variance.
    pub(crate) eps: f64,
}

/// Normalisation of groups of channels over all pixels (arXiv 1803.08494).
pub(crate) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: Groups,
}

impl GroupNorm {
    pub(crate) fn load(weights: &Weights, channels: i64, groups: Groups) -> Result<Self> {
        Ok(Self {
            weight: weights.get(&[channels], "weight")?,
            bias: weights.get(&[channels], "bias")?,
            groups,
        })
    }

    /// `x` `[batch, channels, ...]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Groups { count, eps } = self.groups;
        Ok(x.f_group_norm(count, Some(&self.weight), Some(&self.bias), eps, false)?)
    }

    /// Normalises, then applies a SiLU.
    pub(crate) fn activated(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward(x)?.f_silu_()?)
    }
}

/// diffusers' `ResnetBlock2D`.
pub(crate) struct Residual {
    norm1: GroupNorm,
    conv1: Conv,
    /// Only in networks with a time embedding.
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv,
    /// Only if the number of channels changes.
    conv_shortcut: Option<Conv>,
}

impl Residual {
    /// Reads a block from `input` to `output` channels. `time` is the width of the time embedding, if there is one.
    pub(crate) fn load(
        weights: &Weights,
        (input, output): (i64, i64),
        groups: Groups,
        time: Option<i64>,
    ) -> Result<Self> {
        Ok(Self {
            norm1: GroupNorm::load(&weights.pp("norm1"), input, groups)?,
            conv1: Conv::load(&weights.pp("conv1"), input, output, 3)?,
            time_emb_proj: time
                .map(|time| Linear::load(&weights.pp("time_emb_proj"), time, output, true))
                .transpose()?,
            norm2: GroupNorm::load(&weights.pp("norm2"), output, groups)?,
            conv2: Conv::load(&weights.pp("conv2"), output, output, 3)?,
            conv_shortcut: (input != output)
                .then(|| Conv::load(&weights.pp("conv_shortcut"), input, output, 1))
                .transpose()?,
        })
    }

    /// `x` `[batch, input, h, w]` → `[batch, output, h, w]`. `time` `[batch or 1, width]` is the time embedding after
    /// its SiLU, for blocks that were loaded with one.
    pub(crate) fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let mut hidden = self.conv1.forward(&self.norm1.activated(x)?)?;
        if let Some((projection, time)) = self.time_emb_proj.as_ref().zip(time) {
            // [b, output] → [b, output, 1, 1]
            hidden = hidden.f_add_(&projection.forward(time)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
        }
        let mut hidden = self.conv2.forward(&self.norm2.activated(&hidden)?)?;
        Ok(match &self.conv_shortcut {
            Some(shortcut) => hidden.f_add_(&shortcut.forward(x)?)?,
            None => hidden.f_add_(x)?,
        })
    }
}

/// The step to the next coarser level.
pub(crate) struct Halve(Conv);

impl Halve {
    /// Reads `downsamplers.0.conv`. With `padding` 0, one row is added at the bottom and one column at the right, as in
    /// the training of autoencoders; with 1, they are added on every side.
    pub(crate) fn load(weights: &Weights, channels: i64, padding: i64) -> Result<Self> {
        Ok(Self(Conv::strided(&weights.pp("downsamplers.0.conv"), channels, channels, 3, 2, padding)?))
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.0.padding {
            0 => self.0.forward(&x.f_constant_pad_nd([0, 1, 0, 1])?),
            _ => self.0.forward(x),
        }
    }
}

/// The step to the next finer level.
pub(crate) struct Double(Conv);

impl Double {
    /// Reads `upsamplers.0.conv`.
    pub(crate) fn load(weights: &Weights, channels: i64) -> Result<Self> {
        Ok(Self(Conv::load(&weights.pp("upsamplers.0.conv"), channels, channels, 3)?))
    }

    /// Doubles the sides, or resizes to `size` (height, width) if the finer level has an odd side.
    pub(crate) fn forward(&self, x: &Tensor, size: Option<(i64, i64)>) -> Result<Tensor> {
        let (.., height, width) = x.size4()?;
        let (height, width) = size.unwrap_or((2 * height, 2 * width));
        self.0.forward(&x.f_upsample_nearest2d([height, width], None, None)?)
    }
}
