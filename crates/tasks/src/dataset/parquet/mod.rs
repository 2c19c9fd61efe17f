//! Images in Parquet files, as the hub stores datasets. Files are read where they lie, a page at a time.
//!
//! The reader is our own: arrow-rs' `parquet` 60.1 and polars 0.55 both abort with a stack overflow on a footer of 2 MB
//! whose columns lie deep within each other, the first unpacks gzip pages without a limit, and they add 35 and 90 seconds
//! of compiling; images and labels need two encodings and three types.

mod files;
mod footer;
mod page;
pub(super) mod shards;
mod thrift;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LabelledImage, Source, Subset, check_inside};
use crate::error::{Error, Result};
use shards::{Row, Shard, Shards};

pub use files::ParquetFiles;

/// `[dataset.parquet]`: Parquet files of the hub with images and their labels, masks, or both. Images are rotated
/// upright, as by the Python library `datasets`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// Folder of `*.parquet` files, one file, or a list of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<ParquetFiles>,
    /// Id of a dataset on the Hugging Face hub, instead of `files`. `tokenrank fetch --for` downloads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Word with which the names of the folder's files begin, such as `validation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Column of images: binary, or a struct of `bytes` and `path`.
    #[serde(default = "ParquetConfig::default_image")]
    pub image: String,
    /// Column of labels: class indices from 0.
    #[serde(default = "ParquetConfig::default_label")]
    pub label: String,
    /// Column of masks: PNG files, stored like the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// What the values of a mask mean.
    #[serde(default)]
    pub mask_values: MaskValues,
    /// Names of the classes. Default: those of the label column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Palette index or grey level of pixels that are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<u8>,
    /// Random subset of the images. Default: all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

/// What the values of a mask mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MaskValues {
    /// All values but 0 are the object that the label names.
    #[default]
    Object,
    /// 1 is the first name, 0 the background; 255 is ignored.
    Classes,
}

impl ParquetConfig {
    fn default_image() -> String {
        "image".into()
    }

    fn default_label() -> String {
        "label".into()
    }

    pub(super) fn items(&self) -> Result<Vec<LabelledImage>> {
        let rows = self.open(None)?;
        let labels = self.labels(&rows)?;
        let item =
            |(row, label)| LabelledImage { id: rows.id(row), label, source: Source::Row(rows.row(row)) };
        let items = labels.into_iter().enumerate().map(item).collect();
        self.reduce(items, |item| &item.id)
    }

    /// Returns the subset of the items, or all if there is none.
    pub(super) fn reduce<T>(&self, items: Vec<T>, id: impl Fn(&T) -> &str) -> Result<Vec<T>> {
        match self.subset {
            Some(subset) => subset.draw(items, id, self.source()?.first()),
            None => Ok(items),
        }
    }

    /// Returns the files: those of the configuration, or those in the cache of the hub.
    fn source(&self) -> Result<ParquetFiles> {
        match (&self.files, &self.id) {
            (Some(files), None) => Ok(files.clone()),
            (None, Some(id)) => {
                let split = self.split.as_deref().unwrap_or_default();
                let files = models::hub::find_dataset(id, split).map_err(models::Error::from)?;
                Ok(ParquetFiles::Several(files))
            }
            (Some(_), Some(_)) | (None, None) => {
                Err(Error::Setting { setting: "dataset.parquet", reason: "give either files or id".into() })
            }
        }
    }

    /// Opens the files and finds the columns of images and masks.
    pub(super) fn open(&self, mask: Option<&str>) -> Result<Rows> {
        let source = self.source()?;
        // The hub's files are those of the split already.
        let files = source.list(self.split.as_deref().filter(|_| self.id.is_none()))?;
        let shards = files.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>>>()?;
        let columns = shards.iter().map(|shard| {
            let image = in_shard(shard, shard.footer.image(&self.image, "dataset.parquet.image"))?;
            let column = |name| in_shard(shard, shard.footer.image(name, "dataset.parquet.mask"));
            Ok((image, mask.map(column).transpose()?.map(|mask| mask.bytes)))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        if shards.iter().all(|shard| shard.footer.rows == 0) {
            return Err(Error::Dataset { path: source.first().into(), reason: "holds no rows".into() });
        }
        let shards = Shards::new(shards, columns);
        let paths = paths(&shards)?;
        let places = shards.shards.iter().enumerate();
        let places =
            places.flat_map(|(file, shard)| (0..shard.footer.rows).map(move |row| (file, row))).collect();
        Ok(Rows { prefixes: prefixes(&shards), shards: Arc::new(shards), places, paths })
    }

    /// Reads the labels of all rows.
    pub(super) fn labels(&self, rows: &Rows) -> Result<Vec<usize>> {
        let mut labels = Vec::new();
        for shard in &rows.shards.shards {
            let leaf = shard.footer.integers(&self.label, "dataset.parquet.label");
            let leaf = in_shard(shard, leaf)?;
            let read = shard.each_row(leaf, |row, value| {
                let label = match value {
                    Some(&[a, b, c, d]) => i64::from(i32::from_le_bytes([a, b, c, d])),
                    Some(&[a, b, c, d, e, f, g, h]) => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
                    Some(_) | None => return Err(format!("row {row} has no label")),
                };
                labels.push(usize::try_from(label).map_err(|_| {
                    format!(
                        "row {row} has the label {label}; labels are class indices ≥ 0, and test splits are often \
                         published without them: choose another split"
                    )
                })?);
                Ok(())
            });
            in_shard(
                shard,
                read.map_err(|reason| format!("column `{}`: {reason}", footer::shown(&self.label))),
            )?;
        }
        Ok(labels)
    }

    /// Returns the names of the classes: those of the settings, or those in the files, which must agree.
    pub(super) fn class_names(&self, rows: &Rows) -> Result<Vec<String>> {
        if !self.names.is_empty() {
            return Ok(self.names.clone());
        }
        let mut all: Option<Vec<String>> = None;
        for shard in &rows.shards.shards {
            let names = described(shard.footer.description.as_deref(), &self.label).ok_or_else(|| {
                format!(
                    "names no classes of the column `{}`; list them in dataset.parquet.names",
                    footer::shown(&self.label)
                )
            });
            let names = in_shard(shard, names)?;
            if all.as_ref().is_some_and(|all| *all != names) {
                let reason = "names other classes than the file before; list them in dataset.parquet.names";
                return in_shard(shard, Err(reason.into()));
            }
            all = Some(names);
        }
        Ok(all.unwrap_or_default())
    }
}

/// Returns the names of classes in the description of a dataset by the hub's library.
fn described(description: Option<&str>, label: &str) -> Option<Vec<String>> {
    let description: serde_json::Value = serde_json::from_str(description?).ok()?;
    let names = description.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn in_shard<T>(shard: &Shard, result: std::result::Result<T, String>) -> Result<T> {
    result.map_err(|reason| Error::Dataset { path: shard.path.clone(), reason })
}

/// The rows of all files of a dataset, in order.
pub(super) struct Rows {
    shards: Arc<Shards>,
    /// The file and row of each item.
    places: Vec<(usize, u64)>,
    /// The names of all image files, if the dataset has them and they are unique.
    paths: Option<Vec<String>>,
    /// For each file, the beginning of the names of its rows.
    prefixes: Vec<String>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Name of an image: the stored name of its file, or the name of the Parquet file and the number of the row.
    pub(super) fn id(&self, row: usize) -> String {
        let Some(&(file, number)) = self.places.get(row) else { return String::new() };
        match self.paths.as_ref().and_then(|paths| paths.get(row)) {
            Some(path) => path.clone(),
            None => format!("{}/{number}", self.prefixes.get(file).map_or("", String::as_str)),
        }
    }

    pub(super) fn row(&self, row: usize) -> Row {
        let (file, number) = self.places.get(row).copied().unwrap_or((usize::MAX, 0));
        Row::new(&self.shards, file, number)
    }

    /// The files and their state, which change if a file changes.
    pub(super) fn state(&self) -> Vec<(PathBuf, shards::Stamp)> {
        self.shards.shards.iter().map(|shard| (shard.path.clone(), shard.stamp)).collect()
    }
}

/// Returns the beginnings of the names of rows: file names, or whole paths if two files have the same name.
fn prefixes(shards: &Shards) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = shards.shards.iter().map(|shard| name(&shard.path)).collect();
    if names.iter().collect::<HashSet<_>>().len() == names.len() {
        return names;
    }
    shards.shards.iter().map(|shard| shard.path.display().to_string()).collect()
}

/// Returns the names of all image files if the dataset stores them, and no two images have the same.
fn paths(shards: &Shards) -> Result<Option<Vec<String>>> {
    let mut all = Vec::new();
    for (shard, (image, _)) in shards.shards.iter().zip(&shards.columns) {
        let Some(leaf) = image.path else { return Ok(None) };
        let read = shard.each_row(leaf, |_, value| {
            all.extend(value.and_then(usable));
            Ok(())
        });
        in_shard(shard, read.map_err(|reason| format!("the names of the images: {reason}")))?;
    }
    let rows: u64 = shards.shards.iter().map(|shard| shard.footer.rows).sum();
    let unique = all.len() as u64 == rows && all.iter().collect::<HashSet<_>>().len() == all.len();
    Ok(unique.then_some(all))
}

fn usable(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let usable = !name.is_empty() && !name.chars().any(char::is_control) && check_inside(name).is_ok();
    usable.then(|| name.to_owned())
}
