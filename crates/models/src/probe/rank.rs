//! TokenRank of each head; the maps are not kept.

use std::ops::Range;

use markov_core::Direction;
use tch::{Kind, Tensor};

use super::chain::{LAMBDA_TOLERANCE, LambdaWeight};
use super::chains::Chains;
use super::mean::{nothing_seen, same_size};
use crate::attend::{AttentionProbe, ChainTokens, View, Want};
use crate::error::{Error, Result};
use crate::site::Site;

/// The quantities that [`RankOnly`] computes for every head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RankParts {
    /// The steady state.
    Ranks,
    /// The steady state and λ₂, for weighting heads.
    RanksAndLambdas,
}

/// Reduces every head to its steady state and, if requested, its λ₂.
pub struct RankOnly {
    tokens: ChainTokens,
    alpha: f64,
    parts: RankParts,
    direction: Direction,
    ranks: Vec<Tensor>,
    lambdas: Vec<Tensor>,
}

/// The results of [`RankOnly`].
pub struct HeadRanks {
    /// Steady states, `[batch, heads of all layers, n]` float64, in the order of the pass.
    pub ranks: Tensor,
    /// λ₂ of these heads, `[batch, heads of all layers]` float64, if requested.
    pub lambdas: Option<Tensor>,
}

impl RankOnly {
    /// Creates a probe that ranks the given states with teleport `alpha`.
    pub fn new(tokens: ChainTokens, alpha: f64, parts: RankParts) -> Self {
        let direction = Direction::Forward;
        Self { tokens, alpha, parts, direction, ranks: Vec::new(), lambdas: Vec::new() }
    }

    /// Ranks the backward chain of every head (outgoing attention).
    #[must_use]
    pub fn backward(self) -> Self {
        Self { direction: Direction::Backward, ..self }
    }

    /// Returns the steady states of every head seen.
    ///
    /// # Errors
    /// No layer was seen.
    pub fn finish(self) -> Result<HeadRanks> {
        if self.ranks.is_empty() {
            return Err(nothing_seen());
        }
        let lambdas = match self.parts {
            RankParts::Ranks => None,
            RankParts::RanksAndLambdas => Some(Tensor::f_cat(&self.lambdas, 1)?),
        };
        Ok(HeadRanks { ranks: Tensor::f_cat(&self.ranks, 1)?, lambdas })
    }
}

impl AttentionProbe for RankOnly {
    fn want(&mut self, _: &Site) -> Want {
        Want::CHAIN
    }

    fn see(&mut self, site: &Site, _: Range<i64>, view: &View<'_>) -> Result<()> {
        let chains = Chains::of(self.tokens, &site.layout, view)?;
        let ranks = chains.token_rank(self.alpha, self.direction)?;
        if let Some(before) = self.ranks.last() {
            let states = |ranks: &Tensor| ranks.size().last().copied().into_iter().collect::<Vec<_>>();
            same_size(&states(before), &states(&ranks))?;
        }
        self.ranks.push(ranks);
        if self.parts == RankParts::RanksAndLambdas {
            self.lambdas.push(chains.lambda2(LAMBDA_TOLERANCE)?);
        }
        Ok(())
    }
}

impl HeadRanks {
    /// Returns the plain mean over heads, `[batch, n]`.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn mean(&self) -> Result<Tensor> {
        Ok(self.ranks.f_mean_dim(1i64, false, Kind::Double)?)
    }

    /// Returns the mean over heads weighted by λ₂, `[batch, n]`.
    ///
    /// # Errors
    /// λ₂ was not requested.
    pub fn lambda_weighted(&self, weight: LambdaWeight) -> Result<Tensor> {
        let lambdas = self.lambdas.as_ref().ok_or_else(|| Error::Probe("λ₂ was not requested".into()))?;
        let weight = weight.apply(lambdas)?;
        let total = weight.f_sum_dim_intlist(1i64, true, Kind::Double)?;
        Ok(weight.f_div(&total)?.f_unsqueeze(1)?.f_bmm(&self.ranks)?.f_squeeze_dim(1)?)
    }
}
