//! The matrices of one tensor, one at a time: mapped into memory where the file allows it.

use std::borrow::Cow;
use std::path::Path;

use bytemuck::{AnyBitPattern, try_cast_slice};
use half::{bf16, f16};
use markov_core::Storage;
use memmap2::Mmap;

use super::{Matrices, Problem, bytes_of, damaged, extension, npy, safetensors_header, storage};
use crate::tensor_file;

/// The square matrices `[count, n, n]` of a tensor. Those of a safetensors or `.npy` file stay in the file until they are asked
/// for, so that a file larger than the memory can be worked through; other formats are read completely.
pub struct Stack {
    /// Number of matrices.
    pub count: usize,
    /// Side of each matrix.
    pub n: usize,
    /// Their number format in the file.
    pub storage: Storage,
    numbers: Numbers,
}

enum Numbers {
    /// Little-endian numbers in row-major order from this byte on.
    Mapped(Mmap, usize),
    Read(Vec<f64>),
}

/// One matrix in row-major order. Narrower numbers than float32 are converted to float32, which has all their values.
pub enum StoredMatrix<'a> {
    /// Double precision.
    F64(Cow<'a, [f64]>),
    /// Single precision.
    F32(Cow<'a, [f32]>),
}

impl Stack {
    /// Maps a tensor `[..., n, n]`; `None` if the format or the order of the numbers does not allow it.
    pub(super) fn map(path: &Path, key: Option<&str>) -> Result<Option<Self>, Problem> {
        if cfg!(target_endian = "big") {
            return Ok(None);
        }
        match extension(path).as_str() {
            "safetensors" => {
                let map = tensor_file::map(path).map_err(Problem::Read)?;
                let (header, start) = safetensors_header(&mut &map[..], map.len() as u64)?;
                let name = super::choose(header.offset_keys(), key)?;
                let info = header
                    .info(&name)
                    .ok_or_else(|| damaged(format!("tensor `{name}` has no description")))?;
                let Some(storage) = storage(info.dtype) else { return Ok(None) };
                let start = start as usize + info.data_offsets.0;
                let (count, n) = sides(&info.shape);
                Ok(Some(Self { count, n, storage, numbers: Numbers::Mapped(map, start) }))
            }
            "npy" => {
                let map = tensor_file::map(path).map_err(Problem::Read)?;
                let Some((start, storage, shape)) = npy::layout(&map[..], map.len() as u64)? else {
                    return Ok(None);
                };
                let (count, n) = sides(&shape);
                Ok(Some(Self { count, n, storage, numbers: Numbers::Mapped(map, start) }))
            }
            _ => Ok(None),
        }
    }

    /// The stack of a tensor that was read.
    pub(super) fn read(Matrices { storage, data, .. }: Matrices) -> Self {
        let (count, n) = sides(data.shape());
        let numbers = Numbers::Read(data.into_raw_vec_and_offset().0);
        Self { count, n, storage, numbers }
    }

    /// Returns a matrix by its number in row-major order of the outer dimensions.
    ///
    /// # Panics
    /// There is no such matrix.
    pub fn matrix(&self, number: usize) -> StoredMatrix<'_> {
        assert!(number < self.count, "matrix {number} of {}", self.count);
        let size = self.n * self.n;
        let (map, start) = match &self.numbers {
            Numbers::Read(values) => {
                return StoredMatrix::F64(Cow::Borrowed(&values[number * size..][..size]));
            }
            Numbers::Mapped(map, start) => (map, *start),
        };
        let width = bytes_of(self.storage);
        let bytes = &map[start + number * size * width..][..size * width];
        match self.storage {
            Storage::F64 => StoredMatrix::F64(whole(bytes, f64::from_le_bytes)),
            Storage::F32 => StoredMatrix::F32(whole(bytes, f32::from_le_bytes)),
            Storage::F16 => {
                StoredMatrix::F32(Cow::Owned(converted(bytes, |b| f16::from_le_bytes(b).to_f32())))
            }
            Storage::Bf16 => {
                StoredMatrix::F32(Cow::Owned(converted(bytes, |b| bf16::from_le_bytes(b).to_f32())))
            }
        }
    }
}

/// The numbers in the file themselves or, if they do not begin at a multiple of their width, a copy.
fn whole<T: AnyBitPattern, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Cow<'_, [T]> {
    match try_cast_slice(bytes) {
        Ok(numbers) => Cow::Borrowed(numbers),
        Err(_) => Cow::Owned(converted(bytes, number)),
    }
}

fn converted<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}

/// Number of matrices and side, of the shape of a tensor of matrices.
fn sides(shape: &[usize]) -> (usize, usize) {
    match shape {
        [outer @ .., _, n] => (outer.iter().product(), *n),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Contents, MatrixFileError};
    use super::*;

    /// Writes a safetensors file with one tensor of this type; `shift` spaces make its numbers begin elsewhere.
    fn safetensors(dtype: &str, shape: &[usize], bytes: &[u8], shift: usize) -> Vec<u8> {
        let header = serde_json::json!({
            "a": { "dtype": dtype, "shape": shape, "data_offsets": [0, bytes.len()] },
        });
        let header = header.to_string() + &" ".repeat(shift);
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), bytes].concat()
    }

    fn npy(descr: &str, fortran: bool, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
        let shape: Vec<String> = shape.iter().map(|side| format!("{side},")).collect();
        let fortran = if fortran { "True" } else { "False" };
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({}), }}\n", shape.concat());
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes].concat()
    }

    /// The numbers of every matrix of a file, and those that [`Contents::read`] finds.
    fn both(name: &str, file: &[u8]) -> Result<(Vec<f64>, Vec<f64>), MatrixFileError> {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join(name);
        std::fs::write(&path, file).expect("writable");
        let contents = Contents::of(&path)?;
        let tensor = &contents.tensors()[0];
        let stack = contents.stack(tensor)?;
        let numbers = (0..stack.count).flat_map(|number| match stack.matrix(number) {
            StoredMatrix::F64(values) => values.to_vec(),
            StoredMatrix::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        });
        Ok((numbers.collect(), contents.read(tensor)?.data.into_iter().collect()))
    }

    #[test]
    fn matrices_one_at_a_time_are_those_of_the_whole_tensor() -> Result<(), MatrixFileError> {
        let numbers: Vec<f64> = (0..12).map(|i| f64::from(i) / 8.0).collect();
        let bytes = |width: usize, big: bool| -> Vec<u8> {
            let one = |value: &f64| {
                let mut bytes = match width {
                    8 => value.to_le_bytes().to_vec(),
                    4 => (*value as f32).to_le_bytes().to_vec(),
                    _ => f16::from_f64(*value).to_le_bytes().to_vec(),
                };
                if big {
                    bytes.reverse();
                }
                bytes
            };
            numbers.iter().flat_map(one).collect()
        };
        let shape = [1, 3, 2, 2];
        let narrow: Vec<u8> = numbers.iter().flat_map(|v| bf16::from_f64(*v).to_le_bytes()).collect();
        let mut files = vec![("a.safetensors", safetensors("BF16", &shape, &narrow, 0))];
        for (dtype, descr, width) in [("F64", "f8", 8), ("F32", "f4", 4), ("F16", "f2", 2)] {
            for shift in 0..8 {
                files.push(("a.safetensors", safetensors(dtype, &shape, &bytes(width, false), shift)));
            }
            files.push(("a.npy", npy(&format!("<{descr}"), false, &shape, &bytes(width, false))));
            files.push(("a.npy", npy(&format!(">{descr}"), false, &shape, &bytes(width, true))));
        }
        for (name, file) in &files {
            let (found, whole) = both(name, file)?;
            assert_eq!((&found, &whole), (&numbers, &numbers), "{name}");
        }
        let (found, whole) = both("a.npy", &npy("<f4", true, &shape, &bytes(4, false)))?;
        assert_eq!(found, whole);
        assert_ne!(found, numbers);
        Ok(())
    }

    #[test]
    fn what_cannot_be_read_is_refused_as_for_the_whole_tensor() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        for (name, file) in [
            ("a.npy", npy("<f4", false, &[2, 3], &[0; 24])),
            ("a.npy", npy("<f4", false, &[0, 0], &[])),
            ("a.npy", npy("<f4", false, &[4], &[0; 16])),
            ("a.npy", npy("<i4", false, &[2, 2], &[0; 16])),
            ("a.safetensors", safetensors("I32", &[2, 2], &[0; 16], 0)),
            ("a.safetensors", safetensors("F32", &[2, 1], &[0; 8], 0)),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, file).expect("writable");
            let contents = Contents::of(&path).expect("a header");
            let tensor = &contents.tensors()[0];
            let message = contents.stack(tensor).err().expect("refused").to_string();
            assert_eq!(message, contents.read(tensor).expect_err("refused").to_string());
        }
    }
}
