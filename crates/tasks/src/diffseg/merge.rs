//! Anchors grow into segments by iterative merging (arXiv 2308.12469, section 3.3), with the published order of steps.
//!
//! Maps are distributions over tokens. The distance of two maps is their symmetric Kullback-Leibler divergence
//! `D(x, y) = ½ Σ x log(x/y) + ½ Σ y log(y/x)`. In the first round each anchor's map becomes the mean of all maps that
//! are closer to it than the threshold. Every later round goes through the proposals in order: a proposal that does not
//! yet belong to another one is replaced by the mean of all proposals that are closer to it than the threshold,
//! including those that already belong to another one, and all of these then belong to it. Distances are computed once,
//! at the beginning of a round. A map always belongs to itself, even at a threshold of 0.
//!
//! All numbers are float32. A value below the smallest normal number of that type, such as 0, is given the logarithm of
//! that number. If a map is 0 where the other is not, the distance is therefore large but finite.

use markov_core::torch::to_vec;
use models::times_transposed;
use tch::{Kind, Tensor};

use crate::error::Result;

/// Settings of merging.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merging {
    /// Maps closer than this are merged.
    pub threshold: f64,
    /// Number of rounds, including the first one.
    pub rounds: usize,
}

/// Number of maps whose logarithms are in memory at once: they take 8 MiB at 64 by 64 tokens.
const MAPS_AT_ONCE: i64 = 512;

/// Merges maps around `anchors`. `aggregate` is `[n, n]` float32 with positive rows that sum to 1. Returns the
/// proposals, `[proposals, n]` float32.
///
/// # Errors
/// Fails if libtorch fails.
pub fn merge(aggregate: &Tensor, anchors: &[usize], merging: &Merging) -> Result<Tensor> {
    let mut proposals = gather(aggregate, anchors, merging.threshold)?;
    for _ in 1..merging.rounds {
        proposals = unite(&proposals, merging.threshold)?;
    }
    Ok(proposals)
}

/// The first round. Returns for each anchor the mean of all rows of `aggregate` `[n, n]` that are closer to it than
/// `threshold`, `[anchors, n]`.
///
/// # Errors
/// Fails if libtorch fails.
pub fn gather(aggregate: &Tensor, anchors: &[usize], threshold: f64) -> Result<Tensor> {
    let (n, _) = aggregate.size2()?;
    let anchors: Vec<i64> = anchors.iter().map(|&token| token as i64).collect();
    let anchors = Tensor::f_from_slice(&anchors)?.f_to_device(aggregate.device())?;
    let chosen = Maps::new(&aggregate.f_index_select(0, &anchors)?)?;
    let mut sum = chosen.maps.f_zeros_like()?;
    let mut count = chosen.negentropy.f_zeros_like()?;
    for first in (0..n).step_by(MAPS_AT_ONCE as usize) {
        let maps = Maps::new(&aggregate.f_narrow(0, first, MAPS_AT_ONCE.min(n - first))?)?;
        let own = anchors.f_unsqueeze(-1)?.f_eq_tensor(&maps.numbers(first)?)?;
        let close = chosen.distances(&maps)?.f_lt(threshold)?.f_logical_or(&own)?;
        let close = close.f_to_kind(Kind::Float)?;
        let _ = sum.f_add_(&times_transposed(&close, &maps.maps.f_transpose(0, 1)?)?)?;
        let _ = count.f_add_(&close.f_sum_dim_intlist(-1i64, true, Kind::Float)?)?;
    }
    Ok(sum.f_div_(&count)?)
}

/// A later round. Replaces `[proposals, n]` by fewer or equally many proposals.
///
/// # Errors
/// Fails if libtorch fails.
pub fn unite(proposals: &Tensor, threshold: f64) -> Result<Tensor> {
    let (count, _) = proposals.size2()?;
    let close = distances(proposals, proposals)?.f_lt(threshold)?;
    let flags: Vec<u8> = to_vec(&close)?;
    let groups = groups(&flags, count as usize);
    let mut weights = vec![0f32; groups.len() * count as usize];
    for (weights, group) in weights.chunks_mut(count as usize).zip(&groups) {
        for &member in group {
            weights[member] = 1.0 / group.len() as f32;
        }
    }
    let weights = Tensor::f_from_slice(&weights)?.f_reshape([groups.len() as i64, count])?;
    Ok(weights.f_to_device(proposals.device())?.f_matmul(proposals)?)
}

/// Returns the groups of proposals that are averaged. `close[i * count + j]` is 1 if `j` is close to `i`.
fn groups(close: &[u8], count: usize) -> Vec<Vec<usize>> {
    let mut belongs = vec![false; count];
    let mut groups = Vec::new();
    for (first, close) in close.chunks(count.max(1)).enumerate() {
        if belongs[first] {
            continue;
        }
        let group: Vec<usize> = (0..count).filter(|&other| other == first || close[other] != 0).collect();
        group.iter().for_each(|&member| belongs[member] = true);
        groups.push(group);
    }
    groups
}

/// Returns the distances of every row of `x` `[k, n]` to every row of `y` `[m, n]`, `[k, m]` float32.
///
/// # Errors
/// Fails if libtorch fails.
pub fn distances(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Maps::new(x)?.distances(&Maps::new(y)?)
}

/// Maps with the intermediate results that distances need.
struct Maps {
    /// The maps, `[k, n]`.
    maps: Tensor,
    /// `log(n x)`. The factor `n` cancels in distances. It keeps the logarithms near 0, which makes their differences
    /// more accurate.
    logs: Tensor,
    /// `Σ x log(n x)`, `[k, 1]`.
    negentropy: Tensor,
}

impl Maps {
    fn new(maps: &Tensor) -> Result<Self> {
        let (_, n) = maps.size2()?;
        let smallest = f64::from(f32::MIN_POSITIVE);
        let logs = maps.f_clamp_min(smallest)?.f_mul_scalar_(n as f64)?.f_log_()?;
        let negentropy = maps.f_mul(&logs)?.f_sum_dim_intlist(-1i64, true, Kind::Float)?;
        Ok(Self { maps: maps.shallow_clone(), logs, negentropy })
    }

    /// Returns the row numbers of the maps, starting at `first`.
    fn numbers(&self, first: i64) -> Result<Tensor> {
        let count = self.maps.size()[0];
        Ok(Tensor::f_arange_start(first, first + count, (Kind::Int64, self.maps.device()))?)
    }

    /// Returns `[k, m]`: ½ (Σ x log x + Σ y log y − x·log y − log x·y), at least 0.
    fn distances(&self, other: &Self) -> Result<Tensor> {
        let mut cross = times_transposed(&self.maps, &other.logs)?;
        let _ = cross.f_add_(&times_transposed(&self.logs, &other.maps)?)?;
        let own = self.negentropy.f_add(&other.negentropy.f_transpose(0, 1)?)?;
        Ok(own.f_sub(&cross)?.f_mul_scalar_(0.5)?.f_clamp_min_(0.0)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use proptest::prelude::*;

    /// A random transition matrix of `n` states.
    fn maps(seed: i64, n: i64, sharpness: f64) -> Tensor {
        tch::manual_seed(seed);
        let logits = Tensor::randn([n, n], (Kind::Float, Device::Cpu)) * sharpness;
        logits.softmax(-1, Kind::Float)
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.size(), b.size());
        (a - b).abs().max().double_value(&[])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn distances_are_those_of_the_definition(seed in 0i64..1000, sharpness in 0.1f64..8.0) {
            let maps = maps(seed, 20, sharpness);
            let exact = maps.to_kind(Kind::Double);
            let (x, y) = (exact.unsqueeze(1), exact.unsqueeze(0));
            let wanted = ((&x - &y) * (x.log() - y.log())).sum_dim_intlist(-1i64, false, Kind::Double) * 0.5;
            let found = distances(&maps, &maps)?;
            prop_assert!(difference(&found.to_kind(Kind::Double), &wanted) < 1e-5);
        }

        #[test]
        fn a_threshold_of_zero_keeps_every_anchor(seed in 0i64..1000, sharpness in 0.5f64..6.0) {
            let maps = maps(seed, 24, sharpness);
            let kept = merge(&maps, &[3, 0, 17], &Merging { threshold: 0.0, rounds: 3 })?;
            let wanted = maps.index_select(0, &Tensor::from_slice(&[3i64, 0, 17]));
            prop_assert!(difference(&kept, &wanted) < 1e-7);
        }

        #[test]
        fn an_infinite_threshold_leaves_the_mean_of_all(seed in 0i64..1000, sharpness in 0.5f64..6.0) {
            let maps = maps(seed, 24, sharpness);
            let one = merge(&maps, &[3, 0, 17], &Merging { threshold: f64::INFINITY, rounds: 2 })?;
            prop_assert!(difference(&one, &maps.mean_dim(0i64, true, Kind::Float)) < 1e-6);
        }

        #[test]
        fn the_order_of_tokens_does_not_matter(seed in 0i64..1000, threshold in 0.01f64..2.0) {
            let maps = maps(seed, 24, 1.0);
            let order = Tensor::randperm(24, (Kind::Int64, Device::Cpu));
            let renamed = maps.index_select(0, &order).index_select(1, &order);
            let places: Vec<i64> = Vec::try_from(order.argsort(0, false))?;
            let anchors = [5usize, 11, 2, 20];
            let moved = anchors.map(|token| places[token] as usize);
            let merging = Merging { threshold, rounds: 3 };
            let (found, again) = (merge(&maps, &anchors, &merging)?, merge(&renamed, &moved, &merging)?);
            prop_assert!(difference(&found.index_select(1, &order), &again) < 1e-6);
            let sums = found.sum_dim_intlist(-1i64, false, Kind::Float);
            prop_assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    fn a_proposal_absorbs_members_of_earlier_groups() {
        // 1 is close to 0 and to 2, which are far from each other, as in the published code.
        let close = [1, 1, 0, 1, 1, 1, 0, 1, 1];
        assert_eq!(groups(&close, 3), [vec![0, 1], vec![1, 2]]);
        // All proposals are close to 1 only; a proposal belongs to itself although its own flag is 0.
        let close = [0, 0, 0, 1, 0, 1, 0, 0, 0];
        assert_eq!(groups(&close, 3), [vec![0], vec![0, 1, 2]]);
    }

    #[test]
    fn distances_from_zeros_are_large_but_finite() -> Result<()> {
        let maps = Tensor::from_slice(&[0.5f32, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5]).reshape([2, 4]);
        let found = distances(&maps, &maps)?;
        let far = (0.5f64 / f64::from(f32::MIN_POSITIVE)).ln();
        let wanted = Tensor::from_slice(&[0.0, far, far, 0.0]).reshape([2, 2]);
        assert!(difference(&found.to_kind(Kind::Double), &wanted) < 1e-4, "{found:?}");
        Ok(())
    }

    #[test]
    fn merging_does_not_depend_on_the_chunks() -> Result<()> {
        let n = MAPS_AT_ONCE + 7;
        let maps = maps(3, n, 0.5);
        let anchors = [0, 5, MAPS_AT_ONCE as usize, n as usize - 1];
        let threshold = 0.24;
        let found = gather(&maps, &anchors, threshold)?;
        let of = Tensor::from_slice(&anchors.map(|token| token as i64));
        let close = distances(&maps.index_select(0, &of), &maps)?.lt(threshold).to_kind(Kind::Float);
        let count = close.sum_dim_intlist(-1i64, true, Kind::Float);
        assert!(count.min().double_value(&[]) > 1.0 && count.max().double_value(&[]) < n as f64);
        assert!(difference(&found, &(close.matmul(&maps) / count)) < 1e-7);
        Ok(())
    }
}
