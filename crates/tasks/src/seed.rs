//! Seeds that are derived from a text, so that each random draw is independent of all others.

use sha2::{Digest, Sha256};

/// Returns the seed for `what`, a text that contains the seed of the run.
pub(crate) fn seed_of(what: &str) -> u64 {
    Sha256::digest(what).iter().take(8).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}
