//! Kept tokens: how many image tokens a threshold on their score keeps. This is the smallest experiment: a template for
//! new ones, and a quick measure of how concentrated the attention of a network is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use models::attend::{ChainTokens, KeyBias};
use models::probe::{MeanMap, Select, token_rank};
use models::vision::VisionModel;
use models::{LayerSelection, TokenKind, TokenLayout};
use ndarray::Array3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::ahead::Ahead;
use crate::dataset::LabelledImage;
use crate::decoded::Decoded;
use crate::error::{Error, Result};
use crate::screen::screen;
use crate::task::{Rest, Task, in_order};

/// `[task.kept]`: the fraction of image tokens whose score reaches a threshold. Not an experiment of the paper.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptConfig {
    /// Methods to compare, that is, scores of tokens.
    pub methods: Vec<KeptMethod>,
    /// A token is kept if its score is at least this value, in multiples of the score under uniform attention: with 1,
    /// tokens that receive more attention than average. Greater than 0.
    #[serde(default = "KeptConfig::default_threshold")]
    pub threshold: f64,
    /// Layers whose attention is read.
    #[serde(default)]
    pub layers: LayerSelection,
    /// Probability that the chain follows the attention in a step; otherwise it jumps to a random token. Range (0, 1].
    #[serde(default = "KeptConfig::default_alpha")]
    pub alpha: f64,
    /// Number of images that are run together.
    #[serde(default = "KeptConfig::default_batch")]
    pub batch: usize,
}

/// A score of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeptMethod {
    /// Attention received from all tokens: one step from the uniform state.
    ColumnSum,
    /// The steady state.
    Tokenrank,
}

impl KeptMethod {
    /// Key of the method in records and results.
    pub fn key(self) -> &'static str {
        match self {
            Self::ColumnSum => "column-sum",
            Self::Tokenrank => "tokenrank",
        }
    }

    /// Name of the method in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::ColumnSum => "Column sum",
            Self::Tokenrank => "TokenRank",
        }
    }
}

impl KeptConfig {
    fn default_threshold() -> f64 {
        1.0
    }

    fn default_alpha() -> f64 {
        0.99
    }

    fn default_batch() -> usize {
        16
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting, reason: String| Err(Error::Setting { setting, reason });
        let different: BTreeSet<KeptMethod> = self.methods.iter().copied().collect();
        if self.methods.is_empty() || different.len() < self.methods.len() {
            return refuse("task.kept.methods", "must list at least one method, and each once".into());
        }
        if !(self.threshold > 0.0 && self.threshold.is_finite()) {
            let reason = format!("must be a finite number above 0, found {}", self.threshold);
            return refuse("task.kept.threshold", reason);
        }
        if !(self.alpha > 0.0 && self.alpha <= 1.0) {
            return refuse("task.kept.alpha", format!("must lie in (0, 1], found {}", self.alpha));
        }
        if self.batch == 0 {
            return refuse("task.kept.batch", "must be at least 1".into());
        }
        Ok(())
    }

    /// Returns these settings with one method only, and defaults for the settings that it does not read.
    #[must_use]
    pub fn of_method(&self, method: KeptMethod) -> Self {
        let alpha = match method {
            KeptMethod::ColumnSum => Self::default_alpha(),
            KeptMethod::Tokenrank => self.alpha,
        };
        Self { methods: vec![method], alpha, ..self.clone() }
    }
}

/// The result for one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptRecord {
    /// Name of the image.
    pub id: String,
    /// SHA-256 of the image file.
    pub sha256: String,
    /// Number of image tokens.
    pub tokens: u64,
    /// Number of image tokens whose score reaches the threshold, by method.
    pub kept: BTreeMap<String, u64>,
}

/// The experiment on one network and one dataset.
pub struct Kept {
    config: KeptConfig,
    model: VisionModel,
    items: Vec<LabelledImage>,
    decoded: Ahead<Decoded>,
}

impl Kept {
    /// Creates the experiment.
    ///
    /// # Errors
    /// Fails if a setting is out of range or does not fit the network.
    pub fn new(config: KeptConfig, model: VisionModel, items: Vec<LabelledImage>) -> Result<Self> {
        config.check()?;
        config.layers.resolve(model.network.depth())?;
        Ok(Self { config, model, items, decoded: Ahead::default() })
    }

    /// Returns the number of image tokens, and the number of tokens kept, `[method][image]`.
    fn count(&self, pixels: &[&Array3<f32>]) -> Result<(u64, Vec<Vec<u64>>)> {
        let network = &self.model.network;
        let blocks = self.config.layers.resolve(network.depth())?;
        let mut probe = Select::new(blocks, MeanMap::new(ChainTokens::All));
        let embedded = network.embed(&VisionModel::batch(pixels.iter().copied())?)?;
        network.encode(&embedded, &KeyBias::none(), &mut probe)?;
        let mean = probe.inner.finish()?;
        let count = |method: &KeptMethod| {
            let states = match method {
                KeptMethod::ColumnSum => mean.f_mean_dim(-2i64, false, Kind::Double)?,
                KeptMethod::Tokenrank => token_rank(&mean, self.config.alpha)?,
            };
            kept(&states, &embedded.layout, self.config.threshold)
        };
        let counts = self.config.methods.iter().map(count).collect::<Result<_>>()?;
        Ok((embedded.layout.count(TokenKind::Image) as u64, counts))
    }
}

/// Returns, for each image, the number of image tokens whose state is at least `threshold / n`; `states` is
/// `[images, n]`.
fn kept(states: &Tensor, layout: &TokenLayout, threshold: f64) -> Result<Vec<u64>> {
    let columns = layout.indices(|kind| kind == TokenKind::Image);
    let states = states.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    let even = 1.0 / states.size()[1] as f64;
    let chosen = states.f_index_select(-1, &Tensor::f_from_slice(&columns)?)?.f_contiguous()?;
    let mut flat = vec![0.0f64; chosen.numel()];
    chosen.f_copy_data(&mut flat, chosen.numel())?;
    let count = |row: &[f64]| row.iter().filter(|&&state| state >= threshold * even).count() as u64;
    Ok(flat.chunks(columns.len().max(1)).map(count).collect())
}

impl Task for Kept {
    type Item = LabelledImage;
    type Record = KeptRecord;

    const NAME: &'static str = "kept";
    const MEMORY_SETTINGS: &'static [&'static str] = &["task.kept.batch", "model.image_size", "model.dtype"];

    fn manifest(&self) -> &[LabelledImage] {
        &self.items
    }

    fn id(item: &LabelledImage) -> &str {
        &item.id
    }

    fn answered(record: &KeptRecord) -> &str {
        &record.id
    }

    fn made_from(record: &KeptRecord) -> Option<&str> {
        Some(&record.sha256)
    }

    fn batch_size(&self) -> usize {
        self.config.batch
    }

    fn prefetch(&mut self, batches: &[Range<usize>]) {
        self.decoded.expect(batches);
    }

    fn start(&mut self, range: Range<usize>) -> Result<Rest<KeptRecord>> {
        let Decoded { images: found, pixels, failures } =
            self.decoded.images(&range, &self.items, &self.model.preprocessor);
        let items = &self.items[range];
        let place = |image: usize| found[image].0;
        let count = |images: &[usize]| {
            let (tokens, counts) =
                self.count(&images.iter().map(|&image| &pixels[image]).collect::<Vec<_>>())?;
            let record = |(row, &image): (usize, &usize)| {
                let (place, sha256) = &found[image];
                let methods = self.config.methods.iter().map(|method| method.key().to_owned());
                let kept = methods.zip(counts.iter().map(|of_method| of_method[row])).collect();
                KeptRecord { id: items[*place].id.clone(), sha256: sha256.clone(), tokens, kept }
            };
            Ok(images.iter().enumerate().map(record).collect::<Vec<_>>())
        };
        let counted = screen((0..found.len()).collect(), |image| &items[place(image)].id, count)?;
        let counted = counted.into_iter().map(|(image, answer)| (place(image), answer)).collect();
        let answers = in_order(counted, failures);
        Ok(Box::new(move || Ok(answers)))
    }
}
