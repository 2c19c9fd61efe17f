//! Packing of latents: two by two latent pixels make one token of the transformer.

use tch::Tensor;

use crate::error::{Error, Result};

/// Packs latents `[batch, c, 2·rows, 2·columns]` into tokens `[batch, rows·columns, 4·c]`, row by row.
///
/// # Errors
/// Another number of dimensions, or a side is odd.
pub fn pack_latents(latents: &Tensor) -> Result<Tensor> {
    let &[batch, channels, height, width] = latents.size().as_slice() else {
        return Err(refused(latents, "[batch, channels, height, width]"));
    };
    if height % 2 != 0 || width % 2 != 0 {
        return Err(refused(latents, "an even height and width"));
    }
    // [b, c, rows, 2, columns, 2] → [b, rows, columns, c, 2, 2]
    let pixels = latents.f_reshape([batch, channels, height / 2, 2, width / 2, 2])?;
    let tokens = pixels.f_permute([0, 2, 4, 1, 3, 5])?;
    Ok(tokens.f_reshape([batch, height / 2 * (width / 2), 4 * channels])?)
}

/// Undoes [`pack_latents`]: tokens `[batch, rows·columns, 4·c]` become latents `[batch, c, 2·rows, 2·columns]`.
///
/// # Errors
/// The tokens do not fill the grid, or their number of channels is not a multiple of four.
pub fn unpack_latents(tokens: &Tensor, (rows, columns): (i64, i64)) -> Result<Tensor> {
    let wanted = || format!("[batch, {rows}·{columns}, 4·channels]");
    let &[batch, count, channels] = tokens.size().as_slice() else {
        return Err(refused(tokens, &wanted()));
    };
    if count != rows * columns || channels % 4 != 0 {
        return Err(refused(tokens, &wanted()));
    }
    // [b, rows, columns, c, 2, 2] → [b, c, rows, 2, columns, 2]
    let pixels = tokens.f_reshape([batch, rows, columns, channels / 4, 2, 2])?;
    let latents = pixels.f_permute([0, 3, 1, 4, 2, 5])?;
    Ok(latents.f_reshape([batch, channels / 4, 2 * rows, 2 * columns])?)
}

fn refused(found: &Tensor, wanted: &str) -> Error {
    Error::Input { input: "latents", reason: format!("shape {:?} where {wanted} is needed", found.size()) }
}
