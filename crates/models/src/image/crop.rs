//! The crop of `transformers`' Pillow-backed image processors.

use super::ImageError;
use super::pixels::{Rgb8, checked_area};
use crate::limits::MAX_PIXELS;

/// Cuts `(width, height)` pixels from the middle. If the image is smaller, zeros are added around it.
///
/// With an odd number of pixels to remove, the smaller half is removed at the top and left. With an odd number to add,
/// the larger half is added there. This is `center_crop` of `transformers` 5.23 (`image_transforms.py`), which the
/// `…Pil` processors use. Its torchvision-backed processors cut the same pixels but add the larger half at the bottom
/// and right.
///
/// # Errors
/// [`ImageError::Empty`] or [`ImageError::TooLarge`] for the size asked for, [`ImageError::Buffer`] if the buffer of
/// `image` does not fit its sides.
pub fn center_crop(image: &Rgb8, (width, height): (usize, usize)) -> Result<Rgb8, ImageError> {
    image.check()?;
    let area = checked_area(width, height, MAX_PIXELS)?;
    let columns = Overlap::centred(image.width, width);
    let rows = Overlap::centred(image.height, height);

    let mut data = vec![0_u8; area * 3];
    for row in 0..rows.length {
        let from = ((rows.source + row) * image.width + columns.source) * 3;
        let to = ((rows.target + row) * width + columns.target) * 3;
        let bytes = columns.length * 3;
        data[to..to + bytes].copy_from_slice(&image.data[from..from + bytes]);
    }
    Ok(Rgb8 { width, height, data })
}

/// The part of one axis that is kept: `source..source + length` is copied to `target..target + length`.
struct Overlap {
    source: usize,
    target: usize,
    length: usize,
}

impl Overlap {
    fn centred(from: usize, to: usize) -> Self {
        if from >= to {
            Self { source: (from - to) / 2, target: 0, length: to }
        } else {
            Self { source: 0, target: (to - from).div_ceil(2), length: from }
        }
    }
}
