//! Samplers: from noise to an image.

use tch::Tensor;

use super::config::{SamplerConfig, SamplerKind};
use super::schedule::NoiseSchedule;
use super::times::{RUNGE_KUTTA, times};
use crate::error::{Error, Result};

/// One run of a sampler over a batch. Repeat until [`Sampler::time`] returns `None`: pass the sample through the
/// network at that timestep, then call [`Sampler::step`].
#[derive(Debug)]
pub struct Sampler {
    schedule: NoiseSchedule,
    times: Vec<i64>,
    /// Number of passes so far.
    done: usize,
    /// Distance from one timestep to the next.
    stride: i64,
    method: Method,
}

#[derive(Debug)]
enum Method {
    Ddim { clip: Option<f64> },
    Pndm(Pndm),
}

#[derive(Debug)]
struct Pndm {
    /// Number of Runge-Kutta passes at the start.
    runge_kutta: usize,
    /// The latest outputs of the network, at most four, the newest last.
    past: Vec<Tensor>,
    /// The sample at the beginning of a step of several passes.
    from: Option<Tensor>,
    /// Weighted sum of the outputs of a Runge-Kutta step.
    sum: Option<Tensor>,
}

impl Sampler {
    /// Starts a run of `steps` steps. PNDM takes one pass more than steps, and many more if it does not skip its
    /// Runge-Kutta steps.
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
        let (times, runge_kutta) = times(config, steps);
        if let Some(time) = times.iter().find(|time| !(0..most).contains(*time)) {
            let reason = format!(
                "{steps} steps visit time {time}, but the schedule has times 0 to {}; take another number of steps",
                most - 1
            );
            return Err(Error::Input { input: "steps", reason });
        }
        let method = match config.kind() {
            SamplerKind::Ddim => {
                Method::Ddim { clip: config.clip_sample.then_some(config.clip_sample_range) }
            }
            SamplerKind::Pndm => Method::Pndm(Pndm { runge_kutta, past: Vec::new(), from: None, sum: None }),
        };
        Ok(Self { schedule, times, done: 0, stride: most / steps as i64, method })
    }

    /// The noise schedule.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// The timesteps of all passes, in order.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// Number of passes so far.
    pub fn passes(&self) -> usize {
        self.done
    }

    /// The timestep of the next pass, or `None` at the end.
    pub fn time(&self) -> Option<i64> {
        self.times.get(self.done).copied()
    }

    /// Returns the sample after the pass at [`Sampler::time`]. `output` is the prediction of the network for `sample`,
    /// of the same shape.
    ///
    /// # Errors
    /// The run is over; libtorch fails (shapes).
    pub fn step(&mut self, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let Some(time) = self.time() else {
            let reason = format!("none is left of the {} passes of this run", self.times.len());
            return Err(Error::Input { input: "step", reason });
        };
        let pass = self.done;
        self.done += 1;
        let schedule = &self.schedule;
        match &mut self.method {
            Method::Ddim { clip } => ddim(schedule, *clip, output, sample, (time, time - self.stride)),
            Method::Pndm(state) if pass < state.runge_kutta => {
                let start = self.times[pass / 4 * 4];
                // The first two passes go to the middle of the step, the others to its end.
                let to = time - if pass.is_multiple_of(2) { self.stride / 2 } else { 0 };
                state.runge_kutta_pass(schedule, output, sample, pass % 4, (start, to))
            }
            Method::Pndm(state) => state.multistep_pass(schedule, output, sample, pass, (time, self.stride)),
        }
    }
}

/// A step of DDIM (arXiv 2010.02502, equation 12 with σ = 0) between two timesteps.
fn ddim(
    schedule: &NoiseSchedule,
    clip: Option<f64>,
    output: &Tensor,
    sample: &Tensor,
    (from, to): (i64, i64),
) -> Result<Tensor> {
    let clean = schedule.clean(sample, output, from)?;
    let noise = schedule.noise(sample, output, from)?;
    let clean = match clip {
        Some(range) => clean.f_clamp(-range, range)?,
        None => clean,
    };
    let alpha = schedule.alpha(to);
    let direction = noise.f_mul_scalar(f64::from((1.0 - alpha).sqrt()))?;
    Ok(clean.f_mul_scalar(f64::from(alpha.sqrt()))?.f_add(&direction)?)
}

impl Pndm {
    /// One of the four passes of a Runge-Kutta step that begins at `start`.
    fn runge_kutta_pass(
        &mut self,
        schedule: &NoiseSchedule,
        output: &Tensor,
        sample: &Tensor,
        part: usize,
        (start, to): (i64, i64),
    ) -> Result<Tensor> {
        let weighted = output.f_mul_scalar(if part == 0 || part == 3 { 1.0 / 6.0 } else { 1.0 / 3.0 })?;
        let sum = match self.sum.take() {
            Some(sum) => sum.f_add(&weighted)?,
            None => weighted,
        };
        if part == 0 {
            self.past.push(output.shallow_clone());
            self.from = Some(sample.shallow_clone());
        }
        let from = self.from.as_ref().unwrap_or(sample);
        if part == 3 {
            return transfer(schedule, from, &sum, start, to);
        }
        self.sum = Some(sum);
        transfer(schedule, from, output, start, to)
    }

    /// A step of the linear multistep method, which extrapolates from up to four outputs.
    fn multistep_pass(
        &mut self,
        schedule: &NoiseSchedule,
        output: &Tensor,
        sample: &Tensor,
        pass: usize,
        (time, stride): (i64, i64),
    ) -> Result<Tensor> {
        let scaled = |output: &Tensor, by: f64| output.f_mul_scalar(by);
        if pass == 1 {
            // Repeats the first step with the mean of both outputs.
            let Some(first) = self.past.last() else {
                return Err(Error::Input {
                    input: "step",
                    reason: "the run did not begin at its start".into(),
                });
            };
            let mean = output.f_add(first)?.f_div_scalar(2.0)?;
            let from = self.from.take();
            return transfer(schedule, from.as_ref().unwrap_or(sample), &mean, time + stride, time);
        }
        if self.past.len() > 3 {
            drop(self.past.remove(0));
        }
        self.past.push(output.shallow_clone());
        let mixed = match self.past.as_slice() {
            [a, b] => scaled(b, 3.0)?.f_sub(a)?.f_div_scalar(2.0)?,
            [a, b, c] => {
                let sum = scaled(c, 23.0)?.f_sub(&scaled(b, 16.0)?)?.f_add(&scaled(a, 5.0)?)?;
                sum.f_div_scalar(12.0)?
            }
            [a, b, c, d] => {
                let newer = scaled(d, 55.0)?.f_sub(&scaled(c, 59.0)?)?;
                let sum = newer.f_add(&scaled(b, 37.0)?)?.f_sub(&scaled(a, 9.0)?)?;
                sum.f_mul_scalar(1.0 / 24.0)?
            }
            _ => {
                self.from = Some(sample.shallow_clone());
                output.shallow_clone()
            }
        };
        transfer(schedule, sample, &mixed, time, time - stride)
    }
}

/// Moves a sample from timestep `from` to `to` with the noise `output` (arXiv 2202.09778, equation 9). Coefficients are
/// float32 as in diffusers.
fn transfer(
    schedule: &NoiseSchedule,
    sample: &Tensor,
    output: &Tensor,
    from: i64,
    to: i64,
) -> Result<Tensor> {
    // Converts the output of a network that predicts velocities to noise.
    let output = schedule.noise(sample, output, from)?;
    let (here, there) = (schedule.alpha(from), schedule.alpha(to));
    let keep = f64::from((there / here).sqrt());
    let change = f64::from(there - here);
    let scale = here * (1.0 - there).sqrt() + (here * (1.0 - here) * there).sqrt();
    let moved = output.f_mul_scalar(change)?.f_div_scalar(f64::from(scale))?;
    Ok(sample.f_mul_scalar(keep)?.f_sub(&moved)?)
}
