//! `[metrics]` of an experiment: how generated pictures are judged.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::metrics::fidelity::{InceptionScore, KernelDistance, Settings};

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// The network that looks at the pictures: `mini`, `inception:FILE` or `clip:DIR`.
    pub features: String,
    /// Parts of the pictures over which the Inception Score is averaged.
    #[serde(default = "MetricsConfig::default_splits")]
    pub splits: usize,
    /// Subsets of the kernel distance.
    #[serde(default)]
    pub kernel: Subsets,
    /// Resamples of the pictures, for standard errors and for intervals of differences between methods; 0 for none.
    #[serde(default)]
    pub resamples: usize,
}

/// Subsets of the kernel distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subsets {
    /// How many.
    pub subsets: usize,
    /// Pictures of each.
    pub subset_size: usize,
}

impl Default for Subsets {
    /// torch-fidelity's.
    fn default() -> Self {
        let KernelDistance { subsets, subset_size, .. } = KernelDistance::default();
        Self { subsets, subset_size }
    }
}

impl MetricsConfig {
    fn default_splits() -> usize {
        InceptionScore::default().splits
    }

    /// The same for the metrics; `seed` decides the resamples.
    pub(crate) fn settings(&self, seed: u64) -> Settings {
        let defaults = Settings::default();
        let Subsets { subsets, subset_size } = self.kernel;
        Settings {
            inception_score: InceptionScore { splits: self.splits, ..defaults.inception_score },
            kernel: KernelDistance { subsets, subset_size, ..defaults.kernel },
            resamples: self.resamples,
            seed,
            ..defaults
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |setting, reason: String| Err(tasks::Error::Setting { setting, reason }.into());
        for (setting, value, least) in [
            ("metrics.splits", self.splits, 1),
            ("metrics.kernel.subsets", self.kernel.subsets, 1),
            ("metrics.kernel.subset_size", self.kernel.subset_size, 2),
        ] {
            if value < least {
                return refuse(setting, format!("must be at least {least}, found {value}"));
            }
        }
        if self.resamples == 1 {
            return refuse("metrics.resamples", "must be 0, for none, or at least 2".into());
        }
        Ok(())
    }
}
