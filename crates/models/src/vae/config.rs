//! `config.json` of an autoencoder.

use std::path::Path;

use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::config_file;
use crate::error::{Error, Result};
use crate::limits;
use crate::nn::Groups;

const CLASS_NAME: &str = "AutoencoderKL";
const DOWN: &str = "DownEncoderBlock2D";
const UP: &str = "UpDecoderBlock2D";
const NORM_EPS: f64 = 1e-6;

/// The fields of diffusers' `AutoencoderKL` that decide the network; defaults are diffusers'.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct AutoencoderConfig {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// Channels of the images that the encoder reads.
    pub in_channels: i64,
    /// Channels of the images that the decoder makes.
    pub out_channels: i64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    /// Channels of each level, from the finest to the coarsest; between two levels the sides are halved.
    pub block_out_channels: Vec<i64>,
    /// Side in pixels of the images that the network was trained on; other sizes work too.
    pub sample_size: Option<i64>,
    /// Residual blocks per level of the encoder. Levels of the decoder have one more.
    pub layers_per_block: usize,
    act_fn: String,
    /// Channels of a latent.
    pub latent_channels: i64,
    /// Number of groups of channels in group norms.
    pub norm_num_groups: i64,
    /// Factor of latents for a diffusion model.
    pub scaling_factor: f64,
    /// Shift that is subtracted from latents before scaling. FLUX has one, Stable Diffusion has none.
    pub shift_factor: Option<f64>,
    latents_mean: Option<Vec<f64>>,
    latents_std: Option<Vec<f64>>,
    /// Whether the range of float16 is too small for this network; see [`AutoencoderConfig::computes_in`].
    pub force_upcast: bool,
    /// Whether a convolution of one pixel follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a convolution of one pixel precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the pixels of the coarsest level attend to each other.
    pub mid_block_add_attention: bool,
}

impl Default for AutoencoderConfig {
    fn default() -> Self {
        Self {
            class_name: String::new(),
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec![DOWN.into()],
            up_block_types: vec![UP.into()],
            block_out_channels: vec![64],
            sample_size: None,
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

impl AutoencoderConfig {
    /// Returns the type that the autoencoder computes in where the caller asks for `kind`: float32 instead of float16
    /// if `force_upcast` is set or missing, as diffusers' pipelines of SDXL do. Its pipelines of Stable Diffusion 1
    /// compute in float16 nevertheless, which overflows for some images.
    pub fn computes_in(&self, kind: Kind) -> Kind {
        if kind == Kind::Half && self.force_upcast { Kind::Float } else { kind }
    }

    /// Reads `config.json` of an autoencoder's directory.
    ///
    /// # Errors
    /// The file is missing, belongs to another network or contradicts itself.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let reason = "no such directory; the autoencoder of a diffusers pipeline is its folder `vae`";
            return Err(Error::Directory { path: dir.into(), reason: reason.into() });
        }
        let path = dir.join("config.json");
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let config: Self = serde_json::from_str(&text)
            .map_err(|e| refuse(format!("not the configuration of an autoencoder: {e}")))?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// Pixels of an image along one side of a latent: 8 in every published network.
    pub fn pixels_per_latent(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }

    /// Scales latents for a diffusion model, `(z - shift) · scaling`. They may have any shape.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor> {
        let shifted = match self.shift_factor {
            Some(shift) => latents.f_sub_scalar(shift)?,
            None => latents.shallow_clone(),
        };
        Ok(shifted.f_mul_scalar(self.scaling_factor)?)
    }

    /// Undoes [`AutoencoderConfig::scale`].
    ///
    /// # Errors
    /// libtorch fails.
    pub fn unscale(&self, latents: &Tensor) -> Result<Tensor> {
        let spread = latents.f_div_scalar(self.scaling_factor)?;
        Ok(match self.shift_factor {
            Some(shift) => spread.f_add_scalar(shift)?,
            None => spread,
        })
    }

    /// Settings of every group norm of the network.
    pub(super) fn groups(&self) -> Groups {
        Groups { count: self.norm_num_groups, eps: NORM_EPS }
    }

    /// Channels of the finest and of the coarsest level.
    pub(super) fn outer_levels(&self) -> (i64, i64) {
        let level = |channels: Option<&i64>| channels.copied().unwrap_or_default();
        (level(self.block_out_channels.first()), level(self.block_out_channels.last()))
    }

    fn check(&self) -> Result<(), String> {
        let levels = &self.block_out_channels;
        let groups = self.norm_num_groups;
        let positive = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("norm_num_groups", groups),
        ];
        let other = |types: &[String], known: &str| types.iter().find(|name| *name != known).cloned();
        if self.class_name != CLASS_NAME {
            return Err(format!("_class_name is `{}`; this reader runs {CLASS_NAME}", self.class_name));
        }
        limits::check(&limits::LEVEL_BLOCKS, [("layers_per_block", limits::count(self.layers_per_block))])?;
        limits::check(&limits::SIZES, positive)?;
        limits::check(&limits::SIZES, levels.iter().map(|&level| ("one of block_out_channels", level)))?;
        limits::check(&limits::SIZES, [("sample_size", self.sample_size.unwrap_or(1))])?;
        if let Some(name) = other(&self.down_block_types, DOWN).or_else(|| other(&self.up_block_types, UP)) {
            return Err(format!("has blocks of type `{name}`; this reader runs {DOWN} and {UP}"));
        }
        let blocks = (self.down_block_types.len(), self.up_block_types.len());
        // A side of the image is divided by 2 for each level but the first.
        if !(1..=16).contains(&levels.len()) || blocks != (levels.len(), levels.len()) {
            return Err(format!(
                "names {} down blocks, {} up blocks and {} block_out_channels; as many of each are needed, 16 at most",
                blocks.0,
                blocks.1,
                levels.len()
            ));
        }
        if let Some(level) = levels.iter().find(|&&level| level % groups != 0) {
            return Err(format!("block_out_channels {level} is not a multiple of norm_num_groups {groups}"));
        }
        if !matches!(self.act_fn.as_str(), "silu" | "swish") {
            return Err(format!("act_fn is `{}`; published autoencoders have silu", self.act_fn));
        }
        if self.latents_mean.is_some() || self.latents_std.is_some() {
            return Err(
                "latents_mean and latents_std are set; only scaling_factor and shift_factor are read, \
                        which is what FLUX and Stable Diffusion 1 have"
                    .into(),
            );
        }
        let shift = self.shift_factor.unwrap_or_default();
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0 && shift.is_finite()) {
            return Err(format!(
                "scaling_factor {} with shift {shift} does not scale latents",
                self.scaling_factor
            ));
        }
        Ok(())
    }
}
