//! Averages of maps over blocks and heads.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::chain::{LAMBDA_TOLERANCE, LambdaWeight};
use super::chains::Chains;
use crate::attend::{AttentionProbe, ChainTokens, View, Want};
use crate::error::{Error, Result};
use crate::site::Site;

/// Plain mean of the transition matrices of every head and layer seen.
pub struct MeanMap {
    tokens: ChainTokens,
    sum: Option<Tensor>,
    heads: i64,
}

impl MeanMap {
    /// Creates a probe that averages chains over the given states.
    pub fn new(tokens: ChainTokens) -> Self {
        Self { tokens, sum: None, heads: 0 }
    }

    /// Returns the mean, `[batch, n, n]` float32, rows summing to 1.
    ///
    /// # Errors
    /// No layer was seen.
    pub fn finish(self) -> Result<Tensor> {
        let sum = self.sum.ok_or_else(nothing_seen)?;
        Ok(sum.f_div_scalar(self.heads)?)
    }
}

impl AttentionProbe for MeanMap {
    fn want(&mut self, _: &Site) -> Want {
        self.tokens.want()
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        let maps = self.tokens.transitions(&site.layout, view)?;
        accumulate(&mut self.sum, maps.f_sum_dim_intlist(1i64, false, Kind::Float)?)?;
        self.heads += heads.end - heads.start;
        Ok(())
    }
}

/// Mean of the transition matrices weighted by each head's λ₂, which favours structured heads over noisy ones.
pub struct LambdaWeighted {
    tokens: ChainTokens,
    weight: LambdaWeight,
    sum: Option<Tensor>,
    total: Option<Tensor>,
}

impl LambdaWeighted {
    /// Creates a probe that averages chains over the given states with weights `weight(λ₂)`, which sum to 1 over all
    /// heads seen.
    pub fn new(tokens: ChainTokens, weight: LambdaWeight) -> Self {
        Self { tokens, weight, sum: None, total: None }
    }

    /// Returns the weighted mean, `[batch, n, n]` float32, rows summing to 1.
    ///
    /// # Errors
    /// No layer was seen.
    pub fn finish(self) -> Result<Tensor> {
        let (sum, total) = self.sum.zip(self.total).ok_or_else(nothing_seen)?;
        Ok(sum.f_div(&total.f_reshape([-1, 1, 1])?)?)
    }
}

impl AttentionProbe for LambdaWeighted {
    fn want(&mut self, _: &Site) -> Want {
        Want::CHAIN
    }

    fn see(&mut self, site: &Site, _: Range<i64>, view: &View<'_>) -> Result<()> {
        let chains = Chains::of(self.tokens, &site.layout, view)?;
        let weight = self.weight.apply(&chains.lambda2(LAMBDA_TOLERANCE)?)?.f_to_kind(Kind::Float)?;
        chains.each_maps(None, |heads, _, maps| {
            let weight = weight.f_narrow(1, heads.start, heads.end - heads.start)?;
            accumulate(&mut self.sum, weighted_sum(maps, &weight)?)?;
            accumulate(&mut self.total, weight.f_sum_dim_intlist(1i64, false, Kind::Float)?)
        })
    }
}

/// Returns `Σ_h w_h A_h`, `[batch, n, n]`, of `maps` `[batch, heads, n, n]` with `weight` `[batch, heads]`.
pub(super) fn weighted_sum(maps: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, heads, n, _) = maps.size4()?;
    // One product per image: [b, 1, h] × [b, h, n²].
    let sum = weight.f_unsqueeze(1)?.f_bmm(&maps.f_reshape([batch, heads, n * n])?)?;
    Ok(sum.f_reshape([batch, n, n])?)
}

pub(super) fn accumulate(sum: &mut Option<Tensor>, term: Tensor) -> Result<()> {
    if let Some(sum) = &sum {
        same_size(&sum.size(), &term.size())?;
    }
    *sum = Some(match sum.take() {
        Some(mut sum) => sum.f_add_(&term)?,
        None => term,
    });
    Ok(())
}

/// Checks that two layers have the same shape.
pub(super) fn same_size(one: &[i64], other: &[i64]) -> Result<()> {
    if one == other {
        return Ok(());
    }
    Err(Error::Probe(format!(
        "layers of different sizes were seen, {one:?} and {other:?}; select layers of one resolution"
    )))
}

pub(super) fn nothing_seen() -> Error {
    Error::Probe("no layer was seen; the layer selection does not fit this network".into())
}
