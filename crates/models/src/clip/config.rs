//! Reads `config.json` of CLIP.

use std::path::Path;

use serde::Deserialize;

use crate::config_file;
use crate::error::{Error, Result};
use crate::limits;
use crate::nn::{Activation, Extent};
use crate::vision::{DeclaredHead, Facts, Names};

/// The fields of a Hugging Face CLIP configuration that decide the image tower; defaults are `CLIPVisionConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct ClipVisionConfig {
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
    /// Width of the space that images and texts share.
    pub(crate) projection_dim: i64,
    /// Whether `config.json` describes both towers.
    #[serde(skip)]
    whole: bool,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            architectures: Vec::new(),
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
            whole: false,
        }
    }
}

/// `config.json` of a directory with both towers.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ClipConfig {
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    vision_config: ClipVisionConfig,
    text_config: Option<ClipTextConfig>,
    #[serde(default = "projection_dim")]
    projection_dim: i64,
}

fn projection_dim() -> i64 {
    ClipVisionConfig::default().projection_dim
}

/// The settings of a block of either tower.
pub(crate) struct BlockShape {
    pub(crate) width: i64,
    pub(crate) heads: i64,
    pub(crate) inner: i64,
    pub(crate) activation: Activation,
    pub(crate) eps: f64,
}

impl ClipVisionConfig {
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
            classes: None,
            projection: Some(self.projection_dim),
            eps: self.layer_norm_eps,
            inner_sizes: vec![
                ("intermediate_size", self.intermediate_size),
                ("projection_dim", self.projection_dim),
            ],
            names: Names {
                folder: "vision_model",
                landmark: "embeddings.class_embedding",
                head: "visual_projection.weight",
            },
        }
    }

    /// Returns what the configuration says about a head.
    pub(crate) fn declared_head(&self) -> Result<DeclaredHead<'_>, String> {
        match self.architectures.iter().find(|name| name.ends_with("ForImageClassification")) {
            Some(name) => Err(format!(
                "architectures says `{name}`, whose classifier is not supported; use a CLIP checkpoint without it, together \
                 with class names or class embeddings"
            )),
            None => Ok(DeclaredHead::of_projection(&self.architectures, self.whole)),
        }
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

/// The fields that decide the text tower; defaults are `CLIPTextConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct ClipTextConfig {
    pub(super) vocab_size: i64,
    pub(super) hidden_size: i64,
    intermediate_size: i64,
    pub(super) num_hidden_layers: usize,
    num_attention_heads: i64,
    pub(super) max_position_embeddings: i64,
    hidden_act: Activation,
    pub(super) layer_norm_eps: f64,
    pub(super) eos_token_id: i64,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

/// The field that says which network a `config.json` describes.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    model_type: String,
}

impl ClipTextConfig {
    /// Reads the text tower's settings and the width of the space that images and texts share.
    pub(super) fn from_dir(dir: &Path) -> Result<(Self, i64)> {
        let path = dir.join("config.json");
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let unreadable = |e| refuse(format!("not the configuration of CLIP: {e}"));
        let Named { model_type } = serde_json::from_str(&text).map_err(unreadable)?;
        if model_type.starts_with("siglip") {
            let reason = "the text tower of SigLIP is not read, only its image tower; classes can be given by their embeddings";
            return Err(refuse(reason.into()));
        }
        let config: ClipConfig = serde_json::from_str(&text).map_err(unreadable)?;
        limits::check(&limits::SIZES, [("projection_dim", config.projection_dim)]).map_err(refuse)?;
        let text = config.text_config.ok_or_else(|| Error::NoTextTower { path: dir.to_owned() })?;
        text.check().map_err(|reason| refuse(format!("text_config: {reason}")))?;
        Ok((text, config.projection_dim))
    }

    /// Reads the settings of a separate text tower (`CLIPTextModel`).
    pub(super) fn alone(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let unreadable = |e| refuse(format!("not the configuration of a CLIP text tower: {e}"));
        let Named { model_type } = serde_json::from_str(&text).map_err(unreadable)?;
        if model_type != "clip_text_model" {
            let reason = format!("model_type is `{model_type}`; a CLIP text tower's is `clip_text_model`");
            return Err(refuse(reason));
        }
        let config: Self = serde_json::from_str(&text).map_err(unreadable)?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        limits::check(&limits::BLOCKS, [("num_hidden_layers", limits::count(self.num_hidden_layers))])?;
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        limits::check(&limits::SIZES, sizes)?;
        let (width, heads, eps) = (self.hidden_size, self.num_attention_heads, self.layer_norm_eps);
        if width % heads != 0 {
            return Err(format!("hidden_size {width} is not a multiple of num_attention_heads {heads}"));
        }
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(format!("layer_norm_eps is {eps}; it must be a finite number ≥ 0"));
        }
        Ok(())
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

impl From<ClipConfig> for ClipVisionConfig {
    /// Takes the image tower's settings. The width of the shared space is stored once for both towers.
    fn from(config: ClipConfig) -> Self {
        let ClipConfig { architectures, projection_dim, vision_config, .. } = config;
        Self { architectures, projection_dim, whole: true, ..vision_config }
    }
}
