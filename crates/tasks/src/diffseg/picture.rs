//! The part of an image that the network sees, and the matching labels.

use models::image::{Rgb8, center_crop};
use ndarray::{Array2, s};
use tch::Tensor;

use crate::dataset::segmentation::Segmented;
use crate::error::Result;

/// Crops an image and its labels to the central square with the side of the shorter edge. If an odd number of pixels is
/// removed, the smaller half is removed at the top or left.
///
/// # Errors
/// Fails if the size of the image does not match its data.
pub fn middle(image: &Segmented) -> Result<Segmented> {
    let (height, width) = image.labels.dim();
    let side = height.min(width);
    let (top, left) = ((height - side) / 2, (width - side) / 2);
    Ok(Segmented {
        rgb: center_crop(&image.rgb, (side, side)).map_err(models::Error::from)?,
        labels: image.labels.slice(s![top..top + side, left..left + side]).to_owned(),
        sha256: image.sha256.clone(),
        image_sha256: image.image_sha256.clone(),
    })
}

/// Returns the samples `[1, 3, side, side]` of an image, from -1 to 1, float32 on the CPU. Samples are interpolated
/// bilinearly between the pixels with the nearest centres, without averaging when the image shrinks and without
/// rounding, as `tf.image.resize` does.
///
/// # Errors
/// Fails if libtorch fails.
pub fn samples(image: &Rgb8, side: i64) -> Result<Tensor> {
    let pixels = models::pipeline::pixels(image)?.f_unsqueeze(0)?;
    Ok(pixels.f_upsample_bilinear2d([side, side], false, None, None)?)
}

/// Resizes labels to `side` by `side` pixels; each pixel takes the label under its centre.
pub fn nearest(labels: &Array2<u8>, side: usize) -> Array2<u8> {
    let (rows, columns) = labels.dim();
    let under = |place: usize, from: usize| (2 * place + 1) * from / (2 * side);
    Array2::from_shape_fn((side, side), |(row, column)| labels[(under(row, rows), under(column, columns))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_image_and_labels_is_the_same() -> Result<()> {
        let data: Vec<u8> = (0..7 * 4).flat_map(|pixel| [pixel, 0, 0]).collect();
        let rgb = Rgb8::new(7, 4, data).map_err(models::Error::from)?;
        let labels = Array2::from_shape_fn((4, 7), |(row, column)| (row * 7 + column) as u8);
        let cut = middle(&Segmented { rgb, labels, sha256: "ab".into(), image_sha256: None })?;
        assert_eq!((cut.rgb.width, cut.rgb.height, cut.labels.dim()), (4, 4, (4, 4)));
        let red: Vec<u8> = cut.rgb.data.iter().step_by(3).copied().collect();
        assert_eq!(red, cut.labels.iter().copied().collect::<Vec<_>>());
        assert_eq!(red[..4], [1, 2, 3, 4]);
        Ok(())
    }

    #[test]
    fn labels_grow_and_shrink_by_their_centres() {
        let labels = Array2::from_shape_fn((3, 3), |(row, column)| (row * 3 + column) as u8);
        assert_eq!(nearest(&labels, 3), labels);
        let grown = nearest(&labels, 6);
        assert_eq!(grown.row(0).to_vec(), [0, 0, 1, 1, 2, 2]);
        assert_eq!(nearest(&grown, 3), labels);
        assert_eq!(nearest(&labels, 1)[(0, 0)], 4);
    }

    #[test]
    fn samples_go_from_minus_one_to_one_without_rounding() -> Result<()> {
        let data = vec![0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255];
        let image = Rgb8::new(2, 2, data).map_err(models::Error::from)?;
        let found: Vec<f64> = Vec::try_from(samples(&image, 4)?.get(0).get(0).get(0))?;
        assert_eq!(found, [-1.0, -0.5, 0.5, 1.0]);
        Ok(())
    }
}
