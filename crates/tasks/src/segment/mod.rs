//! Zero-shot segmentation: finds the image tokens that a word of the prompt describes, from the attention of FLUX while
//! it processes the noised image.
//!
//! All methods read the same passes over an image. Maps are reduced as soon as they appear, and blocks after the last
//! one that a method reads are not computed. First all prompts are encoded, then all images, and only then is the
//! transformer loaded, so that no two networks are in memory at once.

mod answer;
mod config;
mod from_file;
mod method;
mod passes;
mod probe;
mod record;
pub mod score;
mod signals;

use std::collections::BTreeMap;
use std::ops::Range;

use models::Stream;
use models::flow_match::Schedule;
use models::pipeline::{JointPipeline, PromptTokens};
use ndarray::Array2;
use rayon::prelude::*;

pub use crate::method::Way;
pub use config::{Layers, Noise, Pooled, SegmentConfig};
pub use method::{Bounce, Concepts, Method, Rank, Select, Weight};
pub use record::{ClassCounts, MapScore, SegmentMaps, SegmentRecord};

use crate::dataset::segmentation::{NamedClass, SegmentedImage};
use crate::error::{Error, Result};
use crate::score_file::ScoreFiles;
use crate::screen::screen;
use crate::task::{Answer, Failure, Task, in_order};
use answer::{Answering, Question, Signals};
use method::concept_methods;
use passes::Ready;
use probe::SignalProbe;
use signals::{Target, signals};

/// The segmentation experiment on one pipeline and one dataset.
pub struct Segment {
    config: SegmentConfig,
    pipeline: Box<dyn JointPipeline>,
    items: Vec<SegmentedImage>,
    question: Question,
    seed: u64,
    files: ScoreFiles,
    schedule: Schedule,
    tokens: Box<dyn PromptTokens>,
    /// Indices of the items that this process will answer.
    expected: Vec<usize>,
    ready: Option<Ready>,
}

impl Segment {
    /// Creates the experiment; nothing large is loaded yet. `seed` determines the noise on each image; `files` are those
    /// of [`SegmentConfig::score_files`].
    ///
    /// # Errors
    /// Fails if a setting is out of range or does not fit the pipeline, or if the name of a class cannot be found among
    /// the tokens of its prompt.
    pub fn new(
        config: SegmentConfig,
        pipeline: impl JointPipeline + 'static,
        items: Vec<SegmentedImage>,
        seed: u64,
        files: ScoreFiles,
    ) -> Result<Self> {
        let (schedule, tokens) = check(&config, &pipeline)?;
        let several = items.iter().any(|item| item.classes.len() > 1);
        let question = if several { Question::Classes } else { Question::OneClass };
        let segment = Self {
            config,
            pipeline: Box::new(pipeline),
            items,
            question,
            seed,
            files,
            schedule,
            tokens,
            expected: Vec::new(),
            ready: None,
        };
        if segment.config.reads_passes() {
            for item in &segment.items {
                segment.targets(0, item)?;
            }
        }
        Ok(segment)
    }

    /// Rows and columns of the grid of image tokens.
    pub fn grid(&self) -> (usize, usize) {
        // `check` has refused sides that are not multiples of a token's.
        let side =
            self.config.image_size / usize::try_from(self.pipeline.pixels_per_token()).unwrap_or(1).max(1);
        (side, side)
    }

    fn answering(&self) -> Answering<'_> {
        let Self { config, question, files, .. } = self;
        Answering { config, question: *question, files, grid: self.grid() }
    }

    fn prompt(&self, item: &SegmentedImage) -> String {
        self.config.prompt_for(item.classes.iter().map(|class| class.name.as_str()))
    }

    /// Returns, for each class of an item, its tokens in the maps of a batch.
    fn targets(&self, image: i64, item: &SegmentedImage) -> Result<Vec<Target>> {
        let prompt = self.prompt(item);
        let target = |(concept, class): (i64, &NamedClass)| {
            let tokens = self.tokens.find(self.config.token, &prompt, &class.name)?;
            Ok(Target { image, tokens, concept })
        };
        (0..).zip(&item.classes).map(target).collect()
    }

    /// Returns the concepts of an item in the order of the concept stream: its classes, then the background concepts,
    /// which all `concept-attention` methods share. `None` if there is no such method.
    fn concepts(&self, item: &SegmentedImage) -> Option<Vec<String>> {
        let method = concept_methods(&self.config.methods).next()?;
        let names = item.classes.iter().map(|class| class.name.clone());
        Some(names.chain(method.background.clone()).collect())
    }

    /// Answers readable items that have equally many classes.
    fn answer(&self, ready: &Ready, batch: &[usize]) -> Result<Vec<Answer<SegmentRecord>>> {
        let (kept, layout) = self.passes(ready, batch)?;
        let targets = (0..).zip(batch).map(|(image, &item)| self.targets(image, &self.items[item]));
        let targets: Vec<Target> = targets.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let mut of_methods: Vec<Vec<Array2<f32>>> = Vec::new();
        let mut concepts = 0;
        for method in &self.config.methods {
            let maps = match method.reads_passes() {
                true => signals(method, concepts, &self.config, &layout, &kept, &targets)?,
                false => Vec::new(),
            };
            concepts += usize::from(matches!(method, Method::ConceptAttention(_)));
            of_methods.push(maps);
        }

        let classes = self.items[batch[0]].classes.len();
        // Only these fields are captured below: tensors must not be accessed from other threads.
        let (answering, items) = (self.answering(), &self.items);
        let hashes: Vec<&str> =
            batch.iter().map(|&index| Ok(ready.image(index)?.sha256.as_str())).collect::<Result<_>>()?;
        let record = |(place, &index): (usize, &usize)| {
            let own = |maps: &'_ Vec<Array2<f32>>| place * classes..((place + 1) * classes).min(maps.len());
            let own = of_methods.iter().map(|maps| maps.get(own(maps)).unwrap_or_default());
            answer(answering, index, &items[index], Some(hashes[place]), own)
        };
        batch.par_iter().enumerate().map(record).collect()
    }

    /// Answers items when all methods come from files.
    fn answer_from_files(&self, range: Range<usize>) -> Result<Vec<Answer<SegmentRecord>>> {
        let (answering, items) = (self.answering(), &self.items);
        let record = |index: usize| {
            let none = answering.config.methods.iter().map(|_| &[][..]);
            answer(answering, index, &items[index], None, none)
        };
        range.into_par_iter().map(record).collect()
    }
}

/// Answers the item with this index. `sha256` is the hash of the data from which its signals were computed, if there are
/// any.
fn answer<'a>(
    answering: Answering<'_>,
    index: usize,
    item: &SegmentedImage,
    sha256: Option<&str>,
    signals: impl Iterator<Item = &'a [Array2<f32>]>,
) -> Result<Answer<SegmentRecord>> {
    let failed = |error: Error| Ok(Answer::Failed(Failure::new(&item.id, error)));
    let loaded = match item.load() {
        Ok(loaded) => loaded,
        Err(error) => return failed(error),
    };
    if sha256.is_some_and(|sha256| sha256 != loaded.sha256) {
        let path = item.path().map_or_else(|| item.id.clone().into(), Into::into);
        let reason =
            "the image or its mask changed while the run was reading it; run the same command again to read the new file"
                .into();
        return failed(Error::Dataset { path, reason });
    }
    let keep = if index < answering.config.figures { Signals::Keep } else { Signals::Drop };
    match answering.record(item, loaded, keep, signals) {
        Ok(record) => Ok(Answer::Record(record)),
        Err(e @ (Error::Dataset { .. } | Error::NoData { .. })) => failed(e),
        Err(e) => Err(e),
    }
}

/// Checks settings against a pipeline. Returns the noise schedule, and the tokenizer that finds words in prompts.
///
/// # Errors
/// Fails if a setting is out of range or does not fit the pipeline.
fn check(config: &SegmentConfig, pipeline: &dyn JointPipeline) -> Result<(Schedule, Box<dyn PromptTokens>)> {
    config.check()?;
    let side = config.image_size as i64;
    let pixels = pipeline.pixels_per_token();
    if side % pixels != 0 {
        let reason =
            format!("must be a multiple of {pixels}, the side of an image token in pixels, found {side}");
        return Err(Error::Setting { setting: "task.segment.image_size", reason });
    }
    let (dual, single) = depths(pipeline);
    SignalProbe::new(config, dual, single)?;
    if config.guidance.is_some() && !pipeline.takes_guidance() {
        let reason = "this transformer was not distilled with guidance and takes none; leave it out".into();
        return Err(Error::Setting { setting: "task.segment.guidance", reason });
    }
    let schedule = pipeline.schedule(config.noise.steps, (side, side))?;
    Ok((schedule, pipeline.prompt_tokens(config.text_tokens)?))
}

/// Returns the numbers of dual and of single blocks.
fn depths(pipeline: &dyn JointPipeline) -> (usize, usize) {
    let streams = pipeline.streams();
    let of = |stream| streams.get(&stream).copied().unwrap_or(0);
    (of(Stream::Dual), of(Stream::Single))
}

impl Task for Segment {
    type Item = SegmentedImage;
    type Record = SegmentRecord;

    const NAME: &'static str = "segment";
    const MEMORY_SETTINGS: &'static [&'static str] =
        &["task.segment.batch", "task.segment.heads_at_once", "task.segment.image_size", "model.dtype"];

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

    fn prefetch(&mut self, batches: &[Range<usize>]) {
        self.expected = batches.iter().cloned().flatten().collect();
        self.ready = None;
    }

    fn run(&mut self, range: Range<usize>) -> Result<Vec<Answer<SegmentRecord>>> {
        if !self.config.reads_passes() {
            return self.answer_from_files(range);
        }
        let ready = match self.ready.take() {
            Some(ready) if range.clone().all(|index| ready.has(index)) => ready,
            _ => {
                // These items were not announced by `prefetch`.
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
        for batch in by_classes.into_values() {
            answers.extend(screen(batch, |index| &self.items[index].id, |batch| self.answer(&ready, batch))?);
        }
        self.ready = Some(ready);
        Ok(in_order(answers, failures))
    }
}
