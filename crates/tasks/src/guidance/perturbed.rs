//! Guidance away from a network with worse self-attention: perturbed-attention guidance (PAG, arXiv 2403.17377) and smoothed
//! energy guidance (SEG, arXiv 2408.00760). Both add `s (ε − ε̂)`, where `ε̂` is the prediction for the prompt when
//! self-attention is changed in some parts of the UNet.

use models::Perturbation;
use models::attend::{AttentionProbe, NoProbe};
use models::pipeline::{Guide, NoiseInput, Pass};
use tch::Tensor;

/// Applies PAG or SEG while one batch of images is generated.
pub struct PerturbedGuide {
    perturbation: Perturbation,
    /// `s`.
    scale: f64,
    probe: NoProbe,
}

impl PerturbedGuide {
    /// Creates the guide. `scale` is the factor by which the prediction is moved.
    pub fn new(perturbation: Perturbation, scale: f64) -> Self {
        Self { perturbation, scale, probe: NoProbe }
    }
}

impl Guide for PerturbedGuide {
    fn probe(&mut self) -> &mut dyn AttentionProbe {
        &mut self.probe
    }

    fn change(&mut self, pass: &Pass<'_>) -> models::Result<Tensor> {
        let perturbation = Some(&self.perturbation);
        let input = NoiseInput { perturbation, ..pass.input(pass.latents, pass.prompted.text) };
        let worse = pass.network.predict(&input, &mut NoProbe)?;
        Ok(pass.prompted.output.f_sub(&worse)?.f_mul_scalar(self.scale)?)
    }
}
