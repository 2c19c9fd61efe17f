//! DINOv2 (arXiv 2304.07193), with and without registers (arXiv 2309.16588), as `Dinov2ForImageClassification` and
//! `Dinov2WithRegistersForImageClassification` store it, or their bare backbones.

mod config;

use std::path::Path;

use tch::{Device, Kind};

use crate::error::Result;
use crate::nn::{Attention, Block, LayerNorm, Linear, Mlp};
use crate::vision::{Head, Pooling, Stored, VisionTransformer, embeddings};
use crate::weights::Weights;
pub(crate) use config::Dinov2Config;

/// Reads the weights of a model directory by their published names.
pub(crate) fn load(
    dir: &Path,
    config: &Dinov2Config,
    stored: Stored,
    kind: Kind,
    device: Device,
) -> Result<VisionTransformer> {
    let weights = Weights::open(dir, kind, device)?;
    let backbone = stored.backbone(&weights);
    let width = config.hidden_size;
    let embeddings = embeddings(&backbone.pp("embeddings"), &config.facts(), config.registers())?;
    let blocks = (0..config.num_hidden_layers)
        .map(|i| block(&backbone.pp("encoder").pp("layer").pp(i), config))
        .collect::<Result<_>>()?;
    let last_norm = Some(LayerNorm::load(&backbone.pp("layernorm"), width, config.layer_norm_eps)?);
    let head = match stored.head.then(|| config.class_count()) {
        Some(classes) => Head::ClsAndMean(Linear::load(&weights.pp("classifier"), 2 * width, classes, true)?),
        None => Head::None,
    };
    stored.finish(&weights)?;
    let (first_norm, pooling) = (None, Pooling::Cls);
    Ok(VisionTransformer { embeddings, first_norm, blocks, last_norm, pooling, head, kind, device })
}

fn block(weights: &Weights, config: &Dinov2Config) -> Result<Block> {
    let (width, eps) = (config.hidden_size, config.layer_norm_eps);
    let attention = weights.pp("attention");
    let projection =
        |name: &str| Linear::load(&attention.pp("attention").pp(name), width, width, config.qkv_bias);
    let mlp = weights.pp("mlp");
    let inner = config.mlp_width();
    Ok(Block {
        attention_norm: LayerNorm::load(&weights.pp("norm1"), width, eps)?,
        attention: Attention {
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            head_norms: None,
            output: Linear::load(&attention.pp("output").pp("dense"), width, width, true)?,
            heads: config.num_attention_heads,
            scale: None,
        },
        attention_scale: Some(weights.pp("layer_scale1").get(&[width], "lambda1")?),
        mlp_norm: LayerNorm::load(&weights.pp("norm2"), width, eps)?,
        mlp: if config.use_swiglu_ffn {
            Mlp::SwiGlu {
                weights_in: Linear::load(&mlp.pp("weights_in"), width, 2 * inner, true)?,
                weights_out: Linear::load(&mlp.pp("weights_out"), inner, width, true)?,
            }
        } else {
            Mlp::Dense {
                widen: Linear::load(&mlp.pp("fc1"), width, inner, true)?,
                activation: config.hidden_act,
                narrow: Linear::load(&mlp.pp("fc2"), inner, width, true)?,
            }
        },
        mlp_scale: Some(weights.pp("layer_scale2").get(&[width], "lambda1")?),
    })
}
