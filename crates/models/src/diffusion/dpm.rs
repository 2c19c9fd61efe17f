//! DPM-Solver++ (arXiv 2211.01095), the multistep solver of orders 1 to 3, diffusers' `DPMSolverMultistepScheduler`.

use tch::{Kind, Tensor};

use super::config::Second;
use super::sigmas::Sigmas;
use super::solver::Solver;
use crate::error::Result;

/// With fewer steps than this, the last steps are of lower order, since those of higher order are unstable.
const FEW_STEPS: usize = 15;

/// Settings of the solver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// 1, 2 or 3.
    pub(super) most: usize,
    /// The form of steps of second order.
    pub(super) second: Second,
    /// Whether the last steps of a short run are of lower order.
    pub(super) lower_at_end: bool,
    /// Whether the last step is of first order, whatever the number of steps.
    pub(super) first_at_end: bool,
}

#[derive(Debug)]
pub(super) struct DpmSolver {
    sigmas: Sigmas,
    order: Order,
    /// The latest predictions of the clean image, at most three, the newest first.
    past: Vec<Tensor>,
}

impl DpmSolver {
    pub(super) fn new(sigmas: Sigmas, order: Order) -> Self {
        Self { sigmas, order, past: Vec::new() }
    }

    /// The order of the step of a pass: at most one more than there are earlier predictions.
    fn order(&self, pass: usize) -> usize {
        let (passes, Order { most, lower_at_end, first_at_end, .. }) = (self.sigmas.passes(), self.order);
        let short = lower_at_end && passes < FEW_STEPS;
        let (here, there) = (self.sigmas.sigma(pass), self.sigmas.sigma(pass + 1));
        let ends = match passes - pass {
            // Higher orders divide by the length of the step in λ.
            1 if short || first_at_end || there == 0.0 || there == here => 1,
            2 if short => 2,
            _ => most,
        };
        ends.min(most).min(self.past.len())
    }
}

impl Solver for DpmSolver {
    fn step(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let (here, there) = (self.sigmas.level(pass), self.sigmas.level(pass + 1));
        let single = sample.f_to_kind(Kind::Float)?;
        self.past.insert(0, here.clean(&single, &output.f_to_kind(Kind::Float)?)?);
        self.past.truncate(self.order.most);
        let order = self.order(pass);

        // e^(−h) − 1, where h is the step in λ = −ln σ.
        let shrink = self.sigmas.sigma(pass + 1) / self.sigmas.sigma(pass) - 1.0;
        let signal = there.signal();
        let kept = single.f_mul_scalar(there.amount() / here.amount())?;
        let mut next = kept.f_sub(&self.past[0].f_mul_scalar(signal * shrink)?)?;
        if order > 1 {
            let step = self.sigmas.lambda(pass + 1) - self.sigmas.lambda(pass);
            let back = |passes: usize| self.sigmas.lambda(pass) - self.sigmas.lambda(pass - passes);
            let slope = |newer: usize, length: f64| -> Result<Tensor> {
                Ok(self.past[newer].f_sub(&self.past[newer + 1])?.f_mul_scalar(step / length)?)
            };
            // Integrals of e^(−h) times a line and a parabola.
            let (line, parabola) = (shrink / step + 1.0, (shrink + step) / (step * step) - 0.5);
            let near = slope(0, back(1))?;
            if order == 2 {
                let factor = match self.order.second {
                    Second::Midpoint => -0.5 * shrink,
                    Second::Heun => line,
                };
                next = next.f_add(&near.f_mul_scalar(signal * factor)?)?;
            } else {
                let (r0, r1) = (back(1) / step, (back(2) - back(1)) / step);
                let bend = near.f_sub(&slope(1, back(2) - back(1))?)?;
                let first = near.f_add(&bend.f_mul_scalar(r0 / (r0 + r1))?)?;
                let second = bend.f_mul_scalar(1.0 / (r0 + r1))?;
                next = next
                    .f_add(&first.f_mul_scalar(signal * line)?)?
                    .f_sub(&second.f_mul_scalar(signal * parabola)?)?;
            }
        }
        Ok(next.f_to_kind(sample.kind())?)
    }
}
