//! `config.json` of DINOv2.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::nn::{Activation, Extent};
use crate::vision::{Names, Said, Shape, Stored, class_count, labels};

/// The fields of a Hugging Face DINOv2 configuration that decide the network; defaults are `Dinov2Config`'s and
/// `Dinov2WithRegistersConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Dinov2Config {
    model_type: String,
    architectures: Vec<String>,
    /// Width of a token.
    pub hidden_size: i64,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Heads per block.
    pub num_attention_heads: i64,
    /// Width of the MLP in widths of a token.
    pub mlp_ratio: f64,
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
    /// Whether the MLP is a SwiGLU.
    pub use_swiglu_ffn: bool,
    num_register_tokens: Option<i64>,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<i64>,
    #[serde(skip)]
    stored: Stored,
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
            stored: Stored::default(),
        }
    }
}

impl Dinov2Config {
    /// Register tokens; none for `dinov2`.
    pub fn registers(&self) -> Option<i64> {
        self.has_registers().then(|| self.num_register_tokens.unwrap_or(4))
    }

    /// Width inside the MLP; a SwiGLU keeps two thirds, rounded up to a multiple of 8.
    pub fn mlp_width(&self) -> i64 {
        let wide = (self.hidden_size as f64 * self.mlp_ratio) as i64;
        if self.use_swiglu_ffn { ((wide as f64 * 2.0 / 3.0) as i64 + 7) / 8 * 8 } else { wide }
    }

    fn class_count(&self) -> i64 {
        class_count(self.id2label.as_ref(), self.num_labels)
    }

    fn has_registers(&self) -> bool {
        self.model_type == "dinov2_with_registers"
    }
}

impl Shape for Dinov2Config {
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
        vec![
            ("mlp_ratio · hidden_size", self.mlp_width()),
            ("num_register_tokens", self.registers().unwrap_or(1)),
        ]
    }

    fn names(&self) -> Names {
        let folder = if self.has_registers() { "dinov2_with_registers" } else { "dinov2" };
        Names { folder, landmark: "embeddings.cls_token", head: "classifier.weight" }
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
