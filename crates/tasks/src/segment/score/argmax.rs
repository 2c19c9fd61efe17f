//! Several classes: each pixel goes to the class whose signal is largest.

use ndarray::{Array2, ArrayView2};

use super::counts::count;
use super::resample::{labels_at, nearest, upsample};
use super::signal::{blurred, checked};
use super::{IGNORED, ScoreError, ScoreSettings, ThresholdAt};
use crate::segment::record::MapScore;

/// A signal `[rows, columns]` over image tokens and the class it speaks for. Several may speak for one class: the
/// background concepts of ConceptAttention all speak for class 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClassSignal<'a> {
    /// The class, as in the labels; not [`IGNORED`].
    pub(crate) class: u8,
    /// The signal, comparable to the others as it is: nothing is scaled.
    pub(crate) map: ArrayView2<'a, f32>,
}

/// Scores signals of one shape against labels `[height, width]` of any classes, [`IGNORED`] among them. A pixel goes to
/// the class of the largest signal, the first of several; `threshold_at` says whether that is decided at the tokens or
/// at the pixels, and `threshold` plays no part. There is no average precision.
///
/// # Errors
/// No signals, of several shapes, of class [`IGNORED`], empty, not finite or too small to blur; labels that are empty.
pub(crate) fn score_classes(
    signals: &[ClassSignal],
    labels: ArrayView2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let Some(first) = signals.first() else {
        return Err(ScoreError::Signals("there are none".into()));
    };
    let labels = labels_at(labels, settings.side)?;
    let size = (settings.side, settings.side);
    let mut maps = Vec::with_capacity(signals.len());
    for signal in signals {
        if signal.class == IGNORED {
            return Err(ScoreError::Signals(format!("class {IGNORED} is that of ignored pixels")));
        }
        if signal.map.dim() != first.map.dim() {
            let ((rows, columns), (other_rows, other_columns)) = (first.map.dim(), signal.map.dim());
            let reason = format!("one is {rows}×{columns} tokens, another {other_rows}×{other_columns}");
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
