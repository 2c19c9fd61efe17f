//! A folder of the user's own images and masks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ndarray::Array2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DenseImage, IGNORE, LabelledPixels, NamedClass, Reading, SegmentedImage, Source};
use crate::dataset::table::{Row, Table};
use crate::dataset::{Subset, check_inside};
use crate::error::{Error, Result, missing};

/// `[dataset.masks]`: images, a PNG mask for each object, and a CSV file that lists them in the columns
///
/// * `file`: the image, relative to the folder of images;
/// * `name`: the name of the object in prompts, such as `dog`;
/// * `mask` (optional): the mask, relative to the folder of masks. Default: the image's name with the extension `.png`;
/// * `value` (optional): the palette index or grey level of the object's pixels. Default: all values but 0.
///
/// An image may be listed several times with different names. Other columns are ignored. Images are rotated upright
/// according to their EXIF data before masks are applied.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MasksConfig {
    /// Folder that holds the images, masks and table.
    pub root: PathBuf,
    /// Folder of images, relative to `root`.
    #[serde(default = "MasksConfig::default_images")]
    pub images: PathBuf,
    /// Folder of masks, relative to `root`.
    #[serde(default = "MasksConfig::default_masks")]
    pub masks: PathBuf,
    /// CSV file that lists images and masks, relative to `root`.
    #[serde(default = "MasksConfig::default_table")]
    pub table: PathBuf,
    /// Palette index or grey level of pixels that are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<u8>,
    /// Random subset of the images. Default: all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

/// The mask values that are the object and those that are ignored. All others are background.
#[derive(Debug, Clone, Copy)]
pub(in crate::dataset) struct Object {
    value: Option<u8>,
    ignore: Option<u8>,
}

impl Object {
    /// All values but 0 and the ignored one are the object.
    pub(super) fn all_but_zero(ignore: Option<u8>) -> Self {
        Self { value: None, ignore }
    }

    /// The value of the object; `None` if every value but 0 is the object.
    pub(super) fn value(&self) -> Option<u8> {
        self.value
    }

    /// Converts a mask to the labels 0, 1 and [`IGNORE`]. Fails if no pixel is 1; the error does not name the file.
    pub(super) fn labels(self, samples: Array2<u8>) -> Result<Array2<u8>, String> {
        let Self { value, ignore } = self;
        let labels = samples.mapv_into(|sample| match value {
            _ if ignore == Some(sample) => IGNORE,
            Some(value) => u8::from(sample == value),
            None => u8::from(sample != 0),
        });
        if labels.iter().any(|&label| label == 1) {
            return Ok(labels);
        }
        Err(match value {
            Some(value) => {
                format!("no pixel of the mask has the value {value} that the table gives to the object")
            }
            None => "no pixel of the mask belongs to the object: all are 0 or ignored".into(),
        })
    }
}

impl MasksConfig {
    fn default_images() -> PathBuf {
        "images".into()
    }

    fn default_masks() -> PathBuf {
        "masks".into()
    }

    fn default_table() -> PathBuf {
        "labels.csv".into()
    }

    pub(in crate::dataset) fn segmented(&self) -> Result<Vec<SegmentedImage>> {
        let item = |listed: Listed| {
            let classes = vec![NamedClass { label: 1, name: listed.name.clone() }];
            let Listed { image, mask, object, .. } = listed;
            let (id, reading) = (listed.id, Reading::Object(object));
            SegmentedImage::new(id, classes, Source::Files { image, mask, reading })
        };
        let items = self.listed()?.into_iter().map(item).collect();
        match self.subset {
            Some(subset) => subset.draw(items, |item| &item.id, &self.root),
            None => Ok(items),
        }
    }

    /// Returns one item per image. The background is class 0; the names of all objects follow in alphabetical order.
    pub(in crate::dataset) fn labelled_pixels(&self) -> Result<LabelledPixels> {
        let listed = self.listed()?;
        let names: BTreeSet<String> = listed.iter().map(|listed| listed.name.clone()).collect();
        let labels: BTreeMap<&String, u8> = names.iter().zip(1..IGNORE).collect();
        if labels.len() < names.len() {
            let reason = format!("lists {} names; a pixel map has room for {}", names.len(), labels.len());
            return Err(Error::Dataset { path: self.root.join(&self.table), reason });
        }
        let mut files: Vec<(String, PathBuf, Vec<_>)> = Vec::new();
        let mut places = BTreeMap::new();
        for Listed { file, name, image, mask, object, .. } in listed {
            let label = labels.get(&name).copied().unwrap_or(IGNORE);
            let place = *places.entry(file.clone()).or_insert(files.len());
            match files.get_mut(place) {
                Some((_, _, objects)) => objects.push((mask, object, label)),
                None => files.push((file, image, vec![(mask, object, label)])),
            }
        }
        let item = |(file, image, objects)| DenseImage::new(file, Source::Objects { image, objects });
        let items = files.into_iter().map(item).collect();
        let classes = std::iter::once("background".to_owned()).chain(names).collect();
        LabelledPixels::of(classes, items, self.subset, &self.root)
    }

    /// Reads the lines of the table; at least one is required.
    fn listed(&self) -> Result<Vec<Listed>> {
        if !self.root.is_dir() {
            let reason = "no such folder; set dataset.masks.root to the folder of images and masks";
            return Err(missing(&self.root, reason));
        }
        let path = self.root.join(&self.table);
        let mut table = Table::open(
            &path,
            "the images in the columns `file` and `name`, and if need be `mask` and `value`",
        )?;
        let columns = Columns {
            file: table.column("file")?,
            name: table.column("name")?,
            mask: table.optional("mask"),
            value: table.optional("value"),
        };
        let mut lines = Vec::new();
        let mut seen = BTreeSet::new();
        for row in table.rows()? {
            let refuse = |reason: String| table.refuse(format!("line {}: {reason}", row.line));
            let listed = self.line(&row, &columns).map_err(refuse)?;
            if !seen.insert(listed.id.clone()) {
                return Err(refuse(format!("`{}` is listed twice", listed.id)));
            }
            lines.push(listed);
        }
        if lines.is_empty() {
            return Err(table.refuse("lists no images".into()));
        }
        Ok(lines)
    }

    fn line(&self, row: &Row, columns: &Columns) -> Result<Listed, String> {
        let (file, name) = (row.cell(columns.file), row.cell(columns.name));
        if name.is_empty() {
            return Err("the object has no name".into());
        }
        check_inside(file)?;
        row.optional(columns.mask).map_or(Ok(()), check_inside)?;
        let present = |what: &str, path: PathBuf| match path.is_file() {
            true => Ok(path),
            false => Err(format!("there is no {what} `{}`", path.display())),
        };
        let image = present("image", self.root.join(&self.images).join(file))?;
        let mask = match row.optional(columns.mask) {
            Some(mask) => PathBuf::from(mask),
            None => Path::new(file).with_extension("png"),
        };
        let mask = present("mask", self.root.join(&self.masks).join(mask))?;
        let value = row.optional(columns.value).map(|text| match text.parse() {
            Ok(value) if Some(value) == self.ignore => {
                Err(format!("value {value} is also the value that dataset.masks.ignore ignores"))
            }
            parsed => parsed.map_err(|_| format!("value `{text}` must be a whole number from 0 to 255")),
        });
        let object = Object { value: value.transpose()?, ignore: self.ignore };
        let (id, file, name) = (format!("{file}:{name}"), file.to_owned(), name.to_owned());
        Ok(Listed { id, file, name, image, mask, object })
    }
}

/// A line of the table, with the paths of its files.
struct Listed {
    id: String,
    file: String,
    name: String,
    image: PathBuf,
    mask: PathBuf,
    object: Object,
}

/// The positions of the columns of the table.
struct Columns {
    file: usize,
    name: usize,
    mask: Option<usize>,
    value: Option<usize>,
}
