//! Metrics of generated images against real ones: `tokenrank metrics`, and the pieces that experiments use.
//!
//! [`extract`] turns images into a [`FeatureSet`](crate::metrics::fidelity::FeatureSet) with any
//! [`FeatureNetwork`](models::features::FeatureNetwork); [`evaluate`](crate::metrics::fidelity::evaluate) compares two of
//! them; [`Titles`] says what the numbers are called, which depends on the network.

mod extract;
mod folder;
mod reference;
mod report;
mod source;

use std::path::{Path, PathBuf};

use models::features::FeatureSource;
use models::{escape, files};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::judge::MOST_RESAMPLES;
use crate::metrics::fidelity::{Reference, Settings, Summary, evaluate};
use crate::table::Table;
pub(crate) use extract::extract_each;
pub use extract::{extract, extract_folder};
pub use folder::images_below;
pub use report::{Titles, table};
use runs::files::write_whole;
pub(crate) use source::ReferenceSource;

/// A request of `tokenrank metrics`.
#[derive(Debug, Clone)]
pub struct Request {
    /// Folder of generated images.
    pub generated: PathBuf,
    /// Folder of real images, `.npz` of their statistics, or safetensors of their features.
    pub reference: PathBuf,
    /// Source of the features.
    pub features: FeatureSource,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Number of images in one pass of the network.
    pub batch: usize,
    /// Maximum number of images, taken from the start of each folder.
    pub limit: Option<usize>,
    /// How the metrics are computed.
    pub settings: Settings,
    /// File to save the features of a reference folder to.
    pub save_reference: Option<PathBuf>,
    /// File that the caller will write the report to.
    pub out: Option<PathBuf>,
}

/// The metrics as they are written to JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name of the features.
    pub features: String,
    /// Hash of the weights that the features come from.
    pub weights_sha256: String,
    /// Whether the distances are the FID and KID of the literature.
    pub published_inception: bool,
    /// Folder of the generated images.
    pub generated: PathBuf,
    /// Folder or file that they were compared with.
    pub reference: PathBuf,
    /// Seed of the shuffles and draws.
    pub seed: u32,
    /// The metrics.
    pub metrics: Summary,
}

/// Computes every metric that the generated images and the reference allow.
///
/// # Errors
/// Fails if files are missing or unreadable, if the reference has other features, or if there are too few images.
pub fn measure(request: &Request) -> Result<Report> {
    let Request { generated, reference, features, device, batch, limit, settings, save_reference, out } =
        request;
    let refuse = |option, reason: &str| Err(Error::Option { option, reason: reason.into() });
    if *batch == 0 {
        return refuse("batch", "0 images at a time; give at least 1");
    }
    if settings.resamples > MOST_RESAMPLES {
        let reason = format!("must be at most {MOST_RESAMPLES}, found {}", settings.resamples);
        return refuse("resamples", &reason);
    }
    let kind = reference::Kind::of(reference)?;
    if save_reference.is_some() && kind != reference::Kind::Folder {
        return refuse("save-reference", "keeps the features of a folder, and the reference is a file");
    }
    let ours = images_below(generated, *limit)?;
    let sha256 = features.sha256()?;
    // Cheap checks come before the network is loaded.
    let there = match kind {
        reference::Kind::Folder => None,
        reference::Kind::Statistics => Some(reference::statistics(reference)?),
        reference::Kind::Features => Some(reference::features(reference, &sha256)?),
    };
    let theirs = there.is_none().then(|| images_below(reference, *limit)).transpose()?;
    let inputs = ours.iter().chain(theirs.iter().flatten()).chain([reference]).map(PathBuf::as_path);
    let inputs: Vec<&Path> = inputs.filter(|path| path.is_file()).collect();
    for (option, written) in [("out", out), ("save-reference", save_reference)] {
        let Some(written) = written else { continue };
        if let Some(input) = files::input_at(written, inputs.iter().copied()) {
            return refuse(
                option,
                &format!("{} is an input, {}; name another file", written.display(), input.display()),
            );
        }
    }
    let network = features.load(models::device::parse(device)?)?;

    let theirs = match (there, theirs) {
        (Some(there), _) => there,
        (None, theirs) => {
            let found = extract_folder(&network, &theirs.unwrap_or_default(), *batch, "reference")?;
            if let Some(path) = save_reference {
                reference::save(path, &network.to_string(), &sha256, &found)?;
            }
            Reference::Features(found.finish())
        }
    };
    let ours = extract_folder(&network, &ours, *batch, "generated")?.finish();
    Ok(Report {
        features: network.to_string(),
        weights_sha256: sha256,
        published_inception: network.is_published_inception(),
        generated: generated.clone(),
        reference: reference.clone(),
        seed: settings.kernel.seed,
        metrics: evaluate(&ours, &theirs, settings)?,
    })
}

impl Report {
    /// Returns the table for the terminal.
    #[must_use]
    pub fn table(&self) -> Table {
        let title = format!(
            "{} against {}: {} generated, {} reference images, features of {}",
            self.generated.display(),
            self.reference.display(),
            self.metrics.generated,
            self.metrics.reference.map_or_else(|| "unknown".to_owned(), |items| items.to_string()),
            self.features
        );
        table(title, &Titles::new(&self.features, self.published_inception), &self.metrics)
    }

    /// Writes everything as JSON, completely or not at all.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |reason: String| Error::Export { path: path.into(), reason };
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.to_string()))?;
        Ok(write_whole(path, escape::json(format!("{text}\n")).as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_resamples_are_refused_before_anything_is_read() {
        let request = Request {
            generated: "nowhere".into(),
            reference: "nowhere".into(),
            features: FeatureSource::Mini("nowhere".into()),
            device: "cpu".into(),
            batch: 1,
            limit: None,
            settings: Settings { resamples: MOST_RESAMPLES + 1, ..Settings::default() },
            save_reference: None,
            out: None,
        };
        let message = measure(&request).expect_err("refused").to_string();
        assert!(message.starts_with("resamples: must be at most"), "{message}");
    }
}
