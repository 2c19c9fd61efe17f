//! The image tower of CLIP as `CLIPModel`, `CLIPVisionModelWithProjection` and `CLIPVisionModel` store it; the last has no
//! projection, and its embedding is CLS after the last layer norm.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::block;
use super::config::ClipVisionConfig;
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, PatchEmbeddings, Positions};
use crate::vision::{Head, Pooling, Stored, VisionTransformer};
use crate::weights::Weights;

/// Reads the image tower of a model directory by its published tensor names.
pub(crate) fn load(
    dir: &Path,
    config: &ClipVisionConfig,
    stored: Stored,
    kind: Kind,
    device: Device,
) -> Result<VisionTransformer> {
    let weights = Weights::open(dir, kind, device)?;
    let tower = stored.backbone(&weights);
    let (width, eps) = (config.hidden_size, config.layer_norm_eps);
    let embeddings = embeddings(&tower.pp("embeddings"), config)?;
    let blocks = (0..config.num_hidden_layers)
        .map(|i| block(&tower.pp("encoder").pp("layers").pp(i), &config.block()))
        .collect::<Result<_>>()?;
    // Every published checkpoint has this misspelling.
    let first_norm = Some(LayerNorm::load(&tower.pp("pre_layrnorm"), width, eps)?);
    let last_norm = Some(LayerNorm::load(&tower.pp("post_layernorm"), width, eps)?);
    let projection = || Linear::load(&weights.pp("visual_projection"), width, config.projection_dim, false);
    let head = match stored.head {
        true => {
            Head::Shared { projection: Some(projection()?), classes: None, log_scale: log_scale(&weights)? }
        }
        false => Head::None,
    };
    for other in ["text_model", "text_projection", "logit_scale"] {
        weights.skip(other);
    }
    // Older files store this constant.
    tower.pp("embeddings").skip("position_ids");
    stored.finish(&weights)?;
    let pooling = Pooling::Cls;
    Ok(VisionTransformer { embeddings, first_norm, blocks, last_norm, pooling, head, kind, device })
}

const LOGIT_SCALE: &str = "logit_scale";

/// Reads the factor of cosines, which only files of the whole network have.
fn log_scale(weights: &Weights) -> Result<Option<Tensor>> {
    if !weights.contains(LOGIT_SCALE) {
        return Ok(None);
    }
    // Of any other shape it is a leftover that the network cannot use; random weights have no shape.
    let single = weights.shape(LOGIT_SCALE).is_ok_and(|shape| shape.is_empty());
    single.then(|| weights.get(&[], LOGIT_SCALE)).transpose()
}

fn embeddings(weights: &Weights, config: &ClipVisionConfig) -> Result<PatchEmbeddings> {
    let facts = config.facts();
    let (width, patch, trained) = (facts.width, facts.patch_size, facts.grid());
    let positions = [1 + trained.0 * trained.1, width];
    let projection = [width, config.num_channels, patch.0, patch.1];
    Ok(PatchEmbeddings {
        cls_token: Some(weights.get(&[width], "class_embedding")?.f_reshape([1, 1, width])?),
        register_tokens: None,
        mask_token: None,
        positions: Positions::Table {
            embeddings: weights.get(&positions, "position_embedding.weight")?.f_unsqueeze(0)?,
            trained,
            antialias: false,
        },
        projection: Linear { weight: weights.get(&projection, "patch_embedding.weight")?, bias: None },
        patch,
    })
}
