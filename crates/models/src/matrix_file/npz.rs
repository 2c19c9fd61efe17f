//! NumPy's `.npz`: a zip archive of `.npy` files, stored or deflated.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ndarray::ArrayD;
use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use super::info::TensorInfo;
use super::{CheckShape, Matrices, MatrixFileError, Problem, any_shape, choose, npy, open};
use crate::limits::{ARCHIVED_BYTES, DEFLATE_RATIO};

/// Reads the arrays called `names` of an `.npz` file, as `numpy.savez` and `numpy.savez_compressed` write them: floats
/// of either byte order, in C or Fortran layout. Values are converted exactly and not checked further.
///
/// # Errors
/// [`MatrixFileError`], naming the file: it is not a zip archive, lacks one of the names, or has another number format
/// or damaged data.
pub fn read_npz<const N: usize>(
    path: impl AsRef<Path>,
    names: [&str; N],
) -> Result<[ArrayD<f64>; N], MatrixFileError> {
    let path = path.as_ref();
    let read = || -> Result<Vec<ArrayD<f64>>, Problem> {
        let (file, length) = open(path)?;
        let mut archive = Archive::open(file, length)?;
        names.iter().map(|name| Ok(archive.read(name, any_shape)?.data)).collect()
    };
    let arrays = read().map_err(|problem| MatrixFileError { path: path.to_owned(), problem })?;
    // `arrays` has one element per name.
    Ok(std::array::from_fn(|k| arrays.get(k).cloned().unwrap_or_default()))
}

/// Reads the array that `key` names, or the only array.
pub(super) fn read_chosen(
    file: File,
    length: u64,
    key: Option<&str>,
    check_shape: CheckShape,
) -> Result<Matrices, Problem> {
    let mut archive = Archive::open(file, length)?;
    let name = choose(archive.names(), key)?;
    archive.read(&name, check_shape)
}

/// Returns the descriptions of all arrays in the archive, read from their headers.
pub(super) fn describe(file: File, length: u64) -> Result<Vec<TensorInfo>, Problem> {
    let mut archive = Archive::open(file, length)?;
    let names = archive.names();
    let mut describe = |name: String| {
        let (mut entry, length) = archive.entry(&name)?;
        let (shape, storage) = npy::describe(&mut entry, length)?;
        Ok(TensorInfo { name, shape, storage })
    };
    names.into_iter().map(&mut describe).collect()
}

/// An open archive and its length in bytes.
struct Archive {
    zip: ZipArchive<File>,
    length: u64,
}

impl Archive {
    fn open(file: File, length: u64) -> Result<Self, Problem> {
        Ok(Self { zip: ZipArchive::new(file).map_err(problem)?, length })
    }

    /// Names of the arrays, without their extension.
    fn names(&self) -> Vec<String> {
        self.zip.file_names().filter_map(|name| Some(name.strip_suffix(".npy")?.to_owned())).collect()
    }

    /// Returns an array's file in the archive and its length in bytes, after checking that the archive can hold so
    /// much.
    fn entry(&mut self, name: &str) -> Result<(ZipFile<'_>, u64), Problem> {
        let there = self.names();
        if !there.iter().any(|other| other == name) {
            return Err(Problem::unknown_key(name, &there));
        }
        let archive_length = self.length;
        let entry = self.zip.by_name(&format!("{name}.npy")).map_err(problem)?;
        let length = entry.size();
        let most = entry.compressed_size().min(archive_length).saturating_mul(DEFLATE_RATIO);
        if length > most.min(ARCHIVED_BYTES) {
            let reason = format!("`{name}` claims {length} bytes, more than the archive can hold");
            return Err(Problem::Damaged { format: "npz", reason });
        }
        Ok((entry, length))
    }

    fn read(&mut self, name: &str, check_shape: CheckShape) -> Result<Matrices, Problem> {
        let (mut entry, length) = self.entry(name)?;
        // The header's length is checked against the archive's.
        let matrices = npy::read(&mut entry, length, name.to_owned(), None, check_shape)?;
        // Reading past the end makes the zip reader compare the checksum.
        entry.read(&mut [0]).map_err(Problem::Read)?;
        Ok(matrices)
    }
}

fn problem(error: ZipError) -> Problem {
    match error {
        ZipError::Io(error) => Problem::Read(error),
        other @ (ZipError::InvalidArchive(_) | ZipError::UnsupportedArchive(_) | ZipError::FileNotFound) => {
            Problem::Damaged { format: "npz", reason: other.to_string() }
        }
    }
}
