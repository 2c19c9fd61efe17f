//! The kind of scenes to draw.

use std::ops::RangeInclusive;

use thiserror::Error;

/// Smallest side in pixels: in smaller images the smallest objects would be a handful of pixels.
const MIN_SIZE: usize = 32;
/// Largest side in pixels.
const MAX_SIZE: usize = 2048;
/// Maximum number of objects in one scene.
const MAX_OBJECTS: usize = 6;
/// Maximum number of distractors in one scene.
const MAX_DISTRACTORS: usize = 64;

/// The error if a [`SceneSpec`] or the name of a split is refused.
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
    /// The overlap is out of range.
    #[error("the overlap, the fraction of an object that others may hide, must lie in [0, 0.5], found {0}")]
    Overlap(f64),
    /// No split has this name.
    #[error("unknown split {0:?} of the miniature data set, expected `train` or `val`")]
    Split(String),
}

/// The kind of scenes of a data set. It is checked when it is created, so that drawing cannot fail.
#[derive(Debug, Clone, PartialEq)]
pub struct SceneSpec {
    size: usize,
    objects: (usize, usize),
    distractors: (usize, usize),
    max_overlap: f64,
}

impl Default for SceneSpec {
    /// Single-object scenes of 64 by 64 pixels, the input size of the miniature ViT.
    fn default() -> Self {
        Self { size: 64, objects: (1, 1), distractors: (2, 6), max_overlap: 0.1 }
    }
}

impl SceneSpec {
    /// Scenes of `size` by `size` pixels with a number of objects drawn uniformly from `objects`, with 2 to 6
    /// distractors, and with at most a tenth of an object hidden by others.
    ///
    /// # Errors
    /// Fails if the size is not within 32 to 2048 or the objects are not within 1 to 6.
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

    /// Returns the spec with another number of distractors, drawn uniformly from the range.
    ///
    /// # Errors
    /// Fails if the range is reversed or ends beyond 64.
    pub fn with_distractors(self, distractors: RangeInclusive<usize>) -> Result<Self, SpecError> {
        let (low, high) = distractors.into_inner();
        if low > high || high > MAX_DISTRACTORS {
            return Err(SpecError::Distractors(low, high));
        }
        Ok(Self { distractors: (low, high), ..self })
    }

    /// Returns the spec with another limit on the fraction of an object that objects above it may hide.
    ///
    /// # Errors
    /// Fails if the fraction is not within 0 to 0.5.
    pub fn with_max_overlap(self, fraction: f64) -> Result<Self, SpecError> {
        if !(0.0..=0.5).contains(&fraction) {
            return Err(SpecError::Overlap(fraction));
        }
        Ok(Self { max_overlap: fraction, ..self })
    }

    /// Side of a scene in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Smallest and largest number of objects.
    pub fn objects(&self) -> (usize, usize) {
        self.objects
    }

    /// Smallest and largest number of distractors.
    pub fn distractors(&self) -> (usize, usize) {
        self.distractors
    }

    /// The largest fraction of an object that others may hide.
    pub fn max_overlap(&self) -> f64 {
        self.max_overlap
    }
}
