//! α, the probability that the teleporting chain follows the attention.

use crate::error::{Error, Result};

/// Fails unless `alpha` lies in `(0, 1]`. At 0 the chain would not follow the attention at all.
pub(crate) fn check_alpha(setting: &'static str, alpha: f64) -> Result<()> {
    if alpha > 0.0 && alpha <= 1.0 {
        return Ok(());
    }
    Err(Error::Setting { setting, reason: format!("must lie in (0, 1], found {alpha}") })
}
