//! Thrift's compact protocol, in which Parquet stores its footer and the headers of its pages.

/// The result of a check of a file; the error does not name the file.
pub(super) type Check<T> = std::result::Result<T, String>;

/// Structs within structs; Parquet's own have fewer than ten levels.
const DEPTH: usize = 32;

/// The type of a value, as the low four bits of a field's header state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    True,
    False,
    Byte,
    Integer,
    Double,
    Binary,
    List,
    Map,
    Struct,
    Uuid,
}

impl Kind {
    fn of(bits: u8) -> Check<Self> {
        Ok(match bits & 0x0f {
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4..=6 => Self::Integer,
            7 => Self::Double,
            8 => Self::Binary,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            other => return Err(format!("a value has the unknown type {other}")),
        })
    }
}

/// Reads values one after another. No call panics or takes memory that grows with a number in the bytes.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Number of bytes that have not been read.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Check<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Check<u8> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> Check<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an integer is too long".into())
    }

    /// Reads an integer of 16, 32 or 64 bits.
    pub(super) fn integer(&mut self) -> Check<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads a size or position, an integer that must not be negative.
    pub(super) fn size(&mut self) -> Check<u64> {
        let value = self.integer()?;
        u64::try_from(value).map_err(|_| format!("a size or position is {value}"))
    }

    /// Reads a string of bytes.
    pub(super) fn binary(&mut self) -> Check<&'a [u8]> {
        let length = self.varint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Reads the header of a list and returns its length, which is at most the number of remaining bytes.
    fn list(&mut self) -> Check<(Kind, usize)> {
        let header = self.byte()?;
        let length = match header >> 4 {
            15 => usize::try_from(self.varint()?).unwrap_or(usize::MAX),
            short => short.into(),
        };
        // Every value has at least one byte.
        if length > self.rest.len() {
            return Err(format!("a list claims {length} values in {} bytes", self.rest.len()));
        }
        if length == 0 {
            return Ok((Kind::Byte, 0));
        }
        Ok((Kind::of(header)?, length))
    }

    /// Reads a list of at most `most` structs.
    pub(super) fn structs<T>(
        &mut self,
        most: usize,
        mut read: impl FnMut(&mut Self) -> Check<T>,
    ) -> Check<Vec<T>> {
        let (kind, length) = self.list()?;
        if length > 0 && kind != Kind::Struct {
            return Err("a list of structs holds other values".into());
        }
        if length > most {
            return Err(format!("a list has {length} entries; at most {most} are read"));
        }
        let mut all = Vec::new();
        for _ in 0..length {
            all.push(read(self)?);
        }
        Ok(all)
    }

    /// Reads the fields of a struct. `read` is called with the number of each field and returns whether it has read the
    /// value; values that it leaves are skipped. A field of another type than expected must be left.
    pub(super) fn fields(&mut self, mut read: impl FnMut(&mut Self, i16, Kind) -> Check<bool>) -> Check<()> {
        let mut number = 0;
        while let Some((next, kind)) = self.field(number)? {
            number = next;
            if !read(self, number, kind)? {
                self.skip(kind, 0)?;
            }
        }
        Ok(())
    }

    fn field(&mut self, last: i16) -> Check<Option<(i16, Kind)>> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(None);
        }
        let number = match header >> 4 {
            0 => self.integer()?,
            step => i64::from(last) + i64::from(step),
        };
        let number = i16::try_from(number).map_err(|_| format!("a field has the number {number}"))?;
        Ok(Some((number, Kind::of(header)?)))
    }

    fn skip(&mut self, kind: Kind, depth: usize) -> Check<()> {
        if depth > DEPTH {
            return Err("values lie too deep within each other".into());
        }
        match kind {
            // In a struct, the type itself is the value.
            Kind::True | Kind::False => {}
            Kind::Byte => drop(self.byte()?),
            Kind::Integer => drop(self.varint()?),
            Kind::Double => drop(self.take(8)?),
            Kind::Binary => drop(self.binary()?),
            Kind::Uuid => drop(self.take(16)?),
            Kind::List => {
                let (kind, length) = self.list()?;
                for _ in 0..length {
                    self.skip_element(kind, depth)?;
                }
            }
            Kind::Map => {
                let length = self.varint()?;
                if length > self.rest.len() as u64 {
                    return Err(format!("a map claims {length} values"));
                }
                if length > 0 {
                    let kinds = self.byte()?;
                    let (key, value) = (Kind::of(kinds >> 4)?, Kind::of(kinds)?);
                    for _ in 0..length {
                        self.skip_element(key, depth)?;
                        self.skip_element(value, depth)?;
                    }
                }
            }
            Kind::Struct => {
                let mut number = 0;
                while let Some((next, kind)) = self.field(number)? {
                    number = next;
                    self.skip(kind, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Skips a value of a list or map, where a truth value has a byte of its own.
    fn skip_element(&mut self, kind: Kind, depth: usize) -> Check<()> {
        match kind {
            Kind::True | Kind::False => self.byte().map(drop),
            Kind::Byte
            | Kind::Integer
            | Kind::Double
            | Kind::Binary
            | Kind::List
            | Kind::Map
            | Kind::Struct
            | Kind::Uuid => self.skip(kind, depth + 1),
        }
    }
}
