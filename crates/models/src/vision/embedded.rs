//! The input of a vision transformer's blocks.

use tch::Tensor;

use crate::error::Result;
use crate::nn::Rotation;
use crate::site::{TokenKind, TokenLayout};

/// Images as tokens, with everything that the blocks need of the tokens' positions.
pub struct Embedded {
    /// `[batch, n, width]`.
    pub tokens: Tensor,
    /// Kinds of the tokens.
    pub layout: TokenLayout,
    /// Rotary positions; `None` for networks that add positions to the tokens.
    pub(super) rotation: Option<Rotation>,
}

/// A patch without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blank {
    /// The embedding of its pixels is 0; its position is kept.
    ZeroEmbedding,
    /// The token that enters the first block is 0, so that its position is lost too.
    ZeroToken,
    /// The token that stood for masked patches in the network's training takes the place of its embedding; its position is kept.
    MaskToken,
}

impl Embedded {
    /// Returns one row for each of `rows`: an image of the batch with all special tokens and only these patches, counted
    /// in reading order. Tokens keep their positions and the order of the sequence.
    ///
    /// # Errors
    /// libtorch fails: rows have different numbers of patches, or an image or patch does not exist.
    pub fn with_patches(&self, rows: &[(usize, &[usize])]) -> Result<Self> {
        let (_, n, width) = self.tokens.size3()?;
        let special = self.layout.count(TokenKind::Special);
        let kept = rows.first().map_or(0, |(_, patches)| patches.len() as i64);
        let length = special + kept;
        let (mut sequence, mut whole_batch) = (Vec::new(), Vec::new());
        for (image, patches) in rows {
            let mut tokens: Vec<i64> = patches.iter().map(|&patch| special + patch as i64).collect();
            // In sequence order, so that equal sets of tokens give bit-equal sums.
            tokens.sort_unstable();
            sequence.extend((0..special).chain(tokens));
            whole_batch.extend(sequence[whole_batch.len()..].iter().map(|token| *image as i64 * n + token));
        }
        let on_device = |indices: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(indices)?.f_to_device(self.tokens.device())?)
        };
        let tokens = self.tokens.f_reshape([-1, width])?.f_index_select(0, &on_device(&whole_batch)?)?;
        let rotation = self
            .rotation
            .as_ref()
            .map(|rotation| rotation.select(&on_device(&sequence)?, length))
            .transpose()?;
        Ok(Self {
            tokens: tokens.f_reshape([-1, length, width])?,
            layout: TokenLayout::vision(special, (1, kept)),
            rotation,
        })
    }

    /// Returns one row for each of `rows`: an image of the batch in which these patches, counted in reading order, are those of
    /// `by`. `by` has the same grid, and one image for each of the batch or one for all.
    ///
    /// # Errors
    /// libtorch fails: the grids differ, or an image or patch does not exist.
    pub fn with_replaced(&self, by: &Self, rows: &[(usize, &[usize])]) -> Result<Self> {
        let (batch, n, width) = self.tokens.size3()?;
        let by_all = by.tokens.size()[0] == 1;
        let mut tokens = Vec::with_capacity(rows.len() * n as usize);
        for (image, patches) in rows {
            let (first, image) = (tokens.len(), *image as i64);
            tokens.extend((0..n).map(|token| image * n + token));
            let other = batch + if by_all { 0 } else { image };
            for &patch in *patches {
                let token = self.layout.special + patch as i64;
                tokens[first + token as usize] = other * n + token;
            }
        }
        let indices = Tensor::f_from_slice(&tokens)?.f_to_device(self.tokens.device())?;
        let both = Tensor::f_cat(&[&self.tokens, &by.tokens], 0)?.f_reshape([-1, width])?;
        Ok(Self {
            tokens: both.f_index_select(0, &indices)?.f_reshape([-1, n, width])?,
            layout: self.layout.clone(),
            rotation: self.rotation.as_ref().map(Rotation::shallow_clone),
        })
    }
}
