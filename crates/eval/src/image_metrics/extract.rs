//! Extracts features of images with a feature network, batch by batch.

use std::path::PathBuf;

use models::features::FeatureNetwork;
use models::image::Rgb8;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::metrics::fidelity::{FeatureSet, Item};
use runs::progress::bar;

/// Extracts features of images of any sizes, `batch` of them (at least one) at a time. The set is keyed by the numbers of the
/// images and does not depend on the batches, up to the last digits of float32.
///
/// # Errors
/// Fails if an image cannot be read, if the network fails, or if a number is repeated with different features.
pub fn extract(
    network: &FeatureNetwork,
    images: impl IntoIterator<Item = Result<(u64, Rgb8)>>,
    batch: usize,
) -> Result<FeatureSet> {
    let mut set = FeatureSet::new();
    let mut images = images.into_iter();
    loop {
        let (numbers, batch): (Vec<u64>, Vec<Rgb8>) =
            images.by_ref().take(batch.max(1)).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        if numbers.is_empty() {
            return Ok(set);
        }
        add(&mut set, network, &numbers, &batch, |place| format!("number {}", numbers[place]))?;
    }
}

/// Extracts features of files, numbered from 0 in the order of `paths` and decoded on all cores.
///
/// # Errors
/// Fails if a file is not a readable image (the message names it), or if the network fails.
pub fn extract_folder(
    network: &FeatureNetwork,
    paths: &[PathBuf],
    batch: usize,
    what: &'static str,
) -> Result<FeatureSet> {
    let read = |number: usize, path: &PathBuf| -> Result<(u64, Rgb8)> {
        Ok((number as u64, Rgb8::open(path).map_err(models::Error::from)?))
    };
    extract_each(network, paths, batch, what, |path| path.display().to_string(), read)
}

/// Extracts features of items, read on all cores by `read`, which gets the index in the list and returns the number. `name`
/// returns the name of an item for messages.
///
/// # Errors
/// Fails as [`extract`] does.
pub(crate) fn extract_each<T: Sync>(
    network: &FeatureNetwork,
    items: &[T],
    batch: usize,
    what: &'static str,
    name: impl Fn(&T) -> String,
    read: impl Fn(usize, &T) -> Result<(u64, Rgb8)> + Sync,
) -> Result<FeatureSet> {
    let mut set = FeatureSet::new();
    let bar = bar(items.len(), 0).with_message(what);
    for (index, chunk) in items.chunks(batch.max(1)).enumerate() {
        let first = index * batch.max(1);
        let images = chunk.par_iter().enumerate().map(|(place, item)| read(first + place, item));
        let (numbers, images): (Vec<u64>, Vec<Rgb8>) =
            images.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        add(&mut set, network, &numbers, &images, |place| name(&chunk[place]))?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(set)
}

fn add(
    set: &mut FeatureSet,
    network: &FeatureNetwork,
    numbers: &[u64],
    images: &[Rgb8],
    name: impl Fn(usize) -> String,
) -> Result<()> {
    let found = network.of(images).map_err(|error| match error.into_not_finite() {
        Ok(source) => {
            let image = source.rows.first().map_or_else(String::new, |&row| format!("`{}`", name(row)));
            Error::Unscored { image, source }
        }
        Err(other) => other.into(),
    })?;
    for (&number, found) in numbers.iter().zip(found) {
        set.add(number, Item { features: found.features, logits: found.logits })?;
    }
    Ok(())
}
