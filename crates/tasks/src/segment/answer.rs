//! Computes the record of an image from its signals.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::config::SegmentConfig;
use super::record::{MapScore, SegmentMaps, SegmentRecord};
use super::score::{ClassSignal, ScoreError, ScoreSettings, min_max, score, score_classes};
use crate::dataset::segmentation::{IGNORE, SegmentedImage};
use crate::error::{Error, Result};

/// The classes that a signal must tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// One class and the background.
    OneClass,
    /// Several classes.
    Classes,
}

/// Whether a record keeps the signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signals {
    /// Keeps them. If there are several classes, only the signal of the first one is kept.
    Keep,
    /// Does not keep them.
    Drop,
}

/// Returns the record of an image. `signals` yields, for each method in the order of the configuration, the signals of
/// the image's classes.
pub(super) fn answer<'a>(
    config: &SegmentConfig,
    question: Question,
    item: &SegmentedImage,
    sha256: &str,
    keep: Signals,
    signals: impl Iterator<Item = &'a [Array2<f32>]>,
) -> Result<SegmentRecord> {
    let failed = |error: ScoreError| {
        let path = item.path().map_or_else(|| item.id.clone().into(), Into::into);
        Error::Dataset { path, reason: error.to_string() }
    };
    let loaded = item.load()?;
    if loaded.sha256 != sha256 {
        let path = item.path().map_or_else(|| item.id.clone().into(), Into::into);
        let reason =
            "the image or its mask changed while the run was reading it; run the same command again to read the new file"
                .into();
        return Err(Error::Dataset { path, reason });
    }
    let labels = loaded.labels;
    let mut methods = BTreeMap::new();
    let mut maps = BTreeMap::new();
    let mut grid = (0, 0);
    for (method, of_classes) in config.methods.iter().zip(signals) {
        let key = method.key().to_owned();
        let scored = match (question, of_classes) {
            (Question::OneClass, [only]) => two_classes(item.classes[0].label, only, &labels, &config.score),
            (Question::OneClass | Question::Classes, _) => {
                several_classes(item, of_classes, &labels, &config.score)
            }
        };
        methods.insert(key.clone(), scored.map_err(failed)?);
        if let (Signals::Keep, Some(first)) = (keep, of_classes.first()) {
            grid = first.dim();
            let scaled = min_max(first.view()).map_err(failed)?;
            maps.insert(key, scaled.into_iter().collect());
        }
    }
    Ok(SegmentRecord {
        id: item.id.clone(),
        sha256: sha256.to_owned(),
        names: item.classes.iter().map(|class| class.name.clone()).collect(),
        methods,
        maps: (keep == Signals::Keep).then_some(SegmentMaps { grid, maps }),
    })
}

fn two_classes(
    class: u8,
    signal: &Array2<f32>,
    labels: &Array2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let two = labels.mapv(|label| if label == IGNORE { label } else { u8::from(label == class) });
    score(signal.view(), two.view(), settings)
}

/// The signal of a class competes by how far it lies above its own mean. A pixel where no class lies above its mean is
/// background.
fn several_classes(
    item: &SegmentedImage,
    signals: &[Array2<f32>],
    labels: &Array2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    let background = signals.first().map(|signal| (0, Array2::zeros(signal.dim())));
    let mut competing: Vec<(u8, Array2<f32>)> = background.into_iter().collect();
    for (class, signal) in item.classes.iter().zip(signals) {
        let scaled = min_max(signal.view())?;
        let mean = scaled.mean().unwrap_or(0.0);
        competing.push((class.label, scaled - mean));
    }
    let competing: Vec<ClassSignal<'_>> =
        competing.iter().map(|(class, map)| ClassSignal { class: *class, map: map.view() }).collect();
    score_classes(&competing, labels.view(), settings)
}
