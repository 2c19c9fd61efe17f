//! Zero-shot segmentation: finds the image tokens that a word of the prompt describes, from the attention of FLUX while
//! it processes the noised image.
//!
//! All methods read the same passes over an image. Maps are reduced as soon as they appear, and blocks after the last
//! one that a method reads are not computed. First all prompts are encoded; only then is the transformer loaded, so that no two
//! large networks are in memory at once. The encoder of images, which is small, stays beside it.

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
use std::sync::Arc;

use models::Stream;
use models::flow_match::Schedule;
use models::pipeline::{JointPipeline, PromptTokens};
use ndarray::Array2;
use rayon::prelude::*;
use tch::Tensor;

pub use crate::method::Way;
pub use config::{Layers, Noise, Pooled, SegmentConfig};
pub use method::{Bounce, Concepts, Method, Rank, Select, Weight};
pub use record::{ClassCounts, MapScore, SegmentMaps, SegmentRecord};

use crate::ahead::Ahead;
use crate::dataset::segmentation::{NamedClass, Segmented, SegmentedImage};
use crate::error::{Error, Result};
use crate::score_file::ScoreFiles;
use crate::screen::screen;
use crate::task::{Answer, Failure, Rest, Task, in_order, parted};
use answer::{Answering, Question};
use method::concept_methods;
use passes::{Ready, samples};
use probe::SignalProbe;
use signals::{Target, signals};

/// The segmentation experiment on one pipeline and one dataset.
pub struct Segment {
    config: Arc<SegmentConfig>,
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
    /// The images of each batch, or why one cannot be read.
    images: Ahead<Vec<Result<Loaded, Failure>>>,
}

/// An image, its labels, and its [`samples`], which are empty if no method reads a pass.
struct Loaded {
    image: Segmented,
    samples: Vec<f32>,
}

/// The signals of an image's classes, for each method.
type SignalsOfMethods = Vec<Vec<Array2<f32>>>;

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
            config: Arc::new(config),
            pipeline: Box::new(pipeline),
            items,
            question,
            seed,
            files,
            schedule,
            tokens,
            expected: Vec::new(),
            ready: None,
            images: Ahead::default(),
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

    fn answering(&self) -> Answering {
        let (config, files) = (Arc::clone(&self.config), self.files.clone());
        Answering { config, question: self.question, files, grid: self.grid() }
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

    /// Returns the signals of items that have equally many classes, each item with its latents.
    fn signals(&self, ready: &Ready, batch: &[(usize, &Tensor)]) -> Result<Vec<SignalsOfMethods>> {
        let (kept, layout) = self.passes(ready, batch)?;
        let targets = (0..).zip(batch).map(|(image, &(item, _))| self.targets(image, &self.items[item]));
        let targets: Vec<Target> = targets.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let mut of_items: Vec<SignalsOfMethods> = batch.iter().map(|_| Vec::new()).collect();
        let classes = targets.len() / batch.len().max(1);
        let mut concepts = 0;
        for method in &self.config.methods {
            let maps = match method.reads_passes() {
                true => signals(method, concepts, &self.config, &layout, &kept, &targets)?,
                false => Vec::new(),
            };
            concepts += usize::from(matches!(method, Method::ConceptAttention(_)));
            let mut maps = maps.into_iter();
            of_items.iter_mut().for_each(|item| item.push(maps.by_ref().take(classes).collect()));
        }
        Ok(of_items)
    }

    /// Runs the passes over readable items, each given by its place in the batch that begins with the item `first`. Returns their
    /// signals.
    fn watch(
        &mut self,
        first: usize,
        images: &[(usize, Loaded)],
    ) -> Result<Vec<(usize, Answer<SignalsOfMethods>)>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<usize> = images.iter().map(|(place, _)| first + place).collect();
        let ready = self.ready.take();
        let known = |ready: &Ready| all.iter().all(|&index| self.knows(ready, index));
        let ready = match ready.filter(known) {
            Some(ready) => ready,
            None if all.iter().all(|index| self.expected.contains(index)) => self.prepare(&self.expected)?,
            // These items were not announced by `prefetch`.
            None => self.prepare(&all)?,
        };
        let mut answers = Vec::new();
        let mut by_classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut latents = Vec::with_capacity(images.len());
        for (&index, (place, image)) in all.iter().zip(images) {
            latents.push(match self.latents(&ready, index, &image.samples)? {
                Ok(encoded) => {
                    by_classes.entry(self.items[index].classes.len()).or_default().push(latents.len());
                    Some(encoded)
                }
                Err(failure) => {
                    answers.push((*place, Answer::Failed(failure)));
                    None
                }
            });
        }
        for batch in by_classes.into_values() {
            let found = screen(
                batch,
                |row| &self.items[all[row]].id,
                |rows| {
                    let of_row = |&row: &usize| Some((all[row], latents[row].as_ref()?));
                    self.signals(&ready, &rows.iter().filter_map(of_row).collect::<Vec<_>>())
                },
            )?;
            answers.extend(found.into_iter().map(|(row, answer)| (images[row].0, answer)));
        }
        self.ready = Some(ready);
        Ok(answers)
    }
}

/// Reads an image, and its samples if its side is given.
fn load(item: &SegmentedImage, side: Option<usize>) -> Result<Loaded> {
    let image = item.load()?;
    let samples = side.map_or(Ok(Vec::new()), |side| samples(&image.rgb, side))?;
    Ok(Loaded { image, samples })
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
        self.images.expect(batches);
    }

    fn start(&mut self, range: Range<usize>) -> Result<Rest<SegmentRecord>> {
        let (all, side) = (&self.items, self.config.reads_passes().then_some(self.config.image_size));
        let loaded = self.images.take(&range, |range| {
            let items = all[range].to_vec();
            let read =
                move |item: &SegmentedImage| load(item, side).map_err(|error| Failure::new(&item.id, error));
            move || items.par_iter().map(read).collect()
        });
        let (images, failures) = parted(loaded);
        let found = match side {
            Some(_) => self.watch(range.start, &images)?,
            None => {
                let none = || self.config.methods.iter().map(|_| Vec::new()).collect();
                images.iter().map(|(place, _)| (*place, Answer::Record(none()))).collect()
            }
        };
        let (answering, items) = (self.answering(), self.items[range.clone()].to_vec());
        let mut images: BTreeMap<usize, Segmented> =
            images.into_iter().map(|(place, loaded)| (place, loaded.image)).collect();
        let work: Vec<_> = found
            .into_iter()
            .filter_map(|(place, found)| Some((place, images.remove(&place)?, found)))
            .collect();
        Ok(Box::new(move || {
            let record = |(place, image, found): (usize, Segmented, Answer<SignalsOfMethods>)| {
                let index = range.start + place;
                let answer =
                    found.and_then(|signals| answering.answer(index, &items[place], image, &signals))?;
                Ok((place, answer))
            };
            Ok(in_order(work.into_par_iter().map(record).collect::<Result<_>>()?, failures))
        }))
    }
}
