//! Description of one tensor from the header of its file.

use markov_core::Storage;

/// Name, shape and number format of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name in a `.safetensors` or `.npz` file, or the `.npy` file's name without its extension.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its number format; `None` for formats that are not read, such as integers.
    pub storage: Option<Storage>,
}

impl TensorInfo {
    /// Whether the tensor can be attention: floating-point numbers `[..., n, n]`, at least one of them.
    pub fn is_square(&self) -> bool {
        let square = matches!(self.shape.as_slice(), [.., rows, columns] if rows == columns);
        square && self.storage.is_some() && !self.shape.contains(&0)
    }
}
