//! Encodes the inputs of the passes, and runs the passes.

use std::collections::BTreeMap;

use models::flow_match::add_noise;
use models::image::{Resample, Rgb8, resize};
use models::pipeline::{Draw, EncodedText, ImageEncoder, JointNetwork, JointPass};
use models::{NotFinite, TokenLayout, noise};
use tch::Tensor;

use super::config::Pooled;
use super::method::concept_methods;
use super::probe::{PassSignals, SignalProbe};
use super::{Segment, depths};
use crate::dataset::segmentation::SegmentedImage;
use crate::error::Result;
use crate::seed::seed_of;
use crate::task::Failure;
use crate::texts::encode_each;

/// The networks, and the encoded texts.
pub(super) struct Ready {
    texts: BTreeMap<String, EncodedText>,
    bad_texts: BTreeMap<String, NotFinite>,
    encoder: ImageEncoder,
    network: Box<dyn JointNetwork>,
}

impl Segment {
    /// Encodes the texts of these items, then loads the networks.
    pub(super) fn prepare(&self, items: &[usize]) -> Result<Ready> {
        let texts = items.iter().flat_map(|&index| self.texts(&self.items[index])).collect();
        let (texts, bad_texts) =
            encode_each(texts, |texts| self.pipeline.encode_texts(texts, self.config.text_tokens))?;
        let (encoder, network) = (self.pipeline.image_encoder()?, self.pipeline.network()?);
        Ok(Ready { texts, bad_texts, encoder, network })
    }

    /// Whether the texts of an item were encoded, or cannot be.
    pub(super) fn knows(&self, ready: &Ready, index: usize) -> bool {
        let known = |text: &String| ready.texts.contains_key(text) || ready.bad_texts.contains_key(text);
        self.texts(&self.items[index]).iter().all(known)
    }

    /// Returns the latents `[channels, h, w]` of an item's image, on the CPU, or why it has none. `samples` are its
    /// [`samples`].
    pub(super) fn latents(
        &self,
        ready: &Ready,
        index: usize,
        samples: &[f32],
    ) -> Result<Result<Tensor, Failure>> {
        let item = &self.items[index];
        let failed = |reason: &NotFinite| Ok(Err(Failure::of_network(&item.id, reason)));
        if let Some(reason) = self.texts(item).iter().find_map(|text| ready.bad_texts.get(text)) {
            return failed(reason);
        }
        let side = self.config.image_size as i64;
        let pixels = Tensor::f_from_slice(samples)?.f_reshape([1, 3, side, side])?;
        match ready.encoder.encode(&pixels, Draw::Mode) {
            Ok(latents) => Ok(Ok(latents.f_squeeze_dim(0)?)),
            Err(error) => failed(&error.into_not_finite()?),
        }
    }

    /// Returns the texts that the passes over an item need: its prompt and its concepts.
    fn texts(&self, item: &SegmentedImage) -> Vec<String> {
        let concepts = self.concepts(item).unwrap_or_default();
        concepts.into_iter().chain([self.prompt(item)]).collect()
    }

    /// Runs all passes over a batch of items with equally many classes, each with its latents. Returns what the probe has kept,
    /// and the layout of the tokens.
    pub(super) fn passes(
        &self,
        ready: &Ready,
        batch: &[(usize, &Tensor)],
    ) -> Result<(PassSignals, TokenLayout)> {
        let (dual, single) = depths(&*self.pipeline);
        let mut probe = SignalProbe::new(&self.config, dual, single)?;
        let last = probe.last_block(&self.config, dual)?;

        let of_batch = |part: &dyn Fn(&SegmentedImage) -> Result<Tensor>| -> Result<Tensor> {
            let parts = batch.iter().map(|&(item, _)| part(&self.items[item])).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::f_stack(&parts, 0)?)
        };
        let text = |item: &SegmentedImage| ready.text(&self.prompt(item));
        let prompts = of_batch(&|item| Ok(text(item)?.text.shallow_clone()))?;
        let pooled = of_batch(&|item| {
            let pooled = &text(item)?.pooled;
            Ok(match self.config.pooled {
                Pooled::Prompt => pooled.shallow_clone(),
                Pooled::Zeros => pooled.f_zeros_like()?,
            })
        })?;
        let concepts = concept_methods(&self.config.methods).next().map(|_| {
            of_batch(&|item| {
                // Each concept is embedded as a separate text, of which the first token is taken.
                let first = |name: &String| Ok(ready.text(name)?.text.f_get(0)?);
                let concepts = self.concepts(item).unwrap_or_default();
                Ok(Tensor::f_stack(&concepts.iter().map(first).collect::<Result<Vec<_>>>()?, 0)?)
            })
        });
        let concepts = concepts.transpose()?;
        let mut layout = None;
        for &step in &self.config.noise.at {
            for sample in 0..self.config.noise.samples {
                let noised = batch.iter().map(|&(item, latents)| {
                    let noise =
                        noise::normal(&latents.size(), self.noise_seed(&self.items[item].id, sample))?;
                    Ok(add_noise(latents, &noise, self.schedule.sigma(step)?)?)
                });
                let noised = Tensor::f_stack(&noised.collect::<Result<Vec<_>>>()?, 0)?;
                let pass = JointPass {
                    latents: &noised,
                    text: &prompts,
                    pooled: &pooled,
                    concepts: concepts.as_ref(),
                    schedule: &self.schedule,
                    step,
                    guidance: self.config.guidance,
                };
                layout = Some(ready.network.watch(&pass, last, &mut probe)?);
                probe.end_pass()?;
            }
        }
        let layout = layout.ok_or_else(|| models::Error::Probe("no pass was asked for".into()))?;
        Ok((probe.finish()?, layout))
    }

    /// Returns the seed of the noise on an image. It does not depend on the other images of the batch.
    fn noise_seed(&self, id: &str, sample: usize) -> u64 {
        seed_of(&format!("{}/{id}/{sample}", self.seed))
    }
}

impl Ready {
    fn text(&self, text: &str) -> Result<&EncodedText> {
        let missing = || models::Error::Text { text: text.into(), reason: "it was not encoded".into() };
        Ok(self.texts.get(text).ok_or_else(missing)?)
    }
}

/// Resizes an image to a square and returns its samples `[3, side, side]` from -1 to 1.
pub(super) fn samples(image: &Rgb8, side: usize) -> Result<Vec<f32>> {
    Ok(resize(image, (side, side), Resample::Bicubic).map_err(models::Error::from)?.signed_planes())
}
