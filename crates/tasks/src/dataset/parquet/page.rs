//! Pages of a column: unpacking them, and finding the values of rows in them.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use models::limits::{DEFLATE_RATIO, PICTURE_BYTES};

use super::footer::{Leaf, Physical};
use super::thrift::{Check, Kind, Reader};

/// Bytes that a page may have after it is unpacked, in addition to [`DEFLATE_RATIO`] times its packed size.
const SLACK: u64 = 1 << 16;

/// The header of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: PageKind,
    /// Size of the page in the file, without the header.
    pub packed: u64,
    unpacked: u64,
    /// Number of values, nulls included.
    pub values: u64,
    encoding: i64,
    level_encoding: i64,
    /// Bytes of the repetition and definition levels, which are not packed in version 2.
    levels: [u64; 2],
    is_packed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    Data,
    DataV2,
    Dictionary,
    /// An index, which is not needed.
    Index,
}

impl Header {
    /// Parses the header at the beginning of `bytes` and returns it with its length.
    pub(super) fn parse(bytes: &[u8]) -> Check<(Self, usize)> {
        let (mut kind, mut packed, mut unpacked, mut content) = (None, None, None, None);
        let mut reader = Reader::new(bytes);
        reader.fields(|reader, number, of| {
            match (number, of) {
                (1, Kind::Integer) => kind = Some(reader.integer()?),
                (2, Kind::Integer) => unpacked = Some(reader.size()?),
                (3, Kind::Integer) => packed = Some(reader.size()?),
                (5 | 7 | 8, Kind::Struct) => content = Some((number, Content::read(reader, number)?)),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (Some(kind), Some(packed), Some(unpacked)) = (kind, packed, unpacked) else {
            return Err("the header of a page is incomplete".into());
        };
        let (kind, content) = match (kind, content) {
            (0, Some((5, content))) => (PageKind::Data, content),
            (1, None) => (PageKind::Index, Content::default()),
            (2, Some((7, content))) => (PageKind::Dictionary, content),
            (3, Some((8, content))) => (PageKind::DataV2, content),
            _ => return Err(format!("a page has the unknown kind {kind}")),
        };
        let Content { values, encoding, level_encoding, levels, is_packed } = content;
        let header = Self { kind, packed, unpacked, values, encoding, level_encoding, levels, is_packed };
        Ok((header, bytes.len() - reader.remaining()))
    }

    /// Whether the values are positions in a dictionary.
    pub(super) fn needs_dictionary(&self) -> bool {
        self.kind != PageKind::Dictionary && matches!(self.encoding, 2 | 8)
    }

    /// Unpacks the content of the page. Returns the definition levels, if the page is not a dictionary and the column
    /// has any, and the values.
    fn unpack(&self, bytes: Vec<u8>, codec: i64, defined: u8) -> Check<(Vec<u8>, Range<usize>)> {
        let most = self.packed.saturating_mul(DEFLATE_RATIO).saturating_add(SLACK).min(PICTURE_BYTES);
        if self.unpacked > most {
            return Err(format!(
                "a page of {} bytes claims to unpack to {} bytes",
                self.packed, self.unpacked
            ));
        }
        let unpacked = usize::try_from(self.unpacked).map_err(|_| "a page is too large for memory")?;
        if self.kind == PageKind::DataV2 {
            let [repetition, definition] = self.levels;
            let levels = usize::try_from(repetition.saturating_add(definition)).unwrap_or(usize::MAX);
            if levels > bytes.len() || levels > unpacked {
                return Err("the levels of a page end beyond the page".into());
            }
            if !self.is_packed {
                return Ok((bytes, repetition as usize..levels));
            }
            let mut all = bytes.get(..levels).unwrap_or_default().to_vec();
            let packed = bytes.get(levels..).unwrap_or_default();
            // A page without values has nothing to unpack.
            if unpacked > levels {
                all.extend(decompress(codec, packed, unpacked - levels)?);
            }
            return Ok((all, repetition as usize..levels));
        }
        let all = if codec == 0 { bytes } else { decompress(codec, &bytes, unpacked)? };
        if self.kind == PageKind::Dictionary || defined == 0 {
            return Ok((all, 0..0));
        }
        if self.level_encoding != 3 {
            return Err("the nulls of a page are stored in the obsolete encoding BIT_PACKED".into());
        }
        let length = all.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        match length.and_then(|length| length.checked_add(4)).filter(|&end| end <= all.len()) {
            Some(end) => Ok((all, 4..end)),
            None => Err("the levels of a page end beyond the page".into()),
        }
    }
}

/// The header of the content of a page.
#[derive(Debug, Clone, Copy)]
struct Content {
    values: u64,
    encoding: i64,
    level_encoding: i64,
    levels: [u64; 2],
    is_packed: bool,
}

impl Default for Content {
    fn default() -> Self {
        Self { values: 0, encoding: -1, level_encoding: 3, levels: [0; 2], is_packed: true }
    }
}

impl Content {
    fn read(reader: &mut Reader<'_>, of: i16) -> Check<Self> {
        let mut content = Self::default();
        let second = of == 8;
        reader.fields(|reader, number, kind| {
            match (number, kind) {
                (1, Kind::Integer) => content.values = reader.size()?,
                (2, Kind::Integer) if !second => content.encoding = reader.integer()?,
                (4, Kind::Integer) if second => content.encoding = reader.integer()?,
                (3, Kind::Integer) if of == 5 => content.level_encoding = reader.integer()?,
                (5, Kind::Integer) if second => content.levels[1] = reader.size()?,
                (6, Kind::Integer) if second => content.levels[0] = reader.size()?,
                (7, Kind::False) if second => content.is_packed = false,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(content)
    }
}

/// Unpacks exactly `size` bytes, which [`Header::unpack`] has found to be in proportion to the packed ones.
fn decompress(codec: i64, packed: &[u8], size: usize) -> Check<Vec<u8>> {
    let damaged = |e: &dyn std::fmt::Display| format!("a page cannot be unpacked: {e}");
    let wrong = || format!("a page of {} bytes does not unpack to the {size} bytes it claims", packed.len());
    // Allocated as zeros, which take no memory before they are written to.
    let zeros = || vec![0_u8; size];
    let unpacked = match codec {
        0 => packed.to_vec(),
        1 => {
            if snap::raw::decompress_len(packed).map_err(|e| damaged(&e))? != size {
                return Err(wrong());
            }
            let mut all = zeros();
            snap::raw::Decoder::new().decompress(packed, &mut all).map_err(|e| damaged(&e))?;
            all
        }
        2 => {
            let mut all = Vec::new();
            let reader = flate2::read::MultiGzDecoder::new(packed);
            reader.take(size as u64 + 1).read_to_end(&mut all).map_err(|e| damaged(&e))?;
            all
        }
        6 => {
            let mut all = zeros();
            let mut decoder = zstd::bulk::Decompressor::new().map_err(|e| damaged(&e))?;
            let found = decoder.decompress_to_buffer(packed, &mut all[..]).map_err(|e| damaged(&e))?;
            all.truncate(found);
            all
        }
        other => {
            const NAMES: [&str; 8] =
                ["uncompressed", "snappy", "gzip", "lzo", "brotli", "lz4", "zstd", "lz4_raw"];
            let name = usize::try_from(other).ok().and_then(|other| NAMES.get(other)).copied();
            return Err(format!(
                "its columns are packed with {}; write the file with snappy, gzip, zstd or uncompressed",
                name.unwrap_or("an unknown method")
            ));
        }
    };
    if unpacked.len() == size { Ok(unpacked) } else { Err(wrong()) }
}

/// The unpacked values of a dictionary page or of a data page without a dictionary.
#[derive(Debug, Default)]
pub(super) struct Values {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Values {
    fn get(&self, place: usize) -> Option<&[u8]> {
        self.bytes.get(self.places.get(place)?.clone())
    }

    /// Splits bytes from `start` into `count` values.
    fn plain(bytes: Vec<u8>, start: usize, count: usize, physical: Physical) -> Check<Self> {
        const ENDS: &str = "a page holds fewer values than it claims";
        let least = match physical {
            Physical::Int32 | Physical::Bytes => 4,
            Physical::Int64 => 8,
        };
        let mut rest = bytes.get(start..).unwrap_or_default();
        if count > rest.len() / least {
            return Err(ENDS.into());
        }
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            let mut at = bytes.len() - rest.len();
            let length = match (physical, rest.first_chunk()) {
                (Physical::Bytes, Some(length)) => {
                    at += 4;
                    u32::from_le_bytes(*length) as usize
                }
                (Physical::Bytes, None) => return Err(ENDS.into()),
                (Physical::Int32 | Physical::Int64, _) => least,
            };
            let end = at.checked_add(length).ok_or(ENDS)?;
            rest = bytes.get(end..).ok_or(ENDS)?;
            places.push(at..end);
        }
        Ok(Self { bytes, places })
    }

    /// Unpacks a dictionary page.
    pub(super) fn dictionary(header: &Header, bytes: Vec<u8>, codec: i64, leaf: Leaf) -> Check<Self> {
        if !matches!(header.encoding, 0 | 2) {
            return Err(unknown(header.encoding));
        }
        let (bytes, _) = header.unpack(bytes, codec, leaf.defined)?;
        let count = usize::try_from(header.values).unwrap_or(usize::MAX);
        Self::plain(bytes, 0, count, leaf.physical)
    }
}

/// An unpacked data page.
#[derive(Debug)]
pub(super) struct Page {
    /// For each row the position of its value, `None` for null.
    rows: Vec<Option<u32>>,
    values: Arc<Values>,
}

impl Page {
    /// Unpacks a data page. The header claims no more values than the row group has rows.
    pub(super) fn read(
        header: &Header,
        bytes: Vec<u8>,
        codec: i64,
        leaf: Leaf,
        dictionary: Option<&Arc<Values>>,
    ) -> Check<Self> {
        let (bytes, levels) = header.unpack(bytes, codec, leaf.defined)?;
        let start = levels.end;
        let count = usize::try_from(header.values).unwrap_or(usize::MAX);
        let is_value: Option<Vec<bool>> = if leaf.defined == 0 {
            None
        } else {
            let width = 8 - leaf.defined.leading_zeros();
            let stored = bytes.get(levels).unwrap_or_default();
            let levels = hybrid(stored, width, count)?;
            if levels.iter().any(|&level| level > u32::from(leaf.defined)) {
                return Err("a page has impossible levels".into());
            }
            Some(levels.iter().map(|&level| level == u32::from(leaf.defined)).collect())
        };
        let present = is_value.as_ref().map_or(count, |all| all.iter().filter(|&&one| one).count());
        let (mut positions, values): (Box<dyn Iterator<Item = u32>>, _) = match header.encoding {
            0 => {
                let values = Values::plain(bytes, start, present, leaf.physical)?;
                (Box::new(0..), Arc::new(values))
            }
            2 | 8 => {
                let dictionary = dictionary.ok_or("a page refers to a dictionary that is missing")?;
                let indices = match bytes.get(start..).and_then(<[u8]>::split_first) {
                    Some((&width, stored)) => hybrid(stored, width.into(), present)?,
                    None if present == 0 => Vec::new(),
                    None => return Err("a page holds fewer values than it claims".into()),
                };
                if indices.iter().any(|&index| index as usize >= dictionary.places.len()) {
                    return Err("a page refers to a value that its dictionary lacks".into());
                }
                (Box::new(indices.into_iter()), Arc::clone(dictionary))
            }
            other => return Err(unknown(other)),
        };
        let rows = match is_value {
            None => positions.take(count).map(Some).collect(),
            Some(all) => all.iter().map(|&one| if one { positions.next() } else { None }).collect(),
        };
        Ok(Self { rows, values })
    }

    /// Returns the bytes of a row of the page, `None` for null.
    pub(super) fn row(&self, row: usize) -> Option<&[u8]> {
        self.values.get((*self.rows.get(row)?)? as usize)
    }
}

fn unknown(encoding: i64) -> String {
    const NAMES: [&str; 10] = [
        "PLAIN",
        "GROUP_VAR_INT",
        "PLAIN_DICTIONARY",
        "RLE",
        "BIT_PACKED",
        "DELTA_BINARY_PACKED",
        "DELTA_LENGTH_BYTE_ARRAY",
        "DELTA_BYTE_ARRAY",
        "RLE_DICTIONARY",
        "BYTE_STREAM_SPLIT",
    ];
    let name = usize::try_from(encoding).ok().and_then(|encoding| NAMES.get(encoding)).copied();
    format!(
        "its values have the encoding {}; only PLAIN and dictionaries, which pyarrow writes, are read: write the file \
         again with pyarrow",
        name.unwrap_or("of an unknown number")
    )
}

/// Decodes `count` numbers of `width` bits from runs of equal numbers and runs of packed numbers.
fn hybrid(stored: &[u8], width: u32, count: usize) -> Check<Vec<u32>> {
    const ENDS: &str = "the numbers of a page end too early";
    if width > 32 {
        return Err(format!("a page has numbers of {width} bits"));
    }
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(count).map_err(|_| "a page is too large for memory")?;
    let mut rest = stored;
    let bytes_each = width.div_ceil(8) as usize;
    while numbers.len() < count {
        let mut header = 0_u64;
        for shift in (0..35).step_by(7) {
            let (&byte, after) = rest.split_first().ok_or(ENDS)?;
            rest = after;
            header |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let length = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        let left = count - numbers.len();
        if length == 0 {
            return Err("a page has an empty run of numbers".into());
        }
        if header & 1 == 0 {
            let (value, after) = rest.split_at_checked(bytes_each).ok_or(ENDS)?;
            rest = after;
            let value = value.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            numbers.extend(std::iter::repeat_n(value, length.min(left)));
            continue;
        }
        // Groups of eight numbers; the last one may be cut behind the last number that counts.
        let packed = length.saturating_mul(width as usize).min(rest.len());
        let (packed, after) = rest.split_at(packed);
        rest = after;
        let wanted = length.saturating_mul(8).min(left);
        if packed.len() * 8 < wanted.saturating_mul(width as usize) {
            return Err(ENDS.into());
        }
        numbers.extend((0..wanted).map(|number| bits(packed, number * width as usize, width)));
    }
    Ok(numbers)
}

/// The number of `width` bits at a bit position, least significant bit first.
fn bits(packed: &[u8], at: usize, width: u32) -> u32 {
    let window = packed.get(at / 8..).unwrap_or_default().iter().take(5);
    let value = window.enumerate().fold(0_u64, |value, (i, &byte)| value | u64::from(byte) << (8 * i));
    let mask = (1_u64 << width) - 1;
    (value >> (at % 8) & mask) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packed_numbers_are_decoded() {
        // The example of Parquet's documentation: the numbers 0 to 7 in three bits.
        let packed = [0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(hybrid(&packed, 3, 8), Ok((0..8).collect()));
        // Six times 5, then 300 in nine bits.
        assert_eq!(hybrid(&[12, 5], 3, 6), Ok(vec![5; 6]));
        assert_eq!(hybrid(&[4, 44, 1], 9, 2), Ok(vec![300; 2]));
        assert_eq!(hybrid(&[4], 0, 2), Ok(vec![0; 2]));
        for (stored, width) in [(&[12][..], 3), (&[], 1), (&[0, 0], 1), (&[3, 1], 3), (&[2, 1], 33)] {
            assert!(hybrid(stored, width, 6).is_err(), "{stored:?}");
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 1 << 20];
        let zstd = zstd::bulk::compress(&zeros, 3).expect("packed");
        let snappy = snap::raw::Encoder::new().compress_vec(&zeros).expect("packed");
        let mut gzip = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(&zeros[..], flate2::Compression::default());
        encoder.read_to_end(&mut gzip).expect("packed");
        for (codec, packed) in [(1, snappy), (2, gzip), (6, zstd)] {
            assert_eq!(decompress(codec, &packed, zeros.len()), Ok(zeros.clone()));
            for size in [1000, zeros.len() - 1, zeros.len() + 1] {
                assert!(decompress(codec, &packed, size).is_err(), "{codec} {size}");
            }
        }
        let header = [0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0x0f, 0x15, 200, 1, 0x2c, 0x15, 2, 0x15, 0, 0, 0];
        let (header, _) = Header::parse(&header).expect("a header");
        let message = header.unpack(vec![0; 100], 6, 0).expect_err("refused");
        assert!(message.contains("100 bytes claims to unpack to 16777215"), "{message}");
    }
}
