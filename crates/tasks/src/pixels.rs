//! Checks of pixel counts that come from settings or from stored records.

use models::limits::MAX_PIXELS;
use serde::de;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Fails if a square image with this side has more pixels than an image may have.
pub(crate) fn check_side(setting: &'static str, side: u64) -> Result<()> {
    match side.saturating_pow(2) <= MAX_PIXELS {
        true => Ok(()),
        false => {
            let reason = format!("a square image with this side has more than {MAX_PIXELS} pixels");
            Err(Error::Setting { setting, reason })
        }
    }
}

/// Deserializes a number of pixels of one image. The limit keeps sums over many images within 64 bits.
pub(crate) fn pixels<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    in_an_image(u64::deserialize(deserializer)?)
}

/// Returns the number. Fails if an image cannot have that many pixels.
pub(crate) fn in_an_image<E: de::Error>(pixels: u64) -> std::result::Result<u64, E> {
    match pixels <= MAX_PIXELS {
        true => Ok(pixels),
        false => Err(E::custom(format!("{pixels} pixels; an image has at most {MAX_PIXELS}"))),
    }
}
