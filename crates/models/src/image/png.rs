//! PNG: the file's own samples, converted to RGB as Pillow's modes do.

use std::borrow::Cow;
use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Info, Limits, Transformations};

use super::ImageError;
use super::pixels::{Rgb8, checked_area};
use crate::limits::DEFLATE_RATIO;

/// The chunk that ends a PNG file: no data, and its checksum.
const END: &[u8; 12] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Adds the final chunk of a PNG file if only that chunk is missing or cut off. Such files are common, and Pillow reads
/// them. A file that is cut off earlier is returned unchanged.
pub fn with_end(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (mut place, mut has_samples) = (8, false);
    while let Some(&[a, b, c, d, ref kind @ ..]) = bytes.get(place..place + 8) {
        let Some(next) = place.checked_add(12 + u32::from_be_bytes([a, b, c, d]) as usize) else { break };
        if kind == b"IEND" || next > bytes.len() {
            break;
        }
        has_samples |= kind == b"IDAT";
        place = next;
    }
    let rest = bytes.get(place..).unwrap_or_default();
    if has_samples && rest.len() < END.len() && END.starts_with(rest) {
        Cow::Owned([&bytes[..place], END].concat())
    } else {
        Cow::Borrowed(bytes)
    }
}

/// Decodes a PNG file to RGB. Of an animation, it decodes the first frame.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb8, ImageError> {
    let bytes = &*with_end(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info().map_err(decoding)?;
    let (width, height) = (info.width as usize, info.height as usize);
    checked_area(width, height, max_pixels)?;
    let line_bytes = info.raw_row_length() - 1;
    // Deflate cannot shrink data by more than 1032 to 1, so a file shorter than that cannot hold what it claims.
    if (bytes.len() as u64).saturating_mul(DEFLATE_RATIO) < line_bytes as u64 * height as u64 {
        return Err(ImageError::png("the file is truncated"));
    }
    // The crate's own limit of 64 MiB would refuse images that Pillow reads; the header decides how much memory rows
    // take.
    decoder.set_limits(Limits { bytes: line_bytes.saturating_mul(4).max(64 << 20) });

    let mut reader = decoder.read_info().map_err(decoding)?;
    let convert = converter(reader.info())?;
    let mut data = Vec::new();
    data.try_reserve_exact(width * height * 3).map_err(|_| ImageError::png("not enough memory"))?;
    if reader.info().interlaced {
        let size = reader.output_buffer_size().ok_or_else(|| ImageError::png("too large for memory"))?;
        let mut samples = Vec::new();
        samples.try_reserve_exact(size).map_err(|_| ImageError::png("not enough memory"))?;
        samples.resize(size, 0);
        reader.next_frame(&mut samples).map_err(decoding)?;
        samples.chunks_exact(line_bytes).for_each(|line| convert(line, width, &mut data));
    } else {
        while let Some(row) = reader.next_row().map_err(decoding)? {
            convert(row.data(), width, &mut data);
        }
    }
    // The first frame of an animation may cover only a part of the image.
    if data.len() != width * height * 3 {
        return Err(ImageError::png("the first frame does not cover the image"));
    }
    Ok(Rgb8 { width, height, data })
}

type Converter = Box<dyn Fn(&[u8], usize, &mut Vec<u8>)>;

/// Returns the function that converts one line of packed samples to RGB.
fn converter(info: &Info<'_>) -> Result<Converter, ImageError> {
    let wide = info.bit_depth == BitDepth::Sixteen;
    // Samples narrower than a byte are spread over 0..=255.
    let bits = info.bit_depth as usize;
    let scale = if bits < 8 { 255 / ((1 << bits) - 1) } else { 1 };
    Ok(match info.color_type {
        // Pillow's "I;16" to "RGB" clips instead of scaling.
        ColorType::Grayscale if wide => Box::new(|line, width, out| {
            out.extend(
                line.chunks_exact(2).take(width).flat_map(|s| [if s[0] == 0 { s[1] } else { 255 }; 3]),
            );
        }),
        ColorType::Grayscale => Box::new(move |line, width, out| {
            out.extend(unpack(line, bits).take(width).flat_map(|sample| [sample * scale; 3]));
        }),
        ColorType::Indexed => {
            let palette = info.palette.as_deref().unwrap_or_default();
            // Entries that the file does not define are black.
            let mut table = [[0_u8; 3]; 256];
            for (entry, colour) in table.iter_mut().zip(palette.chunks_exact(3)) {
                entry.copy_from_slice(colour);
            }
            Box::new(move |line, width, out| {
                out.extend(unpack(line, bits).take(width).flat_map(|index| table[usize::from(index)]));
            })
        }
        // Sixteen-bit samples are big-endian; the high byte comes first.
        ColorType::GrayscaleAlpha => {
            let pixel = if wide { 4 } else { 2 };
            Box::new(move |line, _, out| out.extend(line.chunks_exact(pixel).flat_map(|s| [s[0]; 3])))
        }
        ColorType::Rgb if !wide => Box::new(|line, _, out| out.extend_from_slice(line)),
        ColorType::Rgb => {
            Box::new(|line, _, out| out.extend(line.chunks_exact(6).flat_map(|s| [s[0], s[2], s[4]])))
        }
        ColorType::Rgba if wide => {
            Box::new(|line, _, out| out.extend(line.chunks_exact(8).flat_map(|s| [s[0], s[2], s[4]])))
        }
        ColorType::Rgba => {
            Box::new(|line, _, out| out.extend(line.chunks_exact(4).flat_map(|s| [s[0], s[1], s[2]])))
        }
    })
}

/// Samples of 1, 2, 4 or 8 bits, most significant first.
fn unpack(line: &[u8], bits: usize) -> impl Iterator<Item = u8> + '_ {
    let per_byte = 8 / bits;
    let mask = (0xff_u16 >> (8 - bits)) as u8;
    line.iter().flat_map(move |&byte| (1..=per_byte).map(move |i| (byte >> (8 - bits * i)) & mask))
}

fn decoding(error: DecodingError) -> ImageError {
    match &error {
        DecodingError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::png("the file is truncated")
        }
        DecodingError::IoError(_)
        | DecodingError::Format(_)
        | DecodingError::Parameter(_)
        | DecodingError::LimitsExceeded => ImageError::png(error.to_string().trim_end_matches('.')),
    }
}
