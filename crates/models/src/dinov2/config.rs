//! Reads `config.json` of DINOv2.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::nn::{Activation, Extent};
use crate::vision::{DeclaredHead, Facts, Names, class_count, labels};

/// The fields of a Hugging Face DINOv2 configuration that decide the network; defaults are `Dinov2Config`'s and
/// `Dinov2WithRegistersConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Dinov2Config {
    model_type: String,
    architectures: Vec<String>,
    /// Width of a token.
    pub(crate) hidden_size: i64,
    /// Number of blocks.
    pub(crate) num_hidden_layers: usize,
    /// Heads per block.
    pub(crate) num_attention_heads: i64,
    /// Width of the MLP, as a multiple of the width of a token.
    pub(crate) mlp_ratio: f64,
    /// Activation of the MLP.
    pub(crate) hidden_act: Activation,
    /// Added to the variance in every layer norm.
    pub(crate) layer_norm_eps: f64,
    image_size: Extent,
    patch_size: Extent,
    /// Colour channels.
    pub(crate) num_channels: i64,
    /// Whether query, key and value have a bias.
    pub(crate) qkv_bias: bool,
    /// Whether the MLP is a SwiGLU.
    pub(crate) use_swiglu_ffn: bool,
    num_register_tokens: Option<i64>,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<i64>,
}

impl Default for Dinov2Config {
    fn default() -> Self {
        Self {
            model_type: "dinov2".into(),
            architectures: Vec::new(),
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            mlp_ratio: 4.0,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-6,
            image_size: Extent::Square(224),
            patch_size: Extent::Square(14),
            num_channels: 3,
            qkv_bias: true,
            use_swiglu_ffn: false,
            num_register_tokens: None,
            id2label: None,
            num_labels: None,
        }
    }
}

impl Dinov2Config {
    /// Number of register tokens; `None` for `dinov2`.
    pub(crate) fn registers(&self) -> Option<i64> {
        self.has_registers().then(|| self.num_register_tokens.unwrap_or(4))
    }

    /// Width inside the MLP. For a SwiGLU it is two thirds of the ratio's width, rounded up to a multiple of 8.
    pub(crate) fn mlp_width(&self) -> i64 {
        let wide = (self.hidden_size as f64 * self.mlp_ratio) as i64;
        if self.use_swiglu_ffn { ((wide as f64 * 2.0 / 3.0) as i64).saturating_add(7) / 8 * 8 } else { wide }
    }

    pub(super) fn class_count(&self) -> i64 {
        class_count(self.id2label.as_ref(), self.num_labels)
    }

    fn has_registers(&self) -> bool {
        self.model_type == "dinov2_with_registers"
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            depth: self.num_hidden_layers,
            width: self.hidden_size,
            heads: self.num_attention_heads,
            image_size: self.image_size.height_width(),
            patch_size: self.patch_size.height_width(),
            channels: self.num_channels,
            cls: true,
            registers: self.registers().unwrap_or(0),
            classes: Some(self.class_count()),
            projection: None,
            eps: self.layer_norm_eps,
            inner_sizes: vec![
                ("mlp_ratio · hidden_size", self.mlp_width()),
                ("num_register_tokens", self.registers().unwrap_or(1)),
            ],
            names: Names {
                folder: if self.has_registers() { "dinov2_with_registers" } else { "dinov2" },
                landmark: "embeddings.cls_token",
                head: "classifier.weight",
            },
        }
    }

    /// Returns what the configuration declares about the head.
    pub(crate) fn declared_head(&self) -> DeclaredHead<'_> {
        DeclaredHead::of_classifier(&self.architectures, self.class_count(), labels(self.id2label.as_ref()))
    }
}
