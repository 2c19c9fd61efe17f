//! `config.json` of a FLUX transformer.

use std::path::Path;

use serde::Deserialize;
use tch::Kind;

use crate::config_file;
use crate::error::{Error, Result};
use crate::limits;

/// Maximum number of widths of a token in memory at once while a block runs, counted in
/// [`FluxConfig::activation_bytes`].
const WIDTHS_PER_TOKEN: i64 = 20;

/// Width of an MLP, as a multiple of the width of a token.
pub(super) const MLP_RATIO: i64 = 4;
/// Number of sinusoids that embed a scalar.
pub(super) const SINUSOIDS: i64 = 256;

const CLASS_NAME: &str = "FluxTransformer2DModel";

/// The fields of diffusers' `FluxTransformer2DModel` that decide the network; defaults are FLUX.1-schnell's.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct FluxConfig {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// Side of a patch in packed latents. It is 1 in every published network, since their latents are packed before.
    pub patch_size: i64,
    /// Channels of a packed latent: four times those of the autoencoder.
    pub in_channels: i64,
    /// Channels of the prediction. By default `in_channels`.
    out_channels: Option<i64>,
    /// Number of dual blocks.
    pub num_layers: usize,
    /// Number of single blocks.
    pub num_single_layers: usize,
    /// Width of a head.
    pub attention_head_dim: i64,
    /// Heads per block.
    pub num_attention_heads: i64,
    /// Width of a text embedding (T5's).
    pub joint_attention_dim: i64,
    /// Width of the pooled text embedding (CLIP's).
    pub pooled_projection_dim: i64,
    /// Whether the network was distilled with guidance and takes its scale, as FLUX.1-dev.
    pub guidance_embeds: bool,
    /// Number of a head's dimensions that rotate with each of the three axes of a token's position.
    pub axes_dims_rope: [i64; 3],
}

impl Default for FluxConfig {
    fn default() -> Self {
        Self {
            class_name: String::new(),
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: [16, 56, 56],
        }
    }
}

impl FluxConfig {
    /// Returns the default guidance scale: that of diffusers' pipeline if the network takes guidance, else `None`.
    pub(crate) fn usual_guidance(&self) -> Option<f64> {
        self.guidance_embeds.then_some(3.5)
    }

    /// Reads `config.json` of a transformer's directory.
    ///
    /// # Errors
    /// The file is missing, belongs to another network or contradicts itself.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        if !dir.is_dir() {
            let reason =
                "no such directory; the transformer of a diffusers pipeline is its folder `transformer`";
            return Err(Error::Directory { path: dir.into(), reason: reason.into() });
        }
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let config: Self = serde_json::from_str(&text)
            .map_err(|e| refuse(format!("not the configuration of a FLUX transformer: {e}")))?;
        if config.class_name != CLASS_NAME {
            let class = &config.class_name;
            return Err(refuse(format!("_class_name is `{class}`; this reader runs {CLASS_NAME}")));
        }
        match config.contradiction() {
            Some(reason) => Err(refuse(reason)),
            None => Ok(config),
        }
    }

    /// Checks a configuration that was not read from a file.
    pub(super) fn check(&self) -> Result<()> {
        match self.contradiction() {
            Some(reason) => Err(Error::Input { input: "configuration", reason }),
            None => Ok(()),
        }
    }

    /// Width of a token.
    pub fn width(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Channels of the prediction for one token.
    pub fn answer_channels(&self) -> i64 {
        self.patch_size * self.patch_size * self.out_channels.unwrap_or(self.in_channels)
    }

    /// Number of parameters: 11.9 · 10⁹ in the published networks.
    pub fn parameters(&self) -> u64 {
        let linear = |from: i64, to: i64| (from + 1) * to;
        let (width, head) = (self.width(), self.attention_head_dim);
        let embedder = |from| linear(from, width) + linear(width, width);
        let mlp = linear(width, MLP_RATIO * width) + linear(MLP_RATIO * width, width);
        let projections = 3 * linear(width, width) + 2 * head;

        let stream = linear(width, 6 * width) + projections + linear(width, width) + mlp;
        let single = linear(width, 3 * width)
            + projections
            + linear(width, MLP_RATIO * width)
            + linear((1 + MLP_RATIO) * width, width);
        let scalars = if self.guidance_embeds { 2 } else { 1 };
        let all = linear(self.in_channels, width)
            + linear(self.joint_attention_dim, width)
            + scalars * embedder(SINUSOIDS)
            + embedder(self.pooled_projection_dim)
            + self.num_layers as i64 * 2 * stream
            + self.num_single_layers as i64 * single
            + linear(width, 2 * width)
            + linear(width, self.answer_channels());
        all as u64
    }

    /// Upper estimate of the bytes of tensors, other than weights and maps, that are in memory at once in a pass over
    /// `tokens` text and image tokens of a whole batch.
    ///
    /// The peak is inside the MLP of a dual block's image stream. At that point there are the tokens, queries, keys and
    /// values twice (separate for both streams, and joined), the attention's output, the stream's residual and its
    /// norm, and the widened tokens before and after the activation: 20 widths of a token.
    pub fn activation_bytes(&self, tokens: i64, kind: Kind) -> u64 {
        (WIDTHS_PER_TOKEN * tokens * self.width()) as u64 * kind.elt_size_in_bytes() as u64
    }

    fn contradiction(&self) -> Option<String> {
        let positive = [
            ("patch_size", self.patch_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels.unwrap_or(1)),
            ("attention_head_dim", self.attention_head_dim),
            ("num_attention_heads", self.num_attention_heads),
            ("joint_attention_dim", self.joint_attention_dim),
            ("pooled_projection_dim", self.pooled_projection_dim),
        ];
        let axes = self.axes_dims_rope;
        // Either kind of block may be missing.
        let blocks = [("num_layers", self.num_layers), ("num_single_layers", self.num_single_layers)];
        let blocks = blocks.map(|(name, blocks)| (name, limits::count(blocks.max(1))));
        let wholes = || {
            [
                ("num_attention_heads · attention_head_dim", self.width()),
                ("patch_size² · out_channels", self.answer_channels()),
            ]
        };
        let absurd = limits::check(&limits::BLOCKS, blocks)
            .and_then(|()| limits::check(&limits::SIZES, positive))
            .and_then(|()| limits::check(&(1..=1 << 8), [("patch_size", self.patch_size)]))
            .and_then(|()| limits::check(&limits::SIZES, wholes()))
            .and_then(|()| limits::check(&limits::SIZES, axes.map(|dim| ("one of axes_dims_rope", dim))));
        if let Err(reason) = absurd {
            Some(reason)
        } else if self.num_layers + self.num_single_layers == 0 {
            Some("num_layers and num_single_layers are both 0".into())
        } else if axes.iter().any(|&dim| dim % 2 != 0) {
            Some(format!("axes_dims_rope {axes:?} must be positive and even: dimensions turn in pairs"))
        } else if axes.iter().sum::<i64>() != self.attention_head_dim {
            let head = self.attention_head_dim;
            Some(format!("axes_dims_rope {axes:?} do not add up to attention_head_dim {head}"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::memory::weight_bytes;

    #[test]
    fn the_number_of_parameters_equals_that_of_the_files() -> Result<()> {
        for fixture in ["flux-schnell", "flux-dev"] {
            let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
            let config = FluxConfig::from_dir(&dir)?;
            assert_eq!(weight_bytes(&dir, &[], Kind::Float)?, 4 * config.parameters(), "{fixture}");
        }
        // The published networks.
        let schnell = FluxConfig::default();
        assert_eq!(schnell.parameters(), 11_891_178_560);
        assert_eq!(FluxConfig { guidance_embeds: true, ..schnell }.parameters(), 11_901_408_320);
        Ok(())
    }
}
