//! Attention rollout (Abnar and Zuidema, arXiv 2005.00928): the contribution of each input token to each output token
//! if attention and residual connections mix tokens in equal parts.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::mean::{accumulate, nothing_seen, same_size};
use crate::attend::{AttentionProbe, View, Want, square};
use crate::error::Result;
use crate::site::Site;

/// The product over layers of `(A + 1)/2`, where `A` is the mean of a layer's heads. For one pass.
#[derive(Default)]
pub struct Rollout {
    /// Sum over the heads of the current layer, `[batch, n, n]`, and their number.
    layer: (Option<Tensor>, i64),
    product: Option<Tensor>,
}

impl Rollout {
    /// Returns the product, later layers to the left, `[batch, n, n]` float32, rows summing to 1.
    ///
    /// # Errors
    /// No layer was seen; libtorch fails.
    pub fn finish(mut self) -> Result<Tensor> {
        self.close()?;
        self.product.ok_or_else(nothing_seen)
    }

    fn close(&mut self) -> Result<()> {
        let (Some(sum), heads) = std::mem::take(&mut self.layer) else { return Ok(()) };
        let (_, n, _) = sum.size3()?;
        let identity = Tensor::f_eye(n, (Kind::Float, sum.device()))?;
        let mixed = sum.f_div_scalar(heads)?.f_add(&identity)?.f_div_scalar(2.0)?;
        self.product = Some(match &self.product {
            None => mixed,
            Some(product) => {
                same_size(&product.size(), &mixed.size())?;
                mixed.f_bmm(product)?
            }
        });
        Ok(())
    }
}

impl AttentionProbe for Rollout {
    fn want(&mut self, _: &Site) -> Want {
        Want::PROBS
    }

    fn see(&mut self, _: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        if heads.start == 0 {
            self.close()?;
        }
        accumulate(&mut self.layer.0, square(view.probs()?)?.f_sum_dim_intlist(1i64, false, Kind::Float)?)?;
        self.layer.1 += heads.end - heads.start;
        Ok(())
    }
}
