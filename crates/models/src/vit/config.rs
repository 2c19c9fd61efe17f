//! Reads `config.json` of a ViT.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::nn::{Activation, Extent};
use crate::vision::{DeclaredHead, Facts, Names, class_count, labels};

/// The fields of a Hugging Face ViT configuration that decide the network; defaults are `ViTConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct VitConfig {
    architectures: Vec<String>,
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
    /// Colour channels.
    pub(crate) num_channels: i64,
    /// Whether query, key and value have a bias.
    pub(crate) qkv_bias: bool,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<i64>,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            architectures: Vec::new(),
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            image_size: Extent::Square(224),
            patch_size: Extent::Square(16),
            num_channels: 3,
            qkv_bias: true,
            id2label: None,
            num_labels: None,
        }
    }
}

impl VitConfig {
    pub(super) fn class_count(&self) -> i64 {
        class_count(self.id2label.as_ref(), self.num_labels)
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
            registers: 0,
            classes: Some(self.class_count()),
            projection: None,
            eps: self.layer_norm_eps,
            inner_sizes: vec![("intermediate_size", self.intermediate_size)],
            names: Names { folder: "vit", landmark: "embeddings.cls_token", head: "classifier.weight" },
        }
    }

    /// Returns what the configuration declares about the head.
    pub(crate) fn declared_head(&self) -> DeclaredHead<'_> {
        DeclaredHead::of_classifier(&self.architectures, self.class_count(), labels(self.id2label.as_ref()))
    }
}
