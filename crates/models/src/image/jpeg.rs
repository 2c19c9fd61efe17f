//! JPEG through mozjpeg, which shares libjpeg-turbo's exact integer arithmetic with Pillow.

use std::any::Any;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Decompress};

use super::ImageError;
use super::pixels::{Rgb8, checked_area};
use crate::limits::{JPEG_PIXELS_PER_BYTE, JPEG_SCANS};

/// Decodes a JPEG file to RGB.
///
/// libjpeg's fatal errors arrive as panics, which are caught here. No state outlives the attempt: the decoder is
/// created and dropped inside the closure.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb8, ImageError> {
    catch_unwind(AssertUnwindSafe(|| decode_unwinding(bytes, max_pixels)))
        .unwrap_or_else(|payload| Err(ImageError::jpeg(reason_of(payload.as_ref()))))
}

fn decode_unwinding(bytes: &[u8], max_pixels: u64) -> Result<Rgb8, ImageError> {
    let header = Decompress::new_reader(Whole { rest: bytes }).map_err(decoding)?;
    let (width, height) = header.size();
    let area = checked_area(width, height, max_pixels)?;
    check_effort(bytes, area)?;
    // Pillow decides by the number of components only; libjpeg knows their colour space.
    let channels = header.components().len();
    let output = match channels {
        1 => ColorSpace::JCS_GRAYSCALE,
        3 => ColorSpace::JCS_RGB,
        4 => ColorSpace::JCS_CMYK,
        n => return Err(ImageError::jpeg(format!("{n} colour components; 1, 3 and 4 are supported"))),
    };
    let mut started = header.to_colorspace(output).map_err(decoding)?;

    let mut data = Vec::new();
    data.try_reserve_exact(width * height * 3).map_err(|_| ImageError::jpeg("not enough memory"))?;
    let mut row = vec![0_u8; width * channels];
    for _ in 0..height {
        let row = started.read_scanlines_into(&mut row).map_err(decoding)?;
        match channels {
            1 => data.extend(row.iter().flat_map(|&gray| [gray; 3])),
            3 => data.extend_from_slice(row),
            _ => data.extend(row.chunks_exact(4).flat_map(rgb_of_inverted_cmyk)),
        }
    }
    // All rows have been read. Pillow accepts a missing end-of-image marker, so it is not checked.
    Ok(Rgb8 { width, height, data })
}

/// Refuses files that would cost far more memory or time than their size justifies: a file that is too short for its
/// pixels, which libjpeg would fill with grey, and a file with too many scans.
fn check_effort(bytes: &[u8], area: usize) -> Result<(), ImageError> {
    if (bytes.len() as u64).saturating_mul(JPEG_PIXELS_PER_BYTE) < area as u64 {
        return Err(ImageError::jpeg("the file is truncated"));
    }
    // This pair of bytes does not occur in compressed data; a thumbnail in the header may add one.
    let scans = bytes.array_windows().filter(|pair| **pair == [0xff, 0xda]).count();
    if scans > JPEG_SCANS {
        return Err(ImageError::jpeg(format!("{scans} scans; the maximum is {JPEG_SCANS}")));
    }
    Ok(())
}

/// Converts as Pillow does, which assumes that every CMYK JPEG is inverted and uses no colour profile.
fn rgb_of_inverted_cmyk(cmyk: &[u8]) -> [u8; 3] {
    let white = u32::from(cmyk[3]);
    [0, 1, 2].map(|i| {
        let ink = 255 - u32::from(cmyk[i]);
        let product = ink * white + 128;
        (white - (((product >> 8) + product) >> 8)) as u8
    })
}

fn decoding(error: io::Error) -> ImageError {
    ImageError::jpeg(error.to_string())
}

fn reason_of(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown failure");
    match message.strip_prefix("libjpeg fatal error: ").unwrap_or(message) {
        // libjpeg's message when `Whole` has no more bytes.
        "Input file read error" => "the file is truncated".to_owned(),
        other => other.to_owned(),
    }
}

/// A complete file in memory.
///
/// At an ordinary end of input mozjpeg inserts an end-of-image marker and leaves the rest of the image gray. Pillow
/// refuses such files. A failing read makes libjpeg refuse them too.
struct Whole<'a> {
    rest: &'a [u8],
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() { Err(io::Error::other("no more bytes")) } else { Ok(self.rest) }
    }

    fn consume(&mut self, amount: usize) {
        self.rest = self.rest.get(amount..).unwrap_or_default();
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}
