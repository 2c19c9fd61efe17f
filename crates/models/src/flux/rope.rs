//! Rotary position embedding over three axes (arXiv 2104.09864).

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::site::{TokenKind, TokenLayout};

const THETA: f64 = 10_000.0;

/// Returns the positions `[tokens, 3]` of a joint sequence in double precision: text tokens at the origin, image tokens
/// at (0, row, column), tokens of a reference image at (1, row, column). These are diffusers' `txt_ids` followed by
/// `img_ids`.
pub(super) fn positions(layout: &TokenLayout) -> Result<Tensor> {
    let grid = |image: f64, (rows, columns): (i64, i64)| {
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [image, row as f64, column as f64]))
    };
    let text = std::iter::repeat_n([0.0; 3], layout.count(TokenKind::Text) as usize);
    let images = grid(0.0, layout.image).chain(grid(1.0, layout.reference));
    let flat: Vec<f64> = text.chain(images).flatten().collect();
    Ok(Tensor::f_from_slice(&flat)?.f_reshape([-1, 3])?)
}

/// Rotation angles of every token, one for each pair of a head's dimensions.
pub(super) struct Rotary {
    /// `[tokens, 1, head dim / 2]`, float32.
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// Computes the angles for `positions` `[tokens, axes]`; axis `i` rotates `axes_dims[i]` dimensions of a head. They
    /// are computed in double precision on the host and rounded once, as in diffusers.
    pub(super) fn new(positions: &Tensor, axes_dims: &[i64], device: Device) -> Result<Self> {
        let mut angles = Vec::with_capacity(axes_dims.len());
        for (axis, &dim) in (0..).zip(axes_dims) {
            let frequencies: Vec<f64> =
                (0..dim).step_by(2).map(|pair| 1.0 / THETA.powf(pair as f64 / dim as f64)).collect();
            angles.push(positions.f_select(1, axis)?.f_outer(&Tensor::f_from_slice(&frequencies)?)?);
        }
        let angles = Tensor::f_cat(&angles, 1)?.f_unsqueeze(1)?;
        let place = |x: Tensor| x.f_to_kind(Kind::Float)?.f_to_device(device);
        Ok(Self { cos: place(angles.f_cos()?)?, sin: place(angles.f_sin()?)? })
    }

    /// Rotates pairs of neighbouring dimensions of `x` `[batch, tokens, heads, head dim]`; The rotation is computed in
    /// float32 and returned in the type of `x`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        // [b, n, heads, head dim / 2, 2]
        let pairs = x.f_to_kind(Kind::Float)?.f_unflatten(3, [-1, 2])?;
        let (even, odd) = (pairs.f_select(-1, 0)?, pairs.f_select(-1, 1)?);
        let turned_even = even.f_mul(&self.cos)?.f_sub_(&odd.f_mul(&self.sin)?)?;
        let turned_odd = odd.f_mul(&self.cos)?.f_add_(&even.f_mul(&self.sin)?)?;
        Ok(Tensor::f_stack(&[turned_even, turned_odd], -1)?.f_flatten(3, 4)?.f_to_kind(x.kind())?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::*;

    /// `tools/golden_kontext.py` makes the fixture: 12 text tokens, an image of 6 × 4 and a reference of 4 × 7 tokens.
    #[test]
    fn positions_are_those_of_diffusers() -> Result<()> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/flux-kontext/golden.safetensors");
        let bytes = std::fs::read(path).expect("a committed fixture");
        let file = SafeTensors::deserialize(&bytes).expect("a committed fixture");
        let ids = file.tensor("ids").expect("a committed fixture");
        let number = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().expect("four bytes")));
        let wanted: Vec<f64> = ids.data().chunks(4).map(number).collect();
        let found = positions(&TokenLayout::joint(12, (6, 4)).with_reference((4, 7)))?;
        assert_eq!(found.size(), [64, 3]);
        assert_eq!(Vec::<f64>::try_from(found.f_flatten(0, 1)?)?, wanted);
        Ok(())
    }
}
