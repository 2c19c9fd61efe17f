//! Scores several classes: each pixel is given the class whose signal is largest.

use ndarray::{Array2, ArrayView2};

use super::counts::count;
use super::resample::{labels_at, nearest, upsample};
use super::signal::{blurred, checked};
use super::{IGNORED, ScoreError, ScoreSettings, ThresholdAt};
use crate::segment::record::MapScore;

/// A signal `[rows, columns]` over image tokens, and its class. Several signals may belong to one class: all background
/// concepts of ConceptAttention belong to class 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClassSignal<'a> {
    /// The class, as in the labels; not [`IGNORED`].
    pub(crate) class: u8,
    /// The signal. Signals are compared as they are, without scaling.
    pub(crate) map: ArrayView2<'a, f32>,
}

/// Scores signals of one shape against labels `[height, width]`, which may be any classes or [`IGNORED`]. A pixel is
/// given the class of the largest signal, and of the first one among equal signals. `threshold_at` says whether that is
/// decided at the tokens or at the pixels; `threshold` is not used. The average precisions are `None`.
///
/// # Errors
/// Fails if there are no signals or they differ in shape, if a signal has class [`IGNORED`], is empty, not finite or
/// too small to blur, or if the labels are empty.
pub(crate) fn score_classes(
    signals: &[ClassSignal],
    labels: ArrayView2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let Some(first) = signals.first() else {
        return Err(ScoreError::Signals("none were given".into()));
    };
    let labels = labels_at(labels, settings.side)?;
    let size = (settings.side, settings.side);
    let mut maps = Vec::with_capacity(signals.len());
    for signal in signals {
        if signal.class == IGNORED {
            return Err(ScoreError::Signals(format!("class {IGNORED} is reserved for ignored pixels")));
        }
        if signal.map.dim() != first.map.dim() {
            let ((rows, columns), (other_rows, other_columns)) = (first.map.dim(), signal.map.dim());
            let reason = format!(
                "they must have one shape, found {rows}×{columns} and {other_rows}×{other_columns} tokens"
            );
            return Err(ScoreError::Signals(reason));
        }
        let map = checked(signal.map)?;
        let map = if settings.blur { blurred(map)? } else { map.to_owned() };
        maps.push(match settings.threshold_at {
            ThresholdAt::Map => map,
            ThresholdAt::Pixels => upsample(map.view(), size, settings.upsample),
        });
    }
    let predicted = Array2::from_shape_fn(maps[0].dim(), |at| {
        let mut winner = 0;
        for (challenger, map) in maps.iter().enumerate().skip(1) {
            if map[at] > maps[winner][at] {
                winner = challenger;
            }
        }
        signals[winner].class
    });
    let predicted = match settings.threshold_at {
        ThresholdAt::Map => nearest(predicted.view(), size),
        ThresholdAt::Pixels => predicted,
    };
    Ok(count(predicted.view(), labels.view()))
}
