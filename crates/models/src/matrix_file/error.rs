//! What can be wrong with a matrix file, one sentence each.

use crate::error_kind::ErrorKind;
use std::io;
use std::path::PathBuf;

/// A matrix file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct MatrixFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl MatrixFileError {
    /// What the user can do about it: [`Usage`](ErrorKind::Usage) where the request was at fault (a wrong or missing key, an unknown
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

/// What is wrong with a matrix file.
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
        /// What was met.
        reason: String,
    },
    /// The data end before the header says.
    #[error("the file is truncated: its header promises {expected} bytes of data, and {found} are there")]
    Truncated {
        /// Bytes of data by the header.
        expected: u64,
        /// Bytes of data in the file.
        found: u64,
    },
    /// The data go on after the header says.
    #[error(
        "{extra} bytes follow the data that the header describes; the file is damaged or was written twice"
    )]
    Trailing {
        /// Bytes too many.
        extra: u64,
    },
    /// A safetensors file without tensors.
    #[error("the file holds no tensors")]
    NoTensors,
    /// Several tensors and no key.
    #[error("the file holds several tensors: {names}")]
    ChooseKey {
        /// The names, or the first of them.
        names: String,
    },
    /// A key that the file does not have.
    #[error("no tensor is called `{key}`; {hint}")]
    UnknownKey {
        /// What was asked for.
        key: String,
        /// The nearest name, or the names there are.
        hint: String,
    },
    /// No tensor, or none of those that a pattern matches, has the shape of attention.
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
    /// A key for a file whose only array has no name.
    #[error("a .npy file holds one array without a name, so the key `{key}` means nothing here")]
    KeyWithoutNames {
        /// What was asked for.
        key: String,
    },
    /// Not a floating-point format that is read.
    #[error(
        "`{name}` holds {found}; attention is read from F64, F32, F16 or BF16 in .safetensors and f8, f4 or f2 in .npy \
         and .npz"
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
    /// Another number of dimensions than a table has.
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
        /// How many values.
        values: usize,
    },
    /// The folder to write into is not there.
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
        /// What is wrong with it.
        reason: String,
    },
    /// Writing failed; nothing is left under the file's name that was not there before.
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
        // A name is near when at most a third of its letters have to change.
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

/// The names for a sentence: the first twenty.
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
        "pt" | "pth" | "bin" | "ckpt" | "pkl" | "pickle" => {
            "it is a pickle, which can run code when it is read; load it where it was made and save the tensor with \
             `safetensors.torch.save_file({'attention': tensor}, 'attention.safetensors')`"
        }
        _ => "save the matrix with `numpy.save` or `safetensors`",
    };
    match found {
        "" => format!(
            "the file has no extension, and attention is read from .safetensors, .npy and .npz files; {advice}"
        ),
        _ => format!("a .{found} file is not read, only .safetensors, .npy and .npz are; {advice}"),
    }
}
