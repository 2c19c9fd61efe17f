//! Averaging of heads by their λ₂: the paper gives more weight to slowly mixing heads, which have metastable structure.

use ndarray::{Array1, Array2, ArrayView3, Axis};

use crate::{Error, Result};

/// Formula for the weights of heads from their λ₂. The paper does not print its formula, so there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadWeights {
    /// `w_h ∝ |λ₂,h|`.
    #[default]
    Proportional,
    /// Equal weights for the `k` heads with the largest λ₂, zero for the others. Of equal heads, the earlier one
    /// counts.
    Top(usize),
    /// Equal weights for all.
    Uniform,
}

/// Returns the weights of heads from their λ₂ moduli `[heads]`: not negative, summing to 1. If all moduli are zero,
/// weights are equal.
///
/// # Errors
/// [`Error::Empty`] without heads, [`Error::Distribution`] for a modulus that is negative or not finite,
/// [`Error::Count`] if `k` is 0 or exceeds the number of heads.
pub fn weigh_heads(lambda2: &[f64], rule: HeadWeights) -> Result<Array1<f64>> {
    let heads = lambda2.len();
    if heads == 0 {
        return Err(Error::Empty);
    }
    if let Some((head, value)) = lambda2.iter().enumerate().find(|(_, v)| !(v.is_finite() && **v >= 0.0)) {
        let reason = format!("the modulus of head {head} is {value}");
        return Err(Error::Distribution { what: "the vector of λ₂", states: heads, reason });
    }
    let raw = match rule {
        HeadWeights::Proportional => Array1::from(lambda2.to_vec()),
        HeadWeights::Uniform => Array1::ones(heads),
        HeadWeights::Top(k) => {
            if k == 0 || k > heads {
                return Err(Error::Count { what: "the number of heads kept", low: 1, high: heads, found: k });
            }
            let mut order: Vec<usize> = (0..heads).collect();
            order.sort_by(|a, b| lambda2[*b].total_cmp(&lambda2[*a]));
            let mut raw = Array1::zeros(heads);
            order[..k].iter().for_each(|head| raw[*head] = 1.0);
            raw
        }
    };
    let sum = raw.sum();
    Ok(if sum > 0.0 { raw / sum } else { Array1::from_elem(heads, 1.0 / heads as f64) })
}

/// Returns the weighted mean `Σ_h w_h A_h` of `maps` `[heads, n, n]` with `weights` `[heads]`: `[n, n]`, in double
/// precision.
///
/// # Errors
/// [`Error::Shape`] if the numbers of weights and maps differ.
pub fn weighted_mean<T: crate::Element>(maps: ArrayView3<'_, T>, weights: &[f64]) -> Result<Array2<f64>> {
    let (heads, rows, columns) = maps.dim();
    if weights.len() != heads {
        let expected = format!("one for each of {heads} maps");
        return Err(Error::Shape { what: "the vector of weights", found: vec![weights.len()], expected });
    }
    let mut mean = Array2::zeros((rows, columns));
    for (map, weight) in maps.axis_iter(Axis(0)).zip(weights) {
        mean.zip_mut_with(&map, |mean, value| *mean += weight * value.to_f64());
    }
    Ok(mean)
}
