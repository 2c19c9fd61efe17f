//! Average precision, with a correct treatment of ties.

use ndarray::ArrayView2;

use super::IGNORED;
use super::signal::Signal;

/// Pixels with equal scores.
#[derive(Debug, Clone, Copy)]
struct Group {
    score: f32,
    positives: u64,
    total: u64,
}

/// The pixels of a signal in groups of equal value, in falling order, for either channel.
pub(super) struct Ranking {
    foreground: Vec<Group>,
    background: Vec<Group>,
}

impl Ranking {
    /// Sorts a signal in [0, 1] by value. `labels` has the same shape.
    pub(super) fn new(signal: &Signal, labels: ArrayView2<u8>) -> Self {
        // The bits of non-negative floats have the order of their values, so value and label can be sorted as one
        // integer.
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
        // 1 - s falls as s rises. Rounding can make neighbours equal, but cannot change their order.
        let background = foreground.iter().rev().map(complement).collect();
        Self { foreground, background }
    }

    /// Average precision of the foreground; `None` without foreground.
    pub(super) fn foreground(&self) -> Option<f64> {
        average_precision(self.foreground.iter().copied())
    }

    /// Average precision of both channels as one list of twice as many pixels, in which each pixel is positive in the
    /// channel of its label. `None` without pixels.
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

/// Computes `Σ (R_k − R_{k−1}) P_k` over the distinct scores, highest first, where R and P are the recall and precision
/// of all pixels that score at least as high, as scikit-learn's `average_precision_score` does. Groups must come in
/// falling order of their scores; groups of equal score must be adjacent. Returns `None` without positives
/// (scikit-learn returns 0).
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
