//! Which latents are degraded: those under the tokens that the self-attention in the middle of the UNet marks as
//! important.

use models::probe::{LAMBDA_TOLERANCE, lambda2, token_rank};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::Result;

/// What makes an image token important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// Attention received from all tokens: one step from the uniform state (arXiv 2210.00939).
    ColumnSum,
    /// The steady state.
    Tokenrank,
    /// The steady state of heads weighted by λ₂.
    TokenrankLambda2,
}

/// Which tokens are important enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Threshold {
    /// Tokens whose importance is above the average.
    #[default]
    AboveAverage,
    /// The most important tokens, as many as have an above-average column sum, so that all masks have the same area.
    Area,
}

/// The importance of tokens, `[batch, n]` with mean 1, from the heads' maps `[batch, heads, n, n]` float32.
pub(super) fn importance(maps: &Tensor, kind: Importance, alpha: f64) -> Result<Tensor> {
    let (.., tokens) = maps.size4()?;
    let ranks = |map: &Tensor| -> Result<Tensor> {
        Ok(token_rank(map, alpha)?.f_mul_scalar(tokens as f64)?.f_to_kind(Kind::Float)?)
    };
    match kind {
        Importance::ColumnSum => column_sum(maps),
        Importance::Tokenrank => ranks(&maps.f_mean_dim(1i64, false, Kind::Float)?),
        Importance::TokenrankLambda2 => ranks(&weighted_mean(maps)?),
    }
}

/// Column sums of the mean map, `[batch, n]`.
fn column_sum(maps: &Tensor) -> Result<Tensor> {
    let mean = maps.f_mean_dim(1i64, false, Kind::Float)?;
    Ok(mean.f_sum_dim_intlist(1i64, false, Kind::Float)?)
}

/// The mean of the heads' maps, weighted in proportion to their λ₂: `[batch, n, n]`.
fn weighted_mean(maps: &Tensor) -> Result<Tensor> {
    // Shape [batch, heads]. The small minimum gives all heads equal weights if none of them has any structure.
    let lambda = lambda2(maps, LAMBDA_TOLERANCE)?.f_to_kind(Kind::Float)?.f_clamp_min(1e-12)?;
    let weights = lambda.f_div(&lambda.f_sum_dim_intlist(1i64, true, Kind::Float)?)?;
    let weighted = maps.f_mul(&weights.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
    Ok(weighted.f_sum_dim_intlist(1i64, false, Kind::Float)?)
}

/// The mask `[batch, n]` (bool) of the important tokens of the heads' maps `[batch, heads, n, n]`.
pub(super) fn mask(maps: &Tensor, kind: Importance, threshold: Threshold, alpha: f64) -> Result<Tensor> {
    let importance = importance(maps, kind, alpha)?;
    match threshold {
        Threshold::AboveAverage => Ok(importance.f_gt(1.0)?),
        Threshold::Area => {
            let area = column_sum(maps)?.f_gt(1.0)?.f_sum_dim_intlist(1i64, true, Kind::Int64)?;
            // Rank of each token, 0 for the most important; of equal tokens the first one ranks higher.
            let order = importance.f_argsort_stable(true, 1, true)?;
            let rank = order.f_argsort_stable(true, 1, false)?;
            Ok(rank.f_lt_tensor(&area)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::Device;

    fn maps(seed: i64, sharpness: f64) -> Tensor {
        tch::manual_seed(seed);
        let logits = Tensor::randn([2, 3, 16, 16], (Kind::Float, Device::Cpu)) * sharpness;
        logits.softmax(-1, Kind::Float)
    }

    fn areas(mask: &Tensor) -> Vec<i64> {
        Vec::try_from(mask.sum_dim_intlist(1i64, false, Kind::Int64)).expect("a vector")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn masks_of_one_area_have_one_area(seed in 0i64..1000, sharpness in 0.5f64..6.0) {
            let maps = maps(seed, sharpness);
            let wanted = areas(&mask(&maps, Importance::ColumnSum, Threshold::AboveAverage, 0.99)?);
            for kind in [Importance::ColumnSum, Importance::Tokenrank, Importance::TokenrankLambda2] {
                prop_assert_eq!(&areas(&mask(&maps, kind, Threshold::Area, 0.99)?), &wanted);
            }
            let by_area = mask(&maps, Importance::ColumnSum, Threshold::Area, 0.99)?;
            prop_assert_eq!(by_area, mask(&maps, Importance::ColumnSum, Threshold::AboveAverage, 0.99)?);
        }

        #[test]
        fn importance_has_mean_one(seed in 0i64..1000, alpha in 0.5f64..1.0) {
            for kind in [Importance::ColumnSum, Importance::Tokenrank, Importance::TokenrankLambda2] {
                let mean = importance(&maps(seed, 2.0), kind, alpha)?.mean(Kind::Double).double_value(&[]);
                prop_assert!((mean - 1.0).abs() < 1e-5, "{:?}: {}", kind, mean);
            }
        }
    }

    #[test]
    fn a_steady_state_without_attention_is_uniform_and_masks_nothing() -> Result<()> {
        let even = Tensor::ones([1, 2, 9, 9], (Kind::Float, Device::Cpu)) / 9.0;
        let ranks = importance(&even, Importance::Tokenrank, 0.99)?;
        assert!((ranks - 1.0).abs().max().double_value(&[]) < 1e-6);
        Ok(())
    }

    #[test]
    fn the_token_that_all_others_attend_to_is_masked() -> Result<()> {
        // All tokens attend to token 3, which attends to token 5.
        let map = Tensor::full([1, 1, 9, 9], 0.05, (Kind::Float, Device::Cpu));
        let _ = map.narrow(3, 3, 1).fill_(0.6);
        let _ = map.narrow(2, 3, 1).fill_(0.025);
        let _ = map.narrow(2, 3, 1).narrow(3, 5, 1).fill_(0.8);
        for kind in [Importance::ColumnSum, Importance::Tokenrank, Importance::TokenrankLambda2] {
            let chosen = mask(&map, kind, Threshold::AboveAverage, 0.99)?;
            let chosen: Vec<bool> = Vec::try_from(chosen.get(0)).expect("a vector");
            let wanted: Vec<bool> = (0..9).map(|token| token == 3 || token == 5).collect();
            assert_eq!(chosen, wanted, "{kind:?}");
        }
        Ok(())
    }
}
