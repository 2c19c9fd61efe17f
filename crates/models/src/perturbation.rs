//! Changes of self-attention that make a network's predictions worse, for guidance that leads away from them.

use tch::Tensor;

use crate::blur;
use crate::error::Result;
use crate::site::UnetPart;

/// What happens to self-attention in some parts of a UNet.
#[derive(Debug, Clone, PartialEq)]
pub struct Perturbation {
    /// The parts in which all self-attention is changed.
    pub parts: Vec<UnetPart>,
    /// The change.
    pub attention: Perturbed,
}

/// A change of self-attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Perturbed {
    /// Every token attends to itself alone (arXiv 2403.17377).
    Identity,
    /// The queries are blurred over the image (arXiv 2408.00760).
    Blurred {
        /// Standard deviation in tokens. Without one it is infinite: all queries are their mean.
        sigma: Option<f64>,
    },
}

/// Blurs tokens `[batch, rows·columns, channels]` over their grid. As in the authors' code the kernel is three `sigma` wide on
/// each side but not wider than the image, and the edges are mirrored.
///
/// Queries are affine in the tokens, and the weights of a blur sum to 1: blurring the tokens blurs the queries.
pub(crate) fn blurred(x: &Tensor, (rows, columns): (i64, i64), sigma: Option<f64>) -> Result<Tensor> {
    let Some(sigma) = sigma else { return Ok(x.f_mean_dim(1i64, true, x.kind())?.f_expand_as(x)?) };
    let side = rows.min(columns);
    let wide = (6.0 * sigma).ceil();
    let most = side + 1 - side % 2;
    let kernel = if wide < most as f64 { wide as i64 + 1 - wide as i64 % 2 } else { most };
    let (batch, tokens, channels) = x.size3()?;
    let grid = x.f_transpose(1, 2)?.f_reshape([batch, channels, rows, columns])?;
    let blurred = blur::gaussian(&grid, kernel as usize, sigma)?;
    Ok(blurred.f_reshape([batch, channels, tokens])?.f_transpose(1, 2)?)
}
