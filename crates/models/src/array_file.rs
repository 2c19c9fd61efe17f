//! Safetensors files of arrays, mapped into memory: arrays are found by name and converted one at a time.

use std::io;
use std::path::Path;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::tensor_file;

/// A safetensors file, mapped into memory. A file that replaces it later under the same name is not seen.
pub struct ArrayFile {
    map: Mmap,
    /// Offset of the first number.
    start: usize,
    header: Metadata,
}

/// A file that cannot be opened as a safetensors file. The message does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum ArrayFileError {
    /// The system cannot read the file.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The file is not a safetensors file, or it is damaged.
    #[error("is not a readable safetensors file: {0}")]
    Damaged(String),
}

/// The sort of numbers in an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberSort {
    /// Floating-point numbers: F64, F32, F16 or BF16.
    Real,
    /// Whole numbers of 8 to 64 bits, with or without sign, or BOOL.
    Whole,
    /// A type that is not read, such as 8-bit floats or complex numbers.
    Other,
}

/// An array in a mapped file.
#[derive(Clone, Copy)]
pub struct StoredArray<'a> {
    /// Its shape.
    pub shape: &'a [usize],
    dtype: Dtype,
    bytes: &'a [u8],
}

impl ArrayFile {
    /// Maps a file and checks its header: lengths, offsets and shapes must fit the file and each other, and no name may
    /// occur twice.
    ///
    /// # Errors
    /// The file cannot be read, is not a regular file, or is not a complete safetensors file.
    pub fn open(path: &Path) -> Result<Self, ArrayFileError> {
        let map = tensor_file::map(path)?;
        let (start, header) = tensor_file::header(&map).map_err(ArrayFileError::Damaged)?;
        Ok(Self { map, start, header })
    }

    /// Returns an entry of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the names of the arrays, in the order of their numbers in the file.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Returns the array with this name.
    pub fn array(&self, name: &str) -> Option<StoredArray<'_>> {
        let info = self.header.info(name)?;
        let (from, to) = info.data_offsets;
        let bytes = self.map.get(self.start + from..self.start + to)?;
        Some(StoredArray { shape: &info.shape, dtype: info.dtype, bytes })
    }

    /// Returns the SHA-256 of the whole file as hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex(Sha256::digest(&self.map[..]))
    }
}

/// Size of a stored number in bytes, and how to read it.
type Stored<N> = (usize, fn(&[u8]) -> N);

impl<'a> StoredArray<'a> {
    /// Returns the sort of its numbers.
    pub fn sort(&self) -> NumberSort {
        if self.real().is_some() {
            NumberSort::Real
        } else if self.whole().is_some() {
            NumberSort::Whole
        } else {
            NumberSort::Other
        }
    }

    /// Returns the name of the type of its numbers in safetensors, such as `F32`.
    pub fn type_name(&self) -> String {
        self.dtype.to_string()
    }

    /// Returns the numbers in row-major order, converted exactly; `None` if they are not [`NumberSort::Real`].
    pub fn reals(&self) -> Option<Vec<f64>> {
        let (width, number) = self.real()?;
        Some(self.bytes.chunks_exact(width).map(number).collect())
    }

    /// Returns the numbers in row-major order; `None` if they are not [`NumberSort::Whole`].
    pub fn wholes(&self) -> Option<Vec<i128>> {
        let (width, number) = self.whole()?;
        Some(self.bytes.chunks_exact(width).map(number).collect())
    }

    /// Returns the width in bytes and the conversion of a floating-point type.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "safetensors' types, of which these are the floats that are read"
    )]
    fn real(&self) -> Option<Stored<f64>> {
        Some(match self.dtype {
            Dtype::F64 => (8, |bytes| f64::from_le_bytes(array(bytes))),
            Dtype::F32 => (4, |bytes| f32::from_le_bytes(array(bytes)).into()),
            Dtype::F16 => (2, |bytes| f16::from_le_bytes(array(bytes)).to_f64()),
            Dtype::BF16 => (2, |bytes| bf16::from_le_bytes(array(bytes)).to_f64()),
            _ => return None,
        })
    }

    /// Returns the width in bytes and the conversion of a type of whole numbers.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "safetensors' types, of which these are the whole numbers"
    )]
    fn whole(&self) -> Option<Stored<i128>> {
        Some(match self.dtype {
            Dtype::BOOL => (1, |bytes| i128::from(bytes != [0])),
            Dtype::U8 => (1, |bytes| u8::from_le_bytes(array(bytes)).into()),
            Dtype::I8 => (1, |bytes| i8::from_le_bytes(array(bytes)).into()),
            Dtype::U16 => (2, |bytes| u16::from_le_bytes(array(bytes)).into()),
            Dtype::I16 => (2, |bytes| i16::from_le_bytes(array(bytes)).into()),
            Dtype::U32 => (4, |bytes| u32::from_le_bytes(array(bytes)).into()),
            Dtype::I32 => (4, |bytes| i32::from_le_bytes(array(bytes)).into()),
            Dtype::U64 => (8, |bytes| u64::from_le_bytes(array(bytes)).into()),
            Dtype::I64 => (8, |bytes| i64::from_le_bytes(array(bytes)).into()),
            _ => return None,
        })
    }
}

/// Returns the bytes of a number; `bytes` is a chunk of exactly `N`.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file with one tensor `a` of this type, and reads it back.
    fn with(dtype: &str, shape: &[usize], bytes: &[u8], read: impl FnOnce(StoredArray<'_>)) {
        let header = serde_json::json!({
            "__metadata__": { "format": "test" },
            "a": { "dtype": dtype, "shape": shape, "data_offsets": [0, bytes.len()] },
        })
        .to_string();
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("a.safetensors");
        let whole = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), bytes].concat();
        std::fs::write(&path, &whole).expect("writable");
        let file = ArrayFile::open(&path).expect("an array");
        assert_eq!((file.metadata("format"), file.names()), (Some("test"), vec!["a".to_owned()]));
        assert_eq!(file.sha256(), hex(Sha256::digest(&whole)));
        assert!(file.array("b").is_none());
        let array = file.array("a").expect("an array");
        assert_eq!((array.shape, array.type_name()), (shape, dtype.to_owned()));
        read(array);
    }

    #[test]
    fn numbers_of_every_type_are_converted_exactly() {
        let reals = |dtype: &str, bytes: &[u8], wanted: &[f64]| {
            with(dtype, &[wanted.len()], bytes, |array| {
                assert_eq!((array.sort(), array.wholes()), (NumberSort::Real, None));
                assert_eq!(array.reals().as_deref(), Some(wanted), "{dtype}");
            });
        };
        reals("F64", &[0.1f64, -2.0].map(f64::to_le_bytes).concat(), &[0.1, -2.0]);
        reals("F32", &[0.1f32, -2.0].map(f32::to_le_bytes).concat(), &[f64::from(0.1f32), -2.0]);
        reals("F16", &[0x3c00u16, 0xc000].map(u16::to_le_bytes).concat(), &[1.0, -2.0]);
        reals("BF16", &[0x3f80u16, 0xc000].map(u16::to_le_bytes).concat(), &[1.0, -2.0]);

        let wholes = |dtype: &str, bytes: &[u8], wanted: &[i128]| {
            with(dtype, &[1, wanted.len()], bytes, |array| {
                assert_eq!((array.sort(), array.reals()), (NumberSort::Whole, None));
                assert_eq!(array.wholes().as_deref(), Some(wanted), "{dtype}");
            });
        };
        wholes("BOOL", &[0, 1], &[0, 1]);
        wholes("U8", &[0, 255], &[0, 255]);
        wholes("I8", &[127, 128], &[127, -128]);
        wholes("U16", &u16::MAX.to_le_bytes(), &[65535]);
        wholes("I16", &i16::MIN.to_le_bytes(), &[-32768]);
        wholes("U32", &u32::MAX.to_le_bytes(), &[u32::MAX.into()]);
        wholes("I32", &i32::MIN.to_le_bytes(), &[i32::MIN.into()]);
        wholes("U64", &u64::MAX.to_le_bytes(), &[u64::MAX.into()]);
        wholes("I64", &i64::MIN.to_le_bytes(), &[i64::MIN.into()]);
        with("F8_E4M3", &[2], &[0, 1], |array| {
            assert_eq!((array.sort(), array.reals(), array.wholes()), (NumberSort::Other, None, None));
        });
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("a.safetensors");
        let refused = || ArrayFile::open(&path).err().expect("refused").to_string();
        assert!(refused().starts_with("cannot be read: "), "{}", refused());
        for bytes in [&b""[..], b"not a file of tensors", &[255; 64]] {
            std::fs::write(&path, bytes).expect("writable");
            assert!(refused().starts_with("is not a readable safetensors file: "), "{}", refused());
        }
    }
}
