//! The validation set of ImageNet-1k, in its common layouts.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use models::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LabelledImage, Source, Subset, check_inside, note_left_out};
use crate::error::{Error, Result, missing};

/// Number of classes of ImageNet-1k; class *k* is the *k*-th synset in alphabetical order.
const CLASSES: usize = 1000;
const IMAGE_EXTENSIONS: [&str; 3] = ["jpeg", "jpg", "png"];

/// `[dataset.imagenet]`: either one folder per synset (`root/n01440764/*.JPEG`), or a flat folder
/// (`root/ILSVRC2012_val_00000001.JPEG`, …) with a ground-truth file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageNetConfig {
    /// Folder of the images.
    pub root: PathBuf,
    /// Ground-truth file, required for the flat layout: lines of `file class`, separated by a space or comma, where class is an index in
    /// alphabetical synset order (Caffe's `val.txt`) or a synset (`LOC_val_solution.csv`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground_truth: Option<PathBuf>,
    /// File with one synset per line in class order, such as `LOC_synset_mapping.txt`; the rest of a line is ignored. Required
    /// if the images do not cover all 1000 synsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synsets: Option<PathBuf>,
    /// Random subset of the images. Default: all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

impl ImageNetConfig {
    pub(super) fn items(&self) -> Result<Vec<LabelledImage>> {
        if !self.root.is_dir() {
            let reason = "no such folder; ImageNet's terms forbid handing it on: get the validation images from \
                          https://www.image-net.org and say where they are with `--set dataset.imagenet.root=DIR`";
            return Err(missing(&self.root, reason));
        }
        let items = match &self.ground_truth {
            Some(file) => self.flat(file)?,
            None => self.folders()?,
        };
        match self.subset {
            Some(subset) => subset.draw(items, |item| &item.id, &self.root),
            None => Ok(items),
        }
    }

    fn folders(&self) -> Result<Vec<LabelledImage>> {
        let synsets: Vec<String> = entries(&self.root)?
            .into_iter()
            .filter(|path| path.is_dir())
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .filter(|name| is_synset(name))
            .collect();
        if synsets.is_empty() {
            let reason =
                "holds no synset folders such as n01440764; for a flat folder of validation images set \
                          dataset.imagenet.ground_truth to the file with their classes"
                    .into();
            return Err(Error::Dataset { path: self.root.clone(), reason });
        }
        let classes = self.classes(&synsets, &self.root)?;
        let (mut items, mut others) = (Vec::new(), Vec::new());
        for synset in &synsets {
            let folder = self.root.join(synset);
            let label = class(&classes, synset, &folder)?;
            for path in entries(&folder)? {
                if !is_image(&path) {
                    others.push(path);
                    continue;
                }
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let id = format!("{synset}/{name}");
                items.push(LabelledImage { id, label, source: Source::File(path) });
            }
        }
        if items.is_empty() {
            let reason = "the synset folders hold no images".into();
            return Err(Error::Dataset { path: self.root.clone(), reason });
        }
        note_left_out(&self.root, &others, "files named .jpeg, .jpg or .png are read");
        Ok(items)
    }

    fn flat(&self, ground_truth: &Path) -> Result<Vec<LabelledImage>> {
        let refuse = |reason: String| Error::Dataset { path: ground_truth.into(), reason };
        let text = read(ground_truth)?;
        let rows: Vec<(usize, &str, &str)> = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with("ImageId"))
            .map(|(number, line)| {
                let mut fields = line.split([',', ' ', '\t']).filter(|field| !field.is_empty());
                fields.next().zip(fields.next()).map(|(file, class)| (number, file, class)).ok_or_else(|| {
                    refuse(format!(
                        "line {number} is not `file class`. The development kit's list of bare numbers counts \
                         classes in another order; use Caffe's val.txt or LOC_val_solution.csv"
                    ))
                })
            })
            .collect::<Result<_>>()?;
        let mut synsets: Vec<String> =
            rows.iter().filter(|row| is_synset(row.2)).map(|row| row.2.to_owned()).collect();
        synsets.sort();
        synsets.dedup();
        let classes =
            if synsets.is_empty() { BTreeMap::new() } else { self.classes(&synsets, ground_truth)? };
        let mut items = Vec::with_capacity(rows.len());
        // Keyed by the file, since a name may have its extension on one line and lack it on another.
        let mut seen = HashSet::new();
        for (number, file, class_name) in rows {
            let label = match class_name.parse::<usize>() {
                Ok(label) if label < CLASSES => label,
                Ok(label) => {
                    return Err(refuse(format!(
                        "line {number}: class must lie in 0 to {}, found {label}",
                        CLASSES - 1
                    )));
                }
                Err(_) => class(&classes, class_name, ground_truth)?,
            };
            check_inside(file).map_err(|reason| refuse(format!("line {number}: {reason}")))?;
            let path = self.image(file).ok_or_else(|| {
                refuse(format!("line {number}: {} has no image `{file}`", self.root.display()))
            })?;
            if !seen.insert(path.clone()) {
                return Err(refuse(format!("line {number}: `{file}` is listed twice")));
            }
            items.push(LabelledImage { id: file.to_owned(), label, source: Source::File(path) });
        }
        if items.is_empty() {
            return Err(refuse("lists no images".into()));
        }
        Ok(items)
    }

    /// Returns the file for a name that may lack its extension.
    fn image(&self, name: &str) -> Option<PathBuf> {
        let candidates = [name.to_owned(), format!("{name}.JPEG"), format!("{name}.jpg")];
        candidates.iter().map(|name| self.root.join(name)).find(|path| path.is_file())
    }

    /// Returns the class index of every synset.
    fn classes(&self, found: &[String], place: &Path) -> Result<BTreeMap<String, usize>> {
        let in_order: Vec<String> = match &self.synsets {
            Some(file) => read(file)?
                .lines()
                .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
                .collect(),
            None if found.len() == CLASSES => found.to_vec(),
            None => {
                let reason = format!(
                    "has {} of ImageNet's {CLASSES} synsets, so their class indices are unknown; set \
                     dataset.imagenet.synsets to a file with all synsets in class order \
                     (LOC_synset_mapping.txt)",
                    found.len()
                );
                return Err(Error::Dataset { path: place.into(), reason });
            }
        };
        Ok(in_order.into_iter().zip(0..).collect())
    }
}

fn class(classes: &BTreeMap<String, usize>, synset: &str, place: &Path) -> Result<usize> {
    classes.get(synset).copied().ok_or_else(|| {
        let reason = format!("synset `{synset}` is not in the list of classes");
        Error::Dataset { path: place.into(), reason }
    })
}

pub(super) fn is_synset(name: &str) -> bool {
    name.len() == 9 && name.starts_with('n') && name[1..].bytes().all(|byte| byte.is_ascii_digit())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    IMAGE_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
}

fn read(path: &Path) -> Result<String> {
    limits::read_text(path, limits::TABLE_BYTES)
        .map_err(|e| Error::Dataset { path: path.into(), reason: format!("cannot be read: {e}") })
}

/// Returns the entries of a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable =
        |e: std::io::Error| Error::Dataset { path: folder.into(), reason: format!("cannot be read: {e}") };
    let mut paths = std::fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_listed_once() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let at = |name: &str| dir.path().join(name);
        for name in ["one.JPEG", "two.JPEG"] {
            std::fs::write(at(name), b"").expect("writable");
        }
        let listed = |lines: &str| {
            std::fs::write(at("val.txt"), lines).expect("writable");
            let ground_truth = Some(at("val.txt"));
            let config =
                ImageNetConfig { root: dir.path().into(), ground_truth, synsets: None, subset: None };
            config.items().map(|items| items.len()).map_err(|e| e.to_string())
        };
        assert_eq!(listed("one.JPEG 1\ntwo.JPEG 1\n"), Ok(2));
        for lines in ["one.JPEG 1\ntwo.JPEG 1\none.JPEG 2\n", "one 1\ntwo 1\none.JPEG 1\n"] {
            let message = listed(lines).expect_err("refused");
            assert!(message.contains("line 3: `one.JPEG` is listed twice"), "{message}");
        }
    }
}
