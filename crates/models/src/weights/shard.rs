//! One file of weights: safetensors, or what `torch.save` wrote.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::pytorch;
use crate::tensor_entry::{EntryError, TensorEntry};
use crate::tensor_file;

/// An open file of weights.
pub(super) struct Shard {
    pub(super) path: PathBuf,
    map: Mmap,
    tensors: BTreeMap<String, TensorEntry>,
    metadata: HashMap<String, String>,
}

impl Shard {
    /// Opens a file and reads the names and places of its tensors.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let map = tensor_file::map(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let (tensors, metadata) = if pytorch::is_torch_file(&map) {
            let refuse = |reason: String| Error::PyTorch { path: path.into(), reason };
            let tensors = pytorch::read(&map).map_err(refuse)?;
            if tensors.iter().any(|(name, _)| name.is_empty()) {
                let reason = "it holds a single tensor without a name; in Python, save a mapping from names to tensors";
                return Err(refuse(reason.into()));
            }
            (tensors.into_iter().collect(), HashMap::new())
        } else {
            let (start, header) = tensor_file::header(&map)
                .map_err(|reason| Error::Safetensors { path: path.into(), reason })?;
            (entries(start, &header), header.metadata().clone().unwrap_or_default())
        };
        Ok(Self { path: path.into(), map, tensors, metadata })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[i64]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Reads a tensor of this shape, in its stored type, if it is one that networks compute with.
    pub(super) fn tensor(&self, name: &str, wanted: &[i64]) -> Result<Tensor> {
        self.check(name, wanted)?;
        self.stored(name)
    }

    /// Checks the type and the shape of a tensor.
    pub(super) fn check(&self, name: &str, wanted: &[i64]) -> Result<()> {
        let entry = self.entry(name)?;
        if entry.shape != wanted {
            let (name, path, found) = (name.into(), self.path.clone(), entry.shape.clone());
            return Err(Error::Shape { name, path, found, wanted: wanted.into() });
        }
        match &entry.kind {
            Ok(Kind::Float | Kind::Half | Kind::BFloat16) => Ok(()),
            Ok(other) => Err(self.dtype(name, name_of(*other))),
            Err(other) => Err(self.dtype(name, other.clone())),
        }
    }

    /// Reads a tensor in the type and shape that it is stored in.
    pub(super) fn stored(&self, name: &str) -> Result<Tensor> {
        let entry = self.entry(name)?;
        let kind = *entry.kind.as_ref().map_err(|other| self.dtype(name, other.clone()))?;
        entry.read(kind, &self.map).map_err(|error| match error {
            EntryError::Damaged(reason) => {
                let reason = format!("tensor `{name}`: {reason}; download the file again");
                Error::Directory { path: self.path.clone(), reason }
            }
            EntryError::Torch(error) => error.into(),
        })
    }

    fn entry(&self, name: &str) -> Result<&TensorEntry> {
        let (path, nearest) = (self.path.clone(), Vec::new());
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor { name: name.into(), path, nearest })
    }

    fn dtype(&self, name: &str, found: String) -> Error {
        Error::Dtype { name: name.into(), path: self.path.clone(), found }
    }
}

/// The tensors of a safetensors file whose data begin at `start`.
fn entries(start: usize, header: &Metadata) -> BTreeMap<String, TensorEntry> {
    let entry = |info: &safetensors::tensor::TensorInfo| TensorEntry {
        kind: kind(info.dtype),
        shape: info.shape.iter().map(|&side| side as i64).collect(),
        strides: None,
        // `tensor_file::header` has checked that the offsets fit the file and the shape.
        bytes: start + info.data_offsets.0..start + info.data_offsets.1,
        checksum: None,
    };
    header.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "safetensors' types, of which libtorch lacks some")]
fn kind(dtype: Dtype) -> Result<Kind, String> {
    Ok(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => return Err(format!("{other:?}")),
    })
}

/// The name of a type of numbers, as in safetensors.
#[expect(clippy::wildcard_enum_match_arm, reason = "libtorch's types, of which safetensors lacks some")]
fn name_of(kind: Kind) -> String {
    match kind {
        Kind::Double => "F64".into(),
        Kind::Int64 => "I64".into(),
        Kind::Int => "I32".into(),
        Kind::Int16 => "I16".into(),
        Kind::Int8 => "I8".into(),
        Kind::Uint8 => "U8".into(),
        Kind::Bool => "BOOL".into(),
        other => format!("{other:?}"),
    }
}
