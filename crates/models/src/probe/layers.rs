//! The data of every layer that figures of a pass need. Maps of heads are dropped unless they fit into a budget.

use std::ops::Range;

use markov_core::torch::to_vec;
use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use super::chain::lambda2;
use super::mean::{accumulate, nothing_seen, same_size};
use crate::attend::{AttentionProbe, ChainTokens, View, Want};
use crate::error::{Error, Result};
use crate::site::{Site, Stream, TokenLayout};

/// Reduces every layer of one image to the mean of its heads and the λ₂ of each head. Keeps the maps of the heads of as
/// many of the last layers as a budget allows.
pub struct LayerChains {
    tokens: ChainTokens,
    tolerance: f64,
    /// Maximum number of numbers in all kept maps of heads.
    budget: usize,
    layout: Option<TokenLayout>,
    seen: Vec<Seen>,
}

/// One layer as a Markov chain, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerChain {
    /// The part of the network.
    pub stream: Stream,
    /// Number of the block within it, from 0.
    pub block: usize,
    /// Mean of the transition matrices of the heads, `[n, n]`, rows summing to 1.
    pub mean: Array2<f32>,
    /// λ₂ modulus of each head.
    pub lambda2: Vec<f64>,
    /// The transition matrix of each head, `[n, n]`; empty if the budget was exceeded.
    pub heads: Vec<Array2<f32>>,
}

/// The current layer. Either all its heads are kept, or none.
struct Seen {
    stream: Stream,
    block: usize,
    sum: Option<Tensor>,
    lambda2: Vec<f64>,
    heads: Option<Vec<Array2<f32>>>,
}

impl LayerChains {
    /// Creates a probe over the given states that computes λ₂ with relative accuracy `tolerance`. The kept maps of
    /// heads, those of the last layers, have at most `budget` numbers.
    pub fn new(tokens: ChainTokens, tolerance: f64, budget: usize) -> Self {
        Self { tokens, tolerance, budget, layout: None, seen: Vec::new() }
    }

    /// Returns the layers in the order of the pass, and the layout of the states of their chains.
    ///
    /// # Errors
    /// No layer was seen; libtorch fails.
    pub fn finish(self) -> Result<(Vec<LayerChain>, TokenLayout)> {
        let layout = self.layout.ok_or_else(nothing_seen)?;
        let layer = |seen: Seen| {
            let mean = seen.sum.ok_or_else(nothing_seen)?.f_div_scalar(seen.lambda2.len() as i64)?;
            let (mean, heads) = (matrix(&mean)?, seen.heads.unwrap_or_default());
            Ok(LayerChain { stream: seen.stream, block: seen.block, mean, lambda2: seen.lambda2, heads })
        };
        Ok((self.seen.into_iter().map(layer).collect::<Result<_>>()?, layout))
    }

    /// Drops maps of heads, those of the earliest layers first, until the budget is met.
    fn trim(&mut self) {
        let mut kept: usize =
            self.seen.iter().flat_map(|seen| seen.heads.iter().flatten()).map(|head| head.len()).sum();
        for seen in &mut self.seen {
            if kept <= self.budget {
                return;
            }
            kept -= seen.heads.take().iter().flatten().map(|head| head.len()).sum::<usize>();
        }
    }
}

impl AttentionProbe for LayerChains {
    fn want(&mut self, site: &Site) -> Want {
        self.layout.get_or_insert_with(|| self.tokens.layout(&site.layout));
        let Site { stream, block, .. } = *site;
        self.seen.push(Seen { stream, block, sum: None, lambda2: Vec::new(), heads: Some(Vec::new()) });
        self.tokens.want()
    }

    fn see(&mut self, site: &Site, _: Range<i64>, view: &View<'_>) -> Result<()> {
        let maps = self.tokens.transitions(&site.layout, view)?;
        let (batch, count, states, _) = maps.size4()?;
        let before = self.layout.as_ref().map_or(states, TokenLayout::tokens);
        same_size(&[before], &[states])?;
        if batch != 1 {
            return Err(Error::Probe(format!("one image is watched at a time, not {batch}")));
        }
        let lambda = lambda2(&maps, self.tolerance)?.f_reshape([count])?.f_to_device(Device::Cpu)?;
        let maps = maps.f_squeeze_dim(0)?;
        let seen = self.seen.last_mut().ok_or_else(|| Error::Probe("heads shown out of order".into()))?;
        accumulate(&mut seen.sum, maps.f_sum_dim_intlist(0i64, false, Kind::Float)?)?;
        seen.lambda2.extend(Vec::<f64>::try_from(&lambda)?);
        if let Some(heads) = &mut seen.heads {
            for head in 0..count {
                heads.push(matrix(&maps.f_select(0, head)?)?);
            }
        }
        self.trim();
        Ok(())
    }
}

/// Copies a matrix to the host.
fn matrix(tensor: &Tensor) -> Result<Array2<f32>> {
    let (rows, columns) = tensor.size2()?;
    Array2::from_shape_vec((rows as usize, columns as usize), to_vec(tensor)?)
        .map_err(|e| Error::Probe(format!("a map of {rows} × {columns}: {e}")))
}
