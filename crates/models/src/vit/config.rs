//! `config.json` of a ViT.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::nn::{Activation, Extent};
use crate::vision::{Names, Said, Shape, Stored, class_count, labels};

/// The fields of a Hugging Face ViT configuration that decide the network; defaults are `ViTConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VitConfig {
    architectures: Vec<String>,
    /// Width of a token.
    pub hidden_size: i64,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Heads per block.
    pub num_attention_heads: i64,
    /// Width of the MLP.
    pub intermediate_size: i64,
    /// Activation of the MLP.
    pub hidden_act: Activation,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f64,
    image_size: Extent,
    patch_size: Extent,
    /// Colour channels.
    pub num_channels: i64,
    /// Whether query, key and value have a bias.
    pub qkv_bias: bool,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<i64>,
    #[serde(skip)]
    stored: Stored,
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
            stored: Stored::default(),
        }
    }
}

impl VitConfig {
    fn class_count(&self) -> i64 {
        class_count(self.id2label.as_ref(), self.num_labels)
    }
}

impl Shape for VitConfig {
    fn depth(&self) -> usize {
        self.num_hidden_layers
    }

    fn width(&self) -> i64 {
        self.hidden_size
    }

    fn heads(&self) -> i64 {
        self.num_attention_heads
    }

    fn image_size(&self) -> (i64, i64) {
        self.image_size.height_width()
    }

    fn patch_size(&self) -> (i64, i64) {
        self.patch_size.height_width()
    }

    fn channels(&self) -> i64 {
        self.num_channels
    }

    fn classes(&self) -> Option<i64> {
        self.stored.head.then(|| self.class_count())
    }

    fn eps(&self) -> f64 {
        self.layer_norm_eps
    }

    fn inner_sizes(&self) -> Vec<(&'static str, i64)> {
        vec![("intermediate_size", self.intermediate_size)]
    }

    fn names(&self) -> Names {
        Names { folder: "vit", landmark: "embeddings.cls_token", head: "classifier.weight" }
    }

    fn said(&self) -> Result<Said<'_>, String> {
        Ok(Said::of_classifier(&self.architectures, self.class_count(), labels(self.id2label.as_ref())))
    }

    fn stored(&self) -> Stored {
        self.stored
    }

    fn set_stored(&mut self, stored: Stored) {
        self.stored = stored;
    }
}
