//! CLIP: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020).

mod config;
mod text;
mod tokenizer;
mod vision;

use crate::error::Result;
use crate::nn::{Attention, Block, LayerNorm, Linear, Mlp};
use crate::weights::Weights;
pub(crate) use config::{BlockShape, ClipConfig, ClipVisionConfig};
pub use text::{ClipText, ClipTextEncoder};
pub use tokenizer::Tokenizer;
pub(crate) use vision::load;

/// Reads a block of either tower. Blocks of SigLIP have the same names.
pub(crate) fn block(weights: &Weights, shape: &BlockShape) -> Result<Block> {
    let &BlockShape { width, heads, eps, .. } = shape;
    let attention = weights.pp("self_attn");
    let projection = |name: &str| Linear::load(&attention.pp(name), width, width, true);
    Ok(Block {
        attention_norm: LayerNorm::load(&weights.pp("layer_norm1"), width, eps)?,
        attention: Attention {
            query: projection("q_proj")?,
            key: projection("k_proj")?,
            value: projection("v_proj")?,
            head_norms: None,
            output: projection("out_proj")?,
            heads,
            scale: None,
        },
        attention_scale: None,
        mlp_norm: LayerNorm::load(&weights.pp("layer_norm2"), width, eps)?,
        mlp: mlp(&weights.pp("mlp"), shape)?,
        mlp_scale: None,
    })
}

/// Reads the MLP of a block.
pub(crate) fn mlp(weights: &Weights, shape: &BlockShape) -> Result<Mlp> {
    let &BlockShape { width, inner, activation, .. } = shape;
    Ok(Mlp::Dense {
        widen: Linear::load(&weights.pp("fc1"), width, inner, true)?,
        activation,
        narrow: Linear::load(&weights.pp("fc2"), inner, width, true)?,
    })
}
