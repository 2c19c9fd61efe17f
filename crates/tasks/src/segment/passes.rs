//! Encodes the inputs of the passes, and runs the passes.

use std::collections::{BTreeMap, HashMap};

use models::flow_match::add_noise;
use models::image::{Resample, resize};
use models::pipeline::{Draw, EncodedText, JointNetwork, JointPass};
use models::{TokenLayout, noise};
use rayon::prelude::*;
use tch::Tensor;

use super::config::Pooled;
use super::method::concept_methods;
use super::probe::{PassSignals, SignalProbe};
use super::{Segment, depths};
use crate::dataset::segmentation::{Segmented, SegmentedImage};
use crate::error::Result;
use crate::seed::seed_of;
use crate::task::Failure;
use crate::texts::encode_each;

/// Number of images that are decoded before the first of them is encoded.
const DECODED_AT_ONCE: usize = 16;

/// The network, and all encoded inputs of its passes.
pub(super) struct Ready {
    texts: BTreeMap<String, EncodedText>,
    /// The encoded image of each item, by index.
    images: HashMap<usize, Result<Encoded, Failure>>,
    network: Box<dyn JointNetwork>,
}

/// The encoded image of an item.
pub(super) struct Encoded {
    /// The latents `[channels, h, w]`, on the CPU.
    latents: Tensor,
    pub(super) sha256: String,
}

impl Segment {
    /// Encodes the prompts and images of these items, and loads the network.
    pub(super) fn prepare(&self, expected: &[usize]) -> Result<Ready> {
        let texts = expected.iter().flat_map(|&index| self.texts(&self.items[index])).collect();
        let (texts, bad_texts) =
            encode_each(texts, |texts| self.pipeline.encode_texts(texts, self.config.text_tokens))?;
        let mut images = HashMap::new();
        let mut encoded = Vec::new();
        for &index in expected {
            let item = &self.items[index];
            match self.texts(item).into_iter().find_map(|text| bad_texts.get(&text)) {
                Some(reason) => {
                    images.insert(index, Err(Failure::of_network(&item.id, reason)));
                }
                None => encoded.push(index),
            }
        }
        let expected = &encoded[..];

        // Only these fields are captured below: tensors must not be accessed from other threads.
        let (items, side) = (&self.items, self.config.image_size);
        // Hashes of the readable items, in the order in which their images are encoded.
        let mut hashes: Vec<(usize, String)> = Vec::new();
        let mut batches = expected.chunks(DECODED_AT_ONCE).filter_map(|chunk| {
            let read = |&index: &usize| items[index].load().and_then(|image| pixels(&image, side));
            let decoded: Vec<Result<(Vec<f32>, String)>> = chunk.par_iter().map(read).collect();
            let mut flat = Vec::with_capacity(chunk.len() * 3 * side * side);
            let before = hashes.len();
            for (&index, decoded) in chunk.iter().zip(decoded) {
                match decoded {
                    Ok((pixels, sha256)) => {
                        flat.extend(pixels);
                        hashes.push((index, sha256));
                    }
                    Err(e) => {
                        images.insert(index, Err(Failure::new(&items[index].id, e)));
                    }
                }
            }
            let (count, side) = ((hashes.len() - before) as i64, side as i64);
            let stack = || -> models::Result<Tensor> {
                Ok(Tensor::f_from_slice(&flat)?.f_reshape([count, 3, side, side])?)
            };
            (count > 0).then(stack)
        });
        let latents = self.pipeline.encode_images(&mut batches, Draw::Mode)?;
        let encoded = latents.into_iter().zip(hashes);
        images.extend(encoded.map(|(latents, (index, sha256))| match latents {
            Ok(latents) => (index, Ok(Encoded { latents, sha256 })),
            Err(reason) => (index, Err(Failure::of_network(&items[index].id, &reason))),
        }));
        Ok(Ready { texts, images, network: self.pipeline.network()? })
    }

    /// Returns the texts that the passes over an item need: its prompt and its concepts.
    fn texts(&self, item: &SegmentedImage) -> Vec<String> {
        let concepts = self.concepts(item).unwrap_or_default();
        concepts.into_iter().chain([self.prompt(item)]).collect()
    }

    /// Runs all passes over a batch of items with equally many classes. Returns what the probe has kept, and the layout
    /// of the tokens.
    pub(super) fn passes(&self, ready: &Ready, batch: &[usize]) -> Result<(PassSignals, TokenLayout)> {
        let (dual, single) = depths(&*self.pipeline);
        let mut probe = SignalProbe::new(&self.config, dual, single)?;
        let last = probe.last_block(&self.config, dual)?;

        let of_batch = |part: &dyn Fn(&SegmentedImage) -> Result<Tensor>| -> Result<Tensor> {
            let parts = batch.iter().map(|&item| part(&self.items[item])).collect::<Result<Vec<_>>>()?;
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
                let noised = batch.iter().map(|&item| {
                    let latents = &ready.image(item)?.latents;
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
    /// Whether an item was prepared.
    pub(super) fn has(&self, index: usize) -> bool {
        self.images.contains_key(&index)
    }

    /// Returns the reason if the item cannot be answered.
    pub(super) fn failure(&self, index: usize) -> Option<&Failure> {
        self.images.get(&index)?.as_ref().err()
    }

    /// Returns the encoded image of a readable item.
    pub(super) fn image(&self, index: usize) -> Result<&Encoded> {
        let missing = || models::Error::Probe(format!("item {index} was not encoded"));
        Ok(self.images.get(&index).and_then(|image| image.as_ref().ok()).ok_or_else(missing)?)
    }

    fn text(&self, text: &str) -> Result<&EncodedText> {
        let missing = || models::Error::Text { text: text.into(), reason: "it was not encoded".into() };
        Ok(self.texts.get(text).ok_or_else(missing)?)
    }
}

/// Resizes an image to a square. Returns its samples `[3, side, side]` from -1 to 1, and its hash.
fn pixels(image: &Segmented, side: usize) -> Result<(Vec<f32>, String)> {
    let square = resize(&image.rgb, (side, side), Resample::Bicubic).map_err(models::Error::from)?;
    Ok((square.signed_planes(), image.sha256.clone()))
}
