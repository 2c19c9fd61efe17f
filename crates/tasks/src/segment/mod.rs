//! Zero-shot segmentation: which image tokens a word of the prompt is about, read from FLUX's attention while it looks at
//! a picture with noise on it.
//!
//! One row of passes per picture serves every method: maps are reduced while they are there, and nothing behind the last
//! block that is read of is computed. All prompts are encoded first, then all pictures, then the transformer is loaded, so
//! no two networks stand side by side.

mod answer;
mod config;
mod method;
mod probe;
mod record;
pub mod score;
mod signals;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use models::flow_match::{Schedule, add_noise};
use models::flux::pipeline::{Draw, EncodedText, FluxPipeline};
use models::flux::{FluxInput, FluxTransformer, pack_latents};
use models::image::{Resample, resize};
use models::t5::Tokenizer;
use models::{TokenLayout, noise};
use ndarray::Array2;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tch::Tensor;

pub use config::{Blocks, Noise, Pooled, SegmentConfig};
pub use method::{Bounce, Concepts, Formula, Method, Rank, Select, Way, WeightedBounce};
pub use record::{ClassCounts, MapScore, SegmentMaps, SegmentRecord};

use crate::dataset::segmentation::{NamedClass, Segmented, SegmentedImage};
use crate::error::{Error, Result};
use crate::task::Task;
use answer::answer;
use probe::{PassSignals, SignalProbe, concept_methods};
use signals::{Target, signals};

/// Pictures that are decoded before the first of them is encoded.
const DECODED_AT_ONCE: usize = 16;

/// Guidance of transformers that were distilled with one, as diffusers' pipeline has it by default.
const USUAL_GUIDANCE: f64 = 3.5;

/// The segmentation experiment on one FLUX pipeline and one dataset.
pub struct Segment {
    config: SegmentConfig,
    pipeline: FluxPipeline,
    items: Vec<SegmentedImage>,
    /// Whether several classes are told apart in a picture; otherwise one is told from everything else.
    several: bool,
    seed: u64,
    schedule: Schedule,
    tokenizer: Tokenizer,
    ready: Option<Ready>,
}

/// Everything that the passes read, and the transformer.
struct Ready {
    /// The first item that this process answers.
    first: usize,
    texts: BTreeMap<String, EncodedText>,
    /// Latents `[channels, h, w]` of the items from `first` on, on the host.
    latents: Vec<Tensor>,
    sha256: Vec<String>,
    transformer: FluxTransformer,
}

impl Segment {
    /// Puts the experiment together; nothing large is read yet. `seed` decides the noise on each picture.
    ///
    /// # Errors
    /// A setting is out of range or does not fit the pipeline, or a class has a name that the prompt's tokens do not show.
    pub fn new(
        config: SegmentConfig,
        pipeline: FluxPipeline,
        items: Vec<SegmentedImage>,
        seed: u64,
    ) -> Result<Self> {
        let (schedule, tokenizer) = check(&config, &pipeline)?;
        let several = items.iter().any(|item| item.classes.len() > 1);
        let segment = Self { config, pipeline, items, several, seed, schedule, tokenizer, ready: None };
        for item in &segment.items {
            segment.targets(0, item)?;
        }
        Ok(segment)
    }

    /// The methods, in the order of the configuration.
    pub fn methods(&self) -> &[Method] {
        &self.config.methods
    }

    fn prompt(&self, item: &SegmentedImage) -> String {
        self.config.prompt_for(item.classes.iter().map(|class| class.name.as_str()))
    }

    /// The classes of an item as rows of the maps of a batch.
    fn targets(&self, image: i64, item: &SegmentedImage) -> Result<Vec<Target>> {
        let prompt = self.prompt(item);
        let target = |(concept, class): (i64, &NamedClass)| {
            let clip = self.pipeline.clip_tokenizer();
            let tokens = self.config.token.tokens(&self.tokenizer, clip, &prompt, &class.name)?;
            Ok(Target { image, tokens, concept })
        };
        (0..).zip(&item.classes).map(target).collect()
    }

    /// The concepts of an item in the order of the concept stream: its classes, then the background of every
    /// `concept-attention` method.
    fn concepts(&self, item: &SegmentedImage) -> Vec<String> {
        let names = item.classes.iter().map(|class| class.name.clone());
        let background =
            concept_methods(&self.config.methods).flat_map(|concepts| concepts.background.clone());
        names.chain(background).collect()
    }

    /// Encodes what the items from `first` on need, and loads the transformer.
    fn prepare(&self, first: usize) -> Result<Ready> {
        let items = &self.items[first..];
        let mut texts: BTreeSet<String> = items.iter().map(|item| self.prompt(item)).collect();
        if concept_methods(&self.config.methods).next().is_some() {
            texts.extend(items.iter().flat_map(|item| self.concepts(item)));
        }
        let texts: Vec<String> = texts.into_iter().collect();
        let encoded = self.pipeline.encode_texts(&texts, self.config.text_tokens)?;
        let texts = texts.into_iter().zip(encoded).collect();

        let mut sha256 = Vec::with_capacity(items.len());
        let side = self.config.image_size;
        let batches = items.chunks(DECODED_AT_ONCE).map(|chunk| -> Result<Tensor> {
            let decoded: Vec<(Vec<f32>, String)> =
                chunk.par_iter().map(|item| pixels(&item.load()?, side)).collect::<Result<_>>()?;
            let mut flat = Vec::with_capacity(chunk.len() * 3 * side * side);
            for (pixels, hash) in decoded {
                flat.extend(pixels);
                sha256.push(hash);
            }
            let side = side as i64;
            Ok(Tensor::f_from_slice(&flat)?.f_reshape([chunk.len() as i64, 3, side, side])?)
        });
        let latents = self.pipeline.encode_pictures(batches, Draw::Mode)?;
        Ok(Ready { first, texts, latents, sha256, transformer: self.pipeline.transformer()? })
    }

    /// What is kept of all passes over a batch of items with equally many classes, and what their tokens are.
    fn passes(&self, ready: &Ready, batch: &[usize]) -> Result<(PassSignals, TokenLayout)> {
        let transformer = &ready.transformer;
        let depth = transformer.config();
        let (dual, single) = (depth.num_layers, depth.num_single_layers);
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
                // The first token of each, in a text of its own.
                let first = |name: &String| Ok(ready.text(name)?.text.f_get(0)?);
                let tokens = self.concepts(item).iter().map(first).collect::<Result<Vec<_>>>()?;
                Ok(Tensor::f_stack(&tokens, 0)?)
            })
        });
        let concepts = concepts.transpose()?;
        let usual = depth.guidance_embeds.then_some(USUAL_GUIDANCE);
        let side = self.config.image_size as i64;
        let grid = self.pipeline.grid((side, side))?;

        let mut layout = None;
        for &step in &self.config.noise.at {
            for sample in 0..self.config.noise.samples {
                let noised = batch.iter().map(|&item| {
                    let latents = &ready.latents[item - ready.first];
                    let noise =
                        noise::normal(&latents.size(), self.noise_seed(&self.items[item].id, sample))?;
                    Ok(add_noise(latents, &noise, self.schedule.sigma(step)?)?)
                });
                let noised = Tensor::f_stack(&noised.collect::<Result<Vec<_>>>()?, 0)?;
                let input = FluxInput {
                    latents: &pack_latents(&noised)?,
                    grid,
                    text: &prompts,
                    pooled: &pooled,
                    concepts: concepts.as_ref(),
                    timestep: self.schedule.noise_level(step, transformer.kind())?,
                    guidance: self.config.guidance.or(usual),
                    step,
                };
                let mut state = transformer.embed(&input)?;
                for block in transformer.blocks() {
                    let site = block.site(&state);
                    block.forward(&mut state, &mut probe)?;
                    if (site.stream, site.block) == last {
                        break;
                    }
                }
                probe.end_pass()?;
                layout = Some(state.layout().clone());
            }
        }
        let layout = layout.ok_or_else(|| models::Error::Probe("no pass was asked for".into()))?;
        Ok((probe.finish()?, layout))
    }

    /// The seed of the noise on a picture, whatever stands beside it.
    fn noise_seed(&self, id: &str, sample: usize) -> u64 {
        let digest = Sha256::digest(format!("{}/{id}/{sample}", self.seed));
        digest.iter().take(8).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
    }

    /// The records of items with equally many classes.
    fn answer(&self, ready: &Ready, batch: &[usize]) -> Result<Vec<SegmentRecord>> {
        let (kept, layout) = self.passes(ready, batch)?;
        let targets = (0..).zip(batch).map(|(image, &item)| self.targets(image, &self.items[item]));
        let targets: Vec<Target> = targets.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let mut of_methods: Vec<Vec<Array2<f32>>> = Vec::new();
        let mut concepts = 0;
        for method in &self.config.methods {
            let maps = signals(method, concepts, &self.config, &layout, &kept, &targets)?;
            concepts += usize::from(matches!(method, Method::ConceptAttention(_)));
            of_methods.push(maps);
        }

        let classes = self.items[batch[0]].classes.len();
        // Tensors stay behind: they must not be seen from other threads.
        let (config, several, items) = (&self.config, self.several, &self.items);
        let (sha256, first) = (&ready.sha256, ready.first);
        let record = |(place, &index): (usize, &usize)| {
            let own = of_methods.iter().map(|maps| &maps[place * classes..(place + 1) * classes]);
            answer(config, several, &items[index], &sha256[index - first], index < config.overlays, own)
        };
        batch.par_iter().enumerate().map(record).collect()
    }
}

/// Checks settings against a pipeline; returns its schedule and tokenizer under them.
///
/// # Errors
/// A setting is out of range or does not fit the pipeline.
pub fn check(config: &SegmentConfig, pipeline: &FluxPipeline) -> Result<(Schedule, Tokenizer)> {
    config.check()?;
    let side = config.image_size as i64;
    let pixels = pipeline.pixels_per_token();
    if side % pixels != 0 {
        let reason =
            format!("must be a multiple of {pixels}, the pixels of an image token's side; found {side}");
        return Err(Error::Setting { setting: "task.segment.image_size", reason });
    }
    let depth = pipeline.transformer_config();
    let (dual, single) = (depth.num_layers, depth.num_single_layers);
    SignalProbe::new(config, dual, single)?;
    if config.guidance.is_some() && !depth.guidance_embeds {
        let reason = "this transformer was not distilled with guidance and takes none; leave it out".into();
        return Err(Error::Setting { setting: "task.segment.guidance", reason });
    }
    let schedule = pipeline.schedule(config.noise.steps, (side, side))?;
    Ok((schedule, pipeline.t5_tokenizer(config.text_tokens)?))
}

impl Ready {
    fn text(&self, text: &str) -> Result<&EncodedText> {
        let missing = || models::Error::Text { text: text.into(), reason: "it was not encoded".into() };
        Ok(self.texts.get(text).ok_or_else(missing)?)
    }
}

impl Task for Segment {
    type Item = SegmentedImage;
    type Record = SegmentRecord;

    fn manifest(&self) -> &[SegmentedImage] {
        &self.items
    }

    fn id(item: &SegmentedImage) -> &str {
        &item.id
    }

    fn answered(record: &SegmentRecord) -> &str {
        &record.id
    }

    fn batch_size(&self) -> usize {
        self.config.batch
    }

    fn run(&mut self, range: Range<usize>) -> Result<Vec<SegmentRecord>> {
        let ready = match self.ready.take() {
            Some(ready) if ready.first <= range.start => ready,
            _ => self.prepare(range.start)?,
        };
        let mut by_classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in range {
            by_classes.entry(self.items[index].classes.len()).or_default().push(index);
        }
        let mut records = Vec::new();
        for batch in by_classes.values() {
            records.extend(batch.iter().copied().zip(self.answer(&ready, batch)?));
        }
        records.sort_by_key(|(index, _)| *index);
        self.ready = Some(ready);
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }
}

/// Samples `[3, side, side]` from -1 to 1 of a picture brought to a square, and its hash.
fn pixels(picture: &Segmented, side: usize) -> Result<(Vec<f32>, String)> {
    let square = resize(&picture.rgb, (side, side), Resample::Bicubic).map_err(models::Error::from)?;
    let mut samples = Vec::with_capacity(square.data.len());
    for channel in 0..3 {
        samples.extend(
            square.data.iter().skip(channel).step_by(3).map(|&sample| f32::from(sample) / 127.5 - 1.0),
        );
    }
    Ok((samples, picture.sha256.clone()))
}
