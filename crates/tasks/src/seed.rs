//! Seeds that depend on what they are for, and on nothing that stands beside it.

use sha2::{Digest, Sha256};

/// The seed that the words `what`, a run's seed among them, stand for.
pub(crate) fn seed_of(what: &str) -> u64 {
    Sha256::digest(what).iter().take(8).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}
