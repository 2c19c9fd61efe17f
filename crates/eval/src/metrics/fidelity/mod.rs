//! Distances between generated and real images, from features of a network: Inception Score, Fréchet distance, kernel
//! distance, precision and recall.
//!
//! Everything is computed in double precision and independent of the network that the features come from. With the pooled features
//! of Inception-v3 the Fréchet distance is the FID and the kernel distance the KID of the literature; with any other
//! features they are not, and must carry the name of the features.
//!
//! Random draws follow NumPy's `RandomState`, so that the same features in the same order give the digits of
//! torch-fidelity. A [`FeatureSet`] keeps features by the number of their item, which fixes that order for any batches and
//! shards.

mod error;
mod feature_set;
mod frechet;
mod inception_score;
mod kernel;
mod moments;
mod precision_recall;
mod products;
mod random_state;
mod resample;
mod spread;
mod summary;

pub use error::FidelityError;
pub use feature_set::{FeatureSet, Features, Item};
pub use frechet::frechet_distance;
pub use inception_score::InceptionScore;
pub use kernel::KernelDistance;
pub use moments::{Gaussian, Moments};
pub use precision_recall::{Fractions, PrecisionRecall};
pub use random_state::RandomState;
pub use resample::{Resampled, frechet_resampled, inception_score_resampled};
pub use spread::Spread;
pub use summary::{KernelSummary, Reference, Settings, Summary, evaluate};
