//! `[metrics]` of an experiment: how generated images are scored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::metrics::fidelity::{InceptionScore, KernelDistance, Settings};

/// Maximum number of resamples: each costs an eigendecomposition, and 1,000 are plenty.
pub(crate) const MOST_RESAMPLES: usize = 100_000;
/// Maximum number of subsets of the kernel distance; torch-fidelity takes 100.
const MOST_SUBSETS: usize = 100_000;
/// Maximum number of images in a subset; torch-fidelity takes 1,000.
const MOST_OF_SUBSET: usize = 10_000_000;

/// `[metrics]`: how generated images are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Network whose features are compared: `mini`, `inception:FILE` or `clip:DIR`.
    pub features: String,
    /// Number of parts of the images over which the Inception Score is averaged; at least 1.
    #[serde(default = "MetricsConfig::default_splits")]
    pub splits: usize,
    /// Subsets from which the kernel distance (KID) is estimated.
    #[serde(default)]
    pub kernel: Subsets,
    /// Number of bootstrap resamples of the images, for standard errors and intervals; 0 turns them off.
    #[serde(default)]
    pub resamples: usize,
}

/// Subsets of the kernel distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Subsets {
    /// Number of subsets, 1 to 100000.
    pub subsets: usize,
    /// Number of images in each subset; at least 2.
    pub subset_size: usize,
}

impl Default for Subsets {
    /// Returns torch-fidelity's defaults.
    fn default() -> Self {
        let KernelDistance { subsets, subset_size, .. } = KernelDistance::default();
        Self { subsets, subset_size }
    }
}

impl MetricsConfig {
    fn default_splits() -> usize {
        InceptionScore::default().splits
    }

    /// Converts the table to the settings of the metrics; `seed` decides the resamples.
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
        for (setting, value, least, most) in [
            ("metrics.splits", self.splits, 1, usize::MAX),
            ("metrics.kernel.subsets", self.kernel.subsets, 1, MOST_SUBSETS),
            ("metrics.kernel.subset_size", self.kernel.subset_size, 2, MOST_OF_SUBSET),
            ("metrics.resamples", self.resamples, 0, MOST_RESAMPLES),
        ] {
            if value < least {
                return refuse(setting, format!("must be at least {least}, found {value}"));
            }
            if value > most {
                return refuse(setting, format!("must be at most {most}, found {value}"));
            }
        }
        if self.resamples == 1 {
            return refuse("metrics.resamples", "must be 0 (no resamples) or at least 2".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_would_take_forever_are_refused() {
        let check = |settings: &str| {
            let config: MetricsConfig =
                toml::from_str(&format!("features = \"mini\"\n{settings}")).expect("a table");
            config.check().map_err(|e| e.to_string())
        };
        for (setting, most) in [
            ("resamples", MOST_RESAMPLES),
            ("kernel.subsets", MOST_SUBSETS),
            ("kernel.subset_size", MOST_OF_SUBSET),
        ] {
            assert_eq!(check(&format!("{setting} = {most}")), Ok(()));
            let message = check(&format!("{setting} = {}", most + 1)).expect_err("refused");
            assert!(message.starts_with(&format!("metrics.{setting}: must be at most {most}")), "{message}");
        }
        assert!(check("kernel.subset_size = 1").is_err());
    }
}
