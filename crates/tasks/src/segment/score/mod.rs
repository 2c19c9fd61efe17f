//! Scores a signal over image tokens against a label map, by pixel counts and average precision.
//!
//! A signal is blurred if the settings say so, scaled to [0, 1] by its smallest and largest value, cut into a mask and
//! enlarged to the size of the labels; [`ScoreSettings`] says how and in which order. Signals are float32 and are
//! scaled in float32, as in the programs that define the protocol: average precision depends on which values are equal,
//! and that depends on the rounding of `s` and of `1 - s`. All sums are computed in float64.
//!
//! A constant signal carries no information. It becomes 0 everywhere when it is scaled, so that only a negative
//! threshold finds foreground, and both channels of average precision are constant. The programs of Chefer et al. and
//! of ConceptAttention give the same result, since they replace the NaN of 0/0 by 0.

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

/// The label of ignored pixels.
pub const IGNORED: u8 = 255;

/// Scores a signal `[rows, columns]` over image tokens against labels `[height, width]`: 0 background, 1 foreground,
/// [`IGNORED`]. Signal and labels cover the same image, whatever their sizes.
///
/// # Errors
/// Fails if a map is empty, if the signal is not finite or too small to blur, or if a label is none of the three.
pub fn score(
    map: ArrayView2<f32>,
    labels: ArrayView2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let map = checked(map)?;
    let labels = two_classes(labels, settings)?;
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
    Ok(counted(&signal, mask.view(), labels.view()))
}

/// Scores a mask `[height, width]` of 0 and 1 over pixels against labels as [`score`] does. Mask and labels cover the same
/// image; both are resized to the side of the settings by nearest neighbour. Blur, enlargement and threshold do not apply;
/// the signal of average precision is the mask.
///
/// # Errors
/// Fails if a map is empty, or if a label is not background, foreground or ignored.
pub(crate) fn score_mask(
    mask: ArrayView2<u8>,
    labels: ArrayView2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let labels = two_classes(labels, settings)?;
    let mask = labels_at(mask, settings.side)?;
    Ok(counted(&Signal::new(mask.mapv(f32::from)), mask.view(), labels.view()))
}

/// Scores masks `[height, width]` of 0 and 1 over pixels, each with its class, against labels of any classes. A pixel is
/// given the class of the first mask that is 1 there, or the background. The average precisions are `None`.
///
/// # Errors
/// Fails if a map is empty.
pub(crate) fn score_masks<'a>(
    masks: impl IntoIterator<Item = (u8, ArrayView2<'a, u8>)>,
    labels: ArrayView2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let labels = labels_at(labels, settings.side)?;
    let mut predicted = Array2::zeros(labels.dim());
    for (class, mask) in masks {
        predicted.zip_mut_with(&labels_at(mask, settings.side)?, |pixel, &inside| {
            if *pixel == 0 && inside == 1 {
                *pixel = class;
            }
        });
    }
    Ok(counts::count(predicted.view(), labels.view()))
}

/// Resizes labels of two classes to the side of the settings.
fn two_classes(labels: ArrayView2<u8>, settings: &ScoreSettings) -> Result<Array2<u8>, ScoreError> {
    let labels = labels_at(labels, settings.side)?;
    match labels.iter().find(|label| !matches!(**label, 0 | 1 | IGNORED)) {
        None => Ok(labels),
        Some(&label) => Err(ScoreError::NotTwoClasses(label)),
    }
}

/// Counts the pixels of a mask, and ranks those of its signal.
fn counted(signal: &Signal, mask: ArrayView2<u8>, labels: ArrayView2<u8>) -> MapScore {
    let mut score = counts::count(mask, labels);
    let ranking = Ranking::new(signal, labels);
    score.pooled_ap = ranking.pooled();
    score.foreground_ap = ranking.foreground();
    score
}
