//! Self-attention guidance of Stable Diffusion, with masks from column sums and from TokenRank, and its rivals PAG and SEG.
//!
//! Image `k` starts from the noise of its own seed under every method, whatever the batch. The images are written as
//! PNG files, one folder per method, before their record is written; the crate `eval` computes metrics on them.

mod blur;
mod config;
mod mask;
mod method;
mod perturbed;
mod pictures;
mod prompts;
mod record;
mod sag;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use models::diffusion::{Sampler, SamplerConfig};
use models::image::Rgb8;
use models::pipeline::{
    ClassifierFree, Guide, ImageDecoder, NoisePipeline, NoisePredictor, Start, sample, to_pixels,
};
use models::{Stream, UnetPart, noise};
use rayon::prelude::*;
use tch::Tensor;

pub use blur::Blur;
pub use config::GuidanceConfig;
pub use mask::{Importance, Threshold};
pub use method::{Method, PagMethod, SagMethod, SegMethod};
pub use perturbed::PerturbedGuide;
pub use record::{Generated, GuidanceRecord, Masks};
pub use sag::{Sag, SagGuide};

use crate::dataset::{InputFile, Sourced};
use crate::error::{Error, Result};
use crate::screen::screen;
use crate::task::{Answer, Failure, Rest, Task, in_order};
use crate::texts::{Encoded, encode_each};

/// An image to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureNumber {
    /// Its number, eight digits.
    pub id: String,
    /// Seed of its noise.
    pub seed: u64,
    /// Its prompt, if each image has one of its own.
    pub prompt: Option<String>,
}

impl Sourced for PictureNumber {
    /// The image is generated, not read from a file.
    fn files(&self) -> Vec<InputFile> {
        Vec::new()
    }

    fn sha256(&self) -> Result<String> {
        Ok(String::new())
    }
}

/// The guidance experiment on one pipeline.
pub struct Guidance {
    config: GuidanceConfig,
    pipeline: Box<dyn NoisePipeline>,
    sampler: SamplerConfig,
    items: Vec<PictureNumber>,
    /// Shape of the latents, `[channels, h, w]`.
    shape: [i64; 3],
    folder: PathBuf,
    ready: Option<Ready>,
}

/// Number of images whose prompts are encoded at once: the text encoder is loaded for each time.
const ENCODED_AT_ONCE: usize = 512;

/// The networks and the embedded prompts.
struct Ready {
    network: Box<dyn NoisePredictor>,
    decoder: ImageDecoder,
    /// Embedding of the negative prompt, `[tokens, width]`.
    unconditional: Tensor,
    /// Embeddings of prompts, `[tokens, width]` each, and the reasons for those that are not finite.
    texts: Encoded<Tensor>,
}

impl Guidance {
    /// Lists the images of a configuration. `seed` belongs to image 0.
    ///
    /// # Errors
    /// The file of prompts cannot be read, or has too few.
    pub fn items(config: &GuidanceConfig, seed: u64) -> Result<Vec<PictureNumber>> {
        let mut prompts = prompts::of_images(config)?.map(Vec::into_iter);
        let item = |k: u64| PictureNumber {
            id: format!("{k:08}"),
            seed: seed.wrapping_add(k),
            prompt: prompts.as_mut().and_then(Iterator::next),
        };
        Ok((config.first..config.first + config.count).map(item).collect())
    }

    /// Creates the experiment; nothing large is loaded yet. The images will be written to `folder`, with one subfolder
    /// for each method.
    ///
    /// # Errors
    /// A setting is out of range or does not fit the pipeline.
    pub fn new(
        config: GuidanceConfig,
        pipeline: impl NoisePipeline + 'static,
        items: Vec<PictureNumber>,
        folder: &Path,
    ) -> Result<Self> {
        config.check()?;
        let shape = pipeline.latent_shape(config.size(pipeline.default_size()))?;
        check_blocks(&config, &pipeline)?;
        let shortest = shape[1].min(shape[2]);
        for sag in config.methods.iter().filter_map(|method| config.sag(method)) {
            if (sag.blur.kernel / 2) as i64 >= shortest {
                let reason = format!(
                    "a kernel of {} is too large for latents of {} by {}; it must be smaller than twice their side",
                    sag.blur.kernel, shape[1], shape[2]
                );
                return Err(Error::Setting { setting: "task.guidance.blur.kernel", reason });
            }
        }
        let sampler = pipeline.sampler(config.sampler)?;
        Sampler::new(&sampler, config.steps)?;
        Ok(Self {
            config,
            pipeline: Box::new(pipeline),
            sampler,
            items,
            shape,
            folder: folder.into(),
            ready: None,
        })
    }

    /// The file of an image under a method, below the folder of the run's images.
    pub fn file(folder: &Path, method: &str, id: &str) -> PathBuf {
        folder.join(method).join(format!("{id}.png"))
    }

    fn prepare(&self) -> Result<Ready> {
        let Self { config, pipeline, .. } = self;
        let negative = &config.negative_prompt;
        let (mut unconditional, _) =
            encode_each([negative.clone()].into(), |texts| pipeline.encode_texts(texts))?;
        Ok(Ready {
            unconditional: unconditional.remove(negative).ok_or_else(|| not_encoded(negative))?,
            texts: Encoded::default(),
            network: pipeline.network()?,
            decoder: pipeline.image_decoder()?,
        })
    }

    /// The prompt of an image.
    fn prompt(&self, index: usize) -> &str {
        self.items[index].prompt.as_deref().unwrap_or(&self.config.prompt)
    }

    /// Encodes the prompts of these items, and of those that follow them, unless they are encoded already.
    fn encode_prompts(&self, ready: &mut Ready, items: Range<usize>) -> Result<()> {
        let (texts, bad) = &ready.texts;
        let known = |prompt| texts.contains_key(prompt) || bad.contains_key(prompt);
        if items.clone().all(|index| known(self.prompt(index))) {
            return Ok(());
        }
        let end = items.end.max(self.items.len().min(items.start.saturating_add(ENCODED_AT_ONCE)));
        let prompts = (items.start..end).map(|index| self.prompt(index).to_owned()).collect();
        // The earlier ones are dropped: thousands of prompts need gigabytes.
        ready.texts = encode_each(prompts, |texts| self.pipeline.encode_texts(texts))?;
        Ok(())
    }

    /// Generates the images of a batch under one method from noise and encoded prompts `[batch, tokens, width]`. Returns 8-bit
    /// pixels `[batch, h, w, 3]` and the masks of each pass.
    fn draw(
        &self,
        ready: &Ready,
        method: &Method,
        (noise, text): (&Tensor, &Tensor),
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let batch = noise.size()[0];
        let unconditional = ready.unconditional.f_unsqueeze(0)?.f_expand([batch, -1, -1], false)?;
        let guidance = ClassifierFree { unconditional: &unconditional, scale: self.config.guidance_scale };
        let start = Start { noise, text, guidance: Some(guidance) };
        let sampler = Sampler::new(&self.sampler, self.config.steps)?;
        let mut sag = self.config.sag(method).map(|sag| SagGuide::new(sag, batch));
        let mut perturbed = method.perturbation().map(|(change, scale)| PerturbedGuide::new(change, scale));
        let guide = sag.as_mut().map(|guide| guide as &mut dyn Guide);
        let guide = guide.or(perturbed.as_mut().map(|guide| guide as &mut dyn Guide));
        let latents = sample(&*ready.network, sampler, &start, guide)?;
        let decoded = ready.decoder.decode(&latents)?;
        Ok((to_pixels(&decoded)?, sag.map(SagGuide::into_masks).unwrap_or_default()))
    }

    /// Generates these items under every method. Fails if one is not finite, so that none of its images is written.
    fn drawn(&self, ready: &Ready, items: &[usize]) -> Result<Vec<Drawn>> {
        let item = |&index: &usize| &self.items[index];
        let noise = items.iter().map(|index| noise::normal(&self.shape, item(index).seed));
        // The noise is rounded to the network's type here, so that it does not depend on the batch.
        let noise = Tensor::f_stack(&noise.collect::<models::Result<Vec<_>>>()?, 0)?;
        let text = |&index: &usize| {
            let prompt = self.prompt(index);
            ready.texts.0.get(prompt).map(Tensor::shallow_clone).ok_or_else(|| not_encoded(prompt))
        };
        let text = Tensor::f_stack(&items.iter().map(text).collect::<models::Result<Vec<_>>>()?, 0)?;
        let mut drawn: Vec<Drawn> = items.iter().map(|_| Drawn::default()).collect();
        for method in &self.config.methods {
            let (pixels, masks) = self.draw(ready, method, (&noise, &text))?;
            let masks = pictures::masks(&masks)?;
            for (place, drawn) in drawn.iter_mut().enumerate() {
                drawn.by_methods.push((pictures::image(&pixels, place)?, masks.get(place).cloned()));
            }
        }
        Ok(drawn)
    }

    /// Writes an image that was generated under the methods `keys` to files, and returns its record, with the masks if they are
    /// `shown`.
    fn keep(
        folder: &Path,
        keys: &[String],
        item: PictureNumber,
        drawn: Drawn,
        shown: bool,
    ) -> Result<GuidanceRecord> {
        let PictureNumber { id, seed, prompt } = item;
        let keep = |(key, (rgb, masks)): (&String, (Rgb8, Option<Masks>))| {
            pictures::write(&Self::file(folder, key, &id), &rgb)?;
            let generated = Generated {
                sha256: pictures::sha256(&rgb),
                mask_area: masks.as_ref().map(pictures::area),
                masks: masks.filter(|_| shown),
            };
            Ok((key.clone(), generated))
        };
        let methods = keys.iter().zip(drawn.by_methods).map(keep).collect::<Result<_>>()?;
        Ok(GuidanceRecord { id, seed, prompt, methods })
    }
}

/// An image generated under every method, in their order, with the masks of its passes if the method has some.
#[derive(Default)]
struct Drawn {
    by_methods: Vec<(Rgb8, Option<Masks>)>,
}

fn not_encoded(prompt: &str) -> models::Error {
    models::Error::Text { text: prompt.into(), reason: "it was not encoded".into() }
}

/// Checks that the UNet has self-attention in the parts that methods change.
fn check_blocks(config: &GuidanceConfig, pipeline: &impl NoisePipeline) -> Result<()> {
    let streams = pipeline.streams();
    let parts: BTreeSet<UnetPart> = streams
        .keys()
        .filter_map(|stream| if let Stream::Unet(layer) = stream { Some(layer.part) } else { None })
        .collect();
    for method in &config.methods {
        let Some((change, _)) = method.perturbation() else { continue };
        if let Some(part) = change.parts.iter().find(|part| !parts.contains(part)) {
            let known: Vec<String> = parts.iter().map(UnetPart::to_string).collect();
            let reason = format!(
                "blocks of `{}` names {part}, which has no self-attention in this UNet; {} have",
                method.key(),
                known.join(", ")
            );
            return Err(Error::Setting { setting: "task.guidance.methods", reason });
        }
    }
    Ok(())
}

/// Reads the pixels of an image that a run wrote, and compares them with its record.
///
/// # Errors
/// Fails if the file is missing or damaged, or holds another image.
pub fn read_picture(path: &Path, generated: &Generated) -> Result<Rgb8> {
    let rgb = Rgb8::open(path).map_err(models::Error::from)?;
    if pictures::sha256(&rgb) != generated.sha256 {
        let reason = "is not the image that the run wrote; remove the file and run the same command again, which generates it anew".into();
        return Err(Error::Dataset { path: path.into(), reason });
    }
    Ok(rgb)
}

impl Task for Guidance {
    type Item = PictureNumber;
    type Record = GuidanceRecord;

    const NAME: &'static str = "guidance";
    const MEMORY_SETTINGS: &'static [&'static str] =
        &["task.guidance.batch", "task.guidance.image_size", "model.dtype"];

    fn manifest(&self) -> &[PictureNumber] {
        &self.items
    }

    fn id(item: &PictureNumber) -> &str {
        &item.id
    }

    fn answered(record: &GuidanceRecord) -> &str {
        &record.id
    }

    fn is_whole(&self, record: &GuidanceRecord) -> bool {
        record.methods.keys().all(|method| Self::file(&self.folder, method, &record.id).exists())
    }

    fn batch_size(&self) -> usize {
        self.config.batch
    }

    fn start(&mut self, range: Range<usize>) -> Result<Rest<GuidanceRecord>> {
        let mut ready = match self.ready.take() {
            Some(ready) => ready,
            None => self.prepare()?,
        };
        self.encode_prompts(&mut ready, range.clone())?;
        let id = |index: usize| self.items[index].id.as_str();
        let bad = |index: usize| {
            Some((index, Failure::of_network(id(index), ready.texts.1.get(self.prompt(index))?)))
        };
        let failures: Vec<(usize, Failure)> = range.clone().filter_map(bad).collect();
        let fine = range.filter(|&index| ready.texts.0.contains_key(self.prompt(index))).collect();
        let drawn = screen(fine, id, |items| self.drawn(&ready, items))?;
        self.ready = Some(ready);
        let (folder, figures) = (self.folder.clone(), self.config.figures);
        let keys: Vec<String> = self.config.methods.iter().map(|method| method.key().to_owned()).collect();
        let drawn: Vec<_> =
            drawn.into_iter().map(|(index, drawn)| (index, self.items[index].clone(), drawn)).collect();
        Ok(Box::new(move || {
            let answer = |(index, item, drawn): (usize, PictureNumber, Answer<Drawn>)| {
                let answer = drawn
                    .and_then(|drawn| Ok(Self::keep(&folder, &keys, item, drawn, index < figures)?.into()))?;
                Ok((index, answer))
            };
            Ok(in_order(drawn.into_par_iter().map(answer).collect::<Result<_>>()?, failures))
        }))
    }
}
