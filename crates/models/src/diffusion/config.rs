//! Reads `scheduler_config.json` of a pipeline.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config_file;
use crate::error::{Error, Result};
use crate::limits;

/// Supported samplers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SamplerKind {
    /// Pseudo numerical methods (arXiv 2202.09778), diffusers' `PNDMScheduler`: Stable Diffusion 1.5's own.
    Pndm,
    /// Denoising diffusion implicit models (arXiv 2010.02502) without added noise, diffusers' `DDIMScheduler`.
    Ddim,
}

impl SamplerKind {
    fn of_class(name: &str) -> Option<Self> {
        match name {
            "PNDMScheduler" => Some(Self::Pndm),
            "DDIMScheduler" => Some(Self::Ddim),
            _ => None,
        }
    }
}

/// The quantity that the network predicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise.
    #[default]
    Epsilon,
    /// The velocity `√ᾱ ε − √(1−ᾱ) x₀` (arXiv 2202.00512).
    VPrediction,
}

/// The choice of the timesteps that a run of few steps visits (arXiv 2305.08891, table 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spacing {
    #[default]
    Leading,
    Linspace,
    Trailing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BetaSchedule {
    #[default]
    Linear,
    ScaledLinear,
}

/// The fields of diffusers' `PNDMScheduler` and `DDIMScheduler` that decide the numbers; defaults are diffusers'.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct SamplerConfig {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// Number of timesteps of the training schedule.
    pub num_train_timesteps: i64,
    pub(super) beta_start: f64,
    pub(super) beta_end: f64,
    pub(super) beta_schedule: BetaSchedule,
    pub(super) trained_betas: Option<Vec<f32>>,
    /// The quantity that the network predicts.
    pub prediction_type: PredictionType,
    pub(super) timestep_spacing: Spacing,
    pub(super) steps_offset: i64,
    set_alpha_to_one: Option<bool>,
    pub(super) skip_prk_steps: bool,
    pub(super) clip_sample: bool,
    pub(super) clip_sample_range: f64,
    // Options that no published Stable Diffusion 1 sets.
    thresholding: Value,
    rescale_betas_zero_snr: Value,
    #[serde(skip)]
    kind: Option<SamplerKind>,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            class_name: String::new(),
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            prediction_type: PredictionType::Epsilon,
            timestep_spacing: Spacing::Leading,
            steps_offset: 0,
            set_alpha_to_one: None,
            skip_prk_steps: false,
            clip_sample: true,
            clip_sample_range: 1.0,
            thresholding: Value::Null,
            rescale_betas_zero_snr: Value::Null,
            kind: None,
        }
    }
}

impl SamplerConfig {
    /// Reads `scheduler_config.json` of a scheduler's directory, the folder `scheduler` of a pipeline. `kind` replaces
    /// the sampler that the file names, as `from_config` of another class does in diffusers: missing settings get the
    /// defaults of the replacing class.
    ///
    /// # Errors
    /// The file is missing, names an unsupported scheduler (and `kind` is `None`), or sets an unsupported option.
    pub fn from_dir(dir: &Path, kind: Option<SamplerKind>) -> Result<Self> {
        let path = dir.join("scheduler_config.json");
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let config: Self = serde_json::from_str(&text)
            .map_err(|e| refuse(format!("not the configuration of a sampler: {e}")))?;
        let kind = kind.or_else(|| SamplerKind::of_class(&config.class_name)).ok_or_else(|| {
            refuse(format!(
                "_class_name is `{}`; PNDMScheduler and DDIMScheduler are supported: choose one of them in place of it",
                config.class_name
            ))
        })?;
        config.check().map_err(refuse)?;
        Ok(Self { kind: Some(kind), ..config })
    }

    /// The sampler.
    pub fn kind(&self) -> SamplerKind {
        self.kind.unwrap_or(SamplerKind::Pndm)
    }

    /// Whether the final sample counts as free of noise; otherwise it has the noise of timestep 0.
    pub(super) fn ends_without_noise(&self) -> bool {
        self.set_alpha_to_one.unwrap_or(self.kind() == SamplerKind::Ddim)
    }

    fn check(&self) -> Result<(), String> {
        let options =
            [("thresholding", &self.thresholding), ("rescale_betas_zero_snr", &self.rescale_betas_zero_snr)];
        let unset = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        if let Some((name, value)) = options.iter().find(|(_, value)| !unset(value)) {
            return Err(format!(
                "{name} is {value}, which is not computed here and which no published Stable Diffusion 1 sets; unset it"
            ));
        }
        let times = self.num_train_timesteps;
        limits::check(&limits::TIMES, [("num_train_timesteps", times)])?;
        if !(0..=times).contains(&self.steps_offset) {
            return Err(format!("steps_offset is {}; it must lie between 0 and {times}", self.steps_offset));
        }
        match &self.trained_betas {
            Some(betas) if betas.len() as i64 != times => {
                Err(format!("trained_betas has {} numbers for {times} times", betas.len()))
            }
            Some(betas) if betas.iter().any(|beta| !(*beta > 0.0 && *beta < 1.0)) => {
                Err("trained_betas must lie between 0 and 1".into())
            }
            Some(_) => Ok(()),
            None if self.beta_start > 0.0 && self.beta_start <= self.beta_end && self.beta_end < 1.0 => {
                Ok(())
            }
            None => Err(format!(
                "beta_start {} and beta_end {} must rise between 0 and 1",
                self.beta_start, self.beta_end
            )),
        }
    }
}
