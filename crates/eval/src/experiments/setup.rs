//! Functions that experiments share to find their networks and data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::model::ModelConfig;

/// Refuses `[metrics]`, which only applies to generated images.
///
/// # Errors
/// Fails if the experiment has `[metrics]`.
pub(super) fn no_metrics(experiment: &Experiment) -> Result<()> {
    if experiment.metrics.is_none() {
        return Ok(());
    }
    let reason = "only applies to generated images, those of [task.guidance]; leave it out".into();
    Err(tasks::Error::Setting { setting: "metrics", reason }.into())
}

/// Refuses settings of vision networks in `[model]`, which a pipeline does not use: the task has the image size.
///
/// # Errors
/// Fails if one of them is set.
pub(super) fn refuse_vision_settings(model: &ModelConfig, image_size: &str) -> Result<()> {
    if model.classes.is_none() && model.image_size.is_none() {
        return Ok(());
    }
    let reason = format!(
        "a pipeline has no classes of its own and its image size is {image_size}; leave head, class_embeddings, zero_shot \
         and image_size out"
    );
    Err(tasks::Error::Setting { setting: "model", reason }.into())
}

/// Checks that settings fit and weights are complete.
///
/// # Errors
/// Fails with the problems of both, in one error.
pub(super) fn fitting<T>(fits: tasks::Result<T>, weights: models::Result<()>) -> Result<()> {
    both(fits, weights).map(drop)
}

/// Returns both values. What is missing is reported at once, since each item may take hours to download.
///
/// # Errors
/// Fails with the errors of both, in one error.
pub(super) fn both<A, B>(a: Result<A, impl Into<Error>>, b: Result<B, impl Into<Error>>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (a, b) => {
            Err(Error::all(a.err().map(Into::into).into_iter().chain(b.err().map(Into::into)).collect()))
        }
    }
}

/// Returns the hash of these files, computed once per process: the runs of a sweep share tens of gigabytes.
///
/// # Errors
/// Fails if `hash` fails.
pub(super) fn once(files: Vec<PathBuf>, hash: impl FnOnce() -> Result<String>) -> Result<String> {
    static KNOWN: Mutex<BTreeMap<Vec<PathBuf>, String>> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known().get(&files).cloned();
    if let Some(found) = found {
        return Ok(found);
    }
    let hash = hash()?;
    known().insert(files, hash.clone());
    Ok(hash)
}

/// Returns the hash over the hashes of all images.
pub(super) fn data_sha256<'a>(images: impl Iterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    images.for_each(|sha256| hasher.update(sha256));
    models::hex(hasher.finalize())
}
