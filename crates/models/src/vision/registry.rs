//! Which network a model directory holds.

use std::path::Path;

use serde::Deserialize;
use tch::{Device, Kind};

use super::network::VisionTransformer;
use super::stored::{Names, Said, Stored};
use crate::clip::{ClipConfig, ClipVisionConfig};
use crate::dinov2::Dinov2Config;
use crate::error::{Error, Result};
use crate::limits;
use crate::vit::VitConfig;

/// What `config.json` says of a vision transformer.
#[derive(Debug, Clone)]
pub enum VisionConfig {
    /// `vit`: ViT and DINO, with or without a classifier.
    Vit(VitConfig),
    /// `dinov2` and `dinov2_with_registers`.
    Dinov2(Dinov2Config),
    /// The image tower of `clip`, or `clip_vision_model`.
    Clip(ClipVisionConfig),
}

/// Facts that decide what fits a network; the tensors are not read for them.
pub(crate) trait Shape {
    /// Number of blocks.
    fn depth(&self) -> usize;
    /// Width of a token.
    fn width(&self) -> i64;
    /// Number of heads of a block.
    fn heads(&self) -> i64;
    /// Trained image size (height, width) in pixels.
    fn image_size(&self) -> (i64, i64);
    /// Patch size (height, width) in pixels.
    fn patch_size(&self) -> (i64, i64);
    /// Colour channels.
    fn channels(&self) -> i64;
    /// Number of classes; none for a bare backbone.
    fn classes(&self) -> Option<i64>;
    /// Added to the variance in every layer norm.
    fn eps(&self) -> f64;
    /// What else is a size, with its name.
    fn inner_sizes(&self) -> Vec<(&'static str, i64)>;
    /// The names that files have for it.
    fn names(&self) -> Names;
    /// What the configuration says of a head.
    fn said(&self) -> Result<Said<'_>, String>;
    /// Where its parts are in the files; all at the root until it is [set](Shape::set_stored).
    fn stored(&self) -> Stored;
    /// Sets where its parts are.
    fn set_stored(&mut self, stored: Stored);

    /// Patches (rows, columns) of the trained image size; a remainder at the edge is cut.
    fn grid(&self) -> (i64, i64) {
        let ((height, width), (patch_h, patch_w)) = (self.image_size(), self.patch_size());
        (height / patch_h, width / patch_w)
    }

    /// What contradicts itself.
    fn contradiction(&self) -> Option<String> {
        let ((image_h, image_w), (patch_h, patch_w)) = (self.image_size(), self.patch_size());
        let (width, heads) = (self.width(), self.heads());
        let sizes = [
            ("hidden_size", width),
            ("num_attention_heads", heads),
            ("image_size", image_h.min(image_w)),
            ("image_size", image_h.max(image_w)),
            ("patch_size", patch_h.min(patch_w)),
            ("patch_size", patch_h.max(patch_w)),
            ("the number of classes", self.classes().unwrap_or(1)),
        ];
        let absurd = limits::check(&limits::BLOCKS, [("num_hidden_layers", limits::count(self.depth()))])
            .and_then(|()| limits::check(&limits::SIZES, sizes))
            .and_then(|()| limits::check(&limits::SIZES, self.inner_sizes()));
        let eps = self.eps();
        if let Err(reason) = absurd {
            Some(reason)
        } else if width % heads != 0 {
            Some(format!("hidden_size {width} is no multiple of num_attention_heads {heads}"))
        } else if !(eps.is_finite() && eps >= 0.0) {
            Some(format!("layer_norm_eps is {eps}, which is no number to add to a variance"))
        } else if image_h < patch_h || image_w < patch_w {
            Some(format!("image_size {image_h}x{image_w} is smaller than patch_size {patch_h}x{patch_w}"))
        } else if self.channels() != 3 {
            Some(format!("num_channels is {}; images are read as RGB, so it must be 3", self.channels()))
        } else {
            None
        }
    }
}

impl VisionConfig {
    /// Reads `config.json` of a model directory, checks that it describes a network that is known, and looks at the names of
    /// the tensors beside it: they say where the backbone stands and whether there is a head.
    ///
    /// # Errors
    /// The file is missing, is no JSON, describes another network, contradicts itself or promises a head that the weights
    /// lack; there are no weights.
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
        let text = limits::read_text(&path, limits::CONFIG_BYTES)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let unreadable = |e: serde_json::Error| refuse(format!("not the configuration of a network: {e}"));
        let Named { model_type } = serde_json::from_str(&text).map_err(unreadable)?;
        let mut config = match model_type.as_str() {
            "vit" => Self::Vit(serde_json::from_str(&text).map_err(unreadable)?),
            "dinov2" | "dinov2_with_registers" => {
                Self::Dinov2(serde_json::from_str(&text).map_err(unreadable)?)
            }
            "clip" => Self::Clip(serde_json::from_str::<ClipConfig>(&text).map_err(unreadable)?.into()),
            "clip_vision_model" => Self::Clip(serde_json::from_str(&text).map_err(unreadable)?),
            other => {
                let known = "vit, dinov2, dinov2_with_registers, clip and clip_vision_model";
                return Err(refuse(format!("model_type is `{other}`; this version runs {known}")));
            }
        };
        let check =
            |config: &Self| config.shape().contradiction().map_or(Ok(()), |reason| Err(refuse(reason)));
        check(&config)?;
        let stored = Stored::find(dir, &config.shape().names(), &config.shape().said().map_err(refuse)?)?;
        config.shape_mut().set_stored(stored);
        // The number of classes counts only now.
        check(&config)?;
        Ok(config)
    }

    fn shape_mut(&mut self) -> &mut dyn Shape {
        match self {
            Self::Vit(config) => config,
            Self::Dinov2(config) => config,
            Self::Clip(config) => config,
        }
    }

    fn shape(&self) -> &dyn Shape {
        match self {
            Self::Vit(config) => config,
            Self::Dinov2(config) => config,
            Self::Clip(config) => config,
        }
    }

    pub(crate) fn load(&self, dir: &Path, kind: Kind, device: Device) -> Result<VisionTransformer> {
        match self {
            Self::Vit(config) => crate::vit::load(dir, config, kind, device),
            Self::Dinov2(config) => crate::dinov2::load(dir, config, kind, device),
            Self::Clip(config) => crate::clip::load(dir, config, kind, device),
        }
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.shape().depth()
    }

    /// Width of a token.
    pub fn width(&self) -> i64 {
        self.shape().width()
    }

    /// Patch size (height, width) in pixels.
    pub fn patch_size(&self) -> (i64, i64) {
        self.shape().patch_size()
    }

    /// Width of the space shared with text; none for other networks than CLIP, and for its image tower without projection.
    pub fn projection(&self) -> Option<i64> {
        match self {
            Self::Clip(config) => config.stored().head.then_some(config.projection_dim),
            Self::Vit(_) | Self::Dinov2(_) => None,
        }
    }

    /// Number of classes of the directory's own classifier; none without.
    pub fn classes(&self) -> Option<i64> {
        self.shape().classes()
    }
}
