//! Plain vision transformers of timm: `VisionTransformer` as the repositories `timm/…` on the hub publish it, and as
//! transformers' `TimmWrapperModel` and `TimmWrapperForImageClassification` save it.
//!
//! These are ViT (arXiv 2010.11929), DeiT (arXiv 2012.12877, 2204.07118), DINO, DINOv2 with and without registers, and the
//! image towers of CLIP and SigLIP, under timm's tensor names.

mod arguments;
mod config;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::nn::{Attention, Block, HeadNorms, LayerNorm, Linear, Mlp, PatchEmbeddings, Positions};
use crate::vision::{AttentionPool, Head, Pooling, Stored, VisionTransformer};
use crate::weights::Weights;
use arguments::{Arguments, Pool};
pub(crate) use config::TimmConfig;

/// Reads the weights of a model directory by timm's names. Every tensor must belong to the network.
pub(crate) fn load(
    dir: &Path,
    config: &TimmConfig,
    stored: Stored,
    kind: Kind,
    device: Device,
) -> Result<VisionTransformer> {
    let weights = Weights::open(dir, kind, device)?;
    let (root, arguments) = (stored.backbone(&weights), &config.arguments);
    let Arguments { width, eps, pool, .. } = *arguments;
    let norm =
        |name: &str, there: bool| there.then(|| LayerNorm::load(&root.pp(name), width, eps)).transpose();
    let embeddings = embeddings(&root, config)?;
    let first_norm = norm("norm_pre", arguments.first_norm)?;
    let blocks =
        (0..arguments.depth).map(|i| block(&root.pp("blocks").pp(i), arguments)).collect::<Result<_>>()?;
    let last_norm = norm("norm", arguments.last_norm)?;
    let pooled_norm = norm("fc_norm", arguments.pooled_norm)?;
    let pooling = match pool {
        Pool::Token => Pooling::Cls,
        Pool::Avg => Pooling::MeanPatch,
        Pool::Map => Pooling::Attention(Box::new(attention_pool(&root.pp("attn_pool"), arguments)?)),
    };
    let pooling = match pooled_norm {
        Some(norm) => Pooling::Normed(Box::new(pooling), norm),
        None => pooling,
    };
    let head = match stored.head {
        true => Head::Pooled(Linear::load(&root.pp("head"), width, config.classes, true)?),
        false => Head::None,
    };
    weights.finish()?;
    Ok(VisionTransformer { embeddings, first_norm, blocks, last_norm, pooling, head, kind, device })
}

/// Reads patches, CLS, registers and positions. Those of CLS and registers are the same for every image, so they are added
/// here; the table that is left has one row for each patch.
fn embeddings(weights: &Weights, config: &TimmConfig) -> Result<PatchEmbeddings> {
    let Arguments { width, patch, channels, cls, registers, special_positions, first_norm, .. } =
        config.arguments;
    let special = if special_positions { i64::from(cls) + registers } else { 0 };
    let trained = trained_grid(weights, special, config.facts().grid())?;
    let positions = weights.get(&[1, special + trained.0 * trained.1, width], "pos_embed")?;
    let mut read = 0;
    let mut token = |name: &str, count: i64| -> Result<Option<Tensor>> {
        if count == 0 {
            return Ok(None);
        }
        let token = weights.get(&[1, count, width], name)?;
        let token =
            if special_positions { token.f_add(&positions.f_narrow(1, read, count)?)? } else { token };
        read += count;
        Ok(Some(token))
    };
    let (cls_token, register_tokens) = (token("cls_token", i64::from(cls))?, token("reg_token", registers)?);
    let projection = weights.pp("patch_embed").pp("proj");
    Ok(PatchEmbeddings {
        cls_token,
        register_tokens,
        mask_token: None,
        positions: Positions::Table {
            embeddings: positions.f_narrow(1, special, trained.0 * trained.1)?,
            trained,
            antialias: true,
        },
        projection: Linear {
            weight: projection.get(&[width, channels, patch.0, patch.1], "weight")?,
            bias: (!first_norm).then(|| projection.get(&[width], "bias")).transpose()?,
        },
        patch,
    })
}

/// Returns rows and columns of the grid of positions: `configured`, or a square if the file has another number of
/// positions, which timm resizes in the same way when it loads the file.
fn trained_grid(weights: &Weights, special: i64, configured: (i64, i64)) -> Result<(i64, i64)> {
    let Some(&[_, stored, _]) = weights.shape("pos_embed")?.first_chunk() else { return Ok(configured) };
    let patches = stored - special;
    let side = (patches.max(0) as f64).sqrt() as i64;
    Ok(if patches != configured.0 * configured.1 && side > 0 && side * side == patches {
        (side, side)
    } else {
        configured
    })
}

fn block(weights: &Weights, arguments: &Arguments) -> Result<Block> {
    let &Arguments { width, inner, heads, eps, qkv_bias, proj_bias, .. } = arguments;
    let (attention, mlp) = (weights.pp("attn"), weights.pp("mlp"));
    let joint = Linear::load(&attention.pp("qkv"), width, 3 * width, qkv_bias)?;
    let head_norm = |name: &str| LayerNorm::load(&attention.pp(name), width / heads, eps);
    let head_norms = arguments
        .qk_norm
        .then(|| Ok::<_, crate::Error>(HeadNorms { query: head_norm("q_norm")?, key: head_norm("k_norm")? }))
        .transpose()?;
    let scale =
        |name: &str| arguments.layer_scale.then(|| weights.pp(name).get(&[width], "gamma")).transpose();
    let widen = Linear::load(&mlp.pp("fc1"), width, inner, proj_bias)?;
    let narrow = |inner| Linear::load(&mlp.pp("fc2"), inner, width, proj_bias);
    Ok(Block {
        attention_norm: LayerNorm::load(&weights.pp("norm1"), width, eps)?,
        attention: Attention {
            query: part(&joint, 0, width)?,
            key: part(&joint, 1, width)?,
            value: part(&joint, 2, width)?,
            head_norms,
            output: Linear::load(&attention.pp("proj"), width, width, proj_bias)?,
            heads,
            scale: None,
        },
        attention_scale: scale("ls1")?,
        mlp_norm: LayerNorm::load(&weights.pp("norm2"), width, eps)?,
        mlp: if arguments.swiglu {
            Mlp::SwiGlu { weights_in: widen, weights_out: narrow(inner / 2)? }
        } else {
            Mlp::Dense { widen, activation: arguments.activation, narrow: narrow(inner)? }
        },
        mlp_scale: scale("ls2")?,
    })
}

/// Reads timm's `AttentionPoolLatent`.
fn attention_pool(weights: &Weights, arguments: &Arguments) -> Result<AttentionPool> {
    let &Arguments { width, inner, heads, eps, activation, .. } = arguments;
    let joint = Linear::load(&weights.pp("kv"), width, 2 * width, true)?;
    let mlp = weights.pp("mlp");
    Ok(AttentionPool {
        query: weights.get(&[1, 1, width], "latent")?,
        attention: Attention {
            query: Linear::load(&weights.pp("q"), width, width, true)?,
            key: part(&joint, 0, width)?,
            value: part(&joint, 1, width)?,
            head_norms: None,
            output: Linear::load(&weights.pp("proj"), width, width, true)?,
            heads,
            scale: None,
        },
        norm: LayerNorm::load(&weights.pp("norm"), width, eps)?,
        mlp: Mlp::Dense {
            widen: Linear::load(&mlp.pp("fc1"), width, inner, true)?,
            activation,
            narrow: Linear::load(&mlp.pp("fc2"), inner, width, true)?,
        },
    })
}

/// Returns one of several layers with `width` outputs that are stored as one, one after the other.
fn part(joint: &Linear, number: i64, width: i64) -> Result<Linear> {
    let start = number * width;
    let bias = joint.bias.as_ref().map(|bias| bias.f_narrow(0, start, width)).transpose()?;
    Ok(Linear { weight: joint.weight.f_narrow(0, start, width)?, bias })
}
