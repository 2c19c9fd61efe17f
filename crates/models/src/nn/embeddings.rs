//! Embedding of image patches as tokens.

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::Linear;
use crate::error::Result;
use crate::site::TokenLayout;

/// A side length, or (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Square(i64),
    Rectangle(i64, i64),
}

impl Extent {
    pub(crate) fn height_width(self) -> (i64, i64) {
        match self {
            Self::Square(side) => (side, side),
            Self::Rectangle(height, width) => (height, width),
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        let side = |v: &serde_json::Value| v.as_i64().filter(|&side| side > 0);
        match value.as_array().map(Vec::as_slice) {
            Some([height, width]) => side(height).zip(side(width)).map(|(h, w)| Self::Rectangle(h, w)),
            _ => side(&value).map(Self::Square),
        }
        .ok_or_else(|| D::Error::custom(format!("expected a side length or [height, width], found {value}")))
    }
}

/// Embeds the patches of an image as tokens with positions, after CLS and registers.
pub(crate) struct PatchEmbeddings {
    /// `[1, 1, width]`.
    pub(crate) cls_token: Tensor,
    /// `[1, registers, width]`; they have no position.
    pub(crate) register_tokens: Option<Tensor>,
    /// `[1, 1 + rows·columns, width]` of the trained grid, CLS first.
    pub(crate) position_embeddings: Tensor,
    /// Convolution `[width, 3, height, width]` whose stride is the patch.
    pub(crate) projection: Linear,
    /// Height and width of a patch in pixels.
    pub(crate) patch: (i64, i64),
    /// Rows and columns of the trained grid.
    pub(crate) trained: (i64, i64),
    /// Whether positions are smoothed if the grid is coarser than the trained one.
    pub(crate) antialias: bool,
}

impl PatchEmbeddings {
    /// `pixels` `[batch, 3, h, w]` of the network's type and device → `[batch, special + rows·columns, width]`. A
    /// remainder at the edge that does not fill a patch is cut, as in the convolution.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<(Tensor, TokenLayout)> {
        let (batch, _, height, width) = pixels.size4()?;
        let (patch_h, patch_w) = self.patch;
        let grid = (height / patch_h, width / patch_w);
        let Linear { weight, bias } = &self.projection;
        let patches = pixels.f_conv2d(weight, bias.as_ref(), [patch_h, patch_w], [0, 0], [1, 1], 1)?;
        // [b, width, rows, columns] → [b, rows·columns, width]
        let patches = patches.f_flatten(2, -1)?.f_transpose(1, 2)?;
        let cls = self.cls_token.f_expand([batch, -1, -1], false)?;
        let tokens = Tensor::f_cat(&[cls, patches], 1)?.f_add(&self.positions(grid)?)?;
        let Some(registers) = &self.register_tokens else {
            return Ok((tokens, TokenLayout::vision(1, grid)));
        };
        let registers_of_all = registers.f_expand([batch, -1, -1], false)?;
        let cls = tokens.f_narrow(1, 0, 1)?;
        let patches = tokens.f_narrow(1, 1, grid.0 * grid.1)?;
        let layout = TokenLayout::vision(1 + registers.size()[1], grid);
        Ok((Tensor::f_cat(&[cls, registers_of_all, patches], 1)?, layout))
    }

    /// Returns the position embeddings of a grid: the trained ones, interpolated (bicubic) in float32 for any other
    /// grid.
    fn positions(&self, (rows, columns): (i64, i64)) -> Result<Tensor> {
        let all = &self.position_embeddings;
        let (trained_rows, trained_columns) = self.trained;
        if (rows, columns) == self.trained {
            return Ok(all.shallow_clone());
        }
        let width = all.size()[2];
        let patches = all
            .f_narrow(1, 1, trained_rows * trained_columns)?
            .f_reshape([1, trained_rows, trained_columns, width])?
            .f_permute([0, 3, 1, 2])?
            .f_to_kind(Kind::Float)?;
        let patches = if self.antialias {
            patches.f_internal_upsample_bicubic2d_aa([rows, columns], false, None, None)?
        } else {
            patches.f_upsample_bicubic2d([rows, columns], false, None, None)?
        };
        let patches = patches.f_permute([0, 2, 3, 1])?.f_reshape([1, rows * columns, width])?;
        Ok(Tensor::f_cat(&[all.f_narrow(1, 0, 1)?, patches.f_to_kind(all.kind())?], 1)?)
    }
}
