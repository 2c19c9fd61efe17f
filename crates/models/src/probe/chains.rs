//! The chains of the heads of a layer, from maps or from queries and keys.

use std::ops::Range;

use markov_core::torch::{Fused, HALF};
use markov_core::{Direction, Effort, Stop};
use tch::{Kind, Tensor};

use super::chain::{RANK_TOLERANCE, lambda2, token_rank, token_rank_backward};
use crate::attend::{ChainTokens, ChainView, View, square};
use crate::error::Result;
use crate::site::TokenLayout;

/// The chains of the heads shown, for a probe that asked for [`Want::CHAIN`](crate::attend::Want::CHAIN).
pub(super) enum Chains {
    /// Stored maps.
    Maps {
        /// `[batch, heads, n, n]`, float32.
        logits: Tensor,
        /// Their softmax.
        maps: Tensor,
    },
    /// Queries and keys of all heads; maps are computed where they are needed.
    Fused(Fused),
}

impl Chains {
    /// Returns the chains over the given states.
    ///
    /// # Errors
    /// The probe did not ask for chains; the layer is cross-attention; libtorch fails.
    pub(super) fn of(tokens: ChainTokens, layout: &TokenLayout, view: &View<'_>) -> Result<Self> {
        Ok(match (view.chain()?, tokens) {
            (ChainView::Maps { logits, probs }, ChainTokens::All) => {
                Self::Maps { logits: logits.shallow_clone(), maps: square(probs)?.shallow_clone() }
            }
            (ChainView::Maps { logits, .. }, ChainTokens::WithoutSpecial) => {
                let logits = tokens.among(layout, square(logits)?)?;
                let maps = logits.f_softmax(-1, Kind::Float)?;
                Self::Maps { logits, maps }
            }
            (ChainView::QueriesKeys { q, k, scale, bias }, ChainTokens::All) => {
                Self::Fused(Fused::new(q, k, scale, bias)?)
            }
            (ChainView::QueriesKeys { q, k, scale, bias }, ChainTokens::WithoutSpecial) => {
                let states = tokens.index(layout, q.device())?;
                let kept = |x: &Tensor| x.f_index_select(2, &states);
                let bias = bias.map(|bias| {
                    let bias = bias.f_index_select(-1, &states)?;
                    if bias.size()[2] == 1 { Ok(bias) } else { kept(&bias) }
                });
                Self::Fused(Fused::new(&kept(q)?, &kept(k)?, scale, bias.transpose()?.as_ref())?)
            }
        })
    }

    /// Returns λ₂ of each head for its weight, `[batch, heads]`: as [`lambda2`] does from maps, and to at most three digits from
    /// queries and keys of 16 bits.
    ///
    /// # Errors
    /// As [`lambda2`].
    pub(super) fn lambda2(&self, tolerance: f64) -> Result<Tensor> {
        match self {
            Self::Maps { maps, .. } => lambda2(maps, tolerance),
            Self::Fused(fused) => {
                // Queries and keys of 16 bits are off by 2⁻⁹ themselves, so that more digits would say nothing.
                let tolerance = if fused.is_half() { tolerance.max(HALF) } else { tolerance };
                Ok(fused.lambda2(Effort::tolerance(tolerance))?)
            }
        }
    }

    /// Returns the TokenRank of each head as [`token_rank`] and [`token_rank_backward`] do, `[batch, heads, n]`.
    ///
    /// # Errors
    /// As [`token_rank`].
    pub(super) fn token_rank(&self, alpha: f64, direction: Direction) -> Result<Tensor> {
        match (self, direction) {
            (Self::Maps { maps, .. }, Direction::Forward) => token_rank(maps, alpha),
            (Self::Maps { maps, .. }, Direction::Backward) => token_rank_backward(maps, alpha),
            (Self::Fused(fused), direction) => {
                Ok(fused.token_rank(alpha, direction, Stop::accelerated(RANK_TOLERANCE))?)
            }
        }
    }

    /// Calls `take` with the logits and the maps `[batch, count, n, n]` of consecutive heads, at most `at_once` or as many
    /// as fit into memory.
    ///
    /// # Errors
    /// libtorch fails, or `take` does.
    pub(super) fn each_maps(
        &self,
        at_once: Option<i64>,
        mut take: impl FnMut(Range<i64>, &Tensor, &Tensor) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Maps { logits, maps } => take(0..maps.size()[1], logits, maps),
            Self::Fused(fused) => {
                let at_once = at_once.map_or(fused.heads_at_once(), |most| most.min(fused.heads_at_once()));
                let heads = fused.heads();
                for first in (0..heads).step_by(at_once.max(1) as usize) {
                    let group = first..heads.min(first + at_once);
                    let logits = fused.logits(group.clone())?;
                    take(group, &logits, &logits.f_softmax(-1, Kind::Float)?)?;
                }
                Ok(())
            }
        }
    }
}
