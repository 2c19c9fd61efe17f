//! The output of a vision transformer's blocks.

use tch::Tensor;

use crate::error::Result;

/// The encoded tokens of images.
pub struct Encoded {
    /// `[batch, n, width]` after the last layer norm.
    pub tokens: Tensor,
    /// Number of special tokens, which come first.
    pub(super) special: i64,
    /// CLS `[batch, width]` after each of the last blocks that the head reads, normalised, in order.
    pub(super) last_cls: Vec<Tensor>,
}

impl Encoded {
    /// Returns CLS, `[batch, width]`.
    pub(crate) fn cls(&self) -> Result<Tensor> {
        Ok(self.tokens.f_select(1, 0)?)
    }

    /// Returns the mean of the patches, `[batch, width]`.
    pub(crate) fn mean_patch(&self) -> Result<Tensor> {
        let patches = self.tokens.size()[1] - self.special;
        let kind = self.tokens.kind();
        Ok(self.tokens.f_narrow(1, self.special, patches)?.f_mean_dim(1i64, false, kind)?)
    }

    /// Returns CLS of the last blocks, concatenated, `[batch, blocks·width]`.
    pub(crate) fn last_cls(&self) -> Result<Tensor> {
        Ok(Tensor::f_cat(&self.last_cls, -1)?)
    }
}
