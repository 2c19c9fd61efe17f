//! What a vision transformer makes of an image.

use tch::Tensor;

use crate::error::Result;

/// What the blocks have made of an image's tokens.
pub struct Encoded {
    /// `[batch, n, width]` after the last layer norm.
    pub tokens: Tensor,
    /// Special tokens in front.
    pub(super) special: i64,
    /// CLS `[batch, width]` after each of the last blocks that the head looks at, normalised, in order.
    pub(super) last_cls: Vec<Tensor>,
}

impl Encoded {
    /// CLS `[batch, width]`.
    pub(crate) fn cls(&self) -> Result<Tensor> {
        Ok(self.tokens.f_select(1, 0)?)
    }

    /// Mean of the patches `[batch, width]`.
    pub(crate) fn mean_patch(&self) -> Result<Tensor> {
        let patches = self.tokens.size()[1] - self.special;
        let kind = self.tokens.kind();
        Ok(self.tokens.f_narrow(1, self.special, patches)?.f_mean_dim(1i64, false, kind)?)
    }

    /// CLS of the last blocks, side by side, `[batch, blocks·width]`.
    pub(crate) fn last_cls(&self) -> Result<Tensor> {
        Ok(Tensor::f_cat(&self.last_cls, -1)?)
    }
}
