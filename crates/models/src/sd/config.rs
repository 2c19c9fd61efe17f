//! Reads `config.json` of a UNet.

use std::path::Path;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::config_file;
use crate::error::{Error, Result};
use crate::limits;
use crate::nn::{Extent, Groups, Sinusoids};
use crate::site::{UnetLayer, UnetPart};

const CLASS_NAME: &str = "UNet2DConditionModel";
const DOWN: [&str; 2] = ["DownBlock2D", "CrossAttnDownBlock2D"];
const UP: [&str; 2] = ["UpBlock2D", "CrossAttnUpBlock2D"];

/// Settings that are the same in all published networks of Stable Diffusion 1 and 2, as JSON. The first value is the
/// default, which files may leave out. Any other value would describe another network.
const FIXED: [(&str, &[&str]); 22] = [
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("num_attention_heads", &["null"]),
    ("only_cross_attention", &["false"]),
    ("mid_block_only_cross_attention", &["null", "false"]),
    ("dual_cross_attention", &["false"]),
    ("cross_attention_norm", &["null"]),
    ("attention_type", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &["null"]),
    ("encoder_hid_dim", &["null"]),
    ("encoder_hid_dim_type", &["null"]),
    ("class_embed_type", &["null"]),
    ("num_class_embeds", &["null"]),
    ("addition_embed_type", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
    ("time_embedding_act_fn", &["null"]),
    ("timestep_post_act", &["null"]),
    ("time_cond_proj_dim", &["null"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("resnet_skip_time_act", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
];
/// Settings that scale a block's output; all must be 1.
const SCALES: [&str; 2] = ["mid_block_scale_factor", "resnet_out_scale_factor"];

/// One number for all levels, or one for each, finest first.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PerLevel {
    Same(i64),
    Each(Vec<i64>),
}

impl PerLevel {
    /// Returns the number of a level. `level` must exist, which holds once the configuration was checked.
    fn of(&self, level: usize) -> i64 {
        match self {
            Self::Same(number) => *number,
            Self::Each(numbers) => numbers.get(level).copied().unwrap_or_default(),
        }
    }

    fn fits(&self, levels: usize) -> bool {
        matches!(self, Self::Same(_)) || matches!(self, Self::Each(numbers) if numbers.len() == levels)
    }
}

impl<'de> Deserialize<'de> for PerLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.as_array() {
            Some(numbers) => numbers.iter().map(Value::as_i64).collect::<Option<_>>().map(Self::Each),
            None => value.as_i64().map(Self::Same),
        }
        .ok_or_else(|| de::Error::custom(format!("expected a number or one for each level, found {value}")))
    }
}

/// The fields of diffusers' `UNet2DConditionModel` that decide the network; defaults are diffusers'.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct UnetConfig {
    sample_size: Option<Extent>,
    /// Channels of the input latents.
    pub in_channels: i64,
    /// Channels of the prediction.
    pub out_channels: i64,
    /// Whether the sample is first mapped from 0…1 to -1…1.
    pub center_input_sample: bool,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    /// Channels of each level, from the finest to the coarsest; between two levels the sides are halved.
    pub block_out_channels: Vec<i64>,
    layers_per_block: PerLevel,
    downsample_padding: i64,
    norm_num_groups: i64,
    norm_eps: f64,
    /// Width of a text token.
    pub cross_attention_dim: i64,
    transformer_layers_per_block: PerLevel,
    /// The number of heads, in spite of its name, which was a mistake that published files still contain.
    attention_head_dim: PerLevel,
    /// Whether transformers begin and end with dense layers (Stable Diffusion 2) or with convolutions of one pixel,
    /// which differ only in how files store them.
    use_linear_projection: bool,
    time_embedding_dim: Option<i64>,
}

impl Default for UnetConfig {
    /// The configuration of Stable Diffusion 1, except for the width of its text tokens, 768.
    fn default() -> Self {
        let types = |plain: &str, crossing: &str, order: [bool; 4]| {
            order.map(|crosses| if crosses { crossing } else { plain }.to_owned()).to_vec()
        };
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: types(DOWN[0], DOWN[1], [true, true, true, false]),
            up_block_types: types(UP[0], UP[1], [false, true, true, true]),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: PerLevel::Same(2),
            downsample_padding: 1,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: 1280,
            transformer_layers_per_block: PerLevel::Same(1),
            attention_head_dim: PerLevel::Same(8),
            use_linear_projection: false,
            time_embedding_dim: None,
        }
    }
}

/// The settings of the blocks of one level.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) channels: i64,
    pub(super) heads: i64,
    /// Number of residual blocks on the way down; on the way up there is one more.
    pub(super) resnets: usize,
    /// Number of layers of each transformer.
    pub(super) layers: usize,
}

impl UnetConfig {
    /// Reads `config.json` of a UNet's directory.
    ///
    /// # Errors
    /// The file is missing, belongs to a network other than Stable Diffusion 1 and 2, or contradicts itself.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let reason = "no such directory; the UNet of a diffusers pipeline is its folder `unet`";
            return Err(Error::Directory { path: dir.into(), reason: reason.into() });
        }
        let path = dir.join("config.json");
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let unreadable = |e| refuse(format!("not the configuration of a UNet: {e}"));
        let fields: Map<String, Value> = serde_json::from_str(&text).map_err(unreadable)?;
        check_fixed(&fields).map_err(refuse)?;
        let config: Self = serde_json::from_value(Value::Object(fields)).map_err(unreadable)?;
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

    /// Height and width of the latents that the network was trained on, if the file has them. Other sizes work too.
    pub fn sample_size(&self) -> Option<(i64, i64)> {
        self.sample_size.map(Extent::height_width)
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.block_out_channels.len()
    }

    /// The factor between the finest and the coarsest level: 8 in Stable Diffusion 1. Latents whose sides are not
    /// multiples of it are accepted, but the coarser levels then treat their edges unevenly.
    pub fn coarsest(&self) -> i64 {
        1 << (self.levels() - 1)
    }

    /// Returns every attention layer in the order of a pass, with the number of its transformer layer
    /// ([`crate::Site::block`]). Self- and cross-attention of a transformer layer have the same number.
    pub fn attention_layers(&self) -> Vec<(usize, UnetLayer)> {
        let last = self.levels() - 1;
        let down = (0..=last).map(|i| {
            let count = if self.down_crosses(i) { self.level(i).resnets } else { 0 };
            (UnetPart::Down(i), i, count)
        });
        let up = (0..=last).map(|i| {
            let count = if self.up_crosses(i) { self.level(last - i).resnets + 1 } else { 0 };
            (UnetPart::Up(i), last - i, count)
        });
        let layers = down.chain([(UnetPart::Mid, last, 1)]).chain(up).flat_map(|(part, level, count)| {
            let layers = self.level(level).layers;
            (0..count).flat_map(move |attention| (0..layers).map(move |layer| (part, attention, layer)))
        });
        let both = layers.enumerate().flat_map(|(block, (part, attention, layer))| {
            [false, true].map(|cross| (block, UnetLayer { part, attention, layer, cross }))
        });
        both.collect()
    }

    /// Returns the level of a part of the UNet, counted from the finest.
    fn level_of(&self, part: UnetPart) -> usize {
        let last = self.levels() - 1;
        match part {
            UnetPart::Down(level) => level,
            UnetPart::Mid => last,
            UnetPart::Up(number) => last.saturating_sub(number),
        }
    }

    /// Returns rows and columns of the image tokens of a layer, for latents of (rows, columns).
    pub fn grid(&self, layer: UnetLayer, (rows, columns): (i64, i64)) -> (i64, i64) {
        let level = self.level_of(layer.part);
        (rows >> level, columns >> level)
    }

    pub(super) fn level(&self, level: usize) -> Level {
        Level {
            channels: self.block_out_channels.get(level).copied().unwrap_or_default(),
            heads: self.attention_head_dim.of(level),
            resnets: self.layers_per_block.of(level) as usize,
            layers: self.transformer_layers_per_block.of(level) as usize,
        }
    }

    /// Whether block `number` on the way down has transformers.
    pub(super) fn down_crosses(&self, number: usize) -> bool {
        self.down_block_types.get(number).is_some_and(|name| name == DOWN[1])
    }

    /// Whether block `number` on the way up has transformers. The coarsest level is number 0.
    pub(super) fn up_crosses(&self, number: usize) -> bool {
        self.up_block_types.get(number).is_some_and(|name| name == UP[1])
    }

    /// Settings of the group norms in residual blocks.
    pub(super) fn groups(&self) -> Groups {
        Groups { count: self.norm_num_groups, eps: self.norm_eps }
    }

    /// The sinusoids that embed a timestep.
    pub(super) fn sinusoids(&self) -> Sinusoids {
        Sinusoids {
            count: self.level(0).channels,
            cosines_first: self.flip_sin_to_cos,
            shift: self.freq_shift,
        }
    }

    /// Width of the time embedding.
    pub(super) fn time_width(&self) -> i64 {
        self.time_embedding_dim.unwrap_or(4 * self.level(0).channels)
    }

    pub(super) fn downsample_padding(&self) -> i64 {
        self.downsample_padding
    }

    pub(super) fn projects_by_convolution(&self) -> bool {
        !self.use_linear_projection
    }

    fn contradiction(&self) -> Option<String> {
        let levels = self.block_out_channels.len();
        let blocks = (self.down_block_types.len(), self.up_block_types.len());
        if !(1..=16).contains(&levels) || blocks != (levels, levels) {
            return Some(format!(
                "names {} down blocks, {} up blocks and {levels} block_out_channels; as many of each are needed, 16 at most",
                blocks.0, blocks.1
            ));
        }
        let other = |types: &[String], known: [&str; 2]| {
            types.iter().find(|name| !known.contains(&name.as_str())).cloned()
        };
        if let Some(name) = other(&self.down_block_types, DOWN).or_else(|| other(&self.up_block_types, UP)) {
            let known = [DOWN, UP].concat().join(", ");
            return Some(format!("has blocks of type `{name}`; this reader runs {known}"));
        }
        let per_level = [
            ("layers_per_block", &self.layers_per_block),
            ("transformer_layers_per_block", &self.transformer_layers_per_block),
            ("attention_head_dim", &self.attention_head_dim),
        ];
        if let Some((name, _)) = per_level.iter().find(|(_, numbers)| !numbers.fits(levels)) {
            return Some(format!("{name} must be one number or one for each of {levels} levels"));
        }
        let positive = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("norm_num_groups", self.norm_num_groups),
            ("cross_attention_dim", self.cross_attention_dim),
            ("time_embedding_dim", self.time_embedding_dim.unwrap_or(1)),
        ];
        // The last of them is the number of heads.
        let of_levels = per_level[..2]
            .iter()
            .flat_map(|&(name, numbers)| (0..levels).map(move |level| (name, numbers.of(level))));
        let channels =
            self.block_out_channels.iter().map(|&channels| ("one of block_out_channels", channels));
        let (sides, sample) = (["sample_size"; 2], self.sample_size().unwrap_or((1, 1)));
        let samples = sides.into_iter().zip([sample.0, sample.1]);
        let absurd = limits::check(&limits::SIZES, positive.into_iter().chain(channels).chain(samples))
            .and_then(|()| limits::check(&limits::LEVEL_BLOCKS, of_levels))
            .and_then(|()| {
                let heads =
                    (0..levels).map(|level| ("attention_head_dim", self.attention_head_dim.of(level)));
                limits::check(&limits::SIZES, heads)
            });
        if let Err(reason) = absurd {
            return Some(reason);
        }
        for (number, &channels) in self.block_out_channels.iter().enumerate() {
            for (name, divisor) in [
                ("norm_num_groups", self.norm_num_groups),
                ("attention_head_dim (the number of heads)", self.attention_head_dim.of(number)),
            ] {
                if channels % divisor != 0 {
                    return Some(format!(
                        "block_out_channels {channels} is not a multiple of {name} {divisor}"
                    ));
                }
            }
        }
        let finest = self.block_out_channels[0];
        if finest % 2 != 0 || !(0.0..finest as f64 / 2.0).contains(&self.freq_shift) {
            return Some(format!(
                "a timestep cannot be spread over {finest} numbers (the first of block_out_channels) with freq_shift {}",
                self.freq_shift
            ));
        }
        if !(0..=1).contains(&self.downsample_padding) {
            return Some(format!("downsample_padding is {}; 0 and 1 are run", self.downsample_padding));
        }
        (!(self.norm_eps.is_finite() && self.norm_eps >= 0.0))
            .then(|| format!("norm_eps is {}; it must be a finite number ≥ 0", self.norm_eps))
    }
}

/// Refuses settings that would describe another network with the same fields.
fn check_fixed(fields: &Map<String, Value>) -> Result<(), String> {
    let class = fields.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
    if class != CLASS_NAME {
        return Err(format!("_class_name is `{class}`; this reader runs {CLASS_NAME}"));
    }
    for (name, known) in FIXED {
        let Some(value) = fields.get(name) else { continue };
        let usual = |value: &Value| known.contains(&value.to_string().as_str());
        let each = value.as_array().is_some_and(|values| values.iter().all(usual));
        if !each && !usual(value) {
            return Err(format!(
                "{name} is {value}; this reader runs networks of Stable Diffusion 1 and 2, where it is {}",
                known[0]
            ));
        }
    }
    let scale = |name: &&&str| fields.get(**name).is_some_and(|value| value.as_f64() != Some(1.0));
    match SCALES.iter().find(scale) {
        Some(name) => Err(format!("{name} is not 1, as it is in Stable Diffusion 1 and 2")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_diffusion_1_has_its_published_layers() {
        let layers = UnetConfig::default().attention_layers();
        assert_eq!(layers.len(), 32);
        let names: Vec<String> = layers.iter().map(|(_, layer)| layer.to_string()).collect();
        assert_eq!(names[0], "down_blocks.0.attentions.0.transformer_blocks.0.attn1");
        assert_eq!(names[12], "mid_block.attentions.0.transformer_blocks.0.attn1");
        assert_eq!(names[31], "up_blocks.3.attentions.2.transformer_blocks.0.attn2");
        assert_eq!(layers.iter().map(|(block, _)| *block).collect::<Vec<_>>()[10..15], [5, 5, 6, 6, 7]);
        assert!(layers.is_sorted(), "the order of the pass is that of the type");
    }
}
