//! Average precision, ties included.

use ndarray::ArrayView2;

use super::IGNORED;
use super::signal::Signal;

/// Pixels that have the same score.
#[derive(Debug, Clone, Copy)]
struct Group {
    score: f32,
    positives: u64,
    total: u64,
}

/// A signal's pixels in groups of equal value, those of the largest value first; of either channel.
pub(super) struct Ranking {
    foreground: Vec<Group>,
    background: Vec<Group>,
}

impl Ranking {
    /// Sorts a signal in 0…1 by value. `labels` has its shape.
    pub(super) fn new(signal: &Signal, labels: ArrayView2<u8>) -> Self {
        // Bits of floats that are not negative rise with them, so value and label sort as one whole number.
        let mut keys: Vec<u64> = signal
            .map()
            .iter()
            .zip(&labels)
            .filter(|(_, label)| **label != IGNORED)
            .map(|(s, &label)| u64::from(s.to_bits()) << 1 | u64::from(label == 1))
            .collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        let foreground: Vec<Group> = keys
            .chunk_by(|a, b| a >> 1 == b >> 1)
            .map(|tied| Group {
                score: f32::from_bits((tied[0] >> 1) as u32),
                positives: tied.iter().map(|key| key & 1).sum(),
                total: tied.len() as u64,
            })
            .collect();
        let complement = |group: &Group| Group {
            score: signal.complement(group.score),
            positives: group.total - group.positives,
            total: group.total,
        };
        // 1 - s falls with s, and rounding can make neighbours equal but cannot swap them.
        let background = foreground.iter().rev().map(complement).collect();
        Self { foreground, background }
    }

    /// Average precision of the foreground; none where there is no foreground.
    pub(super) fn foreground(&self) -> Option<f64> {
        average_precision(self.foreground.iter().copied())
    }

    /// Average precision of both channels as one list of twice as many pixels, each pixel positive in the channel of
    /// its label; none without pixels.
    pub(super) fn pooled(&self) -> Option<f64> {
        let (mut a, mut b) = (self.foreground.iter().peekable(), self.background.iter().peekable());
        average_precision(std::iter::from_fn(|| {
            match (a.peek(), b.peek()) {
                (Some(first), Some(second)) if first.score >= second.score => a.next(),
                (Some(_), None) => a.next(),
                (_, _) => b.next(),
            }
            .copied()
        }))
    }
}

/// `Σ (R_k − R_{k−1}) P_k` over the distinct scores, highest first, with recall R and precision P of all that score at
/// least as high: scikit-learn's `average_precision_score`. Groups come in falling order of their score, several of one
/// score next to each other. None where nothing is positive (scikit-learn says 0).
fn average_precision(groups: impl Iterator<Item = Group>) -> Option<f64> {
    let (mut positives, mut total, mut gained, mut sum) = (0, 0, 0, 0.0);
    let mut groups = groups.peekable();
    while let Some(group) = groups.next() {
        positives += group.positives;
        total += group.total;
        gained += group.positives;
        if groups.peek().is_none_or(|next| next.score != group.score) {
            sum += gained as f64 * (positives as f64 / total as f64);
            gained = 0;
        }
    }
    (positives > 0).then(|| sum / positives as f64)
}
