//! The decoded image.

use super::ImageError;
use crate::limits::MAX_PIXELS;

/// An image of 8-bit RGB samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Samples `[height, width, 3]`, row by row from the top left: `height × width × 3` bytes.
    pub data: Vec<u8>,
}

impl Rgb8 {
    /// Returns the samples `[3, height, width]` from -1 to 1, as autoencoders of diffusion pipelines read them.
    pub fn signed_planes(&self) -> Vec<f32> {
        let plane = |channel| self.data.iter().skip(channel).step_by(3);
        (0..3).flat_map(plane).map(|&sample| f32::from(sample) / 127.5 - 1.0).collect()
    }

    /// Creates an image from its samples `[height, width, 3]`.
    ///
    /// # Errors
    /// [`ImageError::Empty`] when a side is zero, [`ImageError::Buffer`] when `data` is not `height × width × 3` bytes.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self, ImageError> {
        let image = Self { width, height, data };
        image.check()?;
        Ok(image)
    }

    /// Checks the size of the buffer. The fields are public, so every function that relies on it calls this.
    pub(super) fn check(&self) -> Result<(), ImageError> {
        let Self { width, height, ref data } = *self;
        let expected = checked_area(width, height, MAX_PIXELS)? * 3;
        if data.len() == expected {
            Ok(())
        } else {
            Err(ImageError::Buffer { width, height, expected, found: data.len() })
        }
    }
}

/// Returns `width × height` if both are at least 1 and the product is within `limit`.
pub(super) fn checked_area(width: usize, height: usize, limit: u64) -> Result<usize, ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Empty { width, height });
    }
    width.checked_mul(height).filter(|&area| area as u64 <= limit).ok_or(ImageError::TooLarge {
        width: width as u64,
        height: height as u64,
        limit,
    })
}
