//! A folder of images and masks of one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ndarray::Array2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DenseImage, IGNORE, LabelledPixels, NamedClass, Reading, SegmentedImage, Source};
use crate::dataset::table::{Row, Table};
use crate::dataset::{Subset, check_inside};
use crate::error::{Error, Result};

/// `[dataset.masks]`: images, a PNG mask for each object, and a CSV file that lists them in the columns
///
/// * `file`: the image, relative to the folder of images;
/// * `name`: what a prompt calls the object, such as `dog`;
/// * `mask` (may be left out): the mask, relative to the folder of masks; else the image's name with `.png`;
/// * `value` (may be left out): the palette index or grey level of the object's pixels; else all but 0.
///
/// An image may be listed several times with other names. Other columns are ignored. Images are turned upright as their EXIF
/// says before masks are laid over them.
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

/// Which samples of a mask are the object, and which count for nothing. The rest is background.
#[derive(Debug, Clone, Copy)]
pub(in crate::dataset) struct Object {
    value: Option<u8>,
    ignore: Option<u8>,
}

impl Object {
    /// The sample that is the object; all but 0 where there is none.
    pub(super) fn value(&self) -> Option<u8> {
        self.value
    }

    /// The labels 0, 1 and [`IGNORE`] of a mask's samples; an error without the file's name where nothing is 1.
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

    /// One item an image, with the background as class 0 and the names of all objects, in alphabetical order, after it.
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

    /// The lines of the table, at least one.
    fn listed(&self) -> Result<Vec<Listed>> {
        if !self.root.is_dir() {
            let reason = "no such folder; set dataset.masks.root to the folder of images and masks".into();
            return Err(Error::Dataset { path: self.root.clone(), reason });
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
                Err(format!("value {value} is the one that dataset.masks.ignore leaves out"))
            }
            parsed => parsed.map_err(|_| format!("value `{text}` is no sample of a mask (0 to 255)")),
        });
        let object = Object { value: value.transpose()?, ignore: self.ignore };
        let (id, file, name) = (format!("{file}:{name}"), file.to_owned(), name.to_owned());
        Ok(Listed { id, file, name, image, mask, object })
    }
}

/// A line of the table, with the files it speaks of.
struct Listed {
    id: String,
    file: String,
    name: String,
    image: PathBuf,
    mask: PathBuf,
    object: Object,
}

/// Where the columns of the table are.
struct Columns {
    file: usize,
    name: usize,
    mask: Option<usize>,
    value: Option<usize>,
}
