//! Pseudo numerical methods for diffusion models (arXiv 2202.09778).

use tch::Tensor;

use super::schedule::NoiseSchedule;
use super::solver::Solver;
use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) struct Pndm {
    schedule: NoiseSchedule,
    times: Vec<i64>,
    /// Distance from one timestep to the next.
    stride: i64,
    /// Number of Runge-Kutta passes at the start.
    runge_kutta: usize,
    /// The latest outputs of the network, at most four, the newest last.
    past: Vec<Tensor>,
    /// The sample at the beginning of a step of several passes.
    from: Option<Tensor>,
    /// Weighted sum of the outputs of a Runge-Kutta step.
    sum: Option<Tensor>,
}

impl Pndm {
    pub(super) fn new(schedule: NoiseSchedule, times: Vec<i64>, stride: i64, runge_kutta: usize) -> Self {
        Self { schedule, times, stride, runge_kutta, past: Vec::new(), from: None, sum: None }
    }

    /// One of the four passes of a Runge-Kutta step.
    fn runge_kutta_pass(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let (start, part) = (self.times[pass / 4 * 4], pass % 4);
        // The first two passes go to the middle of the step, the others to its end.
        let to = self.times[pass] - if pass.is_multiple_of(2) { self.stride / 2 } else { 0 };
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
            return transfer(&self.schedule, from, &sum, start, to);
        }
        self.sum = Some(sum);
        transfer(&self.schedule, from, output, start, to)
    }

    /// A step of the linear multistep method, which extrapolates from up to four outputs.
    fn multistep_pass(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let (time, stride) = (self.times[pass], self.stride);
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
            return transfer(&self.schedule, from.as_ref().unwrap_or(sample), &mean, time + stride, time);
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
        transfer(&self.schedule, sample, &mixed, time, time - stride)
    }
}

impl Solver for Pndm {
    fn step(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        match pass < self.runge_kutta {
            true => self.runge_kutta_pass(pass, output, sample),
            false => self.multistep_pass(pass, output, sample),
        }
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
    let output = schedule.at(from)?.noise(sample, output)?;
    let (here, there) = (schedule.alpha(from), schedule.alpha(to));
    let keep = f64::from((there / here).sqrt());
    let change = f64::from(there - here);
    let scale = here * (1.0 - there).sqrt() + (here * (1.0 - here) * there).sqrt();
    let moved = output.f_mul_scalar(change)?.f_div_scalar(f64::from(scale))?;
    Ok(sample.f_mul_scalar(keep)?.f_sub(&moved)?)
}
