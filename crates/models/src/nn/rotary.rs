//! Rotary position embedding: queries and keys are rotated by the positions of their tokens (arXiv 2104.09864).

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Rotary positions on a grid of patches, whose centres have coordinates from -1 to 1 (DINOv3, arXiv 2508.10104).
pub(crate) struct GridRotary {
    /// `[head dim / 4]`, float32.
    frequencies: Tensor,
}

/// The rotation of each token of a sequence.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// Cosines and sines, `[batch or 1, 1, n, head dim]`.
    cos: Tensor,
    sin: Tensor,
}

impl GridRotary {
    /// Periods grow by powers of `base`. The head dimension is a multiple of 4: rows and columns rotate one half of the
    /// pairs each.
    pub(crate) fn new(base: f64, head_dim: i64, device: Device) -> Result<Self> {
        let step = 4.0 / head_dim as f64;
        let exponents = Tensor::f_arange_start_step(0.0, 1.0, step, (Kind::Float, device))?;
        let periods = Tensor::f_pow_scalar(base, &exponents)?;
        Ok(Self { frequencies: periods.f_reciprocal()? })
    }

    /// Returns the rotation of a sequence of `special` tokens, which are not rotated, and `rows × columns` patches.
    pub(crate) fn of_grid(&self, special: i64, (rows, columns): (i64, i64), kind: Kind) -> Result<Rotation> {
        let device = self.frequencies.device();
        let centres = |count: i64| -> Result<Tensor> {
            let mut edges = Tensor::f_arange_start(0.5, count as f64, (Kind::Float, device))?;
            Ok(edges.f_div_scalar_(count as f64)?.f_mul_scalar_(2.0)?.f_sub_scalar_(1.0)?)
        };
        // [rows, columns, head dim / 4] for each coordinate
        let angles = |coordinates: Tensor| -> Result<Tensor> {
            let angles = coordinates.f_mul_scalar(2.0 * PI)?.f_unsqueeze(-1)?.f_mul(&self.frequencies)?;
            Ok(angles.f_expand([rows, columns, -1], false)?)
        };
        let (y, x) = (angles(centres(rows)?.f_unsqueeze(1)?)?, angles(centres(columns)?.f_unsqueeze(0)?)?);
        let half = Tensor::f_cat(&[y, x], -1)?.f_reshape([rows * columns, -1])?;
        let patches = Tensor::f_cat(&[&half, &half], -1)?;
        let angles = Tensor::f_cat(
            &[patches.f_new_zeros([special, patches.size()[1]], (Kind::Float, device))?, patches],
            0,
        )?;
        let shaped = |x: Tensor| -> Result<Tensor> { Ok(x.f_to_kind(kind)?.f_unsqueeze(0)?.f_unsqueeze(0)?) };
        Ok(Rotation { cos: shaped(angles.f_cos()?)?, sin: shaped(angles.f_sin()?)? })
    }
}

impl Rotation {
    /// Rotates queries or keys `[batch, heads, n, head dim]`: a pair is a number of the first half and its counterpart
    /// in the second half.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let halves = x.f_chunk(2, -1)?;
        let mut turned = Tensor::f_cat(&[&halves[1].f_neg()?, &halves[0]], -1)?;
        Ok(x.f_mul(&self.cos)?.f_add_(&turned.f_mul_(&self.sin)?)?)
    }

    /// Returns another handle of the same tensors.
    pub(crate) fn shallow_clone(&self) -> Self {
        Self { cos: self.cos.shallow_clone(), sin: self.sin.shallow_clone() }
    }

    /// Returns the rotation of sequences of `length` tokens, given by the tokens' numbers in this sequence, one
    /// sequence after the other.
    pub(crate) fn select(&self, tokens: &Tensor, length: i64) -> Result<Self> {
        let select = |x: &Tensor| -> Result<Tensor> {
            let chosen = x.f_reshape([-1, x.size()[3]])?.f_index_select(0, tokens)?;
            Ok(chosen.f_reshape([-1, 1, length, x.size()[3]])?)
        };
        Ok(Self { cos: select(&self.cos)?, sin: select(&self.sin)? })
    }
}
