//! Reads `scheduler_config.json` of a pipeline.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::config_file;
use crate::error::{Error, Result};
use crate::limits;

const CLASS_NAME: &str = "FlowMatchEulerDiscreteScheduler";

/// The fields of diffusers' `FlowMatchEulerDiscreteScheduler` that FLUX's pipelines set; defaults are diffusers'.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct FlowMatchConfig {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// The training timestep that stands for a noise level of 1.
    pub num_train_timesteps: u32,
    /// Moves noise levels towards 1 if it is greater than 1. It has no effect with a dynamic shift.
    pub shift: f64,
    /// Whether the shift grows with the image (FLUX.1-dev).
    pub use_dynamic_shifting: bool,
    /// Dynamic shift of an image of `base_image_seq_len` tokens, as a logarithm.
    pub base_shift: f64,
    /// Dynamic shift of an image of `max_image_seq_len` tokens, as a logarithm.
    pub max_shift: f64,
    /// Tokens of the image that has `base_shift`.
    pub base_image_seq_len: i64,
    /// Tokens of the image that has `max_shift`.
    pub max_image_seq_len: i64,
    time_shift_type: String,
    // Options that change the noise levels or the step; no published FLUX checkpoint sets them.
    invert_sigmas: Value,
    shift_terminal: Value,
    use_karras_sigmas: Value,
    use_exponential_sigmas: Value,
    use_beta_sigmas: Value,
    stochastic_sampling: Value,
}

impl Default for FlowMatchConfig {
    fn default() -> Self {
        Self {
            class_name: String::new(),
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            time_shift_type: "exponential".into(),
            invert_sigmas: Value::Null,
            shift_terminal: Value::Null,
            use_karras_sigmas: Value::Null,
            use_exponential_sigmas: Value::Null,
            use_beta_sigmas: Value::Null,
            stochastic_sampling: Value::Null,
        }
    }
}

impl FlowMatchConfig {
    /// Reads `scheduler_config.json` of a scheduler's directory, the folder `scheduler` of a pipeline.
    ///
    /// # Errors
    /// The file is missing, names another scheduler, or sets an unsupported option.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("scheduler_config.json");
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let config: Self = serde_json::from_str(&text)
            .map_err(|e| refuse(format!("not the configuration of {CLASS_NAME}: {e}")))?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// Returns the logarithm of the shift of an image of `image_tokens` tokens if the shift is dynamic: a straight line
    /// through the two given points (diffusers' `calculate_shift`).
    pub(super) fn dynamic_shift(&self, image_tokens: i64) -> Option<f64> {
        let (base, max) = (self.base_image_seq_len as f64, self.max_image_seq_len as f64);
        let slope = (self.max_shift - self.base_shift) / (max - base);
        let start = self.base_shift - slope * base;
        self.use_dynamic_shifting.then_some(image_tokens as f64 * slope + start)
    }

    fn check(&self) -> Result<(), String> {
        let options = [
            ("invert_sigmas", &self.invert_sigmas),
            ("shift_terminal", &self.shift_terminal),
            ("use_karras_sigmas", &self.use_karras_sigmas),
            ("use_exponential_sigmas", &self.use_exponential_sigmas),
            ("use_beta_sigmas", &self.use_beta_sigmas),
            ("stochastic_sampling", &self.stochastic_sampling),
        ];
        let unset = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        if self.class_name != CLASS_NAME {
            return Err(format!("_class_name is `{}`; only {CLASS_NAME} is computed", self.class_name));
        }
        if let Some((name, value)) = options.iter().find(|(_, value)| !unset(value)) {
            return Err(format!(
                "{name} is {value}, which is not computed here and which no published FLUX sets; unset it"
            ));
        }
        if self.time_shift_type != "exponential" {
            return Err(format!(
                "time_shift_type is `{}`; only `exponential`, FLUX's, is computed",
                self.time_shift_type
            ));
        }
        limits::check(&limits::TIMES, [("num_train_timesteps", self.num_train_timesteps.into())])?;
        if !(self.shift.is_finite() && self.shift > 0.0) {
            return Err(format!("shift is {}; it must be positive", self.shift));
        }
        let finite = self.base_shift.is_finite() && self.max_shift.is_finite();
        if self.use_dynamic_shifting && !(finite && self.base_image_seq_len < self.max_image_seq_len) {
            return Err(
                "base_image_seq_len must be smaller than max_image_seq_len, base_shift and max_shift \
                        finite numbers"
                    .into(),
            );
        }
        Ok(())
    }
}
