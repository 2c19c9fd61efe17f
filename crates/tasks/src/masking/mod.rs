//! Masking: classification accuracy while a growing fraction of the most important patches is masked.
//!
//! One probed pass per image gives the scores of all methods. Then, for each mechanism and fraction, the images are classified
//! again with the masked patches removed or replaced. Patches are removed after the embedding, which is equivalent to adding `-∞` to
//! their keys in every layer, but much cheaper. A replaced patch is embedded once, since the embedding of a patch reads no other
//! patch. CLS and registers are never masked.

mod config;
mod fractions;
mod mechanism;
mod passes;
mod record;
mod scores;

use std::ops::Range;

use models::TokenKind;
use models::attend::KeyBias;
use models::vision::VisionModel;
use ndarray::Array3;

pub use config::{ClsInChain, HeadAverage, MaskingConfig, Method, Ranking, Score};
pub use fractions::{EvenFractions, Fractions};
pub use mechanism::{Direction, Fill, Mechanism};
pub use record::{ClassScore, Confidence, MaskingRecord, ScoreMaps};

use crate::ahead::Ahead;
use crate::dataset::LabelledImage;
use crate::decoded::Decoded;
use crate::error::{Error, Result};
use crate::score_file::ScoreFiles;
use crate::screen::screen;
use crate::task::{Answer, Rest, Task, in_order};
use passes::{Images, Order, Prediction, Read, predictions};
use scores::ScoreProbe;

/// The masking experiment on one network and one dataset.
pub struct Masking {
    config: MaskingConfig,
    methods: Vec<Method>,
    model: VisionModel,
    items: Vec<LabelledImage>,
    seed: u64,
    files: ScoreFiles,
    decoded: Ahead<Decoded>,
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
        config.check_network(&model.network)?;
        if model.network.classes().is_none() {
            let reason = "masking needs a network with a classifier".into();
            return Err(Error::Setting { setting: "model.head", reason });
        }
        let methods = config.methods();
        Ok(Self { config, methods, model, items, seed, files, decoded: Ahead::default() })
    }

    /// Returns the answers of a batch whose images are decoded.
    fn answer(&self, first: usize, batch: Decoded) -> Result<Vec<Answer<MaskingRecord>>> {
        let Decoded { images: decoded, pixels, failures } = batch;
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
        let config = &self.config;
        let blocks = config.layers.resolve(network.depth())?;
        let rankings = config.rankings();
        let mut probe = ScoreProbe::new(config, &rankings, blocks);
        let batch = VisionModel::batch(pixels.iter().copied())?;
        let embedded = network.embed(&batch)?;
        let encoded = network.encode(&embedded, &KeyBias::none(), &mut probe)?;
        let layout = &embedded.layout;
        let read = if config.confidence { Read::Best } else { Read::Class };
        let unmasked = predictions(network, network.logits(&encoded)?, read)?;
        let names: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        let scores = probe.finish(config, &rankings, layout, &names, (self.seed, &self.files))?;

        // At a given fraction all rankings mask equally many patches of every image, so they run together.
        let orders: Vec<Order> = scores
            .iter()
            .flat_map(|maps| maps.iter().enumerate().map(|(image, map)| Order::of_scores(image, map)))
            .collect();
        let before: Vec<usize> = unmasked.iter().map(|prediction| prediction.class).collect();
        let read = if config.confidence { Read::Given(&before) } else { Read::Class };
        let patches = layout.count(TokenKind::Image) as usize;
        // By mechanism, then by order.
        let mut curves: Vec<Vec<Vec<Prediction>>> = Vec::new();
        for mechanism in &config.mechanism {
            let blank = mechanism.blank(network, &self.model.preprocessor, &batch, &embedded)?;
            let images = Images { embedded: &embedded, blank: blank.as_ref() };
            let mut of_mechanism = vec![Vec::new(); orders.len()];
            for fraction in config.fractions.values() {
                let count = config.direction.count(*mechanism, fraction, patches);
                let predicted = match (count, config.direction) {
                    (0, Direction::Deletion | Direction::LeastFirst) => {
                        orders.iter().map(|order| unmasked[order.image]).collect()
                    }
                    (_, direction) => images.classify(network, &orders, (direction, count), read)?,
                };
                for (curve, prediction) in of_mechanism.iter_mut().zip(predicted) {
                    curve.push(prediction);
                }
            }
            curves.push(of_mechanism);
        }
        // Methods are rankings, each with every mechanism.
        let curve = |method: usize, image: usize| {
            let (ranking, mechanism) = (method / config.mechanism.len(), method % config.mechanism.len());
            &curves[mechanism][ranking * items.len() + image]
        };

        let record = |(image, item): (usize, &&LabelledImage)| {
            let (place, sha256) = decoded[image];
            let of_methods = || self.methods.iter().map(Method::to_string).zip(0..);
            let drawn = first + place < config.figures;
            // A map for each ranking, under the name of its first mechanism.
            let of_rankings =
                || of_methods().step_by(config.mechanism.len()).map(|(name, _)| name).zip(&scores);
            let map = |scores: &[Vec<f64>]| scores[image].iter().map(|&score| score as f32).collect();
            let of_class =
                |predictions: &[Prediction]| predictions.iter().filter_map(|one| one.of_class).collect();
            MaskingRecord {
                id: item.id.clone(),
                sha256: sha256.clone(),
                label: item.label,
                unmasked: before[image],
                predicted: of_methods()
                    .map(|(name, method)| (name, curve(method, image).iter().map(|one| one.class).collect()))
                    .collect(),
                confidence: unmasked[image].of_class.map(|unmasked| Confidence {
                    unmasked,
                    masked: of_methods()
                        .map(|(name, method)| (name, of_class(curve(method, image))))
                        .collect(),
                }),
                scores: drawn.then(|| ScoreMaps {
                    grid: (layout.image.0 as usize, layout.image.1 as usize),
                    maps: of_rankings().map(|(name, scores)| (name, map(scores))).collect(),
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
        self.decoded.expect(batches);
    }

    fn start(&mut self, range: Range<usize>) -> Result<Rest<MaskingRecord>> {
        let batch = self.decoded.images(&range, &self.items, &self.model.preprocessor);
        let answers = self.answer(range.start, batch)?;
        Ok(Box::new(move || Ok(answers)))
    }
}
