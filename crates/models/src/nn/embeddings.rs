//! Embedding of image patches as tokens.

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::{GridRotary, Linear, Rotation};
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

/// Embeds the patches of an image as tokens, after CLS and registers.
pub(crate) struct PatchEmbeddings {
    /// `[1, 1, width]`.
    pub(crate) cls_token: Option<Tensor>,
    /// `[1, registers, width]`; they have no position.
    pub(crate) register_tokens: Option<Tensor>,
    /// Stands for the embedding of a masked patch in the network's training, `[1, 1, width]`.
    pub(crate) mask_token: Option<Tensor>,
    pub(crate) positions: Positions,
    /// Convolution `[width, 3, height, width]` whose stride is the patch.
    pub(crate) projection: Linear,
    /// Height and width of a patch in pixels.
    pub(crate) patch: (i64, i64),
}

/// The way in which tokens get their positions.
pub(crate) enum Positions {
    /// A learned vector is added to every token.
    Table {
        /// `[1, tokens, width]`: CLS, if there is one and it has a position, then the patches of the trained grid.
        embeddings: Tensor,
        /// Rows and columns of the trained grid.
        trained: (i64, i64),
        /// Whether positions are smoothed if the grid is coarser than the trained one.
        antialias: bool,
    },
    /// Queries and keys of patches are rotated in every block.
    Rotary(GridRotary),
}

impl PatchEmbeddings {
    /// `pixels` `[batch, 3, h, w]` of the network's type and device → `[batch, special + rows·columns, width]`, their
    /// layout and, for rotary positions, the rotation of every token. A remainder at the edge that does not fill a patch
    /// is cut, as in the convolution.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<(Tensor, TokenLayout, Option<Rotation>)> {
        let (_, _, height, width) = pixels.size4()?;
        let (patch_h, patch_w) = self.patch;
        let Linear { weight, bias } = &self.projection;
        let patches = pixels.f_conv2d(weight, bias.as_ref(), [patch_h, patch_w], [0, 0], [1, 1], 1)?;
        // [b, width, rows, columns] → [b, rows·columns, width]
        self.sequence(patches.f_flatten(2, -1)?.f_transpose(1, 2)?, (height / patch_h, width / patch_w))
    }

    /// Returns the sequence of embedded patches `[batch, rows·columns, width]` with CLS, registers and positions, as
    /// [`forward`](Self::forward).
    pub(crate) fn sequence(
        &self,
        patches: Tensor,
        grid: (i64, i64),
    ) -> Result<(Tensor, TokenLayout, Option<Rotation>)> {
        let (batch, _, _) = patches.size3()?;
        let kind = patches.kind();
        let of_all = |tokens: &Tensor| tokens.f_expand([batch, -1, -1], false);
        let cls = self.cls_token.as_ref().map(of_all).transpose()?;
        let registers = self.register_tokens.as_ref().map(of_all).transpose()?;
        let count = |tokens: &Option<Tensor>| tokens.as_ref().map_or(0, |tokens| tokens.size()[1]);
        let (before, patch_count) = (count(&cls), grid.0 * grid.1);
        let layout = TokenLayout::vision(before + count(&registers), grid);

        let with_cls =
            |patches: Tensor| Tensor::f_cat(&cls.into_iter().chain([patches]).collect::<Vec<_>>(), 1);
        let (tokens, rotation) = match &self.positions {
            Positions::Table { embeddings, trained, antialias } => {
                let table = table(embeddings, *trained, *antialias, grid)?;
                let of_patches_only = table.size()[1] == patch_count;
                let tokens = match of_patches_only {
                    true => with_cls(patches.f_add(&table)?)?,
                    false => with_cls(patches)?.f_add(&table)?,
                };
                (tokens, None)
            }
            Positions::Rotary(rotary) => {
                (with_cls(patches)?, Some(rotary.of_grid(layout.special, grid, kind)?))
            }
        };
        let tokens = match registers {
            None => tokens,
            Some(registers) => {
                let (cls, patches) =
                    (tokens.f_narrow(1, 0, before)?, tokens.f_narrow(1, before, patch_count)?);
                Tensor::f_cat(&[cls, registers, patches], 1)?
            }
        };
        Ok((tokens, layout, rotation))
    }
}

/// Returns the position embeddings of a grid of `rows × columns` patches: the trained ones, interpolated (bicubic) in
/// float32 for any other grid.
fn table(all: &Tensor, trained: (i64, i64), antialias: bool, (rows, columns): (i64, i64)) -> Result<Tensor> {
    if (rows, columns) == trained {
        return Ok(all.shallow_clone());
    }
    let (_, tokens, width) = all.size3()?;
    let before = tokens - trained.0 * trained.1;
    let patches = all
        .f_narrow(1, before, trained.0 * trained.1)?
        .f_reshape([1, trained.0, trained.1, width])?
        .f_permute([0, 3, 1, 2])?
        .f_to_kind(Kind::Float)?;
    let patches = if antialias {
        patches.f_internal_upsample_bicubic2d_aa([rows, columns], false, None, None)?
    } else {
        patches.f_upsample_bicubic2d([rows, columns], false, None, None)?
    };
    let patches = patches.f_permute([0, 2, 3, 1])?.f_reshape([1, rows * columns, width])?;
    Ok(Tensor::f_cat(&[all.f_narrow(1, 0, before)?, patches.f_to_kind(all.kind())?], 1)?)
}
