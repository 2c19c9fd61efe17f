//! NumPy's `.npz`: a zip archive of `.npy` files, stored or deflated.

use std::io::Read;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use zip::ZipArchive;
use zip::result::ZipError;

use super::{MatrixFileError, Problem, npy, open};
use crate::limits::{ARCHIVED_BYTES, DEFLATE_RATIO};

/// Reads the arrays called `names` of an `.npz` file, as `numpy.savez` and `numpy.savez_compressed` write them: floats of
/// either byte order, in C or Fortran layout. Values are converted exactly and not examined further.
///
/// # Errors
/// [`MatrixFileError`], naming the file: no zip archive, a name that it lacks, another number format, damaged data.
pub fn read_npz<const N: usize>(
    path: impl AsRef<Path>,
    names: [&str; N],
) -> Result<[ArrayD<f64>; N], MatrixFileError> {
    let path = path.as_ref();
    let read = || -> Result<Vec<ArrayD<f64>>, Problem> {
        let (file, archive_length) = open(path)?;
        let mut archive = ZipArchive::new(file).map_err(problem)?;
        let there: Vec<String> =
            archive.file_names().filter_map(|name| Some(name.strip_suffix(".npy")?.to_owned())).collect();
        let mut array = |name: &str| {
            if !there.iter().any(|other| other == name) {
                return Err(Problem::unknown_key(name, &there));
            }
            let mut entry = archive.by_name(&format!("{name}.npy")).map_err(problem)?;
            let length = entry.size();
            let most = entry.compressed_size().min(archive_length).saturating_mul(DEFLATE_RATIO);
            if length > most.min(ARCHIVED_BYTES) {
                let reason = format!("`{name}` claims {length} bytes, more than the archive can hold");
                return Err(Problem::Damaged { format: "npz", reason });
            }
            // The header's length is checked against the archive's.
            let matrices = npy::read(&mut entry, length, name.to_owned(), None, any_shape)?;
            // The archive's checksum is compared where its data end.
            entry.read(&mut [0]).map_err(Problem::Read)?;
            Ok(matrices.data)
        };
        names.iter().map(|name| array(name)).collect()
    };
    let arrays = read().map_err(|problem| MatrixFileError { path: path.to_owned(), problem })?;
    // As many as names.
    Ok(std::array::from_fn(|k| arrays.get(k).cloned().unwrap_or_default()))
}

fn problem(error: ZipError) -> Problem {
    match error {
        ZipError::Io(error) => Problem::Read(error),
        other @ (ZipError::InvalidArchive(_) | ZipError::UnsupportedArchive(_) | ZipError::FileNotFound) => {
            Problem::Damaged { format: "npz", reason: other.to_string() }
        }
    }
}

/// Anything with an element.
fn any_shape(name: &str, shape: &[usize]) -> Result<IxDyn, Problem> {
    if shape.contains(&0) {
        return Err(Problem::Empty { name: name.to_owned(), shape: shape.to_vec() });
    }
    Ok(IxDyn(shape))
}
