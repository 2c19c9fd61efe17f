//! Self-attention guidance (Hong et al., arXiv 2210.00939), step by step as diffusers' `StableDiffusionSAGPipeline`.
//!
//! The current estimate of the clean image is blurred where the network's own attention is high, and noised again with
//! the same noise. The prediction is then moved away from the prediction for this degraded image. The attention is read
//! by a probe; the network itself is unchanged.

use std::ops::Range;

use models::attend::{AttentionProbe, NoProbe, View, Want};
use models::pipeline::{Guide, Pass};
use models::{Site, Stream, UnetPart, blur};
use tch::Tensor;

use super::blur::Blur;
use super::mask::{Importance, Threshold, mask};

/// Settings of self-attention guidance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sag {
    /// What makes a token important.
    pub importance: Importance,
    /// Which tokens are important enough.
    pub threshold: Threshold,
    /// Probability that the teleporting chain follows the attention in a step.
    pub alpha: f64,
    /// Factor by which the prediction is moved: `s` in `ε + s (ε − ε̂)`.
    pub scale: f64,
    /// How the image is degraded.
    pub blur: Blur,
}

/// Applies [`Sag`] while one batch of images is generated.
pub struct SagGuide {
    settings: Sag,
    batch: i64,
    map: MiddleMap,
    /// The mask of each pass, `[batch, rows, columns]` bool, on the device.
    masks: Vec<Tensor>,
}

impl SagGuide {
    /// Creates the guide for a batch of `batch` images.
    pub fn new(settings: Sag, batch: i64) -> Self {
        Self { settings, batch, map: MiddleMap::default(), masks: Vec::new() }
    }

    /// Returns the mask of each pass, `[batch, rows, columns]` bool.
    pub fn into_masks(self) -> Vec<Tensor> {
        self.masks
    }
}

impl Guide for SagGuide {
    fn probe(&mut self) -> &mut dyn AttentionProbe {
        &mut self.map
    }

    fn change(&mut self, pass: &Pass<'_>) -> models::Result<Tensor> {
        let (maps, grid) = self.map.take()?;
        // The first half of the batch is the unconditional half of classifier-free guidance.
        let maps = maps.f_narrow(0, 0, self.batch)?;
        let Sag { importance, threshold, alpha, scale, blur } = self.settings;
        let mask = mask(&maps, importance, threshold, alpha).map_err(in_model)?;
        let mask = mask.f_reshape([self.batch, grid.0, grid.1])?;

        let output = pass.unprompted.output;
        let clean = pass.level.clean(pass.latents, output)?;
        let noise = pass.level.noise(pass.latents, output)?;
        let degraded = pass.level.add_noise(&degrade(&clean, &mask, blur)?, &noise)?;
        let without = pass.network.predict(&pass.input(&degraded, pass.unprompted.text), &mut NoProbe)?;
        self.masks.push(mask);
        Ok(output.f_sub(&without)?.f_mul_scalar(scale)?)
    }
}

/// Returns `clean` `[batch, channels, h, w]`, blurred where `mask` `[batch, rows, columns]` is true.
fn degrade(clean: &Tensor, mask: &Tensor, blur: Blur) -> models::Result<Tensor> {
    let (.., height, width) = clean.size4()?;
    let mask = mask.f_unsqueeze(1)?.f_to_kind(clean.kind())?;
    let mask = mask.f_upsample_nearest2d([height, width], None, None)?;
    let blurred = blur::gaussian(clean, blur.kernel, blur.sigma)?;
    let rest = mask.f_neg()?.f_add_scalar(1.0)?;
    Ok(blurred.f_mul(&mask)?.f_add(&clean.f_mul(&rest)?)?)
}

fn in_model(error: crate::Error) -> models::Error {
    use crate::Error as E;
    match error {
        E::Model(error) => *error,
        E::Torch(error) => error.into(),
        E::Dataset { .. }
        | E::Scores { .. }
        | E::Prompts { .. }
        | E::NoData { .. }
        | E::Setting { .. }
        | E::Write { .. }
        | E::Scene(_)
        | E::Score(_) => models::Error::Probe(error.to_string()),
    }
}

/// Keeps the self-attention of the first transformer layer in the middle block of the UNet: `[batch, heads, n, n]`
/// float32.
#[derive(Default)]
struct MiddleMap {
    heads: Vec<Tensor>,
    grid: (i64, i64),
}

impl MiddleMap {
    fn is_ours(site: &Site) -> bool {
        matches!(&site.stream, Stream::Unet(layer)
            if layer.part == UnetPart::Mid && layer.attention == 0 && layer.layer == 0 && !layer.cross)
    }

    fn take(&mut self) -> models::Result<(Tensor, (i64, i64))> {
        let heads = std::mem::take(&mut self.heads);
        if heads.is_empty() {
            return Err(models::Error::Probe("the middle block of this UNet has no self-attention".into()));
        }
        Ok((Tensor::f_cat(&heads, 1)?, self.grid))
    }
}

impl AttentionProbe for MiddleMap {
    fn want(&mut self, site: &Site) -> Want {
        if Self::is_ours(site) { Want::PROBS } else { Want::NONE }
    }

    fn see(&mut self, site: &Site, _: Range<i64>, view: &View<'_>) -> models::Result<()> {
        if Self::is_ours(site) {
            self.heads.push(view.probs()?.shallow_clone());
            self.grid = site.layout.image;
        }
        Ok(())
    }
}
