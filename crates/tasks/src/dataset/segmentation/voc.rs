//! PASCAL VOC 2012, and data sets with the same layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use models::limits;
use ndarray::Array2;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IGNORE, LabelledPixels, NamedClass, Reading, SegmentedImage, Source, label_map};
use crate::dataset::{Subset, check_inside, read};
use crate::error::{Error, Result};

/// The names of the classes 1 to 20 in prompts, as in ConceptAttention
/// (<https://github.com/helblazer811/ConceptAttention>). The dataset's own names are aeroplane, bicycle, …, tvmonitor.
const NAMES: [&str; 20] = [
    "plane",
    "bike",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "table",
    "dog",
    "horse",
    "motorcycle",
    "person",
    "pot",
    "sheep",
    "sofa",
    "train",
    "monitor",
];

/// `[dataset.pascal-voc]`: `ImageSets/Segmentation/{split}.txt` lists the images `JPEGImages/*.jpg` and the label maps
/// `SegmentationClass/*.png`, palette files whose indices are the classes. Images without any of the classes are left
/// out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PascalVocConfig {
    /// Folder, such as `VOCdevkit/VOC2012`.
    pub root: PathBuf,
    /// Which images are used, and which classes are searched in them.
    #[serde(default)]
    pub protocol: VocProtocol,
    /// List of images: `val`, `train` or `trainval`.
    #[serde(default = "PascalVocConfig::default_split")]
    pub split: String,
    /// Random subset of the images. Default: all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

/// Which images of PASCAL VOC are used, and which classes are searched in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VocProtocol {
    /// Images in which exactly one class occurs at full resolution.
    #[default]
    SingleClass,
    /// All images; every class that occurs in an image is searched.
    MultiClass,
}

impl PascalVocConfig {
    fn default_split() -> String {
        "val".into()
    }

    pub(in crate::dataset) fn segmented(&self) -> Result<Vec<SegmentedImage>> {
        let present = present_classes(&self.root, &self.split)?;
        let wanted = |classes: &u32| match self.protocol {
            VocProtocol::SingleClass => classes.count_ones() == 1,
            VocProtocol::MultiClass => *classes != 0,
        };
        let items: Vec<SegmentedImage> = present
            .iter()
            .filter(|(_, classes)| wanted(classes))
            .map(|(id, classes)| {
                let source = Source::Files {
                    image: image(&self.root, id),
                    mask: label_file(&self.root, id),
                    reading: Reading::Voc,
                };
                SegmentedImage::new(id.clone(), named(*classes), source)
            })
            .collect();
        if items.is_empty() {
            let reason = match self.protocol {
                VocProtocol::SingleClass => "no image shows just one class; use protocol = \"multi-class\"",
                VocProtocol::MultiClass => "no image shows any of the classes",
            };
            return Err(Error::Dataset { path: self.root.clone(), reason: reason.into() });
        }
        match self.subset {
            Some(subset) => subset.draw(items, |item| &item.id, &self.root),
            None => Ok(items),
        }
    }
}

impl PascalVocConfig {
    /// Returns the images with all 21 classes, the background first.
    pub(in crate::dataset) fn labelled_pixels(&self) -> Result<LabelledPixels> {
        let classes = std::iter::once("background").chain(NAMES).map(str::to_owned).collect();
        let items = self.segmented()?.into_iter().map(Into::into).collect();
        Ok(LabelledPixels { classes, items })
    }
}

/// Returns the labels of a map. Fails if one of them is not a class; the error does not name the file.
pub(super) fn checked(labels: Array2<u8>) -> Result<Array2<u8>, String> {
    let known = |label: u8| usize::from(label) <= NAMES.len() || label == IGNORE;
    match labels.iter().find(|&&label| !known(label)) {
        None => Ok(labels),
        Some(label) => Err(format!(
            "holds the label {label}, but PASCAL VOC has the classes 1 to {}, 0 for the background and {IGNORE} for \
             ignored pixels",
            NAMES.len()
        )),
    }
}

fn image(root: &Path, id: &str) -> PathBuf {
    root.join("JPEGImages").join(format!("{id}.jpg"))
}

fn label_file(root: &Path, id: &str) -> PathBuf {
    root.join("SegmentationClass").join(format!("{id}.png"))
}

/// Returns the classes of a set in which bit *k* stands for label *k*.
fn named(classes: u32) -> Vec<NamedClass> {
    let label = |(label, &name): (u8, &&str)| NamedClass { label, name: name.to_owned() };
    (1..).zip(&NAMES).filter(|&(label, _)| classes >> label & 1 == 1).map(label).collect()
}

/// The images of a split, each with the set of classes that occur in it.
type Present = Arc<Vec<(String, u32)>>;

/// Returns the classes that occur in each image. They are known only from the label maps, which are read once per
/// process.
fn present_classes(root: &Path, split: &str) -> Result<Present> {
    static KNOWN: Mutex<BTreeMap<(PathBuf, String), Present>> = Mutex::new(BTreeMap::new());
    let key = (root.to_owned(), split.to_owned());
    if let Some(present) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Arc::clone(present));
    }
    let ids = listed(root, split)?;
    let present = ids.into_par_iter().map(|id| {
        let path = label_file(root, &id);
        let refuse = |reason: String| Error::Dataset { path: path.clone(), reason };
        let labels = label_map::decode(&read(&path)?).and_then(checked).map_err(refuse)?;
        let classes = labels.iter().filter(|&&label| label != 0 && label != IGNORE);
        let classes = classes.fold(0_u32, |set, &label| set | 1 << label);
        Ok((id, classes))
    });
    let present: Present = Arc::new(present.collect::<Result<_>>()?);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&present));
    Ok(present)
}

/// Returns the names of a split's images, after checking that their files exist.
fn listed(root: &Path, split: &str) -> Result<Vec<String>> {
    let folder = root.join("ImageSets").join("Segmentation");
    if !folder.is_dir() {
        let reason =
            "has no folder ImageSets/Segmentation; get the training and validation data of VOC 2012 \
                      (VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/)"
                .into();
        let (setting, value) = ("dataset.pascal-voc.root", "VOCdevkit/VOC2012");
        return Err(Error::NoData { path: root.into(), reason, setting, value });
    }
    if split.is_empty() || split.contains(['/', '\\']) {
        let reason = format!("unknown split `{split}`; VOC has `train`, `val` and `trainval`");
        return Err(Error::Setting { setting: "dataset.pascal-voc.split", reason });
    }
    let path = folder.join(format!("{split}.txt"));
    let refuse = |reason: String| Error::Dataset { path: path.clone(), reason };
    let text = limits::read_text(&path, limits::TABLE_BYTES).map_err(|e| {
        refuse(format!(
            "cannot be read: {e}; the split {split} needs this list, VOC has `train`, `val` and `trainval`"
        ))
    })?;
    let ids: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if ids.is_empty() {
        return Err(refuse("lists no images".into()));
    }
    ids.iter().try_for_each(|id| check_inside(id)).map_err(refuse)?;
    let files = |id: &String| [image(root, id), label_file(root, id)];
    match ids.iter().flat_map(files).find(|file| !file.is_file()) {
        None => Ok(ids),
        Some(file) => Err(refuse(format!("lists an image whose file `{}` is missing", file.display()))),
    }
}
