//! COCO-Stuff: photographs of COCO with a class for every pixel; 182 fine classes are grouped into 27 coarse ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dense::{ClassTable, DenseImage, LabelledPixels, Part, missing};
use super::{Reading, Source};
use crate::dataset::Subset;
use crate::error::{Error, Result};

/// The published list of images and the table of classes; the files state their sources.
const IMAGES: &str = include_str!("../../../../../datasets/coco-stuff/images.txt");
const CLASSES: &str = include_str!("../../../../../datasets/coco-stuff/classes.toml");

const IMAGES_URL: &str = "http://images.cocodataset.org/zips/val2017.zip";
const LABELS_URL: &str = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/\
                          stuffthingmaps_trainval2017.zip";

/// `[dataset.coco-stuff]`: COCO-Stuff of Caesar, Uijlings and Ferrari, "COCO-Stuff: Thing and stuff classes in context",
/// CVPR 2018, in the 27 coarse classes and on the 2,175 images on which unsupervised segmentation is measured.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CocoStuffConfig {
    /// Folder that holds the images and the pixel maps.
    pub root: PathBuf,
    /// Folder of images (`*.jpg`), relative to `root`.
    #[serde(default = "CocoStuffConfig::default_images")]
    pub images: PathBuf,
    /// Folder of pixel maps (`*.png`), relative to `root`.
    #[serde(default = "CocoStuffConfig::default_labels")]
    pub labels: PathBuf,
    /// File with one image name per line, without extension; lines that begin with `#` are ignored. Default: the published list
    /// of 2,175 images, which comes with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<PathBuf>,
    /// Random subset of the images. Default: all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

/// The coarse classes, and the coarse class of every fine one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Classes {
    names: Vec<String>,
    coarse: Vec<u8>,
}

impl Classes {
    fn shipped() -> Result<Self> {
        toml::from_str(CLASSES).map_err(|e| Error::Dataset {
            path: "datasets/coco-stuff/classes.toml".into(),
            reason: format!("is not a table of classes: {e}"),
        })
    }

    fn table(&self) -> ClassTable {
        ClassTable::new(
            (0..).zip(self.coarse.iter().copied()),
            "pixel maps of COCO-Stuff hold 0 to 181, and 255 where nothing is labelled; use those of \
             stuffthingmaps_trainval2017.zip",
        )
    }
}

impl CocoStuffConfig {
    fn default_images() -> PathBuf {
        "val2017".into()
    }

    fn default_labels() -> PathBuf {
        "stuffthingmaps/val2017".into()
    }

    /// Where a folder of the usual layout is according to this configuration, relative to `root`.
    pub(in crate::dataset) fn place<'a>(&'a self, usual: &'a Path) -> &'a Path {
        match usual {
            images if images == Self::default_images() => &self.images,
            labels if labels == Self::default_labels() => &self.labels,
            other => other,
        }
    }

    pub(in crate::dataset) fn labelled_pixels(&self) -> Result<LabelledPixels> {
        let classes = Classes::shipped()?;
        let names = self.names()?;
        let files = |folder: &Path, ending: &str| -> Vec<PathBuf> {
            let folder = self.root.join(folder);
            names.iter().map(|name| folder.join(format!("{name}.{ending}"))).collect()
        };
        let (images, labels) = (files(&self.images, "jpg"), files(&self.labels, "png"));
        let absent = |files: &[PathBuf]| files.iter().filter(|file| !file.is_file()).cloned().collect();
        let parts = missing(&[
            Part { what: "images", of: names.len(), missing: absent(&images), source: IMAGES_URL },
            Part { what: "pixel maps", of: names.len(), missing: absent(&labels), source: LABELS_URL },
        ]);
        if let Some(parts) = parts {
            return Err(Error::incomplete(&self.root, parts, "dataset.coco-stuff.root"));
        }
        let table = Arc::new(classes.table());
        let item = |((name, image), mask)| {
            let source = Source::Files { image, mask, reading: Reading::Classes(Arc::clone(&table)) };
            DenseImage::new(name, source)
        };
        let items = names.into_iter().zip(images).zip(labels).map(item).collect();
        LabelledPixels::of(classes.names, items, self.subset, &self.root)
    }

    /// Returns the names of the images, in the order of the list.
    fn names(&self) -> Result<Vec<String>> {
        let Some(path) = &self.list else { return Ok(listed(IMAGES)) };
        let refuse = |reason: String| Error::Dataset { path: path.clone(), reason };
        let text = limits::read_text(path, limits::TABLE_BYTES).map_err(|e| {
            refuse(format!(
                "cannot be read: {e}; it must list one image of COCO per line, such as `000000000139`; leave \
                 dataset.coco-stuff.list out for the published 2,175"
            ))
        })?;
        let names = listed(&text);
        if names.is_empty() {
            return Err(refuse("lists no images".into()));
        }
        if let Some(name) = names.iter().find(|name| name.contains(['/', '\\', '.'])) {
            return Err(refuse(format!("`{name}` is not an image name without extension")));
        }
        let mut seen = BTreeSet::new();
        match names.iter().find(|&name| !seen.insert(name)) {
            None => Ok(names),
            Some(name) => Err(refuse(format!("`{name}` is listed twice"))),
        }
    }
}

fn listed(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_published_one() {
        let names = listed(IMAGES);
        assert_eq!(names.len(), 2175);
        assert!(names.iter().all(|name| name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit())));
        assert!(names.is_sorted_by(|a, b| a < b), "in rising order, without duplicates");
        // Every 300th name, and the last.
        let some: Vec<&str> = names.iter().step_by(300).chain(names.last()).map(String::as_str).collect();
        let wanted = [
            "000000000139",
            "000000080022",
            "000000157213",
            "000000234366",
            "000000320490",
            "000000402519",
            "000000484029",
            "000000565563",
            "000000581615",
        ];
        assert_eq!(some, wanted);
    }

    #[test]
    fn every_fine_class_has_its_coarse_one() {
        let classes = Classes::shipped().unwrap();
        assert_eq!((classes.names.len(), classes.coarse.len()), (27, 182));
        let used: BTreeSet<u8> = classes.coarse.iter().copied().collect();
        assert!(used.into_iter().eq(0..27));
        let coarse = |fine: usize| classes.names[usize::from(classes.coarse[fine])].as_str();
        // Numbers of COCO-Stuff: person 1, cat 17, banner 92, grass 124, sky-other 157, tree 169, wood 182.
        for (number, name) in [
            (1, "person-things"),
            (17, "animal-things"),
            (92, "textile-stuff"),
            (124, "plant-stuff"),
            (157, "sky-stuff"),
            (169, "plant-stuff"),
            (182, "solid-stuff"),
        ] {
            assert_eq!(coarse(number - 1), name);
        }
        // The fine classes below 91 are COCO's things 1 to 91.
        assert!((0..91).all(|fine| coarse(fine).ends_with("-things")));
        assert!((91..182).all(|fine| coarse(fine).ends_with("-stuff")));
    }
}
