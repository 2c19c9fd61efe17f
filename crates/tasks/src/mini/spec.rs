//! What kind of scenes to draw.

use std::ops::RangeInclusive;

use thiserror::Error;

/// Smallest side in pixels: below it the smallest objects are a handful of pixels.
const MIN_SIZE: usize = 32;
/// Largest side in pixels.
const MAX_SIZE: usize = 2048;
/// Most objects in one scene.
const MAX_OBJECTS: usize = 6;
/// Most distractors in one scene.
const MAX_DISTRACTORS: usize = 64;

/// Why a [`SceneSpec`] or the name of a split was refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The side is out of range.
    #[error("scenes of {0} pixels a side cannot be drawn: choose a size from {MIN_SIZE} to {MAX_SIZE}")]
    Size(usize),
    /// The number of objects is out of range.
    #[error(
        "scenes of {0} to {1} objects cannot be drawn: give a range within 1 to {MAX_OBJECTS}, low end first"
    )]
    Objects(usize, usize),
    /// The number of distractors is out of range.
    #[error(
        "scenes with {0} to {1} distractors cannot be drawn: give a range up to {MAX_DISTRACTORS}, low end first"
    )]
    Distractors(usize, usize),
    /// The share is no share.
    #[error(
        "an overlap of {0} was asked for: it is the share of an object that others may hide, from 0 to 0.5"
    )]
    Overlap(f64),
    /// No split has this name.
    #[error("there is no split {0:?} in the miniature data set: it is `train` or `val`")]
    Split(String),
}

/// The kind of scenes a data set consists of. Checked when made, so that drawing cannot fail.
#[derive(Debug, Clone, PartialEq)]
pub struct SceneSpec {
    size: usize,
    objects: (usize, usize),
    distractors: (usize, usize),
    max_overlap: f64,
}

impl Default for SceneSpec {
    /// Single-object scenes of 64 pixels a side: what the miniature ViT reads.
    fn default() -> Self {
        Self { size: 64, objects: (1, 1), distractors: (2, 6), max_overlap: 0.1 }
    }
}

impl SceneSpec {
    /// Scenes of `size` pixels a side with as many objects as `objects` says, uniformly; 2 to 6 distractors, and at
    /// most a tenth of an object hidden by others.
    ///
    /// # Errors
    /// When the size is not within 32 to 2048 or the objects not within 1 to 6.
    pub fn new(size: usize, objects: RangeInclusive<usize>) -> Result<Self, SpecError> {
        let objects = objects.into_inner();
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return Err(SpecError::Size(size));
        }
        if objects.0 < 1 || objects.0 > objects.1 || objects.1 > MAX_OBJECTS {
            return Err(SpecError::Objects(objects.0, objects.1));
        }
        Ok(Self { size, objects, ..Self::default() })
    }

    /// The same with another number of distractors, drawn uniformly from the range.
    ///
    /// # Errors
    /// When the range is reversed or ends beyond 64.
    pub fn with_distractors(self, distractors: RangeInclusive<usize>) -> Result<Self, SpecError> {
        let (low, high) = distractors.into_inner();
        if low > high || high > MAX_DISTRACTORS {
            return Err(SpecError::Distractors(low, high));
        }
        Ok(Self { distractors: (low, high), ..self })
    }

    /// The same with another limit on the share of an object that those above it may hide.
    ///
    /// # Errors
    /// When the share is not within 0 to 0.5.
    pub fn with_max_overlap(self, share: f64) -> Result<Self, SpecError> {
        if !(0.0..=0.5).contains(&share) {
            return Err(SpecError::Overlap(share));
        }
        Ok(Self { max_overlap: share, ..self })
    }

    /// Pixels a side.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Fewest and most objects.
    pub fn objects(&self) -> (usize, usize) {
        self.objects
    }

    /// Fewest and most distractors.
    pub fn distractors(&self) -> (usize, usize) {
        self.distractors
    }

    /// The largest share of an object that others may hide.
    pub fn max_overlap(&self) -> f64 {
        self.max_overlap
    }
}
