//! Runs in terms of `σ = √((1−ᾱ)/ᾱ)`, how many times larger the noise is than the image: those of Euler's method,
//! DPM-Solver++ and UniPC.

use super::config::{FinalSigma, PredictionType, SamplerConfig, SamplerKind};
use super::level::NoiseLevel;
use super::schedule::NoiseSchedule;
use super::times;
use crate::error::{Error, Result};

/// Exponent of the spacing of arXiv 2206.00364, equation 5.
const RHO: f64 = 7.0;

/// The passes of a run.
#[derive(Debug, Clone)]
pub(super) struct Sigmas {
    /// The timestep at which the network is asked in each pass.
    pub(super) times: Vec<f64>,
    /// `σ` of each pass and, last, of the end. They fall; only the last may be 0.
    sigmas: Vec<f64>,
    prediction: PredictionType,
}

impl Sigmas {
    /// Chooses the passes of `steps` steps.
    ///
    /// # Errors
    /// Two steps would begin with the same noise.
    pub(super) fn new(config: &SamplerConfig, schedule: &NoiseSchedule, steps: usize) -> Result<Self> {
        let trained: Vec<f64> = schedule.sigmas().into_iter().map(f64::from).collect();
        let euler = config.kind() == SamplerKind::Euler;
        let mut passes: Vec<f64> = match euler {
            true => times::of_euler(config, steps),
            false => times::of_multistep(config, steps).into_iter().map(|time| time as f64).collect(),
        };
        let mut sigmas: Vec<f64> = passes.iter().map(|&time| between(&trained, time)).collect();
        let (least, most) = (trained[0], trained[trained.len() - 1]);
        if config.use_karras_sigmas == Some(true) {
            // Euler's method spaces them between the first and the last pass, the others over the whole training.
            let ends = match (euler, &sigmas[..]) {
                (true, [first, .., last]) => (*last, *first),
                (true, [only]) => (*only, *only),
                _ => (least, most),
            };
            sigmas = karras(config.sigma_min.unwrap_or(ends.0), config.sigma_max.unwrap_or(ends.1), steps);
            passes = sigmas.iter().map(|&sigma| time_of(&trained, sigma)).collect();
            if !euler {
                passes.iter_mut().for_each(|time| *time = time.round_ties_even());
            }
        }
        sigmas.push(match config.final_sigmas_type {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => least,
        });
        let sigmas: Vec<f64> = sigmas.into_iter().map(|sigma| f64::from(sigma as f32)).collect();
        // The last step may have nothing left to do.
        let stalls = |place: &usize| {
            let (here, there) = (sigmas[*place], sigmas[place + 1]);
            here < there || (here == there && place + 1 < steps)
        };
        if let Some(place) = (0..steps).find(stalls) {
            let reason = format!(
                "{steps} steps of this sampler remove no noise in step {}, at time {}; take fewer steps",
                place + 1,
                passes[place]
            );
            return Err(Error::Input { input: "steps", reason });
        }
        Ok(Self { times: passes, sigmas, prediction: config.prediction_type })
    }

    /// `σ` before pass `pass`, or at the end.
    pub(super) fn sigma(&self, pass: usize) -> f64 {
        self.sigmas[pass]
    }

    /// The noise before pass `pass`, or at the end.
    pub(super) fn level(&self, pass: usize) -> NoiseLevel {
        NoiseLevel::of_sigma(self.sigmas[pass], self.prediction)
    }

    /// Half the logarithm of the signal-to-noise ratio before pass `pass`: `λ = ln(√ᾱ/√(1−ᾱ))`.
    pub(super) fn lambda(&self, pass: usize) -> f64 {
        -self.sigmas[pass].ln()
    }

    /// Number of passes.
    pub(super) fn passes(&self) -> usize {
        self.times.len()
    }
}

/// The value at a place between two entries, on the line through them.
fn between(values: &[f64], place: f64) -> f64 {
    let low = (place.max(0.0) as usize).min(values.len() - 1);
    match values.get(low + 1) {
        Some(high) => values[low] + (high - values[low]) * (place - low as f64),
        None => values[low],
    }
}

/// `count` values of `σ` from `most` to `least`, evenly spaced in `σ^(1/ρ)`.
fn karras(least: f64, most: f64, count: usize) -> Vec<f64> {
    let (low, high) = (least.powf(1.0 / RHO), most.powf(1.0 / RHO));
    let distance = 1.0 / (count.max(2) - 1) as f64;
    (0..count).map(|i| (high + i as f64 * distance * (low - high)).powf(RHO)).collect()
}

/// The timestep, between two of the training if need be, at which the noise is `sigma`.
fn time_of(trained: &[f64], sigma: f64) -> f64 {
    let logarithm = |sigma: f64| f64::from((sigma as f32).ln());
    let above = trained.iter().rposition(|&value| logarithm(value) <= sigma.ln()).unwrap_or_default();
    let low = above.min(trained.len().saturating_sub(2));
    let (below, above) = (logarithm(trained[low]), logarithm(trained[(low + 1).min(trained.len() - 1)]));
    let weight = ((below - sigma.ln()) / (below - above)).clamp(0.0, 1.0);
    low as f64 + weight
}
