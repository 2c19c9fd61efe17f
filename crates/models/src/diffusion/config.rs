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
    /// Euler's method without added noise (arXiv 2206.00364), diffusers' `EulerDiscreteScheduler`.
    Euler,
    /// DPM-Solver++ (arXiv 2211.01095) of several steps without added noise, diffusers' `DPMSolverMultistepScheduler`.
    #[serde(rename = "dpm-solver++", alias = "dpmsolver++")]
    DpmSolver,
    /// Predictor and corrector of UniPC (arXiv 2302.04867), diffusers' `UniPCMultistepScheduler`.
    Unipc,
}

/// The samplers by the class that files name.
const CLASSES: [(&str, SamplerKind); 5] = [
    ("PNDMScheduler", SamplerKind::Pndm),
    ("DDIMScheduler", SamplerKind::Ddim),
    ("EulerDiscreteScheduler", SamplerKind::Euler),
    ("DPMSolverMultistepScheduler", SamplerKind::DpmSolver),
    ("UniPCMultistepScheduler", SamplerKind::Unipc),
];

impl SamplerKind {
    fn of_class(name: &str) -> Option<Self> {
        CLASSES.into_iter().find(|(class, _)| *class == name).map(|(_, kind)| kind)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spacing {
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

/// The noise that is left at the end of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FinalSigma {
    #[default]
    Zero,
    /// That of timestep 0.
    SigmaMin,
}

/// The form of a multistep solver's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SolverType {
    Midpoint,
    Heun,
    /// Of a solver that is not computed here; diffusers takes the default in place of it.
    Logrho,
    Bh1,
    Bh2,
}

/// The form of DPM-Solver++'s steps of second order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    Midpoint,
    Heun,
}

/// `B(h)` of UniPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bh {
    Bh1,
    Bh2,
}

/// The fields of diffusers' schedulers that decide the numbers; defaults are diffusers'.
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
    timestep_spacing: Option<Spacing>,
    pub(super) steps_offset: i64,
    set_alpha_to_one: Option<bool>,
    pub(super) skip_prk_steps: bool,
    pub(super) clip_sample: bool,
    pub(super) clip_sample_range: f64,
    pub(super) use_karras_sigmas: Option<bool>,
    pub(super) final_sigmas_type: FinalSigma,
    pub(super) sigma_min: Option<f64>,
    pub(super) sigma_max: Option<f64>,
    pub(super) solver_order: usize,
    solver_type: Option<SolverType>,
    algorithm_type: Option<String>,
    pub(super) lower_order_final: bool,
    pub(super) euler_at_final: bool,
    pub(super) disable_corrector: Vec<usize>,
    predict_x0: Option<bool>,
    timestep_type: Option<String>,
    interpolation_type: Option<String>,
    // Options that no published Stable Diffusion 1 sets.
    thresholding: Value,
    rescale_betas_zero_snr: Value,
    use_exponential_sigmas: Value,
    use_beta_sigmas: Value,
    use_flow_sigmas: Value,
    use_lu_lambdas: Value,
    use_dynamic_shifting: Value,
    solver_p: Value,
    lambda_min_clipped: Value,
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
            timestep_spacing: None,
            steps_offset: 0,
            set_alpha_to_one: None,
            skip_prk_steps: false,
            clip_sample: true,
            clip_sample_range: 1.0,
            use_karras_sigmas: None,
            final_sigmas_type: FinalSigma::Zero,
            sigma_min: None,
            sigma_max: None,
            solver_order: 2,
            solver_type: None,
            algorithm_type: None,
            lower_order_final: true,
            euler_at_final: false,
            disable_corrector: Vec::new(),
            predict_x0: None,
            timestep_type: None,
            interpolation_type: None,
            thresholding: Value::Null,
            rescale_betas_zero_snr: Value::Null,
            use_exponential_sigmas: Value::Null,
            use_beta_sigmas: Value::Null,
            use_flow_sigmas: Value::Null,
            use_lu_lambdas: Value::Null,
            use_dynamic_shifting: Value::Null,
            solver_p: Value::Null,
            lambda_min_clipped: Value::Null,
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
        let config: Self = serde_json::from_str(&without_infinity(&text))
            .map_err(|e| refuse(format!("not the configuration of a sampler: {e}")))?;
        let kind = kind.or_else(|| SamplerKind::of_class(&config.class_name)).ok_or_else(|| {
            refuse(format!(
                "_class_name is `{}`; {} are supported: choose one of them in place of it",
                config.class_name,
                CLASSES.map(|(class, _)| class).join(", ")
            ))
        })?;
        let config = Self { kind: Some(kind), ..config };
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// The sampler.
    pub fn kind(&self) -> SamplerKind {
        self.kind.unwrap_or(SamplerKind::Pndm)
    }

    /// Whether the final sample counts as free of noise; otherwise it has the noise of timestep 0.
    pub(super) fn ends_without_noise(&self) -> bool {
        self.set_alpha_to_one.unwrap_or(self.kind() == SamplerKind::Ddim)
    }

    /// The spacing of the timesteps. Without one in the file, that of the sampler's class.
    pub(super) fn spacing(&self) -> Spacing {
        self.timestep_spacing.unwrap_or(match self.kind() {
            SamplerKind::Pndm | SamplerKind::Ddim => Spacing::Leading,
            SamplerKind::Euler | SamplerKind::DpmSolver | SamplerKind::Unipc => Spacing::Linspace,
        })
    }

    /// The form of DPM-Solver++'s steps of second order. As in diffusers, that of another solver means the default.
    pub(super) fn second(&self) -> Second {
        match self.solver_type {
            Some(SolverType::Heun) => Second::Heun,
            Some(SolverType::Midpoint | SolverType::Logrho | SolverType::Bh1 | SolverType::Bh2) | None => {
                Second::Midpoint
            }
        }
    }

    /// `B(h)` of UniPC. As in diffusers, the form of another solver means the default.
    pub(super) fn bh(&self) -> Bh {
        match self.solver_type {
            Some(SolverType::Bh1) => Bh::Bh1,
            Some(SolverType::Midpoint | SolverType::Heun | SolverType::Logrho | SolverType::Bh2) | None => {
                Bh::Bh2
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        let unset = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        let refused = |options: &[(&str, &Value)]| match options.iter().find(|(_, value)| !unset(value)) {
            Some((name, value)) => Err(format!(
                "{name} is {value}, which is not computed here and which no published Stable Diffusion 1 sets; unset it"
            )),
            None => Ok(()),
        };
        refused(&[
            ("thresholding", &self.thresholding),
            ("rescale_betas_zero_snr", &self.rescale_betas_zero_snr),
        ])?;
        if matches!(self.kind(), SamplerKind::Euler | SamplerKind::DpmSolver | SamplerKind::Unipc) {
            refused(&[
                ("use_exponential_sigmas", &self.use_exponential_sigmas),
                ("use_beta_sigmas", &self.use_beta_sigmas),
                ("use_flow_sigmas", &self.use_flow_sigmas),
                ("use_lu_lambdas", &self.use_lu_lambdas),
                ("use_dynamic_shifting", &self.use_dynamic_shifting),
                ("solver_p", &self.solver_p),
                ("lambda_min_clipped", &self.lambda_min_clipped),
            ])?;
            self.check_solver()?;
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

    /// Checks the settings of Euler's method, DPM-Solver++ and UniPC.
    fn check_solver(&self) -> Result<(), String> {
        let computed = |name: &str, value: &Option<String>, known: &[&str]| match value.as_deref() {
            Some(value) if !known.contains(&value) => {
                Err(format!("{name} is `{value}`; {} is computed here", known[0]))
            }
            _ => Ok(()),
        };
        match self.kind() {
            SamplerKind::Euler => {
                computed("timestep_type", &self.timestep_type, &["discrete"])?;
                computed("interpolation_type", &self.interpolation_type, &["linear"])?;
            }
            // diffusers reads `deis` as `dpmsolver++` too.
            SamplerKind::DpmSolver => {
                computed("algorithm_type", &self.algorithm_type, &["dpmsolver++", "deis"])?;
            }
            SamplerKind::Unipc if self.predict_x0 == Some(false) => {
                return Err("predict_x0 is false; predictions of the clean image are computed here".into());
            }
            SamplerKind::Unipc | SamplerKind::Pndm | SamplerKind::Ddim => {}
        }
        if !(1..=3).contains(&self.solver_order) {
            return Err(format!("solver_order is {}; it must be 1, 2 or 3", self.solver_order));
        }
        let (least, most) = (self.sigma_min.unwrap_or(f64::MIN_POSITIVE), self.sigma_max.unwrap_or(f64::MAX));
        if !(least > 0.0 && least < most && most.is_finite()) {
            return Err(format!("sigma_min {least} and sigma_max {most} must rise above 0"));
        }
        Ok(())
    }
}

/// Returns the text of a file with `null` for the value `-Infinity` of `lambda_min_clipped`, its default, which diffusers
/// writes though JSON has no such number.
fn without_infinity(text: &str) -> String {
    let value = |from: usize| {
        let rest = text[from..].trim_start().strip_prefix(':')?.trim_start();
        rest.starts_with("-Infinity").then(|| text.len() - rest.len())
    };
    let key = "\"lambda_min_clipped\"";
    match text.find(key).and_then(|place| value(place + key.len())) {
        Some(place) => format!("{}null{}", &text[..place], &text[place + "-Infinity".len()..]),
        None => text.to_owned(),
    }
}
