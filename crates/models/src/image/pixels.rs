//! The decoded picture, and which decoder a file goes to.

use std::path::Path;

use super::{ImageError, jpeg, png};
use crate::limits::{PICTURE_BYTES, read_bytes};
use crate::notes;

/// The largest picture that is decoded or made: 178,956,970 pixels, where Pillow raises `DecompressionBombError`.
pub const MAX_PIXELS: u64 = 2 * (1024 * 1024 * 1024 / 4 / 3);

/// A picture of 8-bit RGB samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Samples `[height, width, 3]`, row by row from the top left: `height × width × 3` bytes.
    pub data: Vec<u8>,
}

impl Rgb8 {
    /// Samples `[3, height, width]` from -1 to 1: what the autoencoders of diffusion pipelines read.
    pub fn signed_planes(&self) -> Vec<f32> {
        let plane = |channel| self.data.iter().skip(channel).step_by(3);
        (0..3).flat_map(plane).map(|&sample| f32::from(sample) / 127.5 - 1.0).collect()
    }

    /// A picture from its samples `[height, width, 3]`.
    ///
    /// # Errors
    /// [`ImageError::Empty`] when a side is zero, [`ImageError::Buffer`] when `data` is not `height × width × 3` bytes.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self, ImageError> {
        let picture = Self { width, height, data };
        picture.check()?;
        Ok(picture)
    }

    /// Reads a JPEG or PNG file as Pillow 13's `Image.open(path).convert("RGB")` does. That an orientation is ignored is noted
    /// in [`notes`](crate::notes).
    ///
    /// # Errors
    /// [`ImageError::InFile`], naming the file, around one of the errors of [`Rgb8::decode`] or [`ImageError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let bytes = read_bytes(path, PICTURE_BYTES).map_err(|error| ImageError::Io(error).in_file(path))?;
        notes::orientation_ignored(path, &bytes);
        Self::decode(&bytes).map_err(|error| error.in_file(path))
    }

    /// Decodes the bytes of a JPEG or PNG file as Pillow 13's `Image.open(file).convert("RGB")` does.
    ///
    /// What that means where formats leave room: EXIF orientation, gamma and colour profiles are ignored; alpha and
    /// transparent colours are dropped, leaving the colour underneath; 16-bit gray is clipped at 255, while 16-bit RGB
    /// and gray with alpha keep their high byte; CMYK JPEGs are taken to be inverted as Adobe writes them. A JPEG that
    /// ends too early is refused. One whose data are damaged in a way that libjpeg only warns of is read, as Pillow
    /// does, since some well-known ImageNet files are of that kind; only there may pixels differ from Pillow's. PNG data
    /// with a wrong checksum are refused.
    ///
    /// # Errors
    /// [`ImageError::UnsupportedFormat`] or [`ImageError::UnknownFormat`] for anything but JPEG and PNG,
    /// [`ImageError::Corrupt`] for damaged or truncated data, [`ImageError::TooLarge`] above [`MAX_PIXELS`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        Self::decode_within(bytes, MAX_PIXELS)
    }

    /// [`Rgb8::decode`] with a limit on `width × height`, checked against the header before memory is taken.
    ///
    /// # Errors
    /// As [`Rgb8::decode`].
    pub fn decode_within(bytes: &[u8], max_pixels: u64) -> Result<Self, ImageError> {
        match format_of(bytes) {
            Some("JPEG") => jpeg::decode(bytes, max_pixels),
            Some("PNG") => png::decode(bytes, max_pixels),
            Some(format) => Err(ImageError::UnsupportedFormat { format }),
            None => Err(ImageError::UnknownFormat),
        }
    }

    /// The fields are public, so what they promise is checked where it is relied on.
    pub(super) fn check(&self) -> Result<(), ImageError> {
        let Self { width, height, ref data } = *self;
        let expected = checked_area(width, height, MAX_PIXELS)? * 3;
        if data.len() == expected {
            Ok(())
        } else {
            Err(ImageError::Buffer { width, height, expected, found: data.len() })
        }
    }
}

/// `width × height` when both are at least one and the product is within `limit`.
pub(super) fn checked_area(width: usize, height: usize, limit: u64) -> Result<usize, ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Empty { width, height });
    }
    width.checked_mul(height).filter(|&area| area as u64 <= limit).ok_or(ImageError::TooLarge {
        width: width as u64,
        height: height as u64,
        limit,
    })
}

/// Bytes at the beginning of a file that [`format_of`] looks at.
pub const FORMAT_BYTES: usize = 16;

/// The usual name of a picture's format by the file's first [`FORMAT_BYTES`] bytes, such as `"JPEG"`; none where they are no
/// picture's that is recognised.
pub fn format_of(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 14] = [
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"8BPS", "Photoshop"),
        (b"%PDF", "PDF"),
        (b"qoif", "QOI"),
    ];
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(format);
    }
    match (bytes.get(..4), bytes.get(4..8), bytes.get(8..12)) {
        (Some(b"RIFF"), _, Some(b"WEBP")) => Some("WebP"),
        (_, Some(b"ftyp"), Some(b"avif" | b"avis")) => Some("AVIF"),
        (_, Some(b"ftyp"), Some(b"heic" | b"heix" | b"mif1" | b"msf1")) => Some("HEIF"),
        _ => match bytes {
            [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => Some("PNM"),
            _ => None,
        },
    }
}
