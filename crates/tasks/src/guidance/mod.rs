//! Self-attention guidance of Stable Diffusion, with masks from column sums and from TokenRank.
//!
//! Image `k` starts from the noise of its own seed under every method, whatever the batch. The images are written as
//! PNG files, one folder per method, before their record is written; the crate `eval` computes metrics on them.

mod blur;
mod config;
mod mask;
mod method;
mod pictures;
mod record;
mod sag;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use models::diffusion::{Sampler, SamplerConfig};
use models::image::Rgb8;
use models::noise;
use models::pipeline::{
    ClassifierFree, Guide, ImageDecoder, NoisePipeline, NoisePredictor, Start, sample, to_pixels,
};
use tch::Tensor;

pub use blur::Blur;
pub use config::GuidanceConfig;
pub use mask::{Importance, Threshold};
pub use method::{Method, SagMethod};
pub use record::{Generated, GuidanceRecord, Masks};
pub use sag::{Sag, SagGuide};

use crate::dataset::{InputFile, Sourced};
use crate::error::{Error, Result};
use crate::screen::screen;
use crate::task::{Answer, Task, in_order};

/// An image to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureNumber {
    /// Its number, eight digits.
    pub id: String,
    /// Seed of its noise.
    pub seed: u64,
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

/// The networks and the embedded prompts.
struct Ready {
    network: Box<dyn NoisePredictor>,
    decoder: ImageDecoder,
    /// Embeddings of the prompt and of the negative prompt, `[tokens, width]` each.
    text: Tensor,
    unconditional: Tensor,
}

impl Guidance {
    /// Lists the images of a configuration. `seed` belongs to image 0.
    pub fn items(config: &GuidanceConfig, seed: u64) -> Vec<PictureNumber> {
        let numbers = config.first..config.first + config.count;
        numbers.map(|k| PictureNumber { id: format!("{k:08}"), seed: seed.wrapping_add(k) }).collect()
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
        let side = config.image_size.map_or_else(|| pipeline.default_size(), |side| (side, side));
        let shape = pipeline.latent_shape(side)?;
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
        let texts = pipeline.encode_texts(&[config.prompt.clone(), config.negative_prompt.clone()])?;
        let [text, unconditional] = &texts[..] else {
            let reason = "the text encoder did not return one embedding for each prompt".into();
            return Err(models::Error::Text { text: config.prompt.clone(), reason }.into());
        };
        Ok(Ready {
            text: text.shallow_clone(),
            unconditional: unconditional.shallow_clone(),
            network: pipeline.network()?,
            decoder: pipeline.image_decoder()?,
        })
    }

    /// Generates the images of a batch under one method. Returns 8-bit pixels `[batch, h, w, 3]` and the masks of each
    /// pass.
    fn draw(&self, ready: &Ready, method: &Method, noise: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let batch = noise.size()[0];
        let each =
            |text: &Tensor| -> Result<Tensor> { Ok(text.f_unsqueeze(0)?.f_expand([batch, -1, -1], false)?) };
        let (text, unconditional) = (each(&ready.text)?, each(&ready.unconditional)?);
        let guidance = ClassifierFree { unconditional: &unconditional, scale: self.config.guidance_scale };
        let start = Start { noise, text: &text, guidance: Some(guidance) };
        let sampler = Sampler::new(&self.sampler, self.config.steps)?;
        let mut guide = self.config.sag(method).map(|sag| SagGuide::new(sag, batch));
        let latents =
            sample(&*ready.network, sampler, &start, guide.as_mut().map(|guide| guide as &mut dyn Guide))?;
        let decoded = ready.decoder.decode(&latents)?;
        Ok((to_pixels(&decoded)?, guide.map(SagGuide::into_masks).unwrap_or_default()))
    }

    /// Generates these items under every method, writes the images and returns the records. Nothing is written unless
    /// all images are finite.
    fn records(&self, ready: &Ready, items: &[usize]) -> Result<Vec<GuidanceRecord>> {
        let item = |&index: &usize| &self.items[index];
        let noise = items.iter().map(|index| noise::normal(&self.shape, item(index).seed));
        // The noise is rounded to the network's type here, so that it does not depend on the batch.
        let noise = Tensor::f_stack(&noise.collect::<models::Result<Vec<_>>>()?, 0)?;
        let drawn = self.config.methods.iter().map(|method| self.draw(ready, method, &noise));
        let drawn = drawn.collect::<Result<Vec<_>>>()?;
        let record = |index| {
            let PictureNumber { id, seed } = item(index).clone();
            GuidanceRecord { id, seed, methods: BTreeMap::new() }
        };
        let mut records: Vec<GuidanceRecord> = items.iter().map(record).collect();
        for (method, (pixels, masks)) in self.config.methods.iter().zip(drawn) {
            for (record, generated) in records.iter_mut().zip(self.keep(method, items, &pixels, &masks)?) {
                record.methods.insert(method.key().to_owned(), generated);
            }
        }
        Ok(records)
    }

    /// Writes the images of a batch to files and returns their entries in the records.
    fn keep(
        &self,
        method: &Method,
        items: &[usize],
        pixels: &Tensor,
        masks: &[Tensor],
    ) -> Result<Vec<Generated>> {
        let masks = pictures::masks(masks)?;
        let keep = |(place, &index): (usize, &usize)| {
            let rgb = pictures::image(pixels, place)?;
            let path = Self::file(&self.folder, method.key(), &self.items[index].id);
            pictures::write(&path, &rgb)?;
            let masks = masks.get(place);
            Ok(Generated {
                sha256: pictures::sha256(&rgb),
                mask_area: masks.map(pictures::area),
                masks: masks.filter(|_| index < self.config.figures).cloned(),
            })
        };
        items.iter().enumerate().map(keep).collect()
    }
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

    fn run(&mut self, range: Range<usize>) -> Result<Vec<Answer<GuidanceRecord>>> {
        let ready = match self.ready.take() {
            Some(ready) => ready,
            None => self.prepare()?,
        };
        let answers =
            screen(range.collect(), |index| &self.items[index].id, |items| self.records(&ready, items))?;
        self.ready = Some(ready);
        Ok(in_order(answers, []))
    }
}
