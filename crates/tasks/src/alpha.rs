//! The share of attention in a teleporting chain.

use crate::error::{Error, Result};

/// Refuses a share outside `(0, 1]`: without attention there is no chain to speak of.
pub(crate) fn check_alpha(setting: &'static str, alpha: f64) -> Result<()> {
    if alpha > 0.0 && alpha <= 1.0 {
        return Ok(());
    }
    Err(Error::Setting { setting, reason: format!("must lie in (0, 1], found {alpha}") })
}
