//! Writes results as safetensors files, atomically.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{MatrixFileError, Problem};
use crate::files;

/// The values of a tensor to be written, in row-major order.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Written as F64.
    F64(&'a [f64]),
    /// Written as F32.
    F32(&'a [f32]),
    /// Written as I64.
    I64(&'a [i64]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Number format and bytes per value.
    fn format(&self) -> (&'static str, usize) {
        match self {
            Self::F64(_) => ("F64", 8),
            Self::F32(_) => ("F32", 4),
            Self::I64(_) => ("I64", 8),
        }
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::F64(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())),
            Self::F32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())),
            Self::I64(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())),
        }
    }
}

/// Writes tensors of `(name, shape, values)` and string metadata to a safetensors file.
///
/// Equal content gives equal bytes. The file is written atomically ([`files::write_whole`]).
///
/// # Errors
/// [`MatrixFileError`], naming the file: its folder does not exist, a name is reserved or given twice, a shape does not
/// fit its values, or writing fails.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &[(String, Vec<usize>, Values<'_>)],
    metadata: &BTreeMap<String, String>,
) -> Result<(), MatrixFileError> {
    let path = path.as_ref();
    write(path, tensors, metadata).map_err(|problem| MatrixFileError { path: path.to_owned(), problem })
}

type Tensor<'a> = (String, Vec<usize>, Values<'a>);

fn write(path: &Path, tensors: &[Tensor<'_>], metadata: &BTreeMap<String, String>) -> Result<(), Problem> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(Problem::NoFolder { folder: folder.to_owned() });
    }
    // Wider numbers come first, so that every tensor starts at a multiple of the size of its numbers.
    let mut ordered: Vec<&Tensor<'_>> = tensors.iter().collect();
    ordered.sort_by_key(|(_, _, values)| std::cmp::Reverse(values.format().1));
    let header = header(&ordered, metadata)?;

    files::write_whole(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        ordered.iter().try_for_each(|(_, _, values)| values.write_to(out))
    })
    .map_err(Problem::Write)
}

/// Returns the JSON header, padded with spaces so that the data start at a multiple of eight bytes.
fn header(tensors: &[&Tensor<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, Problem> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut start = 0_usize;
    for (name, shape, values) in tensors {
        let refuse = |reason: String| Err(Problem::Tensor { name: name.clone(), reason });
        if name == "__metadata__" {
            return refuse("the format reserves this name".to_owned());
        }
        if shape.iter().try_fold(1_usize, |count, &side| count.checked_mul(side)) != Some(values.len()) {
            return refuse(format!("its shape {shape:?} does not match its {} values", values.len()));
        }
        let (dtype, width) = values.format();
        let end = start + values.len() * width;
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        if entries.insert(name.clone(), entry).is_some() {
            return refuse("the name is given twice".to_owned());
        }
        start = end;
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
