//! A random part of a dataset.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A random subset of a dataset; the same seed gives the same subset.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subset {
    /// Number of images, at least 1.
    pub count: usize,
    /// Seed of the draw.
    #[serde(default)]
    pub seed: u64,
}

impl Subset {
    /// Draws without replacement and keeps the dataset's order. The priority of an image depends only on the seed and
    /// its id.
    pub(super) fn draw<T>(self, items: Vec<T>, id: impl Fn(&T) -> &str, root: &Path) -> Result<Vec<T>> {
        if self.count == 0 || self.count > items.len() {
            let reason = format!(
                "subset.count must lie between 1 and {}, the number of images, found {}",
                items.len(),
                self.count
            );
            return Err(Error::Dataset { path: root.into(), reason });
        }
        let ticket = |item: &T| Sha256::digest(format!("{}/{}", self.seed, id(item)));
        let mut tickets: Vec<_> = items.iter().map(ticket).zip(0..).collect();
        tickets.sort();
        let drawn: BTreeSet<usize> = tickets.into_iter().take(self.count).map(|(_, i)| i).collect();
        Ok(items.into_iter().enumerate().filter(|(i, _)| drawn.contains(i)).map(|(_, item)| item).collect())
    }
}
