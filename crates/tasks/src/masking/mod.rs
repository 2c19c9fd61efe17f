//! Masking: classification accuracy while a growing fraction of the most important patch tokens is removed.
//!
//! One probed pass per image gives the scores of all methods. Then, for each fraction, the images are classified again
//! from the tokens that remain. Tokens are removed after the patch embedding, which is equivalent to adding `-∞` to
//! their keys in every layer, but much cheaper. CLS and registers are never removed.

mod config;
mod fractions;
mod record;
mod removal;
mod scores;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use models::TokenKind;
use models::attend::KeyBias;
use models::image::Preprocessor;
use models::vision::VisionModel;
use ndarray::Array3;
use rayon::prelude::*;

pub use config::{ClsInChain, HeadAverage, MaskingConfig, Method, Score};
pub use fractions::{EvenFractions, Fractions};
pub use record::{MaskingRecord, ScoreMaps};

use crate::dataset::LabelledImage;
use crate::error::{Error, Result};
use crate::score_file::ScoreFiles;
use crate::screen::screen;
use crate::task::{Answer, Failure, Task, in_order};
use removal::{Order, classes, classify_without, removed_patches};
use scores::ScoreProbe;

/// The masking experiment on one network and one dataset.
pub struct Masking {
    config: MaskingConfig,
    methods: Vec<Method>,
    model: VisionModel,
    items: Vec<LabelledImage>,
    seed: u64,
    files: ScoreFiles,
    /// The batches that will be run later, in order.
    expected: VecDeque<Range<usize>>,
    /// The batch that is being decoded in the background, and the channel on which it will arrive.
    upcoming: Option<(Range<usize>, Receiver<Batch>)>,
}

/// Decoded and preprocessed images.
struct Batch {
    /// Position in the batch and hash of each image.
    decoded: Vec<(usize, String)>,
    pixels: Vec<Array3<f32>>,
    failures: Vec<(usize, Failure)>,
}

impl Masking {
    /// Creates the experiment. `seed` determines the random order of each image; `files` are those of
    /// [`MaskingConfig::score_files`].
    ///
    /// # Errors
    /// Fails if a setting is out of range or does not fit the network.
    pub fn new(
        config: MaskingConfig,
        model: VisionModel,
        items: Vec<LabelledImage>,
        seed: u64,
        files: ScoreFiles,
    ) -> Result<Self> {
        config.check()?;
        config.layers.resolve(model.network.depth())?;
        config.check_tokens(model.network.has_cls(), model.network.special_tokens())?;
        if model.network.classes().is_none() {
            let reason = "masking needs a network with a classifier".into();
            return Err(Error::Setting { setting: "model.head", reason });
        }
        let methods = config.methods();
        Ok(Self { config, methods, model, items, seed, files, expected: VecDeque::new(), upcoming: None })
    }

    /// Returns the images of `range`, and starts to decode the next batch in the background.
    fn load(&mut self, range: &Range<usize>) -> Batch {
        let preprocessor = &self.model.preprocessor;
        let batch = match self.upcoming.take() {
            Some((expected, receiver)) if expected == *range => {
                receiver.recv().unwrap_or_else(|_| decode(preprocessor, &self.items[range.clone()]))
            }
            _ => decode(preprocessor, &self.items[range.clone()]),
        };
        self.expected.pop_front_if(|expected| expected == range);
        if let Some(next) = self.expected.front().cloned() {
            let (sender, receiver) = sync_channel(1);
            let (preprocessor, items) = (preprocessor.clone(), self.items[next.clone()].to_vec());
            let work = move || sender.send(decode(&preprocessor, &items));
            // Without a thread, the batch is decoded when it is needed.
            let started = thread::Builder::new().spawn(work);
            self.upcoming = started.is_ok().then_some((next, receiver));
        }
        batch
    }

    /// Returns the answers of a batch whose images are decoded.
    fn answer(&self, first: usize, batch: Batch) -> Result<Vec<Answer<MaskingRecord>>> {
        let Batch { decoded, pixels, failures } = batch;
        let place = |image: usize| decoded[image].0;
        let found = screen(
            (0..decoded.len()).collect(),
            |image| &self.items[first + place(image)].id,
            |images| {
                let pixels: Vec<&Array3<f32>> = images.iter().map(|&image| &pixels[image]).collect();
                let decoded: Vec<&(usize, String)> = images.iter().map(|&image| &decoded[image]).collect();
                self.records(first, &decoded, &pixels)
            },
        )?;
        Ok(in_order(found.into_iter().map(|(image, answer)| (place(image), answer)).collect(), failures))
    }

    /// Returns the records of the decoded images, each given by its position in the batch and its hash.
    fn records(
        &self,
        first: usize,
        decoded: &[&(usize, String)],
        pixels: &[&Array3<f32>],
    ) -> Result<Vec<MaskingRecord>> {
        let items: Vec<&LabelledImage> =
            decoded.iter().map(|(place, _)| &self.items[first + place]).collect();
        let network = &self.model.network;
        let blocks = self.config.layers.resolve(network.depth())?;
        let mut probe = ScoreProbe::new(&self.config, &self.methods, blocks);
        let embedded = network.embed(&VisionModel::batch(pixels.iter().copied())?)?;
        let encoded = network.encode(&embedded, &KeyBias::none(), &mut probe)?;
        let layout = &embedded.layout;
        let unmasked = classes(network, &encoded)?;
        let names: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        let scores = probe.finish(&self.config, &self.methods, layout, &names, (self.seed, &self.files))?;

        // At a given fraction all methods remove equally many tokens of every image, so they run together.
        let orders: Vec<Order> = scores
            .iter()
            .flat_map(|maps| maps.iter().enumerate().map(|(image, map)| Order::of_scores(image, map)))
            .collect();
        let patches = layout.count(TokenKind::Image) as usize;
        let mut curves = vec![Vec::new(); orders.len()];
        for fraction in self.config.fractions.values() {
            let removed = removed_patches(fraction, patches);
            let predicted = match removed {
                0 => orders.iter().map(|order| unmasked[order.image]).collect(),
                _ => classify_without(network, &embedded, &orders, removed)?,
            };
            for (curve, class) in curves.iter_mut().zip(predicted) {
                curve.push(class);
            }
        }

        let record = |(image, item): (usize, &&LabelledImage)| {
            let (place, sha256) = decoded[image];
            let of_methods = || self.methods.iter().map(Method::to_string).zip(0..);
            let drawn = first + place < self.config.figures;
            let map = |method: usize| scores[method][image].iter().map(|&score| score as f32).collect();
            MaskingRecord {
                id: item.id.clone(),
                sha256: sha256.clone(),
                label: item.label,
                unmasked: unmasked[image],
                predicted: of_methods()
                    .map(|(name, method)| (name, curves[method * items.len() + image].clone()))
                    .collect(),
                scores: drawn.then(|| ScoreMaps {
                    grid: (layout.image.0 as usize, layout.image.1 as usize),
                    maps: of_methods().map(|(name, method)| (name, map(method))).collect(),
                }),
            }
        };
        Ok(items.iter().enumerate().map(record).collect())
    }
}

impl Task for Masking {
    type Item = LabelledImage;
    type Record = MaskingRecord;

    const NAME: &'static str = "masking";
    const MEMORY_SETTINGS: &'static [&'static str] =
        &["task.masking.batch", "task.masking.image_size", "model.dtype"];

    fn manifest(&self) -> &[LabelledImage] {
        &self.items
    }

    fn id(item: &LabelledImage) -> &str {
        &item.id
    }

    fn answered(record: &MaskingRecord) -> &str {
        &record.id
    }

    fn made_from(record: &MaskingRecord) -> Option<&str> {
        Some(record.sha256.as_str()).filter(|sha256| !sha256.is_empty())
    }

    fn batch_size(&self) -> usize {
        self.config.batch
    }

    fn prefetch(&mut self, batches: &[Range<usize>]) {
        self.expected = batches.iter().cloned().collect();
    }

    fn run(&mut self, range: Range<usize>) -> Result<Vec<Answer<MaskingRecord>>> {
        let batch = self.load(&range);
        self.answer(range.start, batch)
    }
}

fn decode(preprocessor: &Preprocessor, items: &[LabelledImage]) -> Batch {
    let read = |item: &LabelledImage| -> Result<(Array3<f32>, String)> {
        let image = item.load()?;
        let pixels = preprocessor.apply(&image.rgb).map_err(models::Error::from)?;
        Ok((pixels, image.sha256))
    };
    let each: Vec<_> =
        items.par_iter().map(|item| read(item).map_err(|e| Failure::new(&item.id, e))).collect();
    let mut batch = Batch { decoded: Vec::new(), pixels: Vec::new(), failures: Vec::new() };
    for (place, read) in each.into_iter().enumerate() {
        match read {
            Ok((pixels, sha256)) => {
                batch.decoded.push((place, sha256));
                batch.pixels.push(pixels);
            }
            Err(failure) => batch.failures.push((place, failure)),
        }
    }
    batch
}
