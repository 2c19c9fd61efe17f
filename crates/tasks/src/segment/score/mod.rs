//! From a signal over image tokens and a label map to counts and average precision.
//!
//! A signal is blurred if asked for, brought to 0…1 by its smallest and largest value, cut into a mask and brought to the
//! size of the labels; [`ScoreSettings`] says in which order and how. Signals are float32 and are scaled in float32, as
//! in the programs the protocol comes from: average precision depends on which values are equal, and that depends on the
//! rounding of `s` and of `1 - s`. Everything that is summed is summed in float64.
//!
//! A constant signal says nothing. It is 0 everywhere after scaling, so that no threshold but a negative one finds
//! foreground, and both of its channels are equal in average precision. That is where the programs of Chefer et al. and
//! ConceptAttention end up by replacing the NaN of 0/0 with 0.

mod argmax;
mod average_precision;
mod counts;
mod error;
mod resample;
mod settings;
mod signal;
#[cfg(test)]
mod tests;
mod threshold;

use ndarray::{Array2, ArrayView2};

use super::record::MapScore;
use average_precision::Ranking;
use resample::{labels_at, nearest, upsample};
use signal::{Signal, blurred, checked};

pub(crate) use argmax::{ClassSignal, score_classes};
pub use error::ScoreError;
pub use settings::{ScoreSettings, ThresholdAt, Upsample};
pub(crate) use signal::min_max;
pub use threshold::{Threshold, UnknownThreshold};

/// The label of pixels that count nowhere.
pub const IGNORED: u8 = 255;

/// Scores a signal `[rows, columns]` over image tokens against labels `[height, width]`: 0 background, 1 foreground,
/// [`IGNORED`]. Signal and labels cover the same picture, whatever their sizes.
///
/// # Errors
/// An empty map, a signal that is not finite or too small to blur, a label that is none of the three.
pub fn score(
    map: ArrayView2<f32>,
    labels: ArrayView2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let map = checked(map)?;
    let labels = labels_at(labels, settings.side)?;
    if let Some(&label) = labels.iter().find(|label| !matches!(**label, 0 | 1 | IGNORED)) {
        return Err(ScoreError::NotTwoClasses(label));
    }
    let map = if settings.blur { blurred(map)? } else { map.to_owned() };
    let size = (settings.side, settings.side);
    let cut = |signal: &Signal| -> Array2<u8> {
        let cut = settings.threshold.of(signal.values());
        signal.map().mapv(|s| u8::from(f64::from(s) > cut))
    };
    let (signal, mask) = match settings.threshold_at {
        ThresholdAt::Map => {
            let signal = Signal::new(map);
            let mask = nearest(cut(&signal).view(), size);
            (signal.with(|map| upsample(map, size, settings.upsample)), mask)
        }
        ThresholdAt::Pixels => {
            let signal = Signal::new(upsample(map.view(), size, settings.upsample));
            let mask = cut(&signal);
            (signal, mask)
        }
    };
    let mut score = counts::count(mask.view(), labels.view());
    let ranking = Ranking::new(&signal, labels.view());
    score.pooled_ap = ranking.pooled();
    score.foreground_ap = ranking.foreground();
    Ok(score)
}
