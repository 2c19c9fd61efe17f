//! Numbers of pixels that are believed of settings, and of records that are read back from files.

use models::limits::MAX_PIXELS;
use serde::de;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Refuses a setting whose square has more pixels than a picture can have.
pub(crate) fn check_side(setting: &'static str, side: u64) -> Result<()> {
    match side.saturating_pow(2) <= MAX_PIXELS {
        true => Ok(()),
        false => {
            let reason = format!("a picture of this side has more than {MAX_PIXELS} pixels");
            Err(Error::Setting { setting, reason })
        }
    }
}

/// A number of pixels that a picture can have: sums over many pictures stay within 64 bits.
pub(crate) fn pixels<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    in_a_picture(u64::deserialize(deserializer)?)
}

/// The number, if a picture can have so many pixels.
pub(crate) fn in_a_picture<E: de::Error>(pixels: u64) -> std::result::Result<u64, E> {
    match pixels <= MAX_PIXELS {
        true => Ok(pixels),
        false => Err(E::custom(format!("{pixels} pixels; a picture has at most {MAX_PIXELS}"))),
    }
}
