//! PNG files whose samples are labels: the stored palette indices or grey levels, not their colours.

use std::io::Cursor;

use models::image::png_with_end;
use models::limits::{DEFLATE_RATIO, MAX_PIXELS};
use ndarray::Array2;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Decodes the labels of a PNG file, `[height, width]`. Samples of fewer than eight bits keep their value: a one-bit
/// mask has the labels 0 and 1.
///
/// # Errors
/// Fails if the file is not a PNG, is damaged, has 16-bit samples, is coloured or is partly transparent. The error is
/// one sentence that does not name the file.
pub(super) fn decode(bytes: &[u8]) -> Result<Array2<u8>, String> {
    if !bytes.starts_with(SIGNATURE) {
        return Err("is not a PNG file; labels are stored as PNG, because other formats alter them".into());
    }
    let bytes = &*png_with_end(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let damaged = |e: png::DecodingError| format!("is a damaged PNG file ({e}); replace it");
    let header = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let line_bytes = header.raw_row_length() - 1;
    if header.bit_depth == BitDepth::Sixteen {
        return Err("has samples of 16 bits; labels have 8 or fewer".into());
    }
    // Deflate cannot shrink data by more than 1032 to 1.
    let claimed = (line_bytes as u64).saturating_mul(height as u64);
    if width as u64 * height as u64 > MAX_PIXELS
        || (bytes.len() as u64).saturating_mul(DEFLATE_RATIO) < claimed
    {
        return Err(format!(
            "is a damaged PNG file: {} bytes cannot hold {width}×{height} pixels",
            bytes.len()
        ));
    }
    decoder.set_limits(Limits { bytes: line_bytes.saturating_mul(4).max(64 << 20) });
    let mut reader = decoder.read_info().map_err(damaged)?;
    let size = reader.output_buffer_size().ok_or("is too large for memory")?;
    let mut samples = Vec::new();
    samples.try_reserve_exact(size).map_err(|_| "is too large for memory")?;
    samples.resize(size, 0);
    let frame = reader.next_frame(&mut samples).map_err(damaged)?;
    let lines = samples.chunks_exact(frame.line_size).take(frame.height as usize);
    let labels: Vec<u8> = match frame.color_type {
        ColorType::Grayscale | ColorType::Indexed => {
            let bits = frame.bit_depth as usize;
            lines.flat_map(|line| unpack(line, bits).take(width)).collect()
        }
        ColorType::Rgb => grey(lines.flat_map(|line| line.chunks_exact(3)))?,
        ColorType::Rgba => grey(opaque(lines.flat_map(|line| line.chunks_exact(4))))?,
        ColorType::GrayscaleAlpha => grey(opaque(lines.flat_map(|line| line.chunks_exact(2))))?,
    };
    Array2::from_shape_vec((height, width), labels)
        .map_err(|_| "is an animation whose first frame does not cover the image".into())
}

/// Unpacks samples of 1, 2, 4 or 8 bits, most significant first.
fn unpack(line: &[u8], bits: usize) -> impl Iterator<Item = u8> + '_ {
    let mask = (0xff_u16 >> (8 - bits)) as u8;
    line.iter().flat_map(move |&byte| (1..=8 / bits).map(move |i| (byte >> (8 - bits * i)) & mask))
}

/// Returns the pixels without their alpha channel; `None` for a pixel that is not opaque.
fn opaque<'a>(pixels: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    pixels.map(|pixel| match pixel {
        [levels @ .., 255] => levels,
        _ => &[],
    })
}

/// Returns the common level of the channels of each pixel.
fn grey<'a>(pixels: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, String> {
    let level = |pixel: &[u8]| match *pixel {
        [level] => Ok(level),
        [r, g, b] if r == g && g == b => Ok(r),
        [] => Err("is partly transparent; store the labels as opaque grey levels".to_owned()),
        _ => Err("is a coloured image; store the labels as palette indices or grey levels".to_owned()),
    };
    pixels.map(level).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(width: usize, color: ColorType, depth: BitDepth, samples: &[u8]) -> Vec<u8> {
        let line = color.samples() * width * depth as usize;
        let height = samples.len() / line.div_ceil(8);
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(width as u32, height as u32);
        (info.color_type, info.bit_depth) = (color, depth);
        // A palette that maps every index to the same colour, so that only the index matters.
        info.palette = (color == ColorType::Indexed).then(|| vec![7; 3 << depth as usize].into());
        let mut writer = png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
        writer.write_image_data(samples).unwrap();
        writer.finish().unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn labels_come_back_as_stored(
            labels in prop::collection::vec(any::<u8>(), 1..200),
            width in 1_usize..12,
            color in prop::sample::select(vec![ColorType::Indexed, ColorType::Grayscale]),
            depth in prop::sample::select(vec![BitDepth::One, BitDepth::Two, BitDepth::Four, BitDepth::Eight]),
        ) {
            let bits = depth as usize;
            let height = labels.len().div_ceil(width);
            let label = |at: usize| labels.get(at).map_or(0, |label| label >> (8 - bits));
            let mut packed = vec![0_u8; height * (width * bits).div_ceil(8)];
            for (row, line) in packed.chunks_mut((width * bits).div_ceil(8)).enumerate() {
                for column in 0..width {
                    line[column * bits / 8] |= label(row * width + column) << (8 - bits - column * bits % 8);
                }
            }
            let map = decode(&encode(width, color, depth, &packed)).unwrap();
            prop_assert_eq!(map.dim(), (height, width));
            for (at, &found) in map.iter().enumerate() {
                prop_assert_eq!(found, label(at));
            }
        }

        #[test]
        fn cut_or_altered_files_are_refused_or_read_but_never_fatal(at in 0_usize..90, flip in 1_u8..=255) {
            let whole = encode(8, ColorType::Grayscale, BitDepth::Eight, &[3; 64]);
            let cut = &whole[..at.min(whole.len() - 1)];
            prop_assert!(decode(&cut[..cut.len().min(40)]).is_err());
            let mut altered = whole;
            let at = at % altered.len();
            altered[at] ^= flip;
            let _ = decode(&altered);
        }
    }

    #[test]
    fn a_file_without_its_last_chunk_is_read() {
        let whole = encode(2, ColorType::Grayscale, BitDepth::Eight, &[3, 4, 5, 6]);
        for missing in 0..=12 {
            let labels = decode(&whole[..whole.len() - missing]).unwrap();
            assert_eq!(labels.as_slice().unwrap(), [3, 4, 5, 6], "{missing} bytes cut off");
        }
        assert!(decode(&whole[..whole.len() - 13]).is_err());
    }

    #[test]
    fn equal_channels_are_a_level() {
        let rgb = encode(2, ColorType::Rgb, BitDepth::Eight, &[0, 0, 0, 255, 255, 255]);
        assert_eq!(decode(&rgb).unwrap().as_slice().unwrap(), [0, 255]);
        let rgba = encode(2, ColorType::Rgba, BitDepth::Eight, &[1, 1, 1, 255, 9, 9, 9, 255]);
        assert_eq!(decode(&rgba).unwrap().as_slice().unwrap(), [1, 9]);
        let alpha = encode(1, ColorType::GrayscaleAlpha, BitDepth::Eight, &[4, 255]);
        assert_eq!(decode(&alpha).unwrap().as_slice().unwrap(), [4]);
    }

    /// A PNG that claims a size for which it has too little data.
    fn claiming(color: ColorType, depth: BitDepth, side: u32, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(side, side);
        (info.color_type, info.bit_depth) = (color, depth);
        png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn memory_is_taken_only_for_what_a_file_can_hold() {
        for (color, depth, word) in [
            (ColorType::Rgba, BitDepth::Eight, "cannot hold 13377×13377 pixels"),
            (ColorType::Rgba, BitDepth::Sixteen, "16 bits"),
            (ColorType::Grayscale, BitDepth::Sixteen, "16 bits"),
        ] {
            let message = decode(&claiming(color, depth, 13377, 21_000)).expect_err("refused");
            assert!(message.contains(word), "{message}");
        }
        // The claimed size is just possible, so the damage is found only when the data are read.
        let message =
            decode(&claiming(ColorType::Grayscale, BitDepth::One, 13377, 22_000)).expect_err("refused");
        assert!(message.contains("damaged") && !message.contains("cannot hold"), "{message}");
    }

    #[test]
    fn files_that_are_not_label_maps_are_refused() {
        let png = |color, depth, samples: &[u8]| encode(1, color, depth, samples);
        for (bytes, word) in [
            (b"\xff\xd8\xff".to_vec(), "not a PNG"),
            (Vec::new(), "not a PNG"),
            (SIGNATURE.to_vec(), "damaged"),
            (png(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3]), "coloured"),
            (png(ColorType::Rgba, BitDepth::Eight, &[1, 1, 1, 254]), "transparent"),
            (png(ColorType::Grayscale, BitDepth::Sixteen, &[0, 1]), "16 bits"),
        ] {
            let message = decode(&bytes).expect_err("accepted");
            assert!(message.contains(word), "{message}");
        }
    }
}
