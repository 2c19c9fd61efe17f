//! The output of a vision transformer's blocks.

use tch::Tensor;

use crate::error::Result;

/// The encoded tokens of images.
pub struct Encoded {
    /// `[batch, n, width]` after the last layer norm, if there is one after the blocks.
    pub tokens: Tensor,
    /// One vector per image, `[batch, width]`.
    pub(super) pooled: Tensor,
    /// Number of special tokens, which come first.
    pub(super) special: i64,
    /// CLS `[batch, width]` after each of the last blocks that the head reads, normalised, in order.
    pub(super) last_cls: Vec<Tensor>,
}

impl Encoded {
    /// Returns CLS and the mean of the patches, concatenated, `[batch, 2·width]`.
    pub(crate) fn cls_and_mean(&self) -> Result<Tensor> {
        let patches = self.tokens.size()[1] - self.special;
        let patches = self.tokens.f_narrow(1, self.special, patches)?;
        let mean = patches.f_mean_dim(1i64, false, self.tokens.kind())?;
        Ok(Tensor::f_cat(&[self.tokens.f_select(1, 0)?, mean], -1)?)
    }

    /// Returns CLS of the last blocks, concatenated, `[batch, blocks·width]`.
    pub(crate) fn last_cls(&self) -> Result<Tensor> {
        Ok(Tensor::f_cat(&self.last_cls, -1)?)
    }
}
