//! Reads `config.json` of SigLIP.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::clip::BlockShape;
use crate::nn::{Activation, Extent};
use crate::vision::{DeclaredHead, Facts, Names, class_count, labels};

/// The fields of a Hugging Face SigLIP configuration that decide the image tower; defaults are `SiglipVisionConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct SiglipVisionConfig {
    architectures: Vec<String>,
    /// Width of a token.
    pub(crate) hidden_size: i64,
    /// Number of blocks.
    pub(crate) num_hidden_layers: usize,
    num_attention_heads: i64,
    intermediate_size: i64,
    hidden_act: Activation,
    /// Added to the variance in every layer norm.
    pub(crate) layer_norm_eps: f64,
    image_size: Extent,
    patch_size: Extent,
    num_channels: i64,
    /// Whether there is an attention-pooling head.
    pub(crate) vision_use_head: bool,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<i64>,
}

impl Default for SiglipVisionConfig {
    fn default() -> Self {
        Self {
            architectures: Vec::new(),
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::GeluTanh,
            layer_norm_eps: 1e-6,
            image_size: Extent::Square(224),
            patch_size: Extent::Square(16),
            num_channels: 3,
            vision_use_head: true,
            id2label: None,
            num_labels: None,
        }
    }
}

/// `config.json` of a directory with both towers, or with the image tower and a classifier.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SiglipConfig {
    architectures: Vec<String>,
    vision_config: SiglipVisionConfig,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<i64>,
}

impl From<SiglipConfig> for SiglipVisionConfig {
    /// Takes the image tower's settings. Classes are stored once for the whole network.
    fn from(config: SiglipConfig) -> Self {
        let SiglipConfig { architectures, vision_config, id2label, num_labels } = config;
        Self { architectures, id2label, num_labels, ..vision_config }
    }
}

impl SiglipVisionConfig {
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
            cls: false,
            registers: 0,
            classes: Some(self.class_count()),
            projection: None,
            eps: self.layer_norm_eps,
            inner_sizes: vec![("intermediate_size", self.intermediate_size)],
            names: Names {
                folder: "vision_model",
                landmark: "embeddings.patch_embedding.weight",
                head: "classifier.weight",
            },
        }
    }

    /// Returns what the configuration declares about the classifier.
    pub(crate) fn declared_head(&self) -> DeclaredHead<'_> {
        DeclaredHead::of_classifier(&self.architectures, self.class_count(), labels(self.id2label.as_ref()))
    }

    pub(super) fn block(&self) -> BlockShape {
        BlockShape {
            width: self.hidden_size,
            heads: self.num_attention_heads,
            inner: self.intermediate_size,
            activation: self.hidden_act,
            eps: self.layer_norm_eps,
        }
    }
}
