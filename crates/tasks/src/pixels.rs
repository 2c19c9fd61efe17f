//! Numbers of pixels in records, which are read back from files.

use models::limits::MAX_PIXELS;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A number of pixels that a picture can have: sums over many pictures stay within 64 bits.
pub(crate) fn pixels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    in_a_picture(u64::deserialize(deserializer)?)
}

/// The number, if a picture can have so many pixels.
pub(crate) fn in_a_picture<E: Error>(pixels: u64) -> Result<u64, E> {
    match pixels <= MAX_PIXELS {
        true => Ok(pixels),
        false => Err(E::custom(format!("{pixels} pixels; a picture has at most {MAX_PIXELS}"))),
    }
}
