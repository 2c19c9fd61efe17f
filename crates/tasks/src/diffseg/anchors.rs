//! Anchors: the tokens with which merging begins.

use markov_core::torch::to_vec;
use models::probe::token_rank;
use tch::{Kind, Tensor};

use super::method::Method;
use crate::error::Result;
use crate::mini::rng::Rng;

/// Returns the anchors of a method on an aggregate `[n, n]` over `grid`, as token numbers in row order of the grid. The
/// anchors are listed in the order in which they are merged.
///
/// A method from a file is refused: its anchors do not come from the aggregate.
///
/// Grid anchors are listed row by row, ranked ones from the largest score down, drawn ones in the order of drawing.
/// `seed` determines the draws.
///
/// # Errors
/// Fails if the map is not a transition matrix, or if libtorch fails.
pub fn anchors(
    method: &Method,
    aggregate: &Tensor,
    grid: (usize, usize),
    alpha: f64,
    seed: u64,
) -> Result<Vec<usize>> {
    let tokens = grid.0 * grid.1;
    // Every kind of method has its own stream, so that kinds draw independently.
    let rng = |kind: u64| Rng::keyed(&[seed, kind]);
    Ok(match method {
        Method::Uniform(own) => uniform(grid, own.side),
        Method::Tokenrank(own) => {
            ranked(&to_vec(&token_rank(aggregate, alpha)?)?, grid, own.number, own.radius)
        }
        Method::ColumnSum(own) => {
            let sums = aggregate.f_sum_dim_intlist(0i64, false, Kind::Double)?;
            ranked(&to_vec(&sums)?, grid, own.number, own.radius)
        }
        Method::TokenrankSampled(own) => {
            drawn(&to_vec(&token_rank(aggregate, alpha)?)?, own.number, &mut rng(0))
        }
        Method::Random(own) => drawn(&vec![1.0; tokens], own.number, &mut rng(1)),
        Method::File(own) => {
            let reason = format!("the anchors of `{}` come from a file, not from the aggregate", own.name);
            return Err(models::Error::Probe(reason).into());
        }
    })
}

/// `side` by `side` tokens at equal whole distances, centred on the grid as in the published code: for 16 on 64 by 64
/// tokens, the rows and columns 1, 5, …, 61. If a side has fewer than `side` tokens, all of them are taken.
pub fn uniform((rows, columns): (usize, usize), side: usize) -> Vec<usize> {
    let places = |length: usize| {
        let count = side.clamp(1, length.max(1));
        let step = if count > 1 { (length - 1) / (count - 1) } else { 0 };
        let first = (length.saturating_sub(1) - step * (count - 1)) / 2;
        (0..count).map(move |k| first + k * step)
    };
    places(rows).flat_map(|row| places(columns).map(move |column| row * columns + column)).collect()
}

/// Returns the `number` tokens with the largest scores, largest first, such that no two are within `radius` rows and
/// columns of each other. If these are too few, the largest of the excluded tokens follow. Of equal tokens the first in
/// row order is taken.
pub fn ranked(scores: &[f64], (rows, columns): (usize, usize), number: usize, radius: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut suppressed = vec![false; rows * columns];
    let mut peaks = Vec::with_capacity(number.min(scores.len()));
    let mut rest = Vec::new();
    for token in order {
        if peaks.len() == number {
            return peaks;
        }
        if suppressed[token] {
            rest.push(token);
            continue;
        }
        peaks.push(token);
        let (row, column) = (token / columns, token % columns);
        for near in row.saturating_sub(radius)..=(row + radius).min(rows - 1) {
            let from = near * columns + column.saturating_sub(radius);
            let to = near * columns + (column + radius).min(columns - 1);
            suppressed[from..=to].fill(true);
        }
    }
    let missing = number - peaks.len();
    peaks.extend(rest.into_iter().take(missing));
    peaks
}

/// Draws `number` tokens one after the other without replacement, with probabilities in proportion to their weights.
/// Tokens of weight 0 are drawn only when no others are left.
pub fn drawn(weights: &[f64], number: usize, rng: &mut Rng) -> Vec<usize> {
    let mut left: Vec<(usize, f64)> = weights.iter().copied().enumerate().collect();
    let mut chosen = Vec::with_capacity(number.min(left.len()));
    while chosen.len() < number && !left.is_empty() {
        let total: f64 = left.iter().map(|(_, weight)| weight).sum();
        let place = if total > 0.0 {
            let mut target = rng.unit() * total;
            let falls_on = |&(_, weight): &(usize, f64)| {
                target -= weight;
                target < 0.0
            };
            // Rounding may carry the target past the end of the sum; then the last token with a weight is drawn.
            let last = || left.iter().rposition(|(_, weight)| *weight > 0.0);
            left.iter().position(falls_on).or_else(last).unwrap_or(0)
        } else {
            rng.below(left.len())
        };
        chosen.push(left.remove(place).0);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Rng, drawn, ranked, uniform};

    #[test]
    fn the_published_grid() {
        let anchors = uniform((64, 64), 16);
        assert_eq!(anchors.len(), 256);
        let rows: Vec<usize> = anchors.iter().step_by(16).map(|token| token / 64).collect();
        let columns: Vec<usize> = anchors[..16].iter().map(|token| token % 64).collect();
        let wanted: Vec<usize> = (0..16).map(|k| 1 + 4 * k).collect();
        assert_eq!((rows, columns), (wanted.clone(), wanted));
    }

    #[test]
    fn grids_of_other_sizes() {
        assert_eq!(uniform((3, 5), 16), (0..15).collect::<Vec<_>>());
        assert_eq!(uniform((5, 5), 1), [12]);
        assert_eq!(uniform((1, 1), 4), [0]);
        // Rows 0, 3, 6 of 8 leave one row over; columns 0, 2, 4 of 5 leave none.
        assert_eq!(uniform((8, 5), 3), [0, 2, 4, 15, 17, 19, 30, 32, 34]);
    }

    #[test]
    fn peaks_suppress_what_is_around_them() {
        let mut scores = vec![0.0; 30];
        for (token, score) in [(7, 9.0), (8, 8.0), (13, 7.0), (21, 6.0), (28, 5.0)] {
            scores[token] = score;
        }
        // On 5 by 6 tokens 8 and 13 are next to 7, and 28 is next to 21.
        assert_eq!(ranked(&scores, (5, 6), 2, 1), [7, 21]);
        assert_eq!(ranked(&scores, (5, 6), 4, 0), [7, 8, 13, 21]);
        // The radius leaves one peak; the other anchors follow by score.
        assert_eq!(ranked(&scores, (5, 6), 4, 9), [7, 8, 13, 21]);
    }

    #[test]
    fn draws_follow_their_weights() {
        let weights = [0.0, 1.0, 2.0, 7.0];
        let mut firsts = [0usize; 4];
        for seed in 0..4000 {
            let order = drawn(&weights, 4, &mut Rng::keyed(&[seed]));
            assert_eq!(order[3], 0, "tokens of weight 0 come last");
            firsts[order[0]] += 1;
        }
        for (weight, first) in weights.iter().zip(firsts) {
            let fraction = first as f64 / 4000.0;
            // The tolerance is four standard deviations.
            assert!(
                (fraction - weight / 10.0).abs() < 0.03,
                "{weight} of 10 drawn first in a fraction {fraction} of the draws"
            );
        }
    }

    proptest! {
        #[test]
        fn anchors_are_distinct_and_as_many_as_there_can_be(
            rows in 1usize..9, columns in 1usize..9, number in 1usize..80, radius in 0usize..4, seed in 0u64..99,
        ) {
            let tokens = rows * columns;
            let mut rng = Rng::keyed(&[seed]);
            let scores: Vec<f64> = (0..tokens).map(|_| rng.unit()).collect();
            let by_rank = ranked(&scores, (rows, columns), number, radius);
            for found in [&by_rank, &drawn(&scores, number, &mut rng)] {
                prop_assert_eq!(found.len(), number.min(tokens));
                prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
                prop_assert!(found.iter().all(|token| *token < tokens));
            }
            prop_assert!(scores[by_rank[0]] >= scores.iter().copied().fold(0.0, f64::max));
            let grid = uniform((rows, columns), number);
            prop_assert_eq!(grid.len(), number.min(rows) * number.min(columns));
            prop_assert!(grid.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
