//! Masking the most influential tokens: accuracy while the top share of patch tokens is removed.
//!
//! One probed pass per image gives the scores of all methods; then, for each share, the images are classified again
//! from the tokens that remain. Tokens leave after the patch embedding, which equals `-∞` on their keys in every layer
//! at a fraction of the cost. CLS and registers always stay.

mod config;
mod record;
mod removal;
mod scores;

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use models::Segment;
use models::attend::KeyBias;
use models::image::Preprocessor;
use models::vision::VisionModel;
use ndarray::Array3;
use rayon::prelude::*;

pub use config::{ClsInChain, Fractions, HeadAverage, MaskingConfig, Method, Score};
pub use record::{MaskingRecord, ScoreMaps};

use crate::dataset::LabelledImage;
use crate::error::{Error, Result};
use crate::task::Task;
use removal::{Order, classes, classify_without, removed_patches};
use scores::ScoreProbe;

/// The masking experiment on one network and one dataset.
pub struct Masking {
    config: MaskingConfig,
    methods: Vec<Method>,
    model: VisionModel,
    items: Vec<LabelledImage>,
    seed: u64,
    /// The batch that is being decoded in the background.
    upcoming: Option<(Range<usize>, Receiver<Result<Batch>>)>,
}

/// Decoded and preprocessed images.
struct Batch {
    pixels: Vec<Array3<f32>>,
    sha256: Vec<String>,
}

impl Masking {
    /// Puts the experiment together. `seed` decides the random order of each image.
    ///
    /// # Errors
    /// A setting is out of range or does not fit the network.
    pub fn new(
        config: MaskingConfig,
        model: VisionModel,
        items: Vec<LabelledImage>,
        seed: u64,
    ) -> Result<Self> {
        config.check()?;
        config.layers.resolve(model.network.depth())?;
        if model.network.classes().is_none() {
            let reason = "masking needs a network with a classifier".into();
            return Err(Error::Setting { setting: "model.head", reason });
        }
        let methods = config.methods();
        Ok(Self { config, methods, model, items, seed, upcoming: None })
    }

    /// The images of `range`; those of the batch after it are decoded in the background meanwhile.
    fn load(&mut self, range: &Range<usize>) -> Result<Batch> {
        let preprocessor = &self.model.preprocessor;
        let batch = match self.upcoming.take() {
            Some((expected, receiver)) if expected == *range => {
                receiver.recv().unwrap_or_else(|_| decode(preprocessor, &self.items[range.clone()]))
            }
            _ => decode(preprocessor, &self.items[range.clone()]),
        };
        let next = range.end..(range.end + self.config.batch).min(self.items.len());
        if !next.is_empty() {
            let (sender, receiver) = sync_channel(1);
            let (preprocessor, items) = (preprocessor.clone(), self.items[next.clone()].to_vec());
            thread::spawn(move || sender.send(decode(&preprocessor, &items)));
            self.upcoming = Some((next, receiver));
        }
        batch
    }

    /// The records of a batch whose images are at hand.
    fn answer(&self, range: Range<usize>, batch: Batch) -> Result<Vec<MaskingRecord>> {
        let items = &self.items[range.clone()];
        let network = &self.model.network;
        let blocks = self.config.layers.resolve(network.depth())?;
        let mut probe = ScoreProbe::new(&self.config, &self.methods, blocks);
        let (tokens, layout) = network.embed(&VisionModel::batch(&batch.pixels)?)?;
        let encoded = network.encode(&tokens, &layout, &KeyBias::none(), &mut probe)?;
        let unmasked = classes(network, &encoded)?;
        let names: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        let scores = probe.finish(&self.config, &self.methods, &layout, &names, self.seed)?;

        // All methods of all images lose equally many tokens at one share, so they run together.
        let orders: Vec<Order> = scores
            .iter()
            .flat_map(|maps| maps.iter().enumerate().map(|(image, map)| Order::of_scores(image, map)))
            .collect();
        let patches = layout.count(Segment::Image) as usize;
        let mut curves = vec![Vec::new(); orders.len()];
        for fraction in self.config.fractions.values() {
            let removed = removed_patches(fraction, patches);
            let predicted = match removed {
                0 => orders.iter().map(|order| unmasked[order.image]).collect(),
                _ => classify_without(network, &tokens, &layout, &orders, removed)?,
            };
            for (curve, class) in curves.iter_mut().zip(predicted) {
                curve.push(class);
            }
        }

        let record = |(image, item): (usize, &LabelledImage)| {
            let of_methods = || self.methods.iter().map(Method::to_string).zip(0..);
            let pictured = range.start + image < self.config.overlays;
            let map = |method: usize| scores[method][image].iter().map(|&score| score as f32).collect();
            MaskingRecord {
                id: item.id.clone(),
                sha256: batch.sha256[image].clone(),
                label: item.label,
                unmasked: unmasked[image],
                predicted: of_methods()
                    .map(|(name, method)| (name, curves[method * items.len() + image].clone()))
                    .collect(),
                scores: pictured.then(|| ScoreMaps {
                    grid: (layout.image.0 as usize, layout.image.1 as usize),
                    maps: of_methods().map(|(name, method)| (name, map(method))).collect(),
                }),
            }
        };
        Ok(items.iter().enumerate().map(|(image, item)| record((image, item))).collect())
    }
}

impl Task for Masking {
    type Item = LabelledImage;
    type Record = MaskingRecord;

    fn manifest(&self) -> &[LabelledImage] {
        &self.items
    }

    fn id(item: &LabelledImage) -> &str {
        &item.id
    }

    fn answered(record: &MaskingRecord) -> &str {
        &record.id
    }

    fn batch_size(&self) -> usize {
        self.config.batch
    }

    fn run(&mut self, range: Range<usize>) -> Result<Vec<MaskingRecord>> {
        let batch = self.load(&range)?;
        self.answer(range, batch)
    }
}

fn decode(preprocessor: &Preprocessor, items: &[LabelledImage]) -> Result<Batch> {
    let decoded: Vec<(Array3<f32>, String)> = items
        .par_iter()
        .map(|item| {
            let picture = item.load()?;
            let pixels = preprocessor.apply(&picture.rgb).map_err(models::Error::from)?;
            Ok((pixels, picture.sha256))
        })
        .collect::<Result<_>>()?;
    let (pixels, sha256) = decoded.into_iter().unzip();
    Ok(Batch { pixels, sha256 })
}
