//! A folder of images with a table of labels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::table::Table;
use super::{LabelledImage, Source, Subset, check_inside};
use crate::error::{Result, missing};

/// `[dataset.folder]`: images listed in a CSV file with the columns `file` (relative to `root`) and `label` (class
/// index from 0); other columns are ignored.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Folder of the images.
    pub root: PathBuf,
    /// CSV file with the columns `file` and `label`, relative to `root`.
    #[serde(default = "FolderConfig::default_labels")]
    pub labels: PathBuf,
    /// Random subset of the images. Default: all images.
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
            Some(subset) => subset.draw(items, |item| &item.id, &self.root),
            None => Ok(items),
        }
    }
}

fn read_table(root: &Path, path: &Path) -> Result<Vec<LabelledImage>> {
    if !root.is_dir() {
        return Err(missing(root, "no such folder; set dataset.folder.root to the folder of images"));
    }
    let mut table = Table::open(path, "the images in the columns `file` and `label`")?;
    let (file, label) = (table.column("file")?, table.column("label")?);
    let mut items = Vec::new();
    let mut seen = BTreeSet::new();
    for row in table.rows()? {
        let (line, name, class) = (row.line, row.cell(file), row.cell(label));
        let label = class.parse().map_err(|_| {
            table.refuse(format!("line {line}: label `{class}` must be a class index (a whole number ≥ 0)"))
        })?;
        check_inside(name).map_err(|reason| table.refuse(format!("line {line}: {reason}")))?;
        let path = root.join(name);
        if name.is_empty() || !path.is_file() {
            return Err(table.refuse(format!("line {line}: there is no image `{}`", path.display())));
        }
        if !seen.insert(name.to_owned()) {
            return Err(table.refuse(format!("line {line}: `{name}` is listed twice")));
        }
        items.push(LabelledImage { id: name.to_owned(), label, source: Source::File(path) });
    }
    if items.is_empty() {
        return Err(table.refuse("lists no images".into()));
    }
    Ok(items)
}
