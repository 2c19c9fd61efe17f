//! Classifying images whose patches are masked in part.

use markov_core::torch::to_vec;
use models::vision::{Embedded, VisionTransformer};
use tch::{Device, Kind, Tensor};

use super::mechanism::Direction;
use super::record::ClassScore;
use crate::error::Result;

/// Number of tokens that run through the network at once on the CPU: enough to occupy all cores, few enough to stay in
/// the cache.
const TOKENS_AT_ONCE: i64 = 2048;
/// Number of tokens that run through the network at once on a GPU, which needs more parallel work.
const TOKENS_AT_ONCE_CUDA: i64 = 1 << 17;

/// The patches of one image of a batch, most important first.
pub(super) struct Order {
    pub(super) image: usize,
    patches: Vec<usize>,
}

impl Order {
    /// Sorts patches by falling score; patches with equal scores keep their row order.
    pub(super) fn of_scores(image: usize, scores: &[f64]) -> Self {
        let mut patches: Vec<usize> = (0..scores.len()).collect();
        patches.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        Self { image, patches }
    }
}

/// The answer of the network for one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prediction {
    /// The most likely class.
    pub(super) class: usize,
    /// Probability and logit of a given class, if they were asked for.
    pub(super) of_class: Option<ClassScore>,
}

/// What is read from the network's output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Read<'a> {
    /// The most likely class.
    Class,
    /// Also probability and logit of the most likely class.
    Best,
    /// Also probability and logit of a class that is given for each image of the batch.
    Given(&'a [usize]),
}

/// The images of a batch, and the same images with every patch masked, if masked patches are not removed.
pub(super) struct Images<'a> {
    pub(super) embedded: &'a Embedded,
    pub(super) blank: Option<&'a Embedded>,
}

impl Images<'_> {
    /// Returns the images of these orders, in each of which the patches that follow from `count` are masked.
    fn masked(&self, orders: &[Order], direction: Direction, count: usize) -> Result<Embedded> {
        let parts = orders.iter().map(|order| (order.image, direction.split(&order.patches, count)));
        Ok(match self.blank {
            None => {
                let visible: Vec<_> = parts.map(|(image, (_, visible))| (image, visible)).collect();
                self.embedded.with_patches(&visible)?
            }
            Some(blank) => {
                let masked: Vec<_> = parts.map(|(image, (masked, _))| (image, masked)).collect();
                self.embedded.with_replaced(blank, &masked)?
            }
        })
    }

    /// Returns the prediction for each order's image, in which the patches that follow from `count` are masked.
    pub(super) fn classify(
        &self,
        network: &VisionTransformer,
        orders: &[Order],
        (direction, count): (Direction, usize),
        read: Read<'_>,
    ) -> Result<Vec<Prediction>> {
        let all = self.embedded.layout.tokens();
        let length = match (self.blank, direction) {
            (Some(_), _) => all,
            (None, Direction::Deletion | Direction::LeastFirst) => all - count as i64,
            (None, Direction::Insertion) => self.embedded.layout.special + count as i64,
        };
        let budget = if network.device() == Device::Cpu { TOKENS_AT_ONCE } else { TOKENS_AT_ONCE_CUDA };
        let at_once = (budget / length.max(1)).max(1) as usize;

        let mut predicted = Vec::with_capacity(orders.len());
        for chunk in orders.chunks(at_once) {
            let images: Vec<usize> = chunk.iter().map(|order| order.image).collect();
            let of_items = |error: models::Error| error.of_items(|row| images[row]);
            let logits = network.classify(&self.masked(chunk, direction, count)?).map_err(of_items)?;
            let given: Vec<usize>;
            let read = match read {
                Read::Class | Read::Best => read,
                Read::Given(classes) => {
                    given = images.iter().map(|&image| classes[image]).collect();
                    Read::Given(&given)
                }
            };
            predicted.extend(predictions(network, logits, read).map_err(of_items)?);
        }
        Ok(predicted)
    }
}

/// Returns the prediction for each image from its logits; empty if the network has no classifier.
pub(super) fn predictions(
    network: &VisionTransformer,
    logits: Option<Tensor>,
    read: Read<'_>,
) -> models::Result<Vec<Prediction>> {
    let Some(logits) = logits else { return Ok(Vec::new()) };
    let best = logits.f_argmax(-1, false)?;
    let classes: Vec<i64> = to_vec(&best)?;
    let of_class = match read {
        Read::Class => None,
        Read::Best => class_scores(network, &logits, &best)?,
        Read::Given(given) => {
            let given: Vec<i64> = given.iter().map(|&class| class as i64).collect();
            class_scores(network, &logits, &Tensor::f_from_slice(&given)?.f_to_device(logits.device())?)?
        }
    };
    let of_row = |row: usize| of_class.as_ref().and_then(|scores| scores.get(row).copied());
    let prediction = |(row, class): (usize, i64)| Prediction { class: class as usize, of_class: of_row(row) };
    Ok(classes.into_iter().enumerate().map(prediction).collect())
}

/// Returns probability and logit of one class for each image. `None` if the network does not define probabilities.
fn class_scores(
    network: &VisionTransformer,
    logits: &Tensor,
    classes: &Tensor,
) -> models::Result<Option<Vec<ClassScore>>> {
    let Some(scaled) = network.scaled_logits(logits)? else { return Ok(None) };
    let scaled = scaled.f_to_kind(Kind::Float)?;
    let chosen = |of_classes: &Tensor| -> models::Result<Vec<f32>> {
        Ok(to_vec(&of_classes.f_gather(1, &classes.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?)?)
    };
    let (probabilities, logits) = (chosen(&scaled.f_softmax(-1, Kind::Float)?)?, chosen(&scaled)?);
    let score = |(probability, logit)| ClassScore { probability, logit };
    Ok(Some(probabilities.into_iter().zip(logits).map(score).collect()))
}
