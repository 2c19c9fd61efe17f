//! Converts tensors to image files and records.

use std::path::Path;

use markov_core::torch::to_vec;
use models::files::write_whole;
use models::hex;
use models::image::Rgb8;
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::record::Masks;
use crate::error::{Error, Result};

/// Returns image `place` of `[batch, h, w, 3]` (uint8).
pub(super) fn image(pixels: &Tensor, place: usize) -> Result<Rgb8> {
    let pixels = pixels.f_get(place as i64)?;
    let (height, width, _) = pixels.size3()?;
    Ok(Rgb8::new(width as usize, height as usize, to_vec(&pixels)?).map_err(models::Error::from)?)
}

/// SHA-256 of the pixels.
pub(super) fn sha256(rgb: &Rgb8) -> String {
    hex(Sha256::digest(&rgb.data))
}

/// Writes a PNG file atomically: either the whole file appears or none.
pub(super) fn write(path: &Path, rgb: &Rgb8) -> Result<()> {
    let encode = |out: &mut _| -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(out, rgb.width as u32, rgb.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&rgb.data)?;
        writer.finish()
    };
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder.map_err(Into::into).and_then(|()| write_whole(path, encode));
    written.map_err(|e| Error::Write { path: path.into(), reason: e.to_string() })
}

/// Returns the masks of each image, from the masks of each pass, `[batch, rows, columns]` bool.
pub(super) fn masks(passes: &[Tensor]) -> Result<Vec<Masks>> {
    let Some(first) = passes.first() else { return Ok(Vec::new()) };
    let (batch, rows, columns) = first.size3()?;
    let grid = (rows as usize, columns as usize);
    let mut each = vec![Masks { grid, passes: Vec::new() }; batch as usize];
    for pass in passes {
        let bits: Vec<u8> = to_vec(pass)?;
        for (masks, bits) in each.iter_mut().zip(bits.chunks(grid.0 * grid.1)) {
            masks.passes.push(bits.iter().map(|&bit| if bit == 0 { '.' } else { '#' }).collect());
        }
    }
    Ok(each)
}

/// Fraction of the tokens that were degraded, averaged over the passes.
pub(super) fn area(masks: &Masks) -> f64 {
    let degraded: usize = masks.passes.iter().map(|pass| pass.matches('#').count()).sum();
    let all: usize = masks.passes.iter().map(String::len).sum();
    degraded as f64 / all as f64
}
