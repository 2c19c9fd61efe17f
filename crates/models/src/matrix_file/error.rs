//! Errors of matrix files.

use crate::error_kind::ErrorKind;
use std::io;
use std::path::PathBuf;

/// A matrix file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}{}", path.display(), looked_for(path, problem))]
pub struct MatrixFileError {
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: Problem,
}

/// Returns where a file that cannot be read was looked for.
fn looked_for(path: &std::path::Path, problem: &Problem) -> String {
    match problem {
        Problem::Read(_) => crate::files::looked_for(path),
        Problem::Extension { .. }
        | Problem::ChooseKey { .. }
        | Problem::UnknownKey { .. }
        | Problem::KeyWithoutNames { .. }
        | Problem::NoMatrices { .. }
        | Problem::NoFolder { .. }
        | Problem::Damaged { .. }
        | Problem::Truncated { .. }
        | Problem::Trailing { .. }
        | Problem::NoTensors
        | Problem::NumberFormat { .. }
        | Problem::Dimensions { .. }
        | Problem::NotTable { .. }
        | Problem::NotSquare { .. }
        | Problem::Empty { .. }
        | Problem::Memory { .. }
        | Problem::Tensor { .. }
        | Problem::Write(_) => String::new(),
    }
}

impl MatrixFileError {
    /// The kind of the error: [`Usage`](ErrorKind::Usage) if the request is wrong (a wrong or missing key, an unknown
    /// extension) rather than the file's content.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.problem {
            Problem::Extension { .. }
            | Problem::ChooseKey { .. }
            | Problem::UnknownKey { .. }
            | Problem::KeyWithoutNames { .. }
            | Problem::NoMatrices { .. }
            | Problem::NoFolder { .. } => ErrorKind::Usage,
            Problem::Read(_)
            | Problem::Damaged { .. }
            | Problem::Truncated { .. }
            | Problem::Trailing { .. }
            | Problem::NoTensors
            | Problem::NumberFormat { .. }
            | Problem::Dimensions { .. }
            | Problem::NotTable { .. }
            | Problem::NotSquare { .. }
            | Problem::Empty { .. }
            | Problem::Memory { .. }
            | Problem::Tensor { .. } => ErrorKind::Input,
            Problem::Write(_) => ErrorKind::Other,
        }
    }
}

/// The problem of a matrix file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file could not be opened or read.
    #[error("the file cannot be read ({0}); check the path and its permissions")]
    Read(io::Error),
    /// Neither `.safetensors` nor `.npy` nor `.npz`.
    #[error("{}", extension_sentence(found))]
    Extension {
        /// The extension, in lower case.
        found: String,
    },
    /// The file is not what its extension says, or its header contradicts itself.
    #[error("this is not a valid {format} file: {reason}. Write it again with the program that made it")]
    Damaged {
        /// `"safetensors"`, `"npy"` or `"npz"`.
        format: &'static str,
        /// The problem that was found.
        reason: String,
    },
    /// The file has fewer data than its header says.
    #[error("the file is truncated: its header promises {expected} bytes of data, but it has {found}")]
    Truncated {
        /// Number of data bytes according to the header.
        expected: u64,
        /// Number of data bytes in the file.
        found: u64,
    },
    /// The file has more data than its header says.
    #[error(
        "{extra} bytes follow the data that the header describes; the file is damaged or was written twice"
    )]
    Trailing {
        /// Number of surplus bytes.
        extra: u64,
    },
    /// A safetensors file without tensors.
    #[error("the file holds no tensors")]
    NoTensors,
    /// The file has several tensors, and no key was given.
    #[error("the file holds several tensors: {names}")]
    ChooseKey {
        /// The names, or the first of them.
        names: String,
    },
    /// The file has no tensor of this name.
    #[error("no tensor is called `{key}`; {hint}")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The nearest name, or the names in the file.
        hint: String,
    },
    /// No tensor, or no tensor that the pattern matches, is square like attention.
    #[error(
        "{} of floating-point numbers is square, [..., n, n], as attention over n tokens is: {names}",
        pattern.as_ref().map_or_else(|| "no tensor".to_owned(), |pattern| format!("no tensor that `{pattern}` matches"))
    )]
    NoMatrices {
        /// The pattern, where one was given.
        pattern: Option<String>,
        /// The names, or the first of them.
        names: String,
    },
    /// A key was given for a file whose only array has no name.
    #[error("a .npy file holds one array without a name, so the key `{key}` means nothing here")]
    KeyWithoutNames {
        /// The key as given.
        key: String,
    },
    /// The tensor has an unsupported number format.
    #[error(
        "`{name}` holds {found}; attention is read from F64, F32, F16 or BF16 in .safetensors and .pt, and f8, f4 or f2 \
         in .npy and .npz"
    )]
    NumberFormat {
        /// The tensor.
        name: String,
        /// Its number format.
        found: String,
    },
    /// Fewer than two dimensions.
    #[error("`{name}` has shape {shape:?}; a matrix needs two dimensions, [..., n, n]")]
    Dimensions {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A table must have two dimensions.
    #[error("`{name}` has shape {shape:?}; a table has two dimensions, [rows, columns]")]
    NotTable {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The last two dimensions differ.
    #[error("`{name}` has shape {shape:?}; attention over n tokens is square, [..., n, n]")]
    NotSquare {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A dimension of zero.
    #[error("`{name}` has shape {shape:?}, so it holds no elements")]
    Empty {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The values do not fit memory.
    #[error("its {values} values do not fit into memory as float64; split the file")]
    Memory {
        /// Number of values.
        values: usize,
    },
    /// The folder to write to does not exist.
    #[error("the folder `{}` does not exist; create it first", folder.display())]
    NoFolder {
        /// The missing folder.
        folder: PathBuf,
    },
    /// A tensor that cannot be written.
    #[error("tensor `{name}` cannot be written: {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// The problem.
        reason: String,
    },
    /// Writing failed. A file of this name is left as it was.
    #[error("the file cannot be written ({0}); check the folder's permissions and free space")]
    Write(io::Error),
}

impl Problem {
    pub(super) fn choose_key(names: &[String]) -> Self {
        Self::ChooseKey { names: list(names) }
    }

    pub(super) fn no_matrices(pattern: Option<&str>, names: &[String]) -> Self {
        Self::NoMatrices { pattern: pattern.map(str::to_owned), names: list(names) }
    }

    pub(super) fn unknown_key(key: &str, names: &[String]) -> Self {
        // A name counts as near if at most a third of its letters differ.
        let nearest = names
            .iter()
            .map(|name| (edits(key, name), name))
            .min()
            .filter(|&(edits, name)| edits <= name.chars().count().max(3) / 3);
        let hint = match nearest {
            Some((_, name)) => format!("the nearest name is `{name}`"),
            None if names.is_empty() => "the file holds no tensors".to_owned(),
            None => format!("there are {}", list(names)),
        };
        Self::UnknownKey { key: key.to_owned(), hint }
    }
}

/// Returns the first twenty names as text.
fn list(names: &[String]) -> String {
    const MOST: usize = 20;
    let shown: Vec<_> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn extension_sentence(found: &str) -> String {
    let advice = match found {
        "pkl" | "pickle" => {
            "it is a pickle, which can run code when it is read; load it where it was made and save the tensor with `torch.save`, or \
             with `safetensors.torch.save_file({'attention': tensor}, 'attention.safetensors')`"
        }
        _ => "save the matrix with `numpy.save` or `safetensors`",
    };
    match found {
        "" => format!(
            "the file has no extension, and attention is read from .safetensors, .npy, .npz and .pt files; {advice}"
        ),
        _ => format!("a .{found} file is not read, only .safetensors, .npy, .npz and .pt are; {advice}"),
    }
}
