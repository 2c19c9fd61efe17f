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
}
