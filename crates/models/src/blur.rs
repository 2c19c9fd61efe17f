//! Gaussian blur of images and latents.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Blurs every channel of `x` `[batch, channels, h, w]` with a Gaussian of standard deviation `sigma` that is cut to `kernel`
/// by `kernel` pixels, an odd number; the edges are mirrored.
///
/// # Errors
/// Half the kernel is not smaller than the image; libtorch fails.
pub fn gaussian(x: &Tensor, kernel: usize, sigma: f64) -> Result<Tensor> {
    let (_, channels, ..) = x.size4()?;
    let half = (kernel / 2) as i64;
    let weights: Vec<f32> =
        (-half..=half).map(|place| (-0.5 * (place as f32 / sigma as f32).powi(2)).exp()).collect();
    let weights = Tensor::f_from_slice(&weights)?;
    let weights =
        weights.f_div(&weights.f_sum(Kind::Float)?)?.f_to_device(x.device())?.f_to_kind(x.kind())?;
    let square = weights.f_unsqueeze(1)?.f_matmul(&weights.f_unsqueeze(0)?)?;
    let side = 2 * half + 1;
    let square = square.f_expand([channels, 1, side, side], false)?;
    let padded = x.f_reflection_pad2d([half; 4])?;
    Ok(padded.f_conv2d(&square, None::<&Tensor>, [1, 1], [0, 0], [1, 1], channels)?)
}
