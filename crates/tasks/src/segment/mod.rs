//! Zero-shot segmentation: which image tokens a word of the prompt is about, read from FLUX's attention while it looks at
//! a picture with noise on it.
//!
//! One row of passes per picture serves every method: maps are reduced while they are there, and nothing behind the last
//! block that is read of is computed. All prompts are encoded first, then all pictures, then the transformer is loaded, so
//! no two networks stand side by side.

mod answer;
mod config;
mod method;
mod passes;
mod probe;
mod record;
pub mod score;
mod signals;

use std::collections::BTreeMap;
use std::ops::Range;

use models::flow_match::Schedule;
use models::flux::pipeline::FluxPipeline;
use models::t5::Tokenizer;
use ndarray::Array2;
use rayon::prelude::*;

pub use config::{Layers, Noise, Pooled, SegmentConfig};
pub use method::{Bounce, Concepts, Method, Rank, Select, Way, Weight};
pub use record::{ClassCounts, MapScore, SegmentMaps, SegmentRecord};

use crate::dataset::segmentation::{NamedClass, SegmentedImage};
use crate::error::{Error, Result};
use crate::task::{Answer, Failure, Task};
use answer::answer;
use passes::Ready;
use probe::{SignalProbe, concept_methods};
use signals::{Target, signals};

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
    /// The items that this process answers.
    expected: Vec<usize>,
    ready: Option<Ready>,
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
        let segment = Self {
            config,
            pipeline,
            items,
            several,
            seed,
            schedule,
            tokenizer,
            expected: Vec::new(),
            ready: None,
        };
        for item in &segment.items {
            segment.targets(0, item)?;
        }
        Ok(segment)
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

    /// The concepts of an item in the order of the concept stream: its classes, then the background, which all
    /// `concept-attention` methods share. None where there is no such method.
    fn concepts(&self, item: &SegmentedImage) -> Option<Vec<String>> {
        let method = concept_methods(&self.config.methods).next()?;
        let names = item.classes.iter().map(|class| class.name.clone());
        Some(names.chain(method.background.clone()).collect())
    }

    /// The answers to readable items with equally many classes.
    fn answer(&self, ready: &Ready, batch: &[usize]) -> Result<Vec<Answer<SegmentRecord>>> {
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
        let hashes: Vec<&str> =
            batch.iter().map(|&index| Ok(ready.picture(index)?.sha256.as_str())).collect::<Result<_>>()?;
        let record = |(place, &index): (usize, &usize)| {
            let own = of_methods.iter().map(|maps| &maps[place * classes..(place + 1) * classes]);
            match answer(config, several, &items[index], hashes[place], index < config.figures, own) {
                Ok(record) => Ok(Answer::Record(record)),
                Err(e @ (Error::Dataset { .. } | Error::NoData { .. })) => {
                    Ok(Answer::Failed(Failure::new(&items[index].id, e)))
                }
                Err(e) => Err(e),
            }
        };
        batch.par_iter().enumerate().map(record).collect()
    }
}

/// Checks settings against a pipeline; returns its schedule and tokenizer under them.
///
/// # Errors
/// A setting is out of range or does not fit the pipeline.
fn check(config: &SegmentConfig, pipeline: &FluxPipeline) -> Result<(Schedule, Tokenizer)> {
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

    fn made_from(record: &SegmentRecord) -> Option<&str> {
        Some(record.sha256.as_str()).filter(|sha256| !sha256.is_empty())
    }

    fn batch_size(&self) -> usize {
        self.config.batch
    }

    fn expect(&mut self, batches: &[Range<usize>]) {
        self.expected = batches.iter().cloned().flatten().collect();
        self.ready = None;
    }

    fn run(&mut self, range: Range<usize>) -> Result<Vec<Answer<SegmentRecord>>> {
        let ready = match self.ready.take() {
            Some(ready) if range.clone().all(|index| ready.has(index)) => ready,
            _ => {
                // Asked for what was not announced.
                if !range.clone().all(|index| self.expected.contains(&index)) {
                    self.expected = range.clone().collect();
                }
                self.prepare(&self.expected)?
            }
        };
        let mut by_classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut failures = Vec::new();
        for index in range {
            match ready.failure(index) {
                None => by_classes.entry(self.items[index].classes.len()).or_default().push(index),
                Some(failure) => failures.push((index, failure.clone())),
            }
        }
        let mut answers = Vec::new();
        for batch in by_classes.values() {
            answers.extend(batch.iter().copied().zip(self.answer(&ready, batch)?));
        }
        answers.extend(failures.into_iter().map(|(index, failure)| (index, Answer::Failed(failure))));
        answers.sort_by_key(|(index, _)| *index);
        self.ready = Some(ready);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }
}
