//! Layer norms without parameters, which the conditioning shifts and scales (adaLN-Zero, arXiv 2212.09748).

use tch::Tensor;

use crate::error::Result;
use crate::nn::Linear;
use crate::weights::Weights;

const EPS: f64 = 1e-6;

/// Shift, scale and gate for one part of a block; each is `[batch, 1, width]`.
pub(super) struct Modulation {
    shift: Tensor,
    scale: Tensor,
    /// Factor of the part's contribution to the residual.
    gate: Tensor,
}

impl Modulation {
    /// Returns the `number`-th part of `all` `[batch, 1, parts · 3 · width]`.
    fn nth(all: &Tensor, number: i64, width: i64) -> Result<Self> {
        let slice = |which: i64| all.f_narrow(-1, (3 * number + which) * width, width);
        Ok(Self { shift: slice(0)?, scale: slice(1)?, gate: slice(2)? })
    }

    /// Returns `x` `[batch, n, width]` normalised, scaled and shifted.
    pub(super) fn norm(&self, x: &Tensor) -> Result<Tensor> {
        modulated_norm(x, &self.shift, &self.scale)
    }

    /// Returns `x + gate · update`, both `[batch, n, width]`, reusing the memory of `update`.
    pub(super) fn add(&self, x: &Tensor, mut update: Tensor) -> Result<Tensor> {
        Ok(update.f_mul_(&self.gate)?.f_add_(x)?)
    }
}

/// Computes the modulation of a block from the conditioning. `AdaLayerNormZero` has two parts (attention, MLP),
/// `AdaLayerNormZeroSingle` one for both.
pub(super) struct AdaptiveNorm {
    linear: Linear,
    width: i64,
}

impl AdaptiveNorm {
    pub(super) fn load(weights: &Weights, width: i64, parts: i64) -> Result<Self> {
        Ok(Self { linear: Linear::load(&weights.pp("linear"), width, 3 * parts * width, true)?, width })
    }

    /// Returns the only part, for `conditioning` `[batch, width]`.
    pub(super) fn one(&self, conditioning: &Tensor) -> Result<Modulation> {
        Modulation::nth(&projected(&self.linear, conditioning)?, 0, self.width)
    }

    /// Returns the parts of attention and MLP, for `conditioning` `[batch, width]`.
    pub(super) fn two(&self, conditioning: &Tensor) -> Result<(Modulation, Modulation)> {
        let all = projected(&self.linear, conditioning)?;
        Ok((Modulation::nth(&all, 0, self.width)?, Modulation::nth(&all, 1, self.width)?))
    }
}

/// The norm after the last block, `AdaLayerNormContinuous`. It has no gate, and the scale comes before the shift.
pub(super) struct LastNorm {
    linear: Linear,
    width: i64,
}

impl LastNorm {
    pub(super) fn load(weights: &Weights, width: i64) -> Result<Self> {
        Ok(Self { linear: Linear::load(&weights.pp("linear"), width, 2 * width, true)?, width })
    }

    /// `x` `[batch, n, width]`, `conditioning` `[batch, width]`.
    pub(super) fn forward(&self, x: &Tensor, conditioning: &Tensor) -> Result<Tensor> {
        let all = projected(&self.linear, conditioning)?;
        let (scale, shift) = (all.f_narrow(-1, 0, self.width)?, all.f_narrow(-1, self.width, self.width)?);
        modulated_norm(x, &shift, &scale)
    }
}

/// `[batch, width]` → `[batch, 1, outputs]`.
fn projected(linear: &Linear, conditioning: &Tensor) -> Result<Tensor> {
    Ok(linear.forward(&conditioning.f_silu()?)?.f_unsqueeze(1)?)
}

fn modulated_norm(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let (_, _, width) = x.size3()?;
    let mut x = x.f_layer_norm([width], None::<&Tensor>, None::<&Tensor>, EPS, false)?;
    Ok(x.f_mul_(&scale.f_add_scalar(1.0)?)?.f_add_(shift)?)
}
