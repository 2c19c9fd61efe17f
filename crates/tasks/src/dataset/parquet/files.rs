//! Which Parquet files make up a dataset.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use models::notes;
use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::dataset::python_order;
use crate::error::{Error, Result};

/// A folder of Parquet files, one file, or a list of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ParquetFiles {
    /// A folder, or one file.
    One(PathBuf),
    /// A list of files, in the order of the dataset.
    Several(Vec<PathBuf>),
}

impl<'de> Deserialize<'de> for ParquetFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ParquetFiles;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a folder, a file or a list of files")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> std::result::Result<ParquetFiles, E> {
                Ok(ParquetFiles::One(path.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut values: A,
            ) -> std::result::Result<ParquetFiles, A::Error> {
                let mut list = Vec::new();
                while let Some(path) = values.next_element()? {
                    list.push(path);
                }
                if list.is_empty() {
                    Err(de::Error::custom("lists no file"))
                } else {
                    Ok(ParquetFiles::Several(list))
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl ParquetFiles {
    /// The folder or first file, for messages.
    pub(super) fn first(&self) -> &Path {
        match self {
            Self::One(path) => path,
            Self::Several(list) => list.first().map_or(Path::new(""), PathBuf::as_path),
        }
    }

    /// Lists the files.
    pub(super) fn list(&self, split: Option<&str>) -> Result<Vec<PathBuf>> {
        let (given, folder) = match self {
            Self::One(path) if path.is_dir() => (Vec::new(), Some(path)),
            Self::One(path) => (vec![path], None),
            Self::Several(list) => (list.iter().collect(), None),
        };
        if let Some(folder) = folder {
            return in_folder(folder, split);
        }
        if split.is_some() {
            let reason =
                "chooses files of a folder; leave it out if dataset.parquet.files names files".into();
            return Err(Error::Setting { setting: "dataset.parquet.split", reason });
        }
        let mut seen = BTreeSet::new();
        for path in &given {
            if !path.is_file() {
                let reason = if path.is_dir() {
                    "is a folder; a list names files".to_owned()
                } else {
                    "no such file or folder".to_owned()
                };
                let (setting, value) = ("dataset.parquet.files", "PATH");
                return Err(Error::NoData { path: path.to_path_buf(), reason, setting, value });
            }
            if !seen.insert(path.as_path()) {
                return Err(Error::Dataset { path: path.to_path_buf(), reason: "is listed twice".into() });
            }
        }
        Ok(given.into_iter().cloned().collect())
    }
}

/// Lists the Parquet files of a folder that belong to a split, in the order of Python's `sorted`.
fn in_folder(folder: &Path, split: Option<&str>) -> Result<Vec<PathBuf>> {
    let refuse = |reason: String| Error::Dataset { path: folder.into(), reason };
    let all = parquet_files(folder).map_err(|e| refuse(format!("cannot be read: {e}")))?;
    if all.is_empty() {
        let data = folder.join("data");
        let reason = match parquet_files(&data) {
            Ok(files) if !files.is_empty() => {
                format!(
                    "holds no *.parquet files, but its folder `data` does; set dataset.parquet.files to {}",
                    data.display()
                )
            }
            Ok(_) | Err(_) => "holds no *.parquet files".into(),
        };
        return Err(refuse(reason));
    }
    let splits: BTreeSet<&str> =
        all.iter().filter_map(|path| Some(Numbered::of(name(path))?.split)).collect();
    let listed = || splits.iter().copied().collect::<Vec<_>>().join(", ");
    let Some(split) = split else {
        if splits.len() > 1 {
            let reason = format!("holds the splits {}; choose one with dataset.parquet.split", listed());
            return Err(refuse(reason));
        }
        note_missing(folder, &all);
        return Ok(all);
    };
    let belongs = |path: &PathBuf| {
        let rest = name(path).strip_prefix(split);
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    let chosen: Vec<PathBuf> = all.iter().filter(|path| belongs(path)).cloned().collect();
    if split.is_empty() || chosen.is_empty() {
        let found =
            if splits.is_empty() { String::new() } else { format!("; it has the splits {}", listed()) };
        return Err(refuse(format!("holds no *.parquet files of the split `{split}`{found}")));
    }
    note_missing(folder, &chosen);
    Ok(chosen)
}

fn parquet_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") && path.is_file() {
            files.push(path);
        }
    }
    files.sort_by(|a, b| python_order(a, b));
    Ok(files)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A name such as `validation-00000-of-00014.parquet`; the hub may add a hash before the extension.
struct Numbered<'a> {
    split: &'a str,
    of: usize,
}

impl<'a> Numbered<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (before, after) = name.split_once("-of-")?;
        let (split, number) = before.rsplit_once('-')?;
        let of = after.get(..5)?;
        let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_number(number) && is_number(of)).then_some(Self { split, of: of.parse().ok()? })
    }
}

/// Notes, in one line, that some files of a split are missing.
fn note_missing(folder: &Path, files: &[PathBuf]) {
    let mut found: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    for numbered in files.iter().filter_map(|path| Numbered::of(name(path))) {
        *found.entry((numbered.split, numbered.of)).or_default() += 1;
    }
    for ((split, of), count) in found {
        if count < of {
            notes::note(format!(
                "{}: {count} of the {of} files of the split {split} are there; only their images are used",
                folder.display()
            ));
        }
    }
}
