//! Pictures through a feature network, a batch at a time.

use std::path::PathBuf;

use models::features::FeatureNetwork;
use models::image::Rgb8;
use rayon::prelude::*;

use crate::error::Result;
use crate::metrics::fidelity::{FeatureSet, Item};
use runs::progress::bar;

/// Features of pictures of any sizes, each under its number; `batch` of them (at least one) run at a time. Numbers decide
/// what the set is, batches do not, up to the last digits of float32.
///
/// # Errors
/// Those of the pictures and of the network, or a number that comes twice.
pub fn extract(
    network: &FeatureNetwork,
    pictures: impl IntoIterator<Item = Result<(u64, Rgb8)>>,
    batch: usize,
) -> Result<FeatureSet> {
    let mut set = FeatureSet::new();
    let mut pictures = pictures.into_iter();
    loop {
        let (numbers, batch): (Vec<u64>, Vec<Rgb8>) =
            pictures.by_ref().take(batch.max(1)).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        if numbers.is_empty() {
            return Ok(set);
        }
        add(&mut set, network, &numbers, &batch)?;
    }
}

/// Features of files, numbered from 0 in the order of `paths`, decoded on every core.
///
/// # Errors
/// A file that is no readable picture, by its name; those of the network.
pub fn extract_folder(
    network: &FeatureNetwork,
    paths: &[PathBuf],
    batch: usize,
    what: &'static str,
) -> Result<FeatureSet> {
    extract_each(network, paths, batch, what, |number, path| {
        Ok((number as u64, Rgb8::open(path).map_err(models::Error::from)?))
    })
}

/// Features of items, each read on any core by `read`, which is told the place in the list and says the number.
///
/// # Errors
/// As [`extract`].
pub(crate) fn extract_each<T: Sync>(
    network: &FeatureNetwork,
    items: &[T],
    batch: usize,
    what: &'static str,
    read: impl Fn(usize, &T) -> Result<(u64, Rgb8)> + Sync,
) -> Result<FeatureSet> {
    let mut set = FeatureSet::new();
    let bar = bar(items.len(), 0).with_message(what);
    for (index, chunk) in items.chunks(batch.max(1)).enumerate() {
        let first = index * batch.max(1);
        let pictures = chunk.par_iter().enumerate().map(|(place, item)| read(first + place, item));
        let (numbers, pictures): (Vec<u64>, Vec<Rgb8>) =
            pictures.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        add(&mut set, network, &numbers, &pictures)?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(set)
}

fn add(set: &mut FeatureSet, network: &FeatureNetwork, numbers: &[u64], pictures: &[Rgb8]) -> Result<()> {
    for (&number, found) in numbers.iter().zip(network.of(pictures)?) {
        set.add(number, Item { features: found.features, logits: found.logits })?;
    }
    Ok(())
}
