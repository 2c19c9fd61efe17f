//! `config.json` of CLIP.

use serde::Deserialize;

use crate::nn::{Activation, Extent};
use crate::vision::Shape;

/// The fields of a Hugging Face CLIP configuration that decide the image tower; defaults are `CLIPVisionConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
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
    /// Width of the space that images and texts share.
    pub projection_dim: i64,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            image_size: Extent::Square(224),
            patch_size: Extent::Square(32),
            num_channels: 3,
            projection_dim: 512,
        }
    }
}

/// `config.json` of a directory with both towers.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ClipConfig {
    #[serde(default)]
    vision_config: ClipVisionConfig,
    #[serde(default = "projection_dim")]
    projection_dim: i64,
}

fn projection_dim() -> i64 {
    ClipVisionConfig::default().projection_dim
}

impl From<ClipConfig> for ClipVisionConfig {
    /// The image tower's settings; the width of the shared space is said once for both towers.
    fn from(config: ClipConfig) -> Self {
        Self { projection_dim: config.projection_dim, ..config.vision_config }
    }
}

impl Shape for ClipVisionConfig {
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
        None
    }
}
