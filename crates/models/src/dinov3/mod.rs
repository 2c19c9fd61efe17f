//! DINOv3 ViT (arXiv 2508.10104) as `DINOv3ViTModel` and `DINOv3ViTBackbone` store it.

mod config;

use std::path::Path;

use tch::{Device, Kind};

use crate::error::Result;
use crate::nn::{Attention, Block, GridRotary, LayerNorm, Linear, Mlp, PatchEmbeddings, Positions};
use crate::vision::{Head, Pooling, Stored, VisionTransformer, mask_token};
use crate::weights::Weights;
pub(crate) use config::Dinov3Config;

/// Reads the weights of a model directory by their published names.
pub(crate) fn load(
    dir: &Path,
    config: &Dinov3Config,
    stored: Stored,
    kind: Kind,
    device: Device,
) -> Result<VisionTransformer> {
    let weights = Weights::open(dir, kind, device)?;
    let backbone = stored.backbone(&weights);
    let width = config.hidden_size;
    let embeddings = embeddings(&backbone.pp("embeddings"), config)?;
    // Published files have the blocks next to the embeddings; transformers 5 also reads them from the folder `model`.
    let folder = backbone.pp("model").pp("layer");
    let layers = if folder.contains("0.norm1.weight") { folder } else { backbone.pp("layer") };
    let blocks =
        (0..config.num_hidden_layers).map(|i| block(&layers.pp(i), config)).collect::<Result<_>>()?;
    let last_norm = Some(LayerNorm::load(&backbone.pp("norm"), width, config.layer_norm_eps)?);
    stored.finish(&weights)?;
    let (first_norm, pooling, head) = (None, Pooling::Cls, Head::None);
    Ok(VisionTransformer { embeddings, first_norm, blocks, last_norm, pooling, head, kind, device })
}

fn embeddings(weights: &Weights, config: &Dinov3Config) -> Result<PatchEmbeddings> {
    let Dinov3Config { hidden_size: width, num_attention_heads, num_register_tokens: registers, .. } =
        *config;
    let patch = config.facts().patch_size;
    let projection = weights.pp("patch_embeddings");
    let register_tokens = match registers {
        0 => None,
        _ => Some(weights.get(&[1, registers, width], "register_tokens")?),
    };
    // Files without registers have an empty tensor.
    weights.skip("register_tokens");
    Ok(PatchEmbeddings {
        cls_token: Some(weights.get(&[1, 1, width], "cls_token")?),
        register_tokens,
        mask_token: mask_token(weights, width)?,
        positions: Positions::Rotary(GridRotary::new(
            config.rope_theta,
            width / num_attention_heads,
            weights.device(),
        )?),
        projection: Linear {
            weight: projection.get(&[width, 3, patch.0, patch.1], "weight")?,
            bias: Some(projection.get(&[width], "bias")?),
        },
        patch,
    })
}

fn block(weights: &Weights, config: &Dinov3Config) -> Result<Block> {
    let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
    let (attention, mlp) = (weights.pp("attention"), weights.pp("mlp"));
    let projection = |name: &str, bias| Linear::load(&attention.pp(name), width, width, bias);
    let layer = |name: &str, input, output| Linear::load(&mlp.pp(name), input, output, config.mlp_bias);
    let (up, down) = (layer("up_proj", width, inner)?, layer("down_proj", inner, width)?);
    let activation = config.hidden_act;
    Ok(Block {
        attention_norm: LayerNorm::load(&weights.pp("norm1"), width, eps)?,
        attention: Attention {
            query: projection("q_proj", config.query_bias)?,
            key: projection("k_proj", config.key_bias)?,
            value: projection("v_proj", config.value_bias)?,
            head_norms: None,
            output: projection("o_proj", config.proj_bias)?,
            heads: config.num_attention_heads,
            scale: None,
        },
        attention_scale: Some(weights.pp("layer_scale1").get(&[width], "lambda1")?),
        mlp_norm: LayerNorm::load(&weights.pp("norm2"), width, eps)?,
        mlp: if config.use_gated_mlp {
            Mlp::Gated { gate: layer("gate_proj", width, inner)?, up, activation, down }
        } else {
            Mlp::Dense { widen: up, activation, narrow: down }
        },
        mlp_scale: Some(weights.pp("layer_scale2").get(&[width], "lambda1")?),
    })
}
