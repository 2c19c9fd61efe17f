//! Cityscapes: street scenes taken from a car, with a class for every pixel.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dense::{ClassTable, DenseImage, LabelledPixels, Part, missing};
use super::{IGNORE, Reading, Source};
use crate::dataset::{Subset, note_left_out, python_order};
use crate::error::{Error, Result};

/// The classes with the ids 7 to 33, named as in the data set.
const NAMES: [&str; 27] = [
    "road",
    "sidewalk",
    "parking",
    "rail track",
    "building",
    "wall",
    "fence",
    "guard rail",
    "bridge",
    "tunnel",
    "pole",
    "polegroup",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "caravan",
    "trailer",
    "train",
    "motorcycle",
    "bicycle",
];
/// The first id that is a class; smaller ids are void.
const FIRST: u8 = 7;

const IMAGE_END: &str = "_leftImg8bit.png";
const LABEL_END: &str = "_gtFine_labelIds.png";

/// `[dataset.cityscapes]`: `leftImg8bit/{split}/{city}/*_leftImg8bit.png` and `gtFine/{split}/{city}/*_gtFine_labelIds.png`
/// of Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016, in the 27 classes of
/// unsupervised segmentation: the ids 7 to 33, everything else left out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CityscapesConfig {
    /// Folder that holds `leftImg8bit` and `gtFine`.
    pub root: PathBuf,
    /// Split, such as `val` or `train`.
    #[serde(default = "CityscapesConfig::default_split")]
    pub split: String,
    /// Random subset of the images. Default: all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

impl CityscapesConfig {
    fn default_split() -> String {
        "val".into()
    }

    pub(in crate::dataset) fn labelled_pixels(&self) -> Result<LabelledPixels> {
        let split = self.split.as_str();
        if split.is_empty() || split.contains(['/', '\\', '.']) {
            let reason = format!("unknown split `{split}`; Cityscapes has labels for `val` and `train`");
            return Err(Error::Setting { setting: "dataset.cityscapes.split", reason });
        }
        let (images, labels) =
            (self.root.join("leftImg8bit").join(split), self.root.join("gtFine").join(split));
        let files = if images.is_dir() { images_below(&images)? } else { Vec::new() };
        let label = |(city, name): &(String, String)| labels.join(city).join(format!("{name}{LABEL_END}"));
        let lost: Vec<PathBuf> = match files.as_slice() {
            // Without images it is unknown which maps there should be.
            [] if labels.is_dir() => Vec::new(),
            [] => vec![labels.clone()],
            files => files.iter().map(label).filter(|file| !file.is_file()).collect(),
        };
        let parts = missing(&[
            Part {
                what: "folder of images",
                of: 1,
                missing: if files.is_empty() { vec![images.clone()] } else { Vec::new() },
                source: "leftImg8bit_trainvaltest.zip from https://www.cityscapes-dataset.com, after registration",
            },
            Part {
                what: if files.is_empty() { "folder of label maps" } else { "label maps" },
                of: files.len().max(1),
                missing: lost,
                source: "gtFine_trainvaltest.zip, from the same place",
            },
        ]);
        if let Some(parts) = parts {
            return Err(Error::incomplete(&self.root, parts, "dataset.cityscapes.root"));
        }
        let table = Arc::new(table());
        let item = |file: &(String, String)| {
            let (city, name) = file;
            let source = Source::Files {
                image: images.join(city).join(format!("{name}{IMAGE_END}")),
                mask: label(file),
                reading: Reading::Classes(Arc::clone(&table)),
            };
            DenseImage::new(name.clone(), source)
        };
        let items = files.iter().map(item).collect();
        LabelledPixels::of(NAMES.map(str::to_owned).into(), items, self.subset, &self.root)
    }
}

fn table() -> ClassTable {
    let last = FIRST + NAMES.len() as u8 - 1;
    let class = |id: u8| (id, if id < FIRST { IGNORE } else { id - FIRST });
    ClassTable::new((0..=last).map(class), "label maps of Cityscapes hold the ids 0 to 33")
}

/// Returns the city and the name, without its ending, of every image, in rising order.
fn images_below(folder: &Path) -> Result<Vec<(String, String)>> {
    let entries = |folder: &Path| -> Result<Vec<(PathBuf, String)>> {
        let unreadable = |e: std::io::Error| Error::Dataset {
            path: folder.into(),
            reason: format!("cannot be read: {e}"),
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((entry.path(), name));
            }
        }
        Ok(found)
    };
    let (mut images, mut others) = (Vec::new(), Vec::new());
    for (path, city) in entries(folder)?.into_iter().filter(|(path, _)| path.is_dir()) {
        for (path, name) in entries(&path)? {
            match name.strip_suffix(IMAGE_END) {
                Some(name) => images.push((path, (city.clone(), name.to_owned()))),
                None => others.push(path),
            }
        }
    }
    images.sort_by(|(a, _), (b, _)| python_order(a, b));
    others.sort();
    note_left_out(folder, &others, &format!("files named *{IMAGE_END} are images of Cityscapes"));
    Ok(images.into_iter().map(|(_, image)| image).collect())
}
