//! The orientation of an image, which cameras and phones store in its metadata.
//!
//! Read as in Pillow 13's `ImageOps.exif_transpose`: from the EXIF data of a JPEG or PNG, or from XMP if EXIF has no
//! orientation. The reader is our own because the EXIF crates do not read XMP and only one number of a large format is
//! needed. It follows only lengths that lie within the given bytes, and each step moves forward.

use super::{ImageError, Rgb8};

/// The EXIF tag of the orientation.
const TAG: u16 = 0x0112;
/// Types of an EXIF value: 16 and 32 bits.
const SHORT: u16 = 3;
const LONG: u16 = 4;

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const PNG_XMP: &[u8] = b"XML:com.adobe.xmp\0";

/// The change that turns the stored pixels upright. The numbers are those of EXIF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orientation {
    /// No change; also if the orientation is missing or unknown.
    #[default]
    Upright = 1,
    /// Swap left and right.
    Mirror = 2,
    /// Turn by 180°.
    Turn180 = 3,
    /// Swap top and bottom.
    Flip = 4,
    /// Swap rows and columns.
    Transpose = 5,
    /// Turn by 90° clockwise.
    Turn90 = 6,
    /// Swap rows and columns, and turn by 180°.
    Transverse = 7,
    /// Turn by 270° clockwise.
    Turn270 = 8,
}

impl Orientation {
    /// Reads the orientation of a JPEG or PNG file. Damaged metadata are ignored, since the pixels can be decoded
    /// without them.
    pub fn of(bytes: &[u8]) -> Self {
        let notes = match bytes {
            [0xff, 0xd8, rest @ ..] => Notes::of_jpeg(rest),
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, rest @ ..] => Notes::of_png(rest),
            _ => Notes::default(),
        };
        let number = notes.exif.as_deref().and_then(of_exif).or_else(|| notes.xmp.and_then(of_xmp));
        number.map_or(Self::Upright, Self::numbered)
    }

    fn numbered(number: u32) -> Self {
        match number {
            2 => Self::Mirror,
            3 => Self::Turn180,
            4 => Self::Flip,
            5 => Self::Transpose,
            6 => Self::Turn90,
            7 => Self::Transverse,
            8 => Self::Turn270,
            _ => Self::Upright,
        }
    }

    /// The EXIF number of the orientation, from 1 to 8.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether turning swaps width and height.
    fn swaps_sides(self) -> bool {
        match self {
            Self::Upright | Self::Mirror | Self::Turn180 | Self::Flip => false,
            Self::Transpose | Self::Turn90 | Self::Transverse | Self::Turn270 => true,
        }
    }

    /// Returns the stored column and row of the pixel at (`x`, `y`) of the upright image. `width` and `height` are
    /// those of the stored image.
    fn stored(self, (x, y): (usize, usize), (width, height): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Upright => (x, y),
            Self::Mirror => (width - 1 - x, y),
            Self::Turn180 => (width - 1 - x, height - 1 - y),
            Self::Flip => (x, height - 1 - y),
            Self::Transpose => (y, x),
            Self::Turn90 => (y, height - 1 - x),
            Self::Transverse => (width - 1 - y, height - 1 - x),
            Self::Turn270 => (width - 1 - y, x),
        }
    }
}

impl Rgb8 {
    /// Turns the stored pixels upright.
    ///
    /// # Errors
    /// The buffer does not fit the sides, or there is not enough memory.
    pub fn turned(self, orientation: Orientation) -> Result<Self, ImageError> {
        self.check()?;
        if orientation == Orientation::Upright {
            return Ok(self);
        }
        let stored = (self.width, self.height);
        let (width, height) = if orientation.swaps_sides() { (stored.1, stored.0) } else { stored };
        let mut data = Vec::new();
        data.try_reserve_exact(self.data.len())
            .map_err(|_| ImageError::Io(std::io::ErrorKind::OutOfMemory.into()))?;
        for y in 0..height {
            for x in 0..width {
                let (column, row) = orientation.stored((x, y), stored);
                let at = 3 * (row * stored.0 + column);
                data.extend_from_slice(&self.data[at..at + 3]);
            }
        }
        Ok(Self { width, height, data })
    }
}

/// The metadata of a file that may hold the orientation.
#[derive(Default)]
struct Notes<'a> {
    /// A TIFF file.
    exif: Option<Vec<u8>>,
    /// Text.
    xmp: Option<&'a [u8]>,
}

impl<'a> Notes<'a> {
    /// Reads the segments after the first marker, up to the first scan.
    fn of_jpeg(mut rest: &'a [u8]) -> Self {
        let mut notes = Self::default();
        while let [0xff, marker, after @ ..] = rest {
            rest = match marker {
                0xff => &rest[1..],
                // Markers without a length.
                0x01 | 0xd0..=0xd8 => after,
                // The end, or pixels.
                0xd9 | 0xda => break,
                _ => {
                    let Some(&[high, low]) = after.first_chunk() else { break };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    let Some(segment) = after.get(2..length) else { break };
                    if *marker == 0xe1 {
                        notes.app1(segment);
                    }
                    &after[length..]
                }
            };
        }
        notes
    }

    /// EXIF data may continue in further segments.
    fn app1(&mut self, segment: &'a [u8]) {
        if let Some(exif) = segment.strip_prefix(EXIF) {
            self.exif.get_or_insert_default().extend_from_slice(exif);
        } else if let Some(xmp) = segment.strip_prefix(XMP) {
            self.xmp = Some(xmp);
        }
    }

    /// Reads the chunks after the signature, except compressed text.
    fn of_png(mut rest: &'a [u8]) -> Self {
        let mut notes = Self::default();
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let [a, b, c, d, kind @ ..] = *head;
            let Ok(length) = usize::try_from(u32::from_be_bytes([a, b, c, d])) else { break };
            let Some(data) = after.get(..length) else { break };
            match &kind {
                b"eXIf" => notes.exif = Some(data.strip_prefix(EXIF).unwrap_or(data).to_vec()),
                b"iTXt" if data.starts_with(PNG_XMP) => notes.xmp = Some(data),
                b"IEND" => break,
                _ => {}
            }
            // A checksum of four bytes, which may be cut off.
            rest = after.get(length.saturating_add(4)..).unwrap_or_default();
        }
        notes
    }
}

/// Returns the orientation in the first directory of a TIFF file.
fn of_exif(tiff: &[u8]) -> Option<u32> {
    let little = match tiff.first_chunk()? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes: [u8; 4] = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = usize::from(short(directory)?);
    // Twelve bytes each: tag, type, number of values, and the value if it fits.
    let entry = |index: usize| directory.checked_add(2 + 12 * index);
    let at = (0..entries).map_while(entry).find(|&at| short(at) == Some(TAG))?;
    match (short(at + 2)?, long(at + 4)?) {
        (SHORT, 1) => short(at + 8).map(u32::from),
        (LONG, 1) => long(at + 8),
        _ => None,
    }
}

/// Returns the digit after the first `tiff:Orientation="` or `tiff:Orientation>`.
fn of_xmp(mut text: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    while let Some(at) = text.windows(NAME.len()).position(|window| window == NAME) {
        text = &text[at + NAME.len()..];
        if let [b'=', b'"', digit @ b'0'..=b'9', ..] | [b'>', digit @ b'0'..=b'9', ..] = text {
            return Some(u32::from(digit - b'0'));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tiff(entries: &[(u16, u16, u32, u32)]) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for &(tag, kind, count, value) in entries {
            bytes.extend(tag.to_le_bytes().iter().chain(&kind.to_le_bytes()));
            bytes.extend(count.to_le_bytes().iter().chain(&value.to_le_bytes()));
        }
        bytes
    }

    fn jpeg(segments: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8];
        for segment in segments {
            bytes.extend([0xff, 0xe1]);
            bytes.extend((segment.len() as u16 + 2).to_be_bytes());
            bytes.extend(*segment);
        }
        bytes.extend([0xff, 0xda]);
        bytes
    }

    fn number(segments: &[&[u8]]) -> u8 {
        Orientation::of(&jpeg(segments)).number()
    }

    #[test]
    fn exif_precedes_xmp_and_damaged_metadata_are_ignored() {
        let exif = |entries: &[(u16, u16, u32, u32)]| [EXIF, &tiff(entries)].concat();
        let xmp = |text: &str| [XMP, text.as_bytes()].concat();
        let six = exif(&[(0x010f, 2, 4, 0), (TAG, SHORT, 1, 6)]);
        assert_eq!(number(&[&six]), 6);
        assert_eq!(number(&[&exif(&[(TAG, LONG, 1, 3)])]), 3);
        assert_eq!(number(&[&xmp("<x tiff:Orientation=\"8\"/>")]), 8);
        assert_eq!(number(&[&xmp("tiff:Orientation tiff:Orientation>5<")]), 5);
        assert_eq!(number(&[&xmp("tiff:Orientation=\"8\""), &six]), 6);
        assert_eq!(number(&[&exif(&[]), &xmp("tiff:Orientation=\"8\"")]), 8);
        // Parts of one EXIF in two segments.
        assert_eq!(number(&[&six[..30], &[EXIF, &six[30..]].concat()]), 6);
        for odd in [(TAG, SHORT, 1, 0), (TAG, SHORT, 1, 9), (TAG, SHORT, 2, 6), (TAG, 2, 1, 6)] {
            assert_eq!(number(&[&exif(&[odd])]), 1, "{odd:?}");
        }
        for cut in 0..six.len() - 2 {
            assert_eq!(number(&[&six[..cut]]), 1, "{cut}");
        }
        // Offsets and counts that lead out of the file, or around in it.
        for (at, value) in [(4, 0xffff_ffff_u32), (4, 0xffff_fffe), (4, 0)] {
            let mut forged = six.clone();
            forged[EXIF.len() + at..EXIF.len() + at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(number(&[&forged]), 1);
        }
        let mut many = six;
        many[EXIF.len() + 8..EXIF.len() + 10].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(number(&[&many]), 6);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_have_an_orientation(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            magic in prop::sample::select(vec![&b"\xff\xd8"[..], b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\0\x40Exif\0\0II*\0"]),
        ) {
            prop_assert!((1..=8).contains(&Orientation::of(&[magic, &bytes].concat()).number()));
        }

        #[test]
        fn turning_and_turning_back_changes_nothing(width in 1_usize..6, height in 1_usize..6, number in 1_u32..=8) {
            let data: Vec<u8> = (0..width * height * 3).map(|sample| sample as u8).collect();
            let image = Rgb8 { width, height, data };
            let there = Orientation::numbered(number);
            let back = match there {
                Orientation::Turn90 => Orientation::Turn270,
                Orientation::Turn270 => Orientation::Turn90,
                same @ (Orientation::Upright
                | Orientation::Mirror
                | Orientation::Turn180
                | Orientation::Flip
                | Orientation::Transpose
                | Orientation::Transverse) => same,
            };
            let turned = image.clone().turned(there).and_then(|turned| turned.turned(back)).expect("turned");
            prop_assert_eq!(turned, image);
        }
    }
}
