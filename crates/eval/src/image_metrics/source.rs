//! The reference that an experiment's generated images are compared with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use models::features::{FeatureNetwork, FeatureSource};
use models::image::Rgb8;
use models::{hex, limits, notes};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tasks::dataset::{DatasetConfig, LabelledImage, Sourced};

use super::reference::{self, Kind};
use super::{extract_each, images_below};
use crate::error::{Error, Result};
use crate::metrics::fidelity::Reference;
use runs::FileAction;
use runs::progress;

/// Maximum number of unreadable images that a message names.
const MOST_NAMED: usize = 8;

/// The source of a reference: images, or a file with their features or statistics.
#[derive(Debug, Clone)]
pub(crate) enum ReferenceSource {
    /// Images of a dataset; their labels do not matter.
    Images(Vec<LabelledImage>),
    /// Files of a folder.
    Files(Vec<PathBuf>),
    /// A file of features or of their mean and covariance.
    Known(PathBuf, Kind),
}

impl ReferenceSource {
    /// Returns the reference at a path.
    ///
    /// # Errors
    /// Fails if there is nothing at the path, or nothing that images can be compared with.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        if !path.exists() {
            let error = tasks::Error::NoData {
                path: path.into(),
                reason:
                    "no such folder or file; pictures, .npz statistics or .safetensors features are needed"
                        .into(),
                setting: "dataset.reference.path",
                value: "PATH",
            };
            return Err(error.into());
        }
        Ok(match Kind::of(path)? {
            Kind::Folder => Self::Files(images_below(path, None)?),
            kind @ (Kind::Statistics | Kind::Features) => Self::Known(path.into(), kind),
        })
    }

    /// Reads everything that [`ReferenceSource::read`] will read, without a network; images only once per process. Returns the
    /// number of images, if it is known.
    ///
    /// # Errors
    /// Fails with all images that cannot be read, or if a file is damaged or has features of another network or width.
    pub(crate) fn prove(&self, features: &FeatureSource) -> Result<Option<usize>> {
        match self {
            Self::Images(images) => {
                // Procedural scenes have no file.
                let files: Vec<_> = images.iter().filter(|image| image.path().is_some()).collect();
                let paths = files.iter().filter_map(|image| Some(image.path()?.to_path_buf())).collect();
                readable(paths, |place| Ok(files[place].load().map(|_| ())?))?;
                Ok(Some(images.len()))
            }
            Self::Files(paths) => {
                let read =
                    |place: usize| Ok(Rgb8::open(&paths[place]).map(|_| ()).map_err(models::Error::from)?);
                readable(paths.clone(), read)?;
                Ok(Some(paths.len()))
            }
            Self::Known(path, kind) => {
                let (width, reference) = (
                    features.width()?,
                    match kind {
                        Kind::Statistics => reference::statistics(path)?,
                        Kind::Features | Kind::Folder => reference::features(path, &features.sha256()?)?,
                    },
                );
                let (found, items) = match &reference {
                    Reference::Features(features) => (features.features.ncols(), Some(features.len())),
                    Reference::Statistics(gaussian) => (gaussian.width(), None),
                };
                if found == width {
                    return Ok(items);
                }
                let reason = format!(
                    "holds features of {found} numbers, but the network of metrics.features gives {width}; name the \
                     network that made it, or another reference"
                );
                Err(tasks::Error::Dataset { path: path.clone(), reason }.into())
            }
        }
    }

    /// Returns the reference that a data set names.
    ///
    /// # Errors
    /// Fails as [`ReferenceSource::find`] does, or if labelled images cannot be listed.
    pub(crate) fn of(dataset: &DatasetConfig) -> Result<Self> {
        if let DatasetConfig::Reference(reference) = dataset {
            return Self::find(&reference.path);
        }
        Ok(Self::Images(dataset.items(usize::MAX)?))
    }

    /// Returns the hash that [`ReferenceSource::read`] would return now; `None` for procedural scenes and for unreadable files.
    pub(crate) fn sha256(&self) -> Option<String> {
        let of_file = |path: &PathBuf, most| Some(hex(Sha256::digest(limits::read_bytes(path, most).ok()?)));
        let hashes: Option<Vec<String>> = match self {
            Self::Images(images) if images.iter().all(|image| image.path().is_none()) => return None,
            Self::Images(images) => images.par_iter().map(|image| image.sha256().ok()).collect(),
            Self::Files(paths) => paths.par_iter().map(|path| of_file(path, limits::PICTURE_BYTES)).collect(),
            Self::Known(path, _) => return of_file(path, limits::FEATURE_BYTES),
        };
        Some(hash_of_hashes(&hashes?))
    }

    /// Returns a line for each image or file.
    pub(crate) fn manifest(&self) -> Vec<String> {
        match self {
            Self::Images(images) => images.iter().map(|image| image.id.clone()).collect(),
            Self::Files(paths) => paths.iter().map(|path| path.display().to_string()).collect(),
            Self::Known(path, _) => vec![path.display().to_string()],
        }
    }

    /// Returns the features of the reference for a network whose weights have this hash, and a hash over everything that was read.
    ///
    /// # Errors
    /// Fails if a file cannot be read or holds features of another network.
    pub(crate) fn read(
        &self,
        network: &FeatureNetwork,
        weights_sha256: &str,
        batch: usize,
    ) -> Result<(Reference, String)> {
        let count = match self {
            Self::Images(images) => images.len(),
            Self::Files(paths) => paths.len(),
            Self::Known(path, kind) => {
                let bytes = limits::read_bytes(path, limits::FEATURE_BYTES)
                    .map_err(crate::error::Error::file(FileAction::Read, path))?;
                let hash = hex(Sha256::digest(&bytes));
                let reference = match kind {
                    Kind::Statistics => reference::statistics(path)?,
                    Kind::Features | Kind::Folder => reference::features(path, weights_sha256)?,
                };
                return Ok((reference, hash));
            }
        };
        // Images are read on several cores; their hashes are combined in order.
        let hashes = Mutex::new(vec![String::new(); count]);
        let keep = |place: usize, hash: String| {
            if let Some(slot) = hashes.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
                *slot = hash;
            }
        };
        let set = match self {
            Self::Images(images) => {
                let read = |place: usize, image: &LabelledImage| {
                    let loaded = image.load()?;
                    keep(place, loaded.sha256);
                    Ok((place as u64, loaded.rgb))
                };
                extract_each(network, images, batch, "reference", |image| image.id.clone(), read)
            }
            Self::Files(paths) => {
                let read = |place: usize, path: &PathBuf| {
                    let bytes = limits::read_bytes(path, limits::PICTURE_BYTES)
                        .map_err(|source| models::Error::Read { path: path.clone(), source })?;
                    keep(place, hex(Sha256::digest(&bytes)));
                    notes::orientation_ignored(path, &bytes);
                    let rgb = Rgb8::decode(&bytes).map_err(|e| models::Error::from(e.in_file(path)))?;
                    Ok((place as u64, rgb))
                };
                extract_each(network, paths, batch, "reference", |path| path.display().to_string(), read)
            }
            Self::Known(..) => return self.read(network, weights_sha256, batch),
        }?;
        let hashes = hashes.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((Reference::Features(set.finish()), hash_of_hashes(&hashes)))
    }
}

/// Checks on all cores that every one of these files can be read, and remembers this for the other runs of a sweep.
fn readable(paths: Vec<PathBuf>, read: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    static KNOWN: Mutex<BTreeSet<Vec<PathBuf>>> = Mutex::new(BTreeSet::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if paths.is_empty() || known().contains(&paths) {
        return Ok(());
    }
    let bar = progress::bar(paths.len(), 0).with_message("of the reference checked");
    let each = |place| {
        let found = read(place).err();
        bar.inc(1);
        found
    };
    let mut faults: Vec<Error> = (0..paths.len()).into_par_iter().filter_map(each).collect();
    bar.finish_and_clear();
    if faults.is_empty() {
        known().insert(paths);
        return Ok(());
    }
    let more = faults.len().saturating_sub(MOST_NAMED);
    faults.truncate(MOST_NAMED);
    if more > 0 {
        let reason = format!("{more} more images of the reference cannot be read");
        let path = paths[0].parent().unwrap_or(Path::new("")).to_path_buf();
        faults.push(tasks::Error::Dataset { path, reason }.into());
    }
    Err(Error::all(faults))
}

fn hash_of_hashes(hashes: &[String]) -> String {
    let mut hasher = Sha256::new();
    hashes.iter().for_each(|hash| hasher.update(hash));
    hex(hasher.finalize())
}
