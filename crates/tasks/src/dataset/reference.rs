//! What generated pictures are compared with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[dataset.reference]`: a folder of pictures without labels, or what is known of one: the mean and covariance of their
/// features (`.npz` with `mu` and `sigma`), or the features themselves (`.safetensors`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    /// The folder or file.
    pub path: PathBuf,
}
