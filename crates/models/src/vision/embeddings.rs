//! Reads the image embeddings of ViT and DINOv2.

use tch::Tensor;

use super::facts::Facts;
use crate::error::Result;
use crate::nn::{Linear, PatchEmbeddings, Positions};
use crate::weights::Weights;

/// Reads the token that stood for masked patches in training, if the file has one. DINOv2 stores it as a row, ViT and DINOv3 as a
/// sequence of one token.
pub(crate) fn mask_token(weights: &Weights, width: i64) -> Result<Option<Tensor>> {
    // Of any other shape it is a leftover that the network cannot use.
    let shape = weights.shape(MASK_TOKEN).unwrap_or_default();
    if shape != [1, width] && shape != [1, 1, width] {
        return Ok(None);
    }
    Ok(Some(weights.get(&shape, MASK_TOKEN)?.f_reshape([1, 1, width])?))
}

const MASK_TOKEN: &str = "mask_token";

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
        mask_token: mask_token(weights, width)?,
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
