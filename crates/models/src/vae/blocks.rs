//! Convolutions, group norms and the residual blocks made of them.

use tch::Tensor;

use crate::error::Result;
use crate::weights::Weights;

const EPS: f64 = 1e-6;

/// A convolution with a bias.
pub(super) struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv {
    /// A square kernel that keeps the sides of a picture.
    pub(super) fn load(weights: &Weights, input: i64, output: i64, kernel: i64) -> Result<Self> {
        Self::strided(weights, input, output, kernel, 1, kernel / 2)
    }

    /// Halves the sides of a picture with one more row and column.
    fn halving(weights: &Weights, channels: i64) -> Result<Self> {
        Self::strided(weights, channels, channels, 3, 2, 0)
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
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], 1)?)
    }
}

/// Normalisation of groups of channels over all pixels (arXiv 1803.08494).
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
}

impl GroupNorm {
    pub(super) fn load(weights: &Weights, channels: i64, groups: i64) -> Result<Self> {
        Ok(Self {
            weight: weights.get(&[channels], "weight")?,
            bias: weights.get(&[channels], "bias")?,
            groups,
        })
    }

    /// `x` `[batch, channels, ...]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_group_norm(self.groups, Some(&self.weight), Some(&self.bias), EPS, false)?)
    }

    /// The same with a SiLU behind it.
    pub(super) fn activated(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward(x)?.f_silu_()?)
    }
}

/// `ResnetBlock2D` without a time embedding.
pub(super) struct Residual {
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    /// Where the number of channels changes.
    conv_shortcut: Option<Conv>,
}

impl Residual {
    pub(super) fn load(weights: &Weights, input: i64, output: i64, groups: i64) -> Result<Self> {
        Ok(Self {
            norm1: GroupNorm::load(&weights.pp("norm1"), input, groups)?,
            conv1: Conv::load(&weights.pp("conv1"), input, output, 3)?,
            norm2: GroupNorm::load(&weights.pp("norm2"), output, groups)?,
            conv2: Conv::load(&weights.pp("conv2"), output, output, 3)?,
            conv_shortcut: (input != output)
                .then(|| Conv::load(&weights.pp("conv_shortcut"), input, output, 1))
                .transpose()?,
        })
    }

    /// `x` `[batch, input, h, w]` → `[batch, output, h, w]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.conv1.forward(&self.norm1.activated(x)?)?;
        let mut hidden = self.conv2.forward(&self.norm2.activated(&hidden)?)?;
        Ok(match &self.conv_shortcut {
            Some(shortcut) => hidden.f_add_(&shortcut.forward(x)?)?,
            None => hidden.f_add_(x)?,
        })
    }
}

/// What stands between two levels.
pub(super) enum Resample {
    /// Towards the coarser level.
    Halve(Conv),
    /// Towards the finer level.
    Double(Conv),
}

impl Resample {
    pub(super) fn halve(weights: &Weights, channels: i64) -> Result<Self> {
        Ok(Self::Halve(Conv::halving(&weights.pp("downsamplers.0.conv"), channels)?))
    }

    pub(super) fn double(weights: &Weights, channels: i64) -> Result<Self> {
        Ok(Self::Double(Conv::load(&weights.pp("upsamplers.0.conv"), channels, channels, 3)?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            // A row below and a column to the right, as these networks were trained.
            Self::Halve(conv) => conv.forward(&x.f_constant_pad_nd([0, 1, 0, 1])?),
            Self::Double(conv) => {
                let (.., height, width) = x.size4()?;
                conv.forward(&x.f_upsample_nearest2d([2 * height, 2 * width], None, None)?)
            }
        }
    }
}

/// Residual blocks at one size, then the step to the next.
pub(super) struct Level {
    resnets: Vec<Residual>,
    resample: Option<Resample>,
}

impl Level {
    /// Reads `count` residual blocks from `input` to `output` channels.
    pub(super) fn load(
        weights: &Weights,
        (input, output): (i64, i64),
        count: usize,
        groups: i64,
        resample: Option<Resample>,
    ) -> Result<Self> {
        let resnets = weights.pp("resnets");
        let resnets = (0..count)
            .map(|i| Residual::load(&resnets.pp(i), if i == 0 { input } else { output }, output, groups))
            .collect::<Result<_>>()?;
        Ok(Self { resnets, resample })
    }

    pub(super) fn forward(&self, x: Tensor) -> Result<Tensor> {
        let x = self.resnets.iter().try_fold(x, |x, block| block.forward(&x))?;
        self.resample.as_ref().map_or(Ok(x.shallow_clone()), |resample| resample.forward(&x))
    }
}
