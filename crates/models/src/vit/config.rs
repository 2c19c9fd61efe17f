//! `config.json` of a ViT.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tch::Tensor;

use crate::error::{Error, Result};

/// The fields of a Hugging Face ViT configuration that decide the network; defaults are `ViTConfig`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VitConfig {
    model_type: String,
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
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            model_type: String::new(),
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

/// A side length, or (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Square(i64),
    Rectangle(i64, i64),
}

impl Extent {
    fn height_width(self) -> (i64, i64) {
        match self {
            Self::Square(side) => (side, side),
            Self::Rectangle(height, width) => (height, width),
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        let side = |v: &serde_json::Value| v.as_i64().filter(|&side| side > 0);
        match &value {
            serde_json::Value::Array(pair) if pair.len() == 2 => {
                side(&pair[0]).zip(side(&pair[1])).map(|(h, w)| Self::Rectangle(h, w))
            }
            other => side(other).map(Self::Square),
        }
        .ok_or_else(|| D::Error::custom(format!("expected a side length or [height, width], found {value}")))
    }
}

/// The activations that published vision transformers use, by their names in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Activation {
    /// `x Φ(x)`, exact.
    #[serde(rename = "gelu", alias = "gelu_python")]
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    /// `x σ(1.702 x)`.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// `max(x, 0)`.
    #[serde(rename = "relu")]
    Relu,
    /// `x σ(x)`.
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}

impl Activation {
    /// Applies the activation elementwise.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => x.f_gelu("none")?,
            Self::GeluTanh => x.f_gelu("tanh")?,
            Self::QuickGelu => x.f_mul_scalar(1.702)?.f_sigmoid()?.f_mul_(x)?,
            Self::Relu => x.f_relu()?,
            Self::Silu => x.f_silu()?,
        })
    }
}

impl VitConfig {
    /// Reads `config.json` of a model directory and checks that it describes a ViT.
    ///
    /// # Errors
    /// The file is missing, is no JSON, describes another network, or contradicts itself.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        if !dir.is_dir() {
            let reason =
                "no such model directory; a model is a folder with config.json and safetensors".into();
            return Err(Error::Directory { path: dir.into(), reason });
        }
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let refuse = |reason: String| Err(Error::Directory { path: path.clone(), reason });
        let config: Self = match serde_json::from_str(&text) {
            Ok(config) => config,
            Err(e) => return refuse(format!("not a ViT configuration: {e}")),
        };
        if config.model_type != "vit" {
            return refuse(format!("model_type is `{}`; this version runs `vit`", config.model_type));
        }
        match config.contradiction() {
            Some(reason) => refuse(reason),
            None => Ok(config),
        }
    }

    fn contradiction(&self) -> Option<String> {
        let ((image_h, image_w), (patch_h, patch_w)) = (self.image_size(), self.patch_size());
        if self.hidden_size <= 0 || self.num_attention_heads <= 0 || self.intermediate_size <= 0 {
            Some("hidden_size, num_attention_heads and intermediate_size must be positive".into())
        } else if self.hidden_size % self.num_attention_heads != 0 {
            Some(format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ))
        } else if self.num_hidden_layers == 0 {
            Some("num_hidden_layers is 0".into())
        } else if image_h < patch_h || image_w < patch_w {
            Some(format!("image_size {image_h}x{image_w} is smaller than patch_size {patch_h}x{patch_w}"))
        } else if self.num_channels != 3 {
            Some(format!("num_channels is {}; images are read as RGB, so it must be 3", self.num_channels))
        } else {
            None
        }
    }

    /// Trained image size (height, width) in pixels.
    pub fn image_size(&self) -> (i64, i64) {
        self.image_size.height_width()
    }

    /// Patch size (height, width) in pixels.
    pub fn patch_size(&self) -> (i64, i64) {
        self.patch_size.height_width()
    }

    /// Patches (rows, columns) at an image size; a remainder at the edge is cut, as the patch convolution does.
    pub fn grid(&self, (height, width): (i64, i64)) -> (i64, i64) {
        let (patch_h, patch_w) = self.patch_size();
        (height / patch_h, width / patch_w)
    }

    /// Number of classes; `ViTConfig` has two where nothing is said.
    pub fn classes(&self) -> i64 {
        match (&self.id2label, self.num_labels) {
            (Some(labels), _) => labels.len() as i64,
            (None, Some(count)) => count,
            (None, None) => 2,
        }
    }

    /// Whether the directory holds a classifier rather than the bare backbone.
    pub fn is_classifier(&self) -> bool {
        !self.architectures.iter().any(|name| name == "ViTModel")
    }
}
