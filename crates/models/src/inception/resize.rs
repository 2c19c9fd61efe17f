//! TensorFlow 1's `tf.image.resize_bilinear` with `align_corners=False`.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// `[batch, c, h, w]` of float32 → `[batch, c, height, width]`: pixel `i` is sampled at `i · h / height` without regard
/// to pixel centres, so images move up and to the left by a fraction of a pixel. Shrinking does not smooth. The
/// operations and their order are those of torch-fidelity's `interpolate_bilinear_2d_like_tensorflow1x`.
///
/// # Errors
/// libtorch fails.
pub fn resize_as_tensorflow_1(images: &Tensor, height: i64, width: i64) -> Result<Tensor> {
    let (_, _, rows, columns) = images.size4()?;
    let device = images.device();
    // Columns are interpolated first, which gives the same numbers as interpolating within each of the two rows.
    let line = Taps::new(columns, width, device)?;
    let (left, right) = (images.f_index_select(3, &line.low)?, images.f_index_select(3, &line.high)?);
    let across = right.f_sub(&left)?.f_mul(&line.fraction)?.f_add(&left)?;
    let line = Taps::new(rows, height, device)?;
    let (above, below) = (across.f_index_select(2, &line.low)?, across.f_index_select(2, &line.high)?);
    Ok(below.f_sub(&above)?.f_mul(&line.fraction.f_reshape([height, 1])?)?.f_add(&above)?)
}

/// Positions of the new pixels of a line between the old ones.
struct Taps {
    low: Tensor,
    high: Tensor,
    /// Weight of the higher neighbour.
    fraction: Tensor,
}

impl Taps {
    fn new(from: i64, to: i64, device: Device) -> Result<Self> {
        // Rounded to float32 before the product, as TensorFlow does.
        let scale = (from as f64 / to as f64) as f32;
        let place = Tensor::f_arange(to, (Kind::Float, device))?.f_mul_scalar(f64::from(scale))?;
        let low = place.f_to_kind(Kind::Int64)?;
        let high = low.f_add_scalar(1)?.f_clamp_max(from - 1)?;
        let fraction = place.f_sub(&low.f_to_kind(Kind::Float)?)?;
        Ok(Self { low, high, fraction })
    }
}
