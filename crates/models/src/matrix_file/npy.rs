//! NumPy's `.npy`: a magic string, a version, and a header that is a Python dictionary.
//!
//! The format is described in NumPy's documentation of `numpy.lib.format`. Versions 1 to 3 differ in the width of the
//! header's length and in its text encoding, and the headers of plain arrays are ASCII in all of them.
//!
//! The reader is our own and not the crate `ndarray-npy`: it converts half, single and double precision of either byte
//! order to `f64` while reading, and compares the header with the file's length before it allocates memory.

use std::io::Read;

use markov_core::Storage;

use super::{CheckShape, Matrices, Order, Problem, array, bytes_of, check_length, read_values};

/// Maximum length of a header, far above that of any plain array.
const MAX_HEADER: u64 = 1 << 20;

/// Returns the array's shape and number format, or `None` for an unsupported format. Checks that the length of the data
/// fits.
pub(super) fn describe(mut file: impl Read, length: u64) -> Result<(Vec<usize>, Option<Storage>), Problem> {
    let (header, data_start) = read_header(&mut file, length)?;
    let storage = number_format(&header.descr).map(|(storage, _)| storage);
    match storage {
        Some(storage) => _ = count(&header.shape, storage, length - data_start)?,
        // The size of a number in an unsupported format is unknown, but an array cannot have more numbers than bytes.
        None => {
            let numbers = header.shape.iter().try_fold(1_u64, |count, &side| count.checked_mul(side as u64));
            if numbers.is_none_or(|numbers| numbers > length - data_start) {
                return Err(damaged(format!("its shape {:?} is larger than the file", header.shape)));
            }
        }
    }
    Ok((header.shape, storage))
}

/// Returns the number of elements of an array of this shape, and checks that they fill the `length` bytes of its data.
fn count(shape: &[usize], storage: Storage, length: u64) -> Result<usize, Problem> {
    let count = shape.iter().try_fold(1_usize, |count, &side| count.checked_mul(side));
    let bytes = count.and_then(|count| count.checked_mul(bytes_of(storage)));
    let (Some(count), Some(bytes)) = (count, bytes) else {
        return Err(damaged(format!("its shape {shape:?} is larger than any memory")));
    };
    check_length(bytes as u64, length)?;
    Ok(count)
}

/// Returns where the numbers begin, their format and the shape of an array of little-endian numbers in row-major order; `None`
/// for other arrays. Checks that the length of the data fits.
pub(super) fn layout(
    mut file: impl Read,
    length: u64,
) -> Result<Option<(usize, Storage, Vec<usize>)>, Problem> {
    let (header, data_start) = read_header(&mut file, length)?;
    let Some((storage, Order::Little)) = number_format(&header.descr) else { return Ok(None) };
    count(&header.shape, storage, length - data_start)?;
    Ok((!header.fortran).then_some((data_start as usize, storage, header.shape)))
}

pub(super) fn read(
    mut file: impl Read,
    length: u64,
    name: String,
    key: Option<&str>,
    check_shape: CheckShape,
) -> Result<Matrices, Problem> {
    if let Some(key) = key {
        return Err(Problem::KeyWithoutNames { key: key.to_owned() });
    }
    let (header, data_start) = read_header(&mut file, length)?;
    let (storage, order) = number_format(&header.descr)
        .ok_or_else(|| Problem::NumberFormat { name: name.clone(), found: header.descr.clone() })?;
    let count = count(&header.shape, storage, length - data_start)?;
    let shape = check_shape(&name, &header.shape)?;
    let values = read_values(&mut file, count, storage, order)?;
    let data = array(shape, values, header.fortran).map_err(|error| damaged(error.to_string()))?;
    Ok(Matrices { name, storage, data })
}

/// Reads the header of a file of `length` bytes. Returns it with the offset of the data.
fn read_header(file: &mut impl Read, length: u64) -> Result<(Header, u64), Problem> {
    let mut start = [0_u8; 8];
    file.read_exact(&mut start).map_err(|_| damaged("it is shorter than its header"))?;
    let [b'\x93', b'N', b'U', b'M', b'P', b'Y', major, minor] = start else {
        return Err(damaged("it does not begin with NumPy's mark"));
    };
    let (header_length, data_start) = match (major, minor) {
        (1, 0) => (u64::from(u16::from_le_bytes(read_bytes(file)?)), 10),
        (2 | 3, 0) => (u64::from(u32::from_le_bytes(read_bytes(file)?)), 12),
        _ => {
            return Err(damaged(format!(
                "its format version {major}.{minor} is unknown; 1.0, 2.0 and 3.0 are read"
            )));
        }
    };
    let data_start = data_start + header_length;
    if header_length > MAX_HEADER || data_start > length {
        return Err(damaged(format!("its header would have {header_length} bytes")));
    }
    let mut header = vec![0_u8; header_length as usize];
    file.read_exact(&mut header).map_err(Problem::Read)?;
    Ok((Header::parse(&header).map_err(damaged)?, data_start))
}

fn damaged(reason: impl Into<String>) -> Problem {
    Problem::Damaged { format: "npy", reason: reason.into() }
}

fn read_bytes<const N: usize>(file: &mut impl Read) -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(|_| damaged("it is shorter than its header"))?;
    Ok(bytes)
}

fn number_format(descr: &str) -> Option<(Storage, Order)> {
    let order = match descr.chars().next()? {
        '<' => Order::Little,
        '>' => Order::Big,
        _ => return None,
    };
    let storage = match &descr[1..] {
        "f8" => Storage::F64,
        "f4" => Storage::F32,
        "f2" => Storage::F16,
        _ => return None,
    };
    Some((storage, order))
}

/// The three entries that every header has.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor { rest: text };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        cursor.expect(b'{')?;
        while !cursor.take(b'}') {
            let entry = cursor.string()?;
            cursor.expect(b':')?;
            match entry.as_str() {
                "descr" => descr = Some(cursor.descr()?),
                "fortran_order" => fortran = Some(cursor.boolean()?),
                "shape" => shape = Some(cursor.shape()?),
                other => return Err(format!("its header has an unknown entry `{other}`")),
            }
            if !cursor.take(b',') {
                cursor.expect(b'}')?;
                break;
            }
        }
        if cursor.peek().is_some() {
            return Err("something follows the dictionary in its header".to_owned());
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Self { descr, fortran, shape }),
            _ => Err("its header lacks `descr`, `fortran_order` or `shape`".to_owned()),
        }
    }
}

/// Reads the few Python literals that headers are made of.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    /// Returns the next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) {
            return Ok(());
        }
        let found = match self.peek() {
            Some(found) => format!("`{}`", found.escape_ascii()),
            None => "its end".to_owned(),
        };
        Err(format!("its header has {found} where `{}` belongs", byte.escape_ascii()))
    }

    fn string(&mut self) -> Result<String, String> {
        let quote = if self.peek() == Some(b'"') { b'"' } else { b'\'' };
        self.expect(quote)?;
        let end = self.rest.iter().position(|&byte| byte == quote || byte == b'\\');
        match end {
            Some(end) if self.rest[end] == quote => {
                let text = self.rest[..end].escape_ascii().to_string();
                self.rest = &self.rest[end + 1..];
                Ok(text)
            }
            _ => Err("its header has an unfinished string".to_owned()),
        }
    }

    /// Reads the element type. A structured type is a list of fields and is refused.
    fn descr(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(b'[' | b'(') => Err("its elements are structures, not numbers".to_owned()),
            _ => self.string(),
        }
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.peek();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("its header has no True or False for `fortran_order`".to_owned())
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        // The maximum of NumPy; more dimensions would only serve to exhaust memory.
        const MOST: usize = 64;
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            shape.push(self.number()?);
            if shape.len() > MOST {
                return Err(format!("its shape has more than {MOST} dimensions"));
            }
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }

    fn number(&mut self) -> Result<usize, String> {
        self.peek();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| "its shape holds something other than sizes".to_owned())
    }
}
