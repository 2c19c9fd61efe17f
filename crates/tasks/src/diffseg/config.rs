//! The `[task.diffseg]` table of an experiment.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::merge::Merging;
use super::method::Method;
use crate::alpha::check_alpha;
use crate::error::{Error, Result};
use crate::method::{ListSchema, list, paths, twice};
use crate::pixels::check_side;
use crate::score_file::ScoreFiles;

/// `[task.diffseg]`: segmentation without prompts, by merging the self-attention maps of a UNet around anchors. Where the paper
/// names no setting, the default is the one DiffSeg published for COCO-Stuff; `docs/protocols.md` says which are our choices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffSegConfig {
    /// Methods to compare, that is, ways to choose the anchors. Each is a row of the table; all read the same pass of the UNet.
    #[serde(with = "list")]
    #[schemars(with = "ListSchema<Method>")]
    pub methods: Vec<Method>,
    /// Diffusion timestep passed to the UNet. No noise is added to the image, whatever the timestep.
    #[serde(default = "DiffSegConfig::default_timestep")]
    pub timestep: u16,
    /// Prompt passed to the UNet. DiffSeg uses the empty prompt.
    #[serde(default)]
    pub prompt: String,
    /// Side in pixels of the square to which images and labels are resized. Default: the size the network was trained for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<i64>,
    /// Two maps whose distance (symmetric Kullback–Leibler divergence) is below this value are merged into one segment; at least
    /// 0.
    #[serde(default = "DiffSegConfig::default_threshold")]
    pub threshold: f64,
    /// Number of merging rounds, including the first one, in which each anchor collects all maps near it; at least 1.
    #[serde(default = "DiffSegConfig::default_rounds")]
    pub rounds: usize,
    /// Probability that the chain follows the attention in a step; otherwise it jumps to a random token. Range (0, 1].
    #[serde(default = "DiffSegConfig::default_alpha")]
    pub alpha: f64,
    /// Largest distance between a true and a predicted boundary that still counts as found, as a fraction of the image diagonal
    /// in [0, 1]. Only boundary recall reads it.
    #[serde(default = "DiffSegConfig::default_tolerance")]
    pub tolerance: f64,
    /// Number of images that pass through the UNet together.
    #[serde(default = "DiffSegConfig::default_batch")]
    pub batch: usize,
    /// Number of images, from the start of the dataset, whose segments and anchors are drawn.
    #[serde(default = "DiffSegConfig::default_figures", alias = "shown")]
    pub figures: usize,
}

impl DiffSegConfig {
    fn default_timestep() -> u16 {
        300
    }

    fn default_threshold() -> f64 {
        1.1
    }

    fn default_rounds() -> usize {
        3
    }

    fn default_alpha() -> f64 {
        0.99
    }

    /// The tolerance of the Berkeley segmentation benchmark.
    fn default_tolerance() -> f64 {
        0.0075
    }

    fn default_batch() -> usize {
        4
    }

    fn default_figures() -> usize {
        8
    }

    /// Returns the settings of merging.
    pub fn merging(&self) -> Merging {
        Merging { threshold: self.threshold, rounds: self.rounds }
    }

    /// The files of the methods that come from files.
    pub fn score_paths(&self) -> Vec<&Path> {
        paths(&self.methods)
    }

    /// Opens the files of the methods that come from files.
    ///
    /// # Errors
    /// [`Error::Scores`]: a file cannot be read, is not a file of scores, or is for another experiment.
    pub fn score_files(&self) -> Result<ScoreFiles> {
        ScoreFiles::open("diffseg", &self.methods)
    }

    /// Returns the settings on which the results of one method depend, with defaults for all others. If two
    /// configurations agree in this, the method need be run only once.
    pub fn of_method(&self, method: &Method) -> Self {
        let mut one = Self { methods: vec![method.clone()], ..self.clone() };
        if !method.ranks() {
            one.alpha = Self::default_alpha();
        }
        one
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting out of range.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting, reason: String| Err(Error::Setting { setting, reason });
        if self.methods.is_empty() {
            return refuse("task.diffseg.methods", "lists no methods".into());
        }
        let mut keys: Vec<&str> = self.methods.iter().map(Method::key).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let reason = format!(
                "two methods are called `{}`; give one a name, as in {{ tokenrank = {{ name = \"…\" }} }}",
                pair[0]
            );
            return refuse("task.diffseg.methods", reason);
        }
        if let Some(reason) = twice(&self.methods) {
            return refuse("task.diffseg.methods", reason);
        }
        for method in &self.methods {
            let anchors = method.anchors();
            if !(1..=MOST_ANCHORS).contains(&anchors) {
                let reason =
                    format!("`{}` asks for {anchors} anchors; give 1 to {MOST_ANCHORS}", method.key());
                return refuse("task.diffseg.methods", reason);
            }
        }
        for (setting, value) in [("task.diffseg.batch", self.batch), ("task.diffseg.rounds", self.rounds)] {
            if value == 0 {
                return refuse(setting, "must be at least 1".into());
            }
        }
        if let Some(side) = self.image_size {
            check_side("task.diffseg.image_size", side.unsigned_abs())?;
        }
        // Infinity is allowed: it merges everything into one segment.
        if self.threshold.is_nan() || self.threshold < 0.0 {
            let reason = format!("must be a number ≥ 0, found {}", self.threshold);
            return refuse("task.diffseg.threshold", reason);
        }
        check_alpha("task.diffseg.alpha", self.alpha)?;
        if !(0.0..=1.0).contains(&self.tolerance) {
            return refuse("task.diffseg.tolerance", format!("must lie in [0, 1], found {}", self.tolerance));
        }
        Ok(())
    }
}

/// Segments are numbered with 16 bits.
pub(super) const MOST_ANCHORS: usize = 1 << 16;
