//! A folder of images with a table of labels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LabelledImage, Source, Subset};
use crate::error::{Error, Result};

/// `[dataset.folder]`: images listed in a CSV file with the columns `file` (relative to `root`) and `label` (class
/// index from 0); other columns are ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder.
    pub root: PathBuf,
    /// Name of the table within the folder.
    #[serde(default = "FolderConfig::default_labels")]
    pub labels: PathBuf,
    /// A part of the images instead of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

impl FolderConfig {
    fn default_labels() -> PathBuf {
        "labels.csv".into()
    }

    pub(super) fn items(&self) -> Result<Vec<LabelledImage>> {
        let items = read_table(&self.root, &self.root.join(&self.labels))?;
        match self.subset {
            Some(subset) => subset.draw(items, &self.root),
            None => Ok(items),
        }
    }
}

fn read_table(root: &Path, table: &Path) -> Result<Vec<LabelledImage>> {
    let refuse = |reason: String| Error::Dataset { path: table.into(), reason };
    if !root.is_dir() {
        let reason = "no such folder; set dataset.folder.root to the folder of images".into();
        return Err(Error::Dataset { path: root.into(), reason });
    }
    if !table.is_file() {
        return Err(refuse("no such file; it lists the images in the columns `file` and `label`".into()));
    }
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(table)
        .map_err(|e| refuse(format!("cannot be read: {e}")))?;
    let headers = reader.headers().map_err(|e| refuse(format!("cannot be read: {e}")))?.clone();
    let column = |name: &str| {
        let found = headers.iter().position(|header| header == name);
        found.ok_or_else(|| {
            let headers: Vec<_> = headers.iter().collect();
            refuse(format!("has no column `{name}`; its columns are `{}`", headers.join("`, `")))
        })
    };
    let (file, label) = (column("file")?, column("label")?);
    let mut items = Vec::new();
    let mut seen = BTreeSet::new();
    for row in reader.records() {
        let row = row.map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let line = row.position().map_or(0, csv::Position::line);
        let (name, class) = (row.get(file).unwrap_or_default(), row.get(label).unwrap_or_default());
        let label = class.parse().map_err(|_| {
            refuse(format!("line {line}: label `{class}` is no class index (a whole number from 0)"))
        })?;
        let path = root.join(name);
        if name.is_empty() || !path.is_file() {
            return Err(refuse(format!("line {line}: there is no image `{}`", path.display())));
        }
        if !seen.insert(name.to_owned()) {
            return Err(refuse(format!("line {line}: `{name}` is listed twice")));
        }
        items.push(LabelledImage { id: name.to_owned(), label, source: Source::File(path) });
    }
    if items.is_empty() {
        return Err(refuse("lists no images".into()));
    }
    Ok(items)
}
