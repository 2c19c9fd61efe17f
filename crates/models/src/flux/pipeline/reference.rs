//! The reference image of FLUX.1 Kontext: its size in pixels, and its latents.

use std::fmt;
use std::str::FromStr;

use tch::Tensor;

use super::FluxPipeline;
use crate::error::{Error, Result};
use crate::image::{Resample, Rgb8, resize};
use crate::limits::MAX_PIXELS;

/// Shorter and longer side in pixels of the images that FLUX.1 Kontext was trained on, as diffusers lists them. Both
/// orientations of each occur.
const TRAINED: [(usize, usize); 9] = [
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
];

/// The size to which a reference image is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReferenceSize {
    /// Of the sizes that the network was trained on, the one whose proportions are nearest to those of the image, as in
    /// diffusers.
    #[default]
    Preferred,
    /// The image's own size. Sides are rounded down to whole tokens.
    Own,
    /// A square with sides of this many pixels.
    Square(usize),
}

impl ReferenceSize {
    /// Returns `(height, width)` in pixels of an image of `(height, width)` pixels after resizing. A token stands for a
    /// square of `token` pixels.
    ///
    /// # Errors
    /// The image is smaller than a token.
    pub fn pixels(self, (height, width): (usize, usize), token: usize) -> Result<(usize, usize)> {
        let whole = |side: usize| side / token * token;
        // diffusers rounds the sides before it compares proportions.
        let (height, width) = (whole(height), whole(width));
        match self {
            Self::Square(side) => Ok((side, side)),
            _ if height == 0 || width == 0 => {
                refuse(format!("it is smaller than {token} by {token} pixels, for which one token stands"))
            }
            Self::Own => Ok((height, width)),
            Self::Preferred => {
                let (height, width) = nearest(width as f64 / height as f64);
                Ok((whole(height), whole(width)))
            }
        }
    }
}

/// Returns `(height, width)` of the trained size whose width over height is nearest to `proportions`. Of two equally near
/// sizes, it is the narrower one.
fn nearest(proportions: f64) -> (usize, usize) {
    let wide = TRAINED.iter().map(|&(short, long)| (short, long));
    let high = TRAINED.iter().map(|&(short, long)| (long, short));
    let distance = |(height, width): (usize, usize)| (proportions - width as f64 / height as f64).abs();
    let nearer = |a: &(usize, usize), b: &(usize, usize)| {
        distance(*a).total_cmp(&distance(*b)).then(a.1.cmp(&b.1)).then(a.0.cmp(&b.0))
    };
    wide.chain(high).min_by(nearer).unwrap_or((1024, 1024))
}

impl FromStr for ReferenceSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "preferred" => Ok(Self::Preferred),
            "own" => Ok(Self::Own),
            side => match side.parse() {
                Ok(side) if side > 0 => Ok(Self::Square(side)),
                _ => Err(Error::Input {
                    input: "reference size",
                    reason: format!("expected `preferred`, `own` or a number of pixels, found `{text}`"),
                }),
            },
        }
    }
}

impl fmt::Display for ReferenceSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preferred => f.write_str("preferred"),
            Self::Own => f.write_str("own"),
            Self::Square(side) => write!(f, "{side}"),
        }
    }
}

/// A reference image that was checked against its pipeline and resized.
pub(super) struct PlannedReference {
    pub(super) image: Rgb8,
    pub(super) grid: (i64, i64),
    pub(super) size: ReferenceSize,
}

impl PlannedReference {
    /// Resizes an image as diffusers does, with Pillow's Lanczos filter.
    pub(super) fn new(pipeline: &FluxPipeline, image: &Rgb8, size: ReferenceSize) -> Result<Self> {
        if !pipeline.is_kontext() {
            return refuse(
                "only FLUX.1 Kontext reads one, and this pipeline is another FLUX; leave it out".into(),
            );
        }
        let token = pipeline.pixels_per_token();
        let (height, width) = size.pixels((image.height, image.width), token as usize)?;
        // The largest number, in place of a side that does not fit, is odd, so `grid` refuses it.
        let sides = (i64::try_from(height).unwrap_or(i64::MAX), i64::try_from(width).unwrap_or(i64::MAX));
        let of_reference = |error| {
            if let Error::Input { reason, .. } = error {
                Error::Input { input: "reference size", reason }
            } else {
                error
            }
        };
        let grid = pipeline.grid(sides).map_err(of_reference)?;
        if (height as u64).saturating_mul(width as u64) > MAX_PIXELS {
            let reason = format!(
                "{height} by {width} pixels are more than the {MAX_PIXELS} pixels of the largest image"
            );
            return Err(Error::Input { input: "reference size", reason });
        }
        Ok(Self { image: resize(image, (width, height), Resample::Lanczos)?, grid, size })
    }
}

/// The reference image of a pass.
pub struct PreparedReference {
    /// The image as resized.
    pub image: Rgb8,
    /// The image as samples from -1 to 1, `[3, height, width]` float32 on the CPU.
    pub pixels: Tensor,
    /// Its scaled latents, `[channels, h, w]` on the transformer's device in its type. No noise is added to them.
    pub latents: Tensor,
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Input { input: "reference image", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferred_sizes_have_the_nearest_proportions() -> Result<()> {
        for (size, wanted) in [
            ((1024, 1024), (1024, 1024)),
            ((600, 800), (880, 1184)),
            ((800, 600), (1184, 880)),
            // 90 rows are 80 in whole tokens.
            ((90, 160), (720, 1456)),
            ((100, 5000), (672, 1568)),
            ((5000, 100), (1568, 672)),
            // 17 rows are one row of tokens.
            ((17, 31), (1024, 1024)),
        ] {
            assert_eq!(ReferenceSize::Preferred.pixels(size, 16)?, wanted, "{size:?}");
        }
        // Every trained size is its own.
        for (short, long) in TRAINED {
            for size in [(short, long), (long, short)] {
                assert_eq!(ReferenceSize::Preferred.pixels(size, 16)?, size);
            }
        }
        // A network whose tokens stand for more pixels.
        assert_eq!(ReferenceSize::Preferred.pixels((600, 800), 32)?, (864, 1184));
        Ok(())
    }

    #[test]
    fn an_image_keeps_its_own_size_in_whole_tokens() -> Result<()> {
        assert_eq!(ReferenceSize::Own.pixels((50, 33), 16)?, (48, 32));
        assert_eq!(ReferenceSize::Square(64).pixels((50, 3), 16)?, (64, 64));
        for size in [ReferenceSize::Own, ReferenceSize::Preferred] {
            let message = size.pixels((15, 400), 16).expect_err("accepted").to_string();
            assert!(message.contains("reference image: it is smaller than 16 by 16 pixels"), "{message}");
        }
        Ok(())
    }

    #[test]
    fn sizes_are_read_as_they_are_written() -> Result<()> {
        for text in ["preferred", "own", "512"] {
            assert_eq!(text.parse::<ReferenceSize>()?.to_string(), text);
        }
        for text in ["", "0", "-8", "Own", "512x512", "1e3", "99999999999999999999"] {
            let message = text.parse::<ReferenceSize>().expect_err("accepted").to_string();
            assert!(message.contains("expected `preferred`, `own` or a number of pixels"), "{message}");
        }
        Ok(())
    }
}
