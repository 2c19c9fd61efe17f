//! Crops in the middle of an image, as `transformers` and torchvision cut them.

use serde::Serialize;

use super::ImageError;
use super::pixels::{Rgb8, checked_area};
use crate::limits::MAX_PIXELS;

/// The library whose crop is followed. They differ where the margins of the two sides cannot be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CropRule {
    /// [`center_crop`].
    Transformers,
    /// `CenterCrop` of torchvision, and `CenterCropOrPad` of timm 1.0. An odd number of pixels to remove leaves an even
    /// number of them at the top and left. With an odd number to add, the smaller half is added there.
    Torchvision {
        /// Colour of the pixels that are added.
        fill: [u8; 3],
    },
}

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
pub fn center_crop(image: &Rgb8, size: (usize, usize)) -> Result<Rgb8, ImageError> {
    crop_middle(image, size, CropRule::Transformers)
}

/// Cuts `(width, height)` pixels from the middle as the library of `rule` does.
pub(super) fn crop_middle(
    image: &Rgb8,
    (width, height): (usize, usize),
    rule: CropRule,
) -> Result<Rgb8, ImageError> {
    image.check()?;
    let area = checked_area(width, height, MAX_PIXELS)?;
    let columns = Overlap::centred(image.width, width, rule);
    let rows = Overlap::centred(image.height, height, rule);

    let fill = match rule {
        CropRule::Transformers => [0; 3],
        CropRule::Torchvision { fill } => fill,
    };
    let mut data = fill.repeat(area);
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
    fn centred(from: usize, to: usize, rule: CropRule) -> Self {
        if from >= to {
            let margins = from - to;
            let source = match rule {
                CropRule::Transformers => margins / 2,
                // Python's `round` of a half.
                CropRule::Torchvision { .. } => margins / 2 + margins % 2 * (margins / 2 % 2),
            };
            Self { source, target: 0, length: to }
        } else {
            let target = match rule {
                CropRule::Transformers => (to - from).div_ceil(2),
                CropRule::Torchvision { .. } => (to - from) / 2,
            };
            Self { source: 0, target, length: from }
        }
    }
}
