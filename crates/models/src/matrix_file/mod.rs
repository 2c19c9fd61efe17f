//! Files of attention matrices: reads `.safetensors`, `.npy`, `.npz` and PyTorch files of any program, and writes results
//! to `.safetensors`.
//!
//! Whatever the file's number format, matrices arrive in `f64`. Only the requested tensor is read, so a file with every
//! layer of a large network needs no more memory than one of its matrices. The files are not trusted: headers are
//! checked against the file's length before memory is allocated.

mod contents;
mod error;
mod info;
mod npy;
mod npz;
mod stack;
mod torch;
mod write;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use half::{bf16, f16};
use markov_core::Storage;
use ndarray::{Array, ArrayD, IxDyn, ShapeBuilder};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::tensor_file::check_names;
pub use contents::Contents;
pub use error::{MatrixFileError, Problem};
pub use info::TensorInfo;
pub use npz::read_npz;
pub use stack::{Stack, StoredMatrix};
pub use write::{Values, write_safetensors};

/// Square matrices read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrices {
    /// The tensor's name in a `.safetensors` or `.npz` file, or the file's name without its extension.
    pub name: String,
    /// The number format in the file.
    pub storage: Storage,
    /// The matrices `[..., n, n]`, in row-major order; every side is at least 1.
    pub data: ArrayD<f64>,
}

/// Reads the matrices `[..., n, n]` of a `.safetensors`, `.npy`, `.npz` or PyTorch file (`.pt`, `.pth`, `.bin`, `.ckpt`).
///
/// A safetensors file may hold F64, F32, F16 or BF16; `key` names the tensor and may be left out if there is only one.
/// A `.npy` file (format versions 1 to 3) may hold `f8`, `f4` or `f2` of either byte order, in C or Fortran layout; an
/// `.npz` file holds several of them, with names. A PyTorch file holds a tensor, or several in a tuple, list or mapping; its
/// numbers are read and nothing in it is run. Values are converted exactly and not checked further: callers must
/// refuse NaN or negative values.
///
/// # Errors
/// [`MatrixFileError`], naming the file: another extension or number format, a missing or unknown `key`, a damaged,
/// truncated or overlong file, an array that is not `[..., n, n]` or has no elements.
pub fn read(path: impl AsRef<Path>, key: Option<&str>) -> Result<Matrices, MatrixFileError> {
    read_shaped(path.as_ref(), key, square)
}

/// Reads one table of numbers `[rows, columns]`, such as class embeddings, as [`read`] reads matrices.
///
/// # Errors
/// As [`read`], except for the shape.
pub fn read_table(path: impl AsRef<Path>) -> Result<Matrices, MatrixFileError> {
    read_shaped(path.as_ref(), None, table)
}

/// Reads an array of any shape, as [`read`] reads matrices.
///
/// # Errors
/// As [`read`], but the only shape that is refused is one without elements.
pub fn read_array(path: impl AsRef<Path>, key: Option<&str>) -> Result<Matrices, MatrixFileError> {
    read_shaped(path.as_ref(), key, any_shape)
}

/// Checks the shape of a tensor, given its name.
type CheckShape = fn(&str, &[usize]) -> Result<IxDyn, Problem>;

fn read_shaped(path: &Path, key: Option<&str>, shape: CheckShape) -> Result<Matrices, MatrixFileError> {
    let matrices = match extension(path).as_str() {
        "safetensors" => open(path).and_then(|(file, length)| read_safetensors(file, length, key, shape)),
        "npy" => open(path).and_then(|(file, length)| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            npy::read(file, length, name, key, shape)
        }),
        "npz" => open(path).and_then(|(file, length)| npz::read_chosen(file, length, key, shape)),
        ending if torch::EXTENSIONS.contains(&ending) => torch::read(path, key, shape),
        other => Err(Problem::Extension { found: other.to_owned() }),
    };
    matrices.map_err(|problem| MatrixFileError { path: path.to_owned(), problem })
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// Opens a file and returns it with its length in bytes.
fn open(path: &Path) -> Result<(File, u64), Problem> {
    crate::limits::open(path).map_err(Problem::Read)
}

/// Maximum length of a header: the one that the safetensors format allows.
const MAX_HEADER: u64 = 100_000_000;

/// Reads and checks the header of a safetensors file. Returns it with the offset of the data.
fn safetensors_header(file: &mut impl Read, length: u64) -> Result<(Metadata, u64), Problem> {
    let mut prefix = [0_u8; 8];
    file.read_exact(&mut prefix).map_err(|_| damaged("it is shorter than its header".to_owned()))?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > MAX_HEADER || header_length > length.saturating_sub(8) {
        return Err(damaged(format!("its header would have {header_length} bytes")));
    }
    let mut header = vec![0_u8; header_length as usize];
    file.read_exact(&mut header).map_err(Problem::Read)?;
    // Deserialising checks that tensors follow each other without gaps and that shapes fit their bytes.
    check_names(&header).map_err(damaged)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let data_start = 8 + header_length;
    check_length(header.data_len() as u64, length - data_start)?;
    Ok((header, data_start))
}

fn damaged(reason: String) -> Problem {
    Problem::Damaged { format: "safetensors", reason }
}

fn storage(dtype: Dtype) -> Option<Storage> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "no other safetensors type is one of these float formats"
    )]
    match dtype {
        Dtype::F64 => Some(Storage::F64),
        Dtype::F32 => Some(Storage::F32),
        Dtype::F16 => Some(Storage::F16),
        Dtype::BF16 => Some(Storage::Bf16),
        _ => None,
    }
}

fn read_safetensors(
    mut file: File,
    length: u64,
    key: Option<&str>,
    check_shape: CheckShape,
) -> Result<Matrices, Problem> {
    let (header, data_start) = safetensors_header(&mut file, length)?;
    let name = choose(header.offset_keys(), key)?;
    let info = header.info(&name).ok_or_else(|| damaged(format!("tensor `{name}` has no description")))?;
    let Some(storage) = storage(info.dtype) else {
        return Err(Problem::NumberFormat { name, found: info.dtype.to_string() });
    };
    let shape = check_shape(&name, &info.shape)?;
    file.seek(SeekFrom::Start(data_start + info.data_offsets.0 as u64)).map_err(Problem::Read)?;
    let values = read_values(&mut file, info.shape.iter().product(), storage, Order::Little)?;
    let data = Array::from_shape_vec(shape, values).map_err(|error| damaged(error.to_string()))?;
    Ok(Matrices { name, storage, data })
}

/// Returns the tensor that `key` names, or the only one.
fn choose(mut names: Vec<String>, key: Option<&str>) -> Result<String, Problem> {
    match key {
        Some(key) if names.iter().any(|name| name == key) => Ok(key.to_owned()),
        Some(key) => Err(Problem::unknown_key(key, &names)),
        None if names.len() > 1 => Err(Problem::choose_key(&names)),
        None => names.pop().ok_or(Problem::NoTensors),
    }
}

/// Accepts `[..., n, n]` with at least one element.
fn square(name: &str, shape: &[usize]) -> Result<IxDyn, Problem> {
    let (name, shape_of) = (name.to_owned(), shape.to_vec());
    match shape {
        [] | [_] => Err(Problem::Dimensions { name, shape: shape_of }),
        _ if shape.contains(&0) => Err(Problem::Empty { name, shape: shape_of }),
        [.., rows, columns] if rows != columns => Err(Problem::NotSquare { name, shape: shape_of }),
        _ => Ok(IxDyn(shape)),
    }
}

/// Accepts `[rows, columns]` with at least one element.
fn table(name: &str, shape: &[usize]) -> Result<IxDyn, Problem> {
    let (name, shape_of) = (name.to_owned(), shape.to_vec());
    match shape {
        [_, _] if shape.contains(&0) => Err(Problem::Empty { name, shape: shape_of }),
        [_, _] => Ok(IxDyn(shape)),
        _ => Err(Problem::NotTable { name, shape: shape_of }),
    }
}

/// Accepts any shape with at least one element.
fn any_shape(name: &str, shape: &[usize]) -> Result<IxDyn, Problem> {
    if shape.contains(&0) {
        return Err(Problem::Empty { name: name.to_owned(), shape: shape.to_vec() });
    }
    Ok(IxDyn(shape))
}

/// Compares the length of the data according to the header with the length in the file.
fn check_length(expected: u64, found: u64) -> Result<(), Problem> {
    match found {
        _ if found < expected => Err(Problem::Truncated { expected, found }),
        _ if found > expected => Err(Problem::Trailing { extra: found - expected }),
        _ => Ok(()),
    }
}

/// Size of a number in bytes.
fn bytes_of(storage: Storage) -> usize {
    match storage {
        Storage::F64 => 8,
        Storage::F32 => 4,
        Storage::F16 | Storage::Bf16 => 2,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Little,
    Big,
}

/// Reads `count` values block by block, so that raw bytes and converted values are never completely in memory at the
/// same time. The caller has checked that the file has this many.
fn read_values(
    reader: &mut impl Read,
    count: usize,
    storage: Storage,
    order: Order,
) -> Result<Vec<f64>, Problem> {
    const BLOCK_VALUES: usize = 8192;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Problem::Memory { values: count })?;
    let mut block = vec![0_u8; BLOCK_VALUES * bytes_of(storage)];
    while values.len() < count {
        let bytes = &mut block[..(count - values.len()).min(BLOCK_VALUES) * bytes_of(storage)];
        reader.read_exact(bytes).map_err(Problem::Read)?;
        if order == Order::Big {
            bytes.chunks_exact_mut(bytes_of(storage)).for_each(<[u8]>::reverse);
        }
        match storage {
            Storage::F64 => values.extend(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b))),
            Storage::F32 => {
                values.extend(bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))))
            }
            Storage::F16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f64()))
            }
            Storage::Bf16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f64()))
            }
        }
    }
    Ok(values)
}

/// Builds a row-major array from values in C or Fortran order.
fn array(shape: IxDyn, values: Vec<f64>, fortran: bool) -> Result<ArrayD<f64>, ndarray::ShapeError> {
    let array = Array::from_shape_vec(shape.set_f(fortran), values)?;
    Ok(if fortran { array.as_standard_layout().into_owned() } else { array })
}
