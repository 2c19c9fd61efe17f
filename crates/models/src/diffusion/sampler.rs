//! Samplers: from noise to an image.

use tch::Tensor;

use super::config::{SamplerConfig, SamplerKind};
use super::ddim::Ddim;
use super::dpm::{DpmSolver, Order};
use super::euler::Euler;
use super::level::NoiseLevel;
use super::pndm::Pndm;
use super::schedule::NoiseSchedule;
use super::sigmas::Sigmas;
use super::solver::Solver;
use super::times::{self, RUNGE_KUTTA};
use super::unipc::{Settings, UniPc};
use crate::error::{Error, Result};

/// One run of a sampler over a batch: [`Sampler::begin`] with noise; then, until [`Sampler::time`] returns `None`, pass
/// [`Sampler::input`] of the sample through the network at that timestep and call [`Sampler::step`].
#[derive(Debug)]
pub struct Sampler {
    times: Vec<f64>,
    levels: Vec<NoiseLevel>,
    /// Number of passes so far.
    done: usize,
    solver: Box<dyn Solver>,
}

impl Sampler {
    /// Starts a run of `steps` steps. PNDM takes one pass more than steps, and many more if it does not skip its
    /// Runge-Kutta steps; the others take one a step.
    ///
    /// # Errors
    /// `steps` is 0, exceeds the number of timesteps of the schedule, or is too small for the Runge-Kutta steps.
    pub fn new(config: &SamplerConfig, steps: usize) -> Result<Self> {
        let most = config.num_train_timesteps;
        let runge_kutta = config.kind() == SamplerKind::Pndm && !config.skip_prk_steps;
        let least = if runge_kutta { RUNGE_KUTTA } else { 1 };
        if steps < least || steps as i64 > most {
            let reason = format!("{steps} steps; this sampler takes {least} to {most}");
            return Err(Error::Input { input: "steps", reason });
        }
        let schedule = NoiseSchedule::new(config);
        let stride = most / steps as i64;
        let trained = |times: &[i64]| -> Result<(Vec<f64>, Vec<NoiseLevel>)> {
            let as_numbers: Vec<f64> = times.iter().map(|&time| time as f64).collect();
            check_times(&as_numbers, steps, most)?;
            Ok((as_numbers, times.iter().map(|&time| schedule.at(time)).collect::<Result<_>>()?))
        };
        let sigmas = || -> Result<Sigmas> {
            let sigmas = Sigmas::new(config, &schedule, steps)?;
            check_times(&sigmas.times, steps, most)?;
            Ok(sigmas)
        };
        let of_sigmas = |sigmas: &Sigmas| {
            (sigmas.times.clone(), (0..sigmas.passes()).map(|pass| sigmas.level(pass)).collect())
        };
        let ((times, levels), solver): (_, Box<dyn Solver>) = match config.kind() {
            SamplerKind::Ddim => {
                let times = times::of_ddim(config, steps);
                let clip = config.clip_sample.then_some(config.clip_sample_range);
                (trained(&times)?, Box::new(Ddim { schedule: schedule.clone(), times, stride, clip }))
            }
            SamplerKind::Pndm => {
                let (times, runge_kutta) = times::of_pndm(config, steps);
                (trained(&times)?, Box::new(Pndm::new(schedule.clone(), times, stride, runge_kutta)))
            }
            SamplerKind::Euler => {
                let sigmas = sigmas()?;
                (of_sigmas(&sigmas), Box::new(Euler::new(sigmas, config.spacing())))
            }
            SamplerKind::DpmSolver => {
                let sigmas = sigmas()?;
                let order = Order {
                    most: config.solver_order,
                    second: config.second(),
                    lower_at_end: config.lower_order_final,
                    first_at_end: config.euler_at_final,
                };
                (of_sigmas(&sigmas), Box::new(DpmSolver::new(sigmas, order)))
            }
            SamplerKind::Unipc => {
                let sigmas = sigmas()?;
                let settings = Settings {
                    order: config.solver_order,
                    bh: config.bh(),
                    lower_at_end: config.lower_order_final,
                    uncorrected: config.disable_corrector.clone(),
                };
                (of_sigmas(&sigmas), Box::new(UniPc::new(sigmas, settings)))
            }
        };
        Ok(Self { times, levels, done: 0, solver })
    }

    /// The timesteps of all passes, in order. Those of Euler's method may lie between two timesteps of the training.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// Number of passes so far.
    pub fn passes(&self) -> usize {
        self.done
    }

    /// The timestep of the next pass, or `None` at the end.
    pub fn time(&self) -> Option<f64> {
        self.times.get(self.done).copied()
    }

    /// The noise in what the network reads in the next pass, or `None` at the end.
    pub fn level(&self) -> Option<NoiseLevel> {
        self.levels.get(self.done).copied()
    }

    /// Returns the sample that the run begins with, from noise of mean 0 and variance 1.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn begin(&self, noise: &Tensor) -> Result<Tensor> {
        self.solver.begin(noise)
    }

    /// Returns what the network reads in the next pass, for a sample of this run: for most samplers the sample itself.
    ///
    /// # Errors
    /// The run is over; libtorch fails.
    pub fn input(&self, sample: &Tensor) -> Result<Tensor> {
        self.check_open()?;
        self.solver.input(self.done, sample)
    }

    /// Returns the sample after the pass at [`Sampler::time`]. `output` is the prediction of the network for
    /// [`Sampler::input`] of `sample`, of the same shape.
    ///
    /// # Errors
    /// The run is over; libtorch fails (shapes).
    pub fn step(&mut self, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        self.check_open()?;
        let pass = self.done;
        self.done += 1;
        self.solver.step(pass, output, sample)
    }

    fn check_open(&self) -> Result<()> {
        if self.done < self.times.len() {
            return Ok(());
        }
        let reason = format!("none is left of the {} passes of this run", self.times.len());
        Err(Error::Input { input: "step", reason })
    }
}

/// Checks that a run visits no time outside of the training.
fn check_times(times: &[f64], steps: usize, most: i64) -> Result<()> {
    let last = (most - 1) as f64;
    match times.iter().find(|time| !(0.0..=last).contains(*time)) {
        Some(time) => {
            let reason = format!(
                "{steps} steps visit time {time}, but the schedule has times 0 to {last}; take another number of steps"
            );
            Err(Error::Input { input: "steps", reason })
        }
        None => Ok(()),
    }
}
