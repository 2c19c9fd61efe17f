//! Reads `config.json` of DINOv3.

use serde::Deserialize;

use crate::nn::{Activation, Extent};
use crate::vision::{DeclaredHead, Facts, Names};

/// The fields of a Hugging Face DINOv3 ViT configuration that decide the network; defaults are `DINOv3ViTConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Dinov3Config {
    /// Width of a token.
    pub(crate) hidden_size: i64,
    /// Number of blocks.
    pub(crate) num_hidden_layers: usize,
    /// Heads per block.
    pub(crate) num_attention_heads: i64,
    /// Width of the MLP.
    pub(crate) intermediate_size: i64,
    /// Activation of the MLP.
    pub(crate) hidden_act: Activation,
    /// Added to the variance in every layer norm.
    pub(crate) layer_norm_eps: f64,
    image_size: Extent,
    patch_size: Extent,
    num_channels: i64,
    /// Base of the periods of the rotary positions.
    pub(crate) rope_theta: f64,
    /// Whether the projection to queries has a bias.
    pub(crate) query_bias: bool,
    /// Whether the projection to keys has a bias.
    pub(crate) key_bias: bool,
    /// Whether the projection to values has a bias.
    pub(crate) value_bias: bool,
    /// Whether the projection of the attention's output has a bias.
    pub(crate) proj_bias: bool,
    /// Whether the layers of the MLP have biases.
    pub(crate) mlp_bias: bool,
    /// Whether the MLP is gated.
    pub(crate) use_gated_mlp: bool,
    /// Number of register tokens.
    pub(crate) num_register_tokens: i64,
}

impl Default for Dinov3Config {
    fn default() -> Self {
        Self {
            hidden_size: 384,
            num_hidden_layers: 12,
            num_attention_heads: 6,
            intermediate_size: 1536,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
            image_size: Extent::Square(224),
            patch_size: Extent::Square(16),
            num_channels: 3,
            rope_theta: 100.0,
            query_bias: true,
            key_bias: false,
            value_bias: true,
            proj_bias: true,
            mlp_bias: true,
            use_gated_mlp: false,
            num_register_tokens: 0,
        }
    }
}

impl Dinov3Config {
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            depth: self.num_hidden_layers,
            width: self.hidden_size,
            heads: self.num_attention_heads,
            image_size: self.image_size.height_width(),
            patch_size: self.patch_size.height_width(),
            channels: self.num_channels,
            cls: true,
            registers: self.num_register_tokens,
            classes: None,
            projection: None,
            eps: self.layer_norm_eps,
            inner_sizes: vec![
                ("intermediate_size", self.intermediate_size),
                // There may be none.
                (
                    "num_register_tokens",
                    if self.num_register_tokens == 0 { 1 } else { self.num_register_tokens },
                ),
            ],
            names: Names {
                folder: "model",
                landmark: "embeddings.cls_token",
                // No published network has one.
                head: "classifier.weight",
            },
        }
    }

    /// Returns a contradiction between the heads and their rotary positions, if any.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let (width, heads, base) = (self.hidden_size, self.num_attention_heads, self.rope_theta);
        if width / heads % 4 != 0 {
            Some(format!(
                "a head is {} wide (hidden_size {width} / num_attention_heads {heads}); rotary positions of rows and columns need a \
                 multiple of 4",
                width / heads
            ))
        } else if !(base.is_finite() && base > 0.0) {
            Some(format!("rope_theta is {base}; it must be a finite number above 0"))
        } else {
            None
        }
    }

    /// Returns what the configuration declares about the head: no DINOv3 network of transformers has one.
    pub(crate) fn declared_head(&self) -> DeclaredHead<'_> {
        DeclaredHead::NoHead(None, Vec::new())
    }
}
