//! ViT: "An Image is Worth 16x16 Words" (arXiv 2010.11929) as `ViTForImageClassification` stores it.
//!
//! Bare backbones (`ViTModel`) such as DINO's (arXiv 2104.14294) are supported too.

mod config;

use std::path::Path;

use tch::{Device, Kind};

use crate::error::Result;
use crate::nn::{Attention, Block, LayerNorm, Linear, Mlp};
use crate::vision::{Head, Pooling, Stored, VisionTransformer, embeddings};
use crate::weights::Weights;
pub(crate) use config::VitConfig;

/// Reads the weights of a model directory by their published names.
pub(crate) fn load(
    dir: &Path,
    config: &VitConfig,
    stored: Stored,
    kind: Kind,
    device: Device,
) -> Result<VisionTransformer> {
    let weights = Weights::open(dir, kind, device)?;
    let backbone = stored.backbone(&weights);
    let embeddings = embeddings(&backbone.pp("embeddings"), &config.facts(), None)?;
    let blocks = (0..config.num_hidden_layers)
        .map(|i| block(&backbone.pp("encoder").pp("layer").pp(i), config))
        .collect::<Result<_>>()?;
    let last_norm =
        Some(LayerNorm::load(&backbone.pp("layernorm"), config.hidden_size, config.layer_norm_eps)?);
    let head = match stored.head.then(|| config.class_count()) {
        Some(classes) => {
            Head::Pooled(Linear::load(&weights.pp("classifier"), config.hidden_size, classes, true)?)
        }
        None => Head::None,
    };
    stored.finish(&weights)?;
    let (first_norm, pooling) = (None, Pooling::Cls);
    Ok(VisionTransformer { embeddings, first_norm, blocks, last_norm, pooling, head, kind, device })
}

fn block(weights: &Weights, config: &VitConfig) -> Result<Block> {
    let VitConfig { hidden_size, intermediate_size, layer_norm_eps, qkv_bias, .. } = *config;
    let attention = weights.pp("attention");
    let projection =
        |name: &str| Linear::load(&attention.pp("attention").pp(name), hidden_size, hidden_size, qkv_bias);
    let dense = |weights: Weights, input, output| Linear::load(&weights.pp("dense"), input, output, true);
    Ok(Block {
        attention_norm: LayerNorm::load(&weights.pp("layernorm_before"), hidden_size, layer_norm_eps)?,
        attention: Attention {
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            head_norms: None,
            output: dense(attention.pp("output"), hidden_size, hidden_size)?,
            heads: config.num_attention_heads,
            scale: None,
        },
        attention_scale: None,
        mlp_norm: LayerNorm::load(&weights.pp("layernorm_after"), hidden_size, layer_norm_eps)?,
        mlp: Mlp::Dense {
            widen: dense(weights.pp("intermediate"), hidden_size, intermediate_size)?,
            activation: config.hidden_act,
            narrow: dense(weights.pp("output"), intermediate_size, hidden_size)?,
        },
        mlp_scale: None,
    })
}
