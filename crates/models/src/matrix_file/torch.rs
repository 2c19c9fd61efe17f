//! Files of `torch.save`: a tensor, or tensors in a tuple, list or mapping, such as `outputs.attentions`.

use std::path::Path;

use markov_core::Storage;
use memmap2::Mmap;
use ndarray::Array;
use tch::{Kind, Tensor};

use super::info::TensorInfo;
use super::{CheckShape, Matrices, Problem, choose};
use crate::pytorch;
use crate::tensor_entry::{EntryError, TensorEntry};
use crate::tensor_file;

/// Extensions of these files.
pub(super) const EXTENSIONS: [&str; 4] = ["pt", "pth", "bin", "ckpt"];

/// An open file with its tensors, in its order.
struct Open {
    map: Mmap,
    tensors: Vec<(String, TensorEntry)>,
}

fn open(path: &Path) -> Result<Open, Problem> {
    let map = tensor_file::map(path).map_err(Problem::Read)?;
    if !pytorch::is_torch_file(&map) {
        return Err(damaged("`torch.save` has not written it".into()));
    }
    let mut tensors = pytorch::read(&map).map_err(damaged)?;
    if let [(name, _)] = tensors.as_mut_slice()
        && name.is_empty()
    {
        // As for NumPy's arrays, the file's name stands for the only tensor.
        *name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    }
    Ok(Open { map, tensors })
}

/// Returns the descriptions of all tensors.
pub(super) fn describe(path: &Path) -> Result<Vec<TensorInfo>, Problem> {
    let describe = |(name, entry): (String, TensorEntry)| {
        let shape = entry.shape.iter().map(|&side| side as usize).collect();
        TensorInfo { name, shape, storage: storage(&entry) }
    };
    Ok(open(path)?.tensors.into_iter().map(describe).collect())
}

/// Reads the tensor that `key` names, or the only tensor.
pub(super) fn read(path: &Path, key: Option<&str>, check_shape: CheckShape) -> Result<Matrices, Problem> {
    let Open { map, tensors } = open(path)?;
    let name = choose(tensors.iter().map(|(name, _)| name.clone()).collect(), key)?;
    let found = tensors.iter().find(|(other, _)| *other == name);
    let (_, entry) = found.ok_or_else(|| damaged(format!("tensor `{name}` has no description")))?;
    let (Ok(kind), Some(storage)) = (&entry.kind, storage(entry)) else {
        let found = entry.kind.as_ref().map_or_else(Clone::clone, |kind| format!("{kind:?}"));
        return Err(Problem::NumberFormat { name, found });
    };
    let shape: Vec<usize> = entry.shape.iter().map(|&side| side as usize).collect();
    let shape = check_shape(&name, &shape)?;
    let tensor = entry.read(*kind, &map).map_err(|error| match error {
        EntryError::Damaged(reason) => damaged(format!("tensor `{name}`: {reason}")),
        EntryError::Torch(error) => damaged(format!("tensor `{name}`: {error}")),
    })?;
    let values = numbers(&tensor).map_err(|error| damaged(format!("tensor `{name}`: {error}")))?;
    let data = Array::from_shape_vec(shape, values).map_err(|error| damaged(error.to_string()))?;
    Ok(Matrices { name, storage, data })
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, tch::TchError> {
    Vec::try_from(&tensor.f_to_kind(Kind::Double)?.f_reshape([-1])?)
}

fn storage(entry: &TensorEntry) -> Option<Storage> {
    match entry.kind {
        Ok(Kind::Double) => Some(Storage::F64),
        Ok(Kind::Float) => Some(Storage::F32),
        Ok(Kind::Half) => Some(Storage::F16),
        Ok(Kind::BFloat16) => Some(Storage::Bf16),
        _ => None,
    }
}

fn damaged(reason: String) -> Problem {
    Problem::Damaged { format: "PyTorch", reason }
}
