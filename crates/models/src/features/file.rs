//! Feature files, so that the features of a reference are computed only once.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::ImageFeatures;
use crate::error::{Error, Result};
use crate::matrix_file::{Values, write_safetensors};
use crate::tensor_file;

/// Mark of the file format, in the metadata.
const FORMAT: &str = "tokenrank features 1";

/// A safetensors file of features: `features` `[n, d]`, `ids` `[n]` and, for a network with classes, `logits` `[n,
/// classes]`. The metadata name the network and its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureFile {
    /// Name of the features.
    pub name: String,
    /// Identity of the weights: [`FeatureSource::sha256`](super::FeatureSource::sha256).
    pub sha256: String,
    /// Numbers of the items with their features.
    pub items: Vec<(u64, ImageFeatures)>,
}

impl FeatureFile {
    /// Writes the file atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let count = self.items.len();
        let ids: Vec<i64> = self.items.iter().map(|(id, _)| *id as i64).collect();
        let features: Vec<f32> = self.items.iter().flat_map(|(_, item)| &item.features).copied().collect();
        let logits: Vec<f32> =
            self.items.iter().flat_map(|(_, item)| item.logits.iter().flatten()).copied().collect();
        let width = |values: &[f32]| values.len() / count.max(1);
        let mut tensors = vec![
            ("features".to_owned(), vec![count, width(&features)], Values::F32(&features)),
            ("ids".to_owned(), vec![count], Values::I64(&ids)),
        ];
        if !logits.is_empty() {
            tensors.push(("logits".to_owned(), vec![count, width(&logits)], Values::F32(&logits)));
        }
        let metadata = [("format", FORMAT), ("features", &self.name), ("weights_sha256", &self.sha256)];
        let metadata: BTreeMap<_, _> = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Ok(write_safetensors(path, &tensors, &metadata)?)
    }

    /// Reads a file of [`FeatureFile::write`].
    ///
    /// # Errors
    /// The file is of another kind or is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let read_error = |source| Error::Read { path: path.into(), source };
        let map = tensor_file::map(path).map_err(read_error)?;
        let damaged = |reason: String| Error::Directory { path: path.into(), reason };
        let parse = |e: safetensors::SafeTensorError| damaged(format!("no readable safetensors file: {e}"));
        let (_, header) = tensor_file::header(&map)
            .map_err(|reason| damaged(format!("no readable safetensors file: {reason}")))?;
        let words = header.metadata().clone().unwrap_or_default();
        let word = |key: &str| words.get(key).cloned().unwrap_or_default();
        if word("format") != FORMAT {
            return Err(Error::NoFeatures { path: path.into() });
        }
        let tensors = SafeTensors::deserialize(&map).map_err(parse)?;
        let table = |name: &str, dtype: Dtype, dimensions: usize| {
            let view = tensors.tensor(name).map_err(parse)?;
            if view.dtype() != dtype || view.shape().len() != dimensions || view.shape().contains(&0) {
                return Err(damaged(format!(
                    "`{name}` is {:?} {:?}; write the file again",
                    view.dtype(),
                    view.shape()
                )));
            }
            Ok(view)
        };
        let rows = |name: &str, count: usize| -> Result<Vec<Vec<f32>>> {
            let view = table(name, Dtype::F32, 2)?;
            if view.shape()[0] != count {
                return Err(damaged(format!("`{name}` has {} rows for {count} items", view.shape()[0])));
            }
            let row = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            Ok(view.data().chunks_exact(view.shape()[1] * size_of::<f32>()).map(row).collect())
        };
        let ids = table("ids", Dtype::I64, 1)?;
        let ids: Vec<u64> = ids.data().as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect();
        let features = rows("features", ids.len())?;
        let logits = match tensors.names().contains(&"logits") {
            true => rows("logits", ids.len())?.into_iter().map(Some).collect(),
            false => vec![None; ids.len()],
        };
        let items =
            features.into_iter().zip(logits).map(|(features, logits)| ImageFeatures { features, logits });
        Ok(Self {
            name: word("features"),
            sha256: word("weights_sha256"),
            items: ids.into_iter().zip(items).collect(),
        })
    }
}
