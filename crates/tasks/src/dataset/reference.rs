//! Images with which generated images are compared.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[dataset.reference]`: images that generated images are compared with, as a folder, as the mean and covariance of their
/// features (`.npz`), or as the features themselves (`.safetensors`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    /// Folder of images, `.npz` file with `mu` and `sigma`, or `.safetensors` file of features.
    pub path: PathBuf,
}
