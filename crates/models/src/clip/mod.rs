//! CLIP: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020).

mod config;
mod text;
mod tokenizer;
mod vision;

use crate::error::Result;
use crate::nn::{Attention, Block, LayerNorm, Linear, Mlp};
use crate::weights::Weights;
use config::BlockShape;
pub(crate) use config::{ClipConfig, ClipVisionConfig};
pub use text::{ClipText, ClipTextEncoder};
pub use tokenizer::Tokenizer;
pub(crate) use vision::load;

/// Reads a block of either tower.
fn block(weights: &Weights, shape: &BlockShape) -> Result<Block> {
    let &BlockShape { width, heads, inner, activation, eps } = shape;
    let attention = weights.pp("self_attn");
    let projection = |name: &str| Linear::load(&attention.pp(name), width, width, true);
    let mlp = weights.pp("mlp");
    Ok(Block {
        attention_norm: LayerNorm::load(&weights.pp("layer_norm1"), width, eps)?,
        attention: Attention {
            query: projection("q_proj")?,
            key: projection("k_proj")?,
            value: projection("v_proj")?,
            output: projection("out_proj")?,
            heads,
            scale: None,
        },
        attention_scale: None,
        mlp_norm: LayerNorm::load(&weights.pp("layer_norm2"), width, eps)?,
        mlp: Mlp::Dense {
            widen: Linear::load(&mlp.pp("fc1"), width, inner, true)?,
            activation,
            narrow: Linear::load(&mlp.pp("fc2"), inner, width, true)?,
        },
        mlp_scale: None,
    })
}
