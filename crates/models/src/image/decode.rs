//! Decodes files to images: chooses the decoder by the file's first bytes.

use std::path::Path;

use super::orientation::Orientation;
use super::pixels::Rgb8;
use super::{ImageError, jpeg, png};
use crate::limits::{MAX_PIXELS, PICTURE_BYTES, read_bytes};
use crate::notes;

impl Rgb8 {
    /// Reads a JPEG or PNG file as Pillow 13's `Image.open(path).convert("RGB")` does. Adds a [note](crate::notes) if
    /// an EXIF orientation is ignored.
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
    /// Where the formats leave a choice: EXIF orientation, gamma and colour profiles are ignored; alpha and transparent
    /// colours are dropped, leaving the colour underneath; 16-bit gray is clipped at 255, while 16-bit RGB and gray
    /// with alpha keep their high byte; CMYK JPEGs are taken to be inverted as Adobe writes them. A JPEG that ends too
    /// early is refused. One whose data are damaged in a way that libjpeg only warns of is read, as Pillow does, since
    /// some well-known ImageNet files are of that kind; only there may pixels differ from Pillow's. PNG data with a
    /// wrong checksum are refused.
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

    /// Decodes an image and turns it upright as Pillow 13's `ImageOps.exif_transpose` does.
    ///
    /// # Errors
    /// As [`Rgb8::decode`]; also if there is not enough memory for a second image.
    pub fn decode_upright(bytes: &[u8]) -> Result<(Self, Orientation), ImageError> {
        let orientation = Orientation::of(bytes);
        Ok((Self::decode(bytes)?.turned(orientation)?, orientation))
    }
}

/// Number of bytes at the beginning of a file that [`format_of`] reads.
pub const FORMAT_BYTES: usize = 16;

/// Returns the usual name of an image's format, such as `"JPEG"`, by the file's first [`FORMAT_BYTES`] bytes. Returns
/// `None` if the format is not recognised.
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
