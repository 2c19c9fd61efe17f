//! Classifying images from the tokens that remain.

use markov_core::torch::to_vec;
use models::attend::{KeyBias, NoProbe};
use models::vision::{Embedded, Encoded, VisionTransformer};
use tch::Device;

use crate::error::Result;

/// Number of tokens that run through the network at once on the CPU: enough to occupy all cores, few enough to stay in
/// the cache.
const TOKENS_AT_ONCE: i64 = 4096;
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

/// Returns how many of `patches` a fraction removes: the nearest whole number, but at least one patch remains.
pub(super) fn removed_patches(fraction: f64, patches: usize) -> usize {
    ((fraction * patches as f64).round() as usize).min(patches.saturating_sub(1))
}

/// Returns the class of each order's image after its first `removed` patches are removed.
pub(super) fn classify_without(
    network: &VisionTransformer,
    embedded: &Embedded,
    orders: &[Order],
    removed: usize,
) -> Result<Vec<usize>> {
    let length = (embedded.layout.tokens() - removed as i64).max(1);
    let budget = if network.device() == Device::Cpu { TOKENS_AT_ONCE } else { TOKENS_AT_ONCE_CUDA };
    let at_once = (budget / length).max(1) as usize;

    let mut predicted = Vec::with_capacity(orders.len());
    for chunk in orders.chunks(at_once) {
        let rows: Vec<(usize, &[usize])> =
            chunk.iter().map(|order| (order.image, &order.patches[removed..])).collect();
        let encoded = network
            .encode(&embedded.with_patches(&rows)?, &KeyBias::none(), &mut NoProbe)
            .map_err(|error| error.of_items(of_row(chunk)))?;
        predicted.extend(classes(network, &encoded).map_err(|error| error.of_items(of_row(chunk)))?);
    }
    Ok(predicted)
}

/// Returns the image of a row of the network's batch, which has a row for each order.
fn of_row(orders: &[Order]) -> impl Fn(usize) -> usize {
    let images: Vec<usize> = orders.iter().map(|order| order.image).collect();
    move |row| images[row]
}

/// Returns the most likely class of each image; empty if the network has no classifier.
pub(super) fn classes(network: &VisionTransformer, encoded: &Encoded) -> models::Result<Vec<usize>> {
    let Some(logits) = network.logits(encoded)? else {
        return Ok(Vec::new());
    };
    let classes: Vec<i64> = to_vec(&logits.f_argmax(-1, false)?)?;
    Ok(classes.into_iter().map(|class| class as usize).collect())
}
