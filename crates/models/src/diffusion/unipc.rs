//! UniPC (arXiv 2302.04867), predictor and corrector of orders 1 to 3 in predictions of the clean image, diffusers'
//! `UniPCMultistepScheduler`.

use tch::{Device, Kind, Tensor};

use super::config::Bh;
use super::sigmas::Sigmas;
use super::solver::Solver;
use crate::error::Result;

/// Settings of the solver.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Largest order, 1 to 3.
    pub(super) order: usize,
    pub(super) bh: Bh,
    /// Whether the order falls towards the end of a run.
    pub(super) lower_at_end: bool,
    /// Steps after which the sample is not corrected.
    pub(super) uncorrected: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct UniPc {
    sigmas: Sigmas,
    settings: Settings,
    /// The latest predictions of the clean image, at most as many as the order, the newest first.
    past: Vec<Tensor>,
    /// The sample before the latest step, and the order of that step.
    last: Option<(Tensor, usize)>,
}

/// What predictor and corrector of one step share: how the sample changes from one pass to the next.
struct Step {
    /// Factors of the sample and of the clean image in the exponential step of first order.
    keep: f64,
    clean: f64,
    /// Factor of the sum of differences.
    scale: f64,
    /// Distances of earlier passes in units of the step, negative; last that of the end of the step, 1.
    places: Vec<f64>,
    /// Right-hand side of the system whose solution weighs the differences.
    moments: Vec<f64>,
}

impl UniPc {
    pub(super) fn new(sigmas: Sigmas, settings: Settings) -> Self {
        Self { sigmas, settings, past: Vec::new(), last: None }
    }

    /// The order of the step of a pass: at most one more than there are earlier predictions.
    fn order(&self, pass: usize) -> usize {
        let left = if self.settings.lower_at_end { self.sigmas.passes() - pass } else { usize::MAX };
        let (here, there) = (self.sigmas.sigma(pass), self.sigmas.sigma(pass + 1));
        // Higher orders divide by the length of the step in λ.
        let most = if there == 0.0 || there == here { 1 } else { self.settings.order };
        most.min(left).min(self.past.len())
    }

    /// The step from pass `from` to the next, of an order.
    fn prepared(&self, from: usize, order: usize) -> Step {
        let Self { sigmas, settings, .. } = self;
        let (here, there) = (sigmas.level(from), sigmas.level(from + 1));
        let step = sigmas.lambda(from + 1) - sigmas.lambda(from);
        // e^(−h) − 1
        let shrink = sigmas.sigma(from + 1) / sigmas.sigma(from) - 1.0;
        let scale = match settings.bh {
            Bh::Bh1 => -step,
            Bh::Bh2 => shrink,
        };
        let place = |back: usize| (sigmas.lambda(from - back) - sigmas.lambda(from)) / step;
        // φ₂, φ₃ … of −h: each follows from the one before.
        let (mut phi, mut factorial) = (shrink / -step - 1.0, 1.0);
        let moments = (1..=order).map(|power| {
            let moment = phi * factorial / scale;
            factorial *= (power + 1) as f64;
            phi = phi / -step - 1.0 / factorial;
            moment
        });
        Step {
            moments: moments.collect(),
            keep: there.amount() / here.amount(),
            clean: -there.signal() * shrink,
            scale: -there.signal() * scale,
            places: (1..order).map(place).chain([1.0]).collect(),
        }
    }

    /// Differences of earlier predictions from the latest, per unit of the step.
    fn slopes(&self, step: &Step) -> Result<Vec<Tensor>> {
        // The last place is that of the step's end.
        let earlier = step.places[..step.places.len() - 1].iter().zip(self.past.iter().skip(1));
        earlier.map(|(place, past)| Ok(past.f_sub(&self.past[0])?.f_div_scalar(*place)?)).collect()
    }
}

impl Step {
    /// Weights of the first `count` differences.
    fn weights(&self, count: usize) -> Result<Vec<f64>> {
        let rows =
            (0..count).flat_map(|power| self.places[..count].iter().map(move |r| r.powi(power as i32)));
        let count = count as i64;
        let rows = Tensor::f_from_slice(&rows.collect::<Vec<f64>>())?.f_reshape([count, count])?;
        let moments = Tensor::f_from_slice(&self.moments[..count as usize])?;
        let solved = Tensor::f_linalg_solve(&rows, &moments, true)?;
        Ok(Vec::try_from(solved.f_to_device(Device::Cpu)?)?)
    }

    /// The sample after the step, from the one before it, the clean image and weighted differences.
    fn taken(&self, sample: &Tensor, clean: &Tensor, differences: &[(f64, &Tensor)]) -> Result<Tensor> {
        let plain = sample.f_mul_scalar(self.keep)?.f_add(&clean.f_mul_scalar(self.clean)?)?;
        differences
            .iter()
            .try_fold(plain, |sum, (weight, slope)| Ok(sum.f_add(&slope.f_mul_scalar(self.scale * weight)?)?))
    }
}

impl Solver for UniPc {
    fn step(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let kind = sample.kind();
        let mut sample = sample.f_to_kind(Kind::Float)?;
        let clean = self.sigmas.level(pass).clean(&sample, &output.f_to_kind(Kind::Float)?)?;
        if let Some((before, order)) = self
            .last
            .take()
            .filter(|_| pass.checked_sub(1).is_some_and(|step| !self.settings.uncorrected.contains(&step)))
        {
            let step = self.prepared(pass - 1, order);
            let mut slopes = self.slopes(&step)?;
            slopes.push(clean.f_sub(&self.past[0])?);
            let weights = if order == 1 { vec![0.5] } else { step.weights(order)? };
            let differences: Vec<_> = weights.into_iter().zip(&slopes).collect();
            sample = step.taken(&before, &self.past[0], &differences)?;
        }
        self.past.insert(0, clean);
        self.past.truncate(self.settings.order);

        let order = self.order(pass);
        let step = self.prepared(pass, order);
        let slopes = self.slopes(&step)?;
        let weights = match order {
            1 => Vec::new(),
            2 => vec![0.5],
            _ => step.weights(order - 1)?,
        };
        let differences: Vec<_> = weights.into_iter().zip(&slopes).collect();
        let next = step.taken(&sample, &self.past[0], &differences)?;
        self.last = Some((sample, order));
        Ok(next.f_to_kind(kind)?)
    }
}
