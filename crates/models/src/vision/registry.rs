//! The supported vision transformers, by the `model_type` of their configuration, which only timm leaves out. A new network
//! needs its own folder and a variant here.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind};

use super::facts::Facts;
use super::network::VisionTransformer;
use super::stored::{DeclaredHead, Stored};
use crate::clip::{self, ClipConfig, ClipVisionConfig};
use crate::config_file;
use crate::dinov2::{self, Dinov2Config};
use crate::dinov3::{self, Dinov3Config};
use crate::error::{Error, Result};
use crate::image::is_of_timm;
use crate::limits;
use crate::siglip::{self, SiglipConfig, SiglipVisionConfig};
use crate::timm::{self, TimmConfig};
use crate::vit::{self, VitConfig};

/// The configuration of a vision transformer, and the location of its parts in the weight files.
#[derive(Debug, Clone)]
pub struct VisionConfig {
    network: Network,
    facts: Facts,
    stored: Stored,
}

/// Families of networks with the same file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionFamily {
    /// `vit`: ViT and DINO, with or without a classifier.
    Vit,
    /// `dinov2` and `dinov2_with_registers`.
    Dinov2,
    /// `dinov3_vit`.
    Dinov3,
    /// The image tower of `clip`, or `clip_vision_model`.
    Clip,
    /// The image tower of `siglip`, or `siglip_vision_model`.
    Siglip,
    /// A plain vision transformer of timm: `timm_wrapper`, or without `model_type`.
    Timm,
}

#[derive(Debug, Clone)]
enum Network {
    Vit(VitConfig),
    Dinov2(Dinov2Config),
    Dinov3(Dinov3Config),
    Clip(ClipVisionConfig),
    Siglip(SiglipVisionConfig),
    Timm(TimmConfig),
}

impl Network {
    /// Parses `config.json` with this `model_type`. Returns `None` for an unsupported network.
    fn parse(model_type: &str, config: &str) -> Result<Option<Self>, String> {
        fn read<T: DeserializeOwned>(config: &str) -> Result<T, String> {
            serde_json::from_str(config).map_err(|e| format!("not the configuration of a network: {e}"))
        }
        Ok(Some(match model_type {
            "vit" => Self::Vit(read(config)?),
            "dinov2" | "dinov2_with_registers" => Self::Dinov2(read(config)?),
            "dinov3_vit" => Self::Dinov3(read(config)?),
            "clip" => Self::Clip(read::<ClipConfig>(config)?.into()),
            "clip_vision_model" => Self::Clip(read(config)?),
            "siglip" => Self::Siglip(read::<SiglipConfig>(config)?.into()),
            "siglip_vision_model" => Self::Siglip(read(config)?),
            "" | "timm_wrapper" if is_of_timm(&read(config)?) => Self::Timm(TimmConfig::parse(config)?),
            _ => return Ok(None),
        }))
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Vit(config) => config.facts(),
            Self::Dinov2(config) => config.facts(),
            Self::Dinov3(config) => config.facts(),
            Self::Clip(config) => config.facts(),
            Self::Siglip(config) => config.facts(),
            Self::Timm(config) => config.facts(),
        }
    }

    /// Returns the first contradiction or invalid number of the configuration, if any.
    fn contradiction(&self) -> Option<String> {
        self.facts().contradiction().or_else(|| match self {
            Self::Dinov3(config) => config.contradiction(),
            Self::Vit(_) | Self::Dinov2(_) | Self::Clip(_) | Self::Siglip(_) | Self::Timm(_) => None,
        })
    }

    fn declared_head(&self) -> Result<DeclaredHead<'_>, String> {
        match self {
            Self::Vit(config) => Ok(config.declared_head()),
            Self::Dinov2(config) => Ok(config.declared_head()),
            Self::Dinov3(config) => Ok(config.declared_head()),
            Self::Clip(config) => config.declared_head(),
            Self::Siglip(config) => Ok(config.declared_head()),
            Self::Timm(config) => Ok(config.declared_head()),
        }
    }
}

impl VisionConfig {
    /// Reads `config.json` of a model directory and checks that it describes a supported network. The tensor names in
    /// the directory decide where the backbone is and whether there is a head.
    ///
    /// # Errors
    /// The file is missing, is not JSON, describes an unsupported network, contradicts itself or declares a head that
    /// the weights lack; there are no weights.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            model_type: String,
        }
        let path = dir.join("config.json");
        if !dir.is_dir() {
            let reason =
                "no such model directory; a model is a folder with config.json and safetensors".into();
            return Err(Error::Directory { path: dir.into(), reason });
        }
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let unreadable = |e: serde_json::Error| refuse(format!("not the configuration of a network: {e}"));
        let Named { model_type } = serde_json::from_str(&text).map_err(unreadable)?;
        let Some(network) = Network::parse(&model_type, &text).map_err(refuse)? else {
            let known = "vit, dinov2, dinov2_with_registers, dinov3_vit, clip, clip_vision_model, siglip, siglip_vision_model \
                         and timm_wrapper";
            let naflex = if model_type.starts_with("siglip2") {
                ". Of SigLIP 2, checkpoints with a fixed resolution are supported, whose model_type is `siglip`, and those of \
                 variable resolution (NaFlex) are not"
            } else {
                ""
            };
            return Err(refuse(format!(
                "model_type is `{model_type}`; this version supports {known}{naflex}"
            )));
        };
        if let Some(reason) = network.contradiction() {
            return Err(refuse(reason));
        }
        let facts = network.facts();
        let stored = Stored::find(dir, &facts.names, &network.declared_head().map_err(refuse)?)?;
        let config = Self { network, facts, stored };
        // The number of classes is relevant only if there is a classifier.
        let classes = config.classes().map(|classes| ("the number of classes", classes));
        limits::check(&limits::SIZES, classes).map_err(refuse)?;
        Ok(config)
    }

    pub(crate) fn load(&self, dir: &Path, kind: Kind, device: Device) -> Result<VisionTransformer> {
        match &self.network {
            Network::Vit(config) => vit::load(dir, config, self.stored, kind, device),
            Network::Dinov2(config) => dinov2::load(dir, config, self.stored, kind, device),
            Network::Dinov3(config) => dinov3::load(dir, config, self.stored, kind, device),
            Network::Clip(config) => clip::load(dir, config, self.stored, kind, device),
            Network::Siglip(config) => siglip::load(dir, config, self.stored, kind, device),
            Network::Timm(config) => timm::load(dir, config, self.stored, kind, device),
        }
    }

    /// The family.
    pub fn family(&self) -> VisionFamily {
        match &self.network {
            Network::Vit(_) => VisionFamily::Vit,
            Network::Dinov2(_) => VisionFamily::Dinov2,
            Network::Dinov3(_) => VisionFamily::Dinov3,
            Network::Clip(_) => VisionFamily::Clip,
            Network::Siglip(_) => VisionFamily::Siglip,
            Network::Timm(_) => VisionFamily::Timm,
        }
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.facts.depth
    }

    /// Width of a token.
    pub fn width(&self) -> i64 {
        self.facts.width
    }

    /// Patch size (height, width) in pixels.
    pub fn patch_size(&self) -> (i64, i64) {
        self.facts.patch_size
    }

    /// Whether there is a CLS token.
    pub fn has_cls(&self) -> bool {
        self.facts.cls
    }

    /// Number of tokens that are not patches: CLS and registers.
    pub fn special_tokens(&self) -> i64 {
        i64::from(self.facts.cls) + self.facts.registers
    }

    /// Width of the space shared with text, in which embeddings of images and of classes are compared: that of CLIP's
    /// projection, or of SigLIP's pooled vector. `None` for other networks, and for an image tower without either.
    pub fn shared_space(&self) -> Option<i64> {
        match &self.network {
            Network::Vit(_) | Network::Dinov2(_) | Network::Dinov3(_) | Network::Timm(_) => None,
            Network::Clip(_) => self.projection(),
            Network::Siglip(config) => {
                (config.vision_use_head && !self.stored.head).then_some(config.hidden_size)
            }
        }
    }

    /// Width of CLIP's projection; `None` for other networks, and for an image tower without projection.
    pub fn projection(&self) -> Option<i64> {
        self.facts.projection.filter(|_| self.stored.head)
    }

    /// Number of classes of the directory's own classifier, or `None` without one.
    pub fn classes(&self) -> Option<i64> {
        self.facts.classes.filter(|_| self.stored.head)
    }
}
