//! Computes the record of an image from its signals.

use std::collections::BTreeMap;
use std::sync::Arc;

use models::image::nearest_positions;
use ndarray::Array2;

use super::config::SegmentConfig;
use super::from_file::{Stored, stored};
use super::record::{MapScore, SegmentMaps, SegmentRecord};
use super::score::{
    ClassSignal, ScoreError, ScoreSettings, min_max, score, score_classes, score_mask, score_masks,
};
use crate::dataset::segmentation::{IGNORE, Segmented, SegmentedImage};
use crate::error::{Error, Result};
use crate::method::Named;
use crate::score_file::ScoreFiles;
use crate::task::{Answer, Failure};

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

/// What the records of a run depend on besides the images and their signals.
#[derive(Clone)]
pub(super) struct Answering {
    pub(super) config: Arc<SegmentConfig>,
    pub(super) question: Question,
    /// Files of the methods that come from files.
    pub(super) files: ScoreFiles,
    /// Rows and columns of the grid of image tokens.
    pub(super) grid: (usize, usize),
}

impl Answering {
    /// Answers the item with this index by the signals of its methods; see [`Answering::record`].
    pub(super) fn answer(
        &self,
        index: usize,
        item: &SegmentedImage,
        image: Segmented,
        signals: &[Vec<Array2<f32>>],
    ) -> Result<Answer<SegmentRecord>> {
        let keep = if index < self.config.figures { Signals::Keep } else { Signals::Drop };
        match self.record(item, image, keep, signals) {
            Ok(record) => Ok(Answer::Record(record)),
            Err(error @ (Error::Dataset { .. } | Error::NoData { .. })) => {
                Ok(Answer::Failed(Failure::new(&item.id, error)))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the record of an image. `signals` has, for each method in the order of the configuration, the signals of the
    /// image's classes; nothing for a method from a file.
    fn record(
        &self,
        item: &SegmentedImage,
        image: Segmented,
        keep: Signals,
        signals: &[Vec<Array2<f32>>],
    ) -> Result<SegmentRecord> {
        let failed = |error: ScoreError| {
            let path = item.path().map_or_else(|| item.id.clone().into(), Into::into);
            Error::Dataset { path, reason: error.to_string() }
        };
        let Segmented { labels, sha256, image_sha256, .. } = image;
        let mut methods = BTreeMap::new();
        let mut maps = BTreeMap::new();
        for (method, of_classes) in self.config.methods.iter().zip(signals) {
            let stored = match method.file_method() {
                Some(of_file) => Some(stored(self.files.get(of_file)?, item, self.grid, labels.dim())?),
                None => None,
            };
            let (scored, map) = match &stored {
                None => self.signals(item, of_classes, &labels, keep),
                Some(Stored::Signals(signals)) => self.signals(item, signals, &labels, keep),
                Some(Stored::Masks(masks)) => self.masks(item, masks, &labels, keep),
            }
            .map_err(failed)?;
            methods.insert(method.key().to_owned(), scored);
            maps.extend(map.map(|map| (method.key().to_owned(), map)));
        }
        Ok(SegmentRecord {
            id: item.id.clone(),
            sha256,
            image_sha256,
            names: item.classes.iter().map(|class| class.name.clone()).collect(),
            methods,
            maps: (keep == Signals::Keep).then_some(SegmentMaps { grid: self.grid, maps }),
        })
    }

    /// Returns the score of the signals of an image's classes, and the first of them scaled to [0, 1] if it is kept.
    fn signals(
        &self,
        item: &SegmentedImage,
        signals: &[Array2<f32>],
        labels: &Array2<u8>,
        keep: Signals,
    ) -> Result<(MapScore, Option<Vec<f32>>), ScoreError> {
        let settings = &self.config.score;
        let scored = match (self.question, signals) {
            (Question::OneClass, [only]) => two_classes(item.classes[0].label, only, labels, settings),
            (Question::OneClass | Question::Classes, _) => several_classes(item, signals, labels, settings),
        };
        let kept = signals.first().filter(|_| keep == Signals::Keep);
        let scaled = kept.map(|first| min_max(first.view())).transpose()?;
        Ok((scored?, scaled.map(|scaled| scaled.into_iter().collect())))
    }

    /// Returns the score of the masks of an image's classes, and the first of them on the grid of tokens if it is kept.
    fn masks(
        &self,
        item: &SegmentedImage,
        masks: &[Array2<u8>],
        labels: &Array2<u8>,
        keep: Signals,
    ) -> Result<(MapScore, Option<Vec<f32>>), ScoreError> {
        let settings = &self.config.score;
        let scored = match (self.question, masks) {
            (Question::OneClass, [only]) => {
                score_mask(only.view(), one_class(item.classes[0].label, labels).view(), settings)
            }
            (Question::OneClass | Question::Classes, _) => {
                let classes = item.classes.iter().map(|class| class.label);
                score_masks(classes.zip(masks.iter().map(Array2::view)), labels.view(), settings)
            }
        };
        let kept = masks.first().filter(|_| keep == Signals::Keep);
        Ok((scored?, kept.map(|first| on_grid(first, self.grid))))
    }
}

/// Returns the value of a mask at the centre of each token, in row order.
fn on_grid(mask: &Array2<u8>, (rows, columns): (usize, usize)) -> Vec<f32> {
    let (down, across) = (nearest_positions(mask.nrows(), rows), nearest_positions(mask.ncols(), columns));
    let at = |place: (usize, usize)| mask.get(place).map_or(0.0, |&inside| f32::from(inside));
    down.iter().flat_map(|&row| across.iter().map(move |&column| (row, column))).map(at).collect()
}

/// Returns labels that are 1 for one class.
fn one_class(class: u8, labels: &Array2<u8>) -> Array2<u8> {
    labels.mapv(|label| if label == IGNORE { label } else { u8::from(label == class) })
}

fn two_classes(
    class: u8,
    signal: &Array2<f32>,
    labels: &Array2<u8>,
    settings: &ScoreSettings,
) -> Result<MapScore, ScoreError> {
    score(signal.view(), one_class(class, labels).view(), settings)
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
