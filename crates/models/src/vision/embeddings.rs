//! Reads the image embeddings of ViT and DINOv2.

use super::facts::Facts;
use crate::error::Result;
use crate::nn::{Linear, PatchEmbeddings, Positions};
use crate::weights::Weights;

/// Reads the folder `embeddings` of a backbone; `registers` is its number of register tokens.
pub(crate) fn embeddings(
    weights: &Weights,
    facts: &Facts,
    registers: Option<i64>,
) -> Result<PatchEmbeddings> {
    let (width, patch, trained) = (facts.width, facts.patch_size, facts.grid());
    let projection = weights.pp("patch_embeddings").pp("projection");
    Ok(PatchEmbeddings {
        cls_token: Some(weights.get(&[1, 1, width], "cls_token")?),
        register_tokens: registers.map(|n| weights.get(&[1, n, width], "register_tokens")).transpose()?,
        positions: Positions::Table {
            embeddings: weights.get(&[1, 1 + trained.0 * trained.1, width], "position_embeddings")?,
            trained,
            // transformers smooths only in networks with registers.
            antialias: registers.is_some(),
        },
        projection: Linear {
            weight: projection.get(&[width, facts.channels, patch.0, patch.1], "weight")?,
            bias: Some(projection.get(&[width], "bias")?),
        },
        patch,
    })
}
