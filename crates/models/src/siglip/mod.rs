//! The image tower of SigLIP (arXiv 2303.15343) and of SigLIP 2 with a fixed resolution (arXiv 2502.14786), as `SiglipModel`,
//! `SiglipVisionModel` and `SiglipForImageClassification` store it.
//!
//! It has no CLS token. Without a classifier, a head with a learned query pools the patches; its output lies in the space
//! shared with text. The classifier reads the mean of the patches.

mod config;

use std::path::Path;

use tch::{Device, Kind};

use crate::clip::{BlockShape, block, mlp};
use crate::error::Result;
use crate::nn::{Attention, LayerNorm, Linear, PatchEmbeddings, Positions};
use crate::vision::{AttentionPool, Head, Pooling, Stored, VisionTransformer};
use crate::weights::Weights;
pub(crate) use config::{SiglipConfig, SiglipVisionConfig};

/// Reads the image tower of a model directory by its published tensor names.
pub(crate) fn load(
    dir: &Path,
    config: &SiglipVisionConfig,
    stored: Stored,
    kind: Kind,
    device: Device,
) -> Result<VisionTransformer> {
    let weights = Weights::open(dir, kind, device)?;
    let tower = stored.backbone(&weights);
    let (width, shape) = (config.hidden_size, config.block());
    let embeddings = embeddings(&tower.pp("embeddings"), config)?;
    let blocks = (0..config.num_hidden_layers)
        .map(|i| block(&tower.pp("encoder").pp("layers").pp(i), &shape))
        .collect::<Result<_>>()?;
    let last_norm = Some(LayerNorm::load(&tower.pp("post_layernorm"), width, config.layer_norm_eps)?);
    let (pooling, head) = if stored.head {
        let classifier = Linear::load(&weights.pp("classifier"), width, config.class_count(), true)?;
        (Pooling::MeanPatch, Head::Pooled(classifier))
    } else if config.vision_use_head {
        (
            Pooling::Attention(Box::new(pool(&tower.pp("head"), &shape)?)),
            Head::Shared { projection: None, classes: None, log_scale: None },
        )
    } else {
        (Pooling::MeanPatch, Head::None)
    };
    // A classifier does not read the pooling head.
    tower.skip("head");
    // Older files store this constant.
    tower.pp("embeddings").skip("position_ids");
    for other in ["text_model", "logit_scale", "logit_bias"] {
        weights.skip(other);
    }
    stored.finish(&weights)?;
    let first_norm = None;
    Ok(VisionTransformer { embeddings, first_norm, blocks, last_norm, pooling, head, kind, device })
}

fn embeddings(weights: &Weights, config: &SiglipVisionConfig) -> Result<PatchEmbeddings> {
    let facts = config.facts();
    let (width, patch, trained) = (facts.width, facts.patch_size, facts.grid());
    let projection = weights.pp("patch_embedding");
    let table = weights.get(&[trained.0 * trained.1, width], "position_embedding.weight")?;
    Ok(PatchEmbeddings {
        cls_token: None,
        register_tokens: None,
        mask_token: None,
        positions: Positions::Table { embeddings: table.f_unsqueeze(0)?, trained, antialias: false },
        projection: Linear {
            weight: projection.get(&[width, facts.channels, patch.0, patch.1], "weight")?,
            bias: Some(projection.get(&[width], "bias")?),
        },
        patch,
    })
}

/// Reads the attention-pooling head, whose projections to queries, keys and values are stored as one
/// (`torch.nn.MultiheadAttention`).
fn pool(weights: &Weights, shape: &BlockShape) -> Result<AttentionPool> {
    let (width, attention) = (shape.width, weights.pp("attention"));
    let joint_weight = attention.get(&[3 * width, width], "in_proj_weight")?;
    let joint_bias = attention.get(&[3 * width], "in_proj_bias")?;
    let part = |i: i64| -> Result<Linear> {
        Ok(Linear {
            weight: joint_weight.f_narrow(0, i * width, width)?,
            bias: Some(joint_bias.f_narrow(0, i * width, width)?),
        })
    };
    Ok(AttentionPool {
        query: weights.get(&[1, 1, width], "probe")?,
        attention: Attention {
            query: part(0)?,
            key: part(1)?,
            value: part(2)?,
            head_norms: None,
            output: Linear::load(&attention.pp("out_proj"), width, width, true)?,
            heads: shape.heads,
            scale: None,
        },
        norm: LayerNorm::load(&weights.pp("layernorm"), width, shape.eps)?,
        mlp: mlp(&weights.pp("mlp"), shape)?,
    })
}
