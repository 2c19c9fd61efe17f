//! What experiments need of what is published: checkpoints, files at web addresses, data sets.

use std::path::{Path, PathBuf};

use models::features::FeatureSource;
use tasks::dataset::{DatasetConfig, MissingPart, ParquetConfig};

use crate::error::Result;
use crate::model::{ClassSource, ModelSource};
use crate::sweep;

/// What experiment files need and the disk lacks. Repositories of the hub are listed even if the cache has them.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Hub ids.
    pub checkpoints: Vec<String>,
    /// Data sets of the hub: ids, and the beginnings of the names of their files.
    pub datasets: Vec<(String, String)>,
    /// Folders of networks of the user's own that do not exist.
    pub folders: Vec<PathBuf>,
    /// Files that do not exist: linear heads, networks of metrics, files of scores and of prompts.
    pub files: Vec<PathBuf>,
    /// Missing parts of data sets.
    pub parts: Vec<MissingPart>,
}

impl Needs {
    /// Adds what an experiment file needs, in every combination if it has a `[sweep]`.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not an experiment.
    pub fn add(&mut self, path: &Path, assignments: &[String]) -> Result<()> {
        for experiment in sweep::experiments(path, assignments)? {
            match &experiment.model.source {
                ModelSource::Id(id) => push(&mut self.checkpoints, id.clone()),
                ModelSource::Path(path) if !path.exists() => push(&mut self.folders, path.clone()),
                ModelSource::Path(_) => {}
            }
            if let Some(ClassSource::Head(path)) = &experiment.model.classes
                && !path.exists()
            {
                push(&mut self.files, path.clone());
            }
            if let Some(metrics) = &experiment.metrics
                && let FeatureSource::Inception(path) = metrics.features.parse()?
                && !path.exists()
            {
                push(&mut self.files, path);
            }
            for path in experiment.task.kind().own_files() {
                if !path.exists() {
                    push(&mut self.files, path.to_owned());
                }
            }
            if let DatasetConfig::Parquet(ParquetConfig { id: Some(id), split, .. }) = &experiment.dataset {
                push(&mut self.datasets, (id.clone(), split.clone().unwrap_or_default()));
            }
            for part in experiment.dataset.missing()? {
                push(&mut self.parts, part);
            }
        }
        Ok(())
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
