//! Images and masks in Parquet files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::dense::ClassTable;
use super::masks::Object;
use super::{DenseImage, IGNORE, LabelledPixels, NamedClass, Reading, SegmentedImage, Source, label_map};
use crate::dataset::parquet::shards::{Row, Stamp};
use crate::dataset::parquet::{MaskValues, ParquetConfig, Rows};
use crate::error::{Error, Result};

/// The labels that occur in the mask of each row.
type Present = Arc<Vec<BTreeSet<u8>>>;
/// What [`Present`] depends on: the files and their state, the column of masks, the number of classes and the ignored value.
type Key = (Vec<(PathBuf, Stamp)>, String, usize, Option<u8>);

impl ParquetConfig {
    pub(in crate::dataset) fn segmented(&self) -> Result<Vec<SegmentedImage>> {
        let column = self.mask_column()?;
        let rows = self.open(Some(column))?;
        let names = self.class_names(&rows)?;
        let items = match self.mask_values {
            MaskValues::Object => {
                let labels = self.labels(&rows)?;
                let item = |(row, &label): (usize, &usize)| {
                    let name = self.name(&names, label, &rows.row(row))?;
                    let reading = Reading::Object(Object::all_but_zero(self.ignore));
                    let source = Source::Row { row: rows.row(row), reading, label: 1 };
                    Ok(SegmentedImage::new(rows.id(row), vec![NamedClass { label: 1, name }], source))
                };
                labels.iter().enumerate().map(item).collect::<Result<Vec<_>>>()?
            }
            MaskValues::Classes => {
                let table = self.table(&names)?;
                let present = self.present(&rows, &names, &table)?;
                let classes = |labels: &BTreeSet<u8>| {
                    let named = |&label: &u8| {
                        let name = names.get(usize::from(label).checked_sub(1)?)?;
                        Some(NamedClass { label, name: name.clone() })
                    };
                    labels.iter().filter_map(named).collect()
                };
                let item = |(row, labels): (usize, &BTreeSet<u8>)| {
                    let source = classes_of(&rows, row, &table);
                    SegmentedImage::new(rows.id(row), classes(labels), source)
                };
                let shown = present.iter().enumerate().filter(|(_, labels)| !labels.is_empty());
                shown.map(item).collect()
            }
        };
        if items.is_empty() {
            let reason = format!("no mask of the column `{column}` shows any of the classes");
            return Err(Error::Dataset { path: rows.row(0).file().into(), reason });
        }
        self.reduce(items, |item| &item.id)
    }

    /// Returns the images with the background as class 0, followed by the named classes.
    pub(in crate::dataset) fn labelled_pixels(&self) -> Result<LabelledPixels> {
        let rows = self.open(Some(self.mask_column()?))?;
        let names = self.class_names(&rows)?;
        let table = self.table(&names)?;
        let items = match self.mask_values {
            MaskValues::Object => {
                let labels = self.labels(&rows)?;
                let item = |(row, &label): (usize, &usize)| {
                    self.name(&names, label, &rows.row(row))?;
                    let reading = Reading::Object(Object::all_but_zero(self.ignore));
                    let label = u8::try_from(label + 1).unwrap_or(IGNORE);
                    Ok(DenseImage::new(rows.id(row), Source::Row { row: rows.row(row), reading, label }))
                };
                labels.iter().enumerate().map(item).collect::<Result<Vec<_>>>()?
            }
            MaskValues::Classes => {
                let item = |row| DenseImage::new(rows.id(row), classes_of(&rows, row, &table));
                (0..rows.len()).map(item).collect()
            }
        };
        let classes = std::iter::once("background".to_owned()).chain(names).collect();
        Ok(LabelledPixels { classes, items: self.reduce(items, |item| &item.id)? })
    }

    fn mask_column(&self) -> Result<&str> {
        self.mask.as_deref().ok_or_else(|| Error::Setting {
            setting: "dataset.parquet.mask",
            reason: "this experiment needs masks; name the column that holds them".into(),
        })
    }

    /// Returns the name of the class of a row.
    fn name(&self, names: &[String], label: usize, row: &Row) -> Result<String> {
        names.get(label).cloned().ok_or_else(|| Error::Dataset {
            path: row.place().into(),
            reason: format!("has the label {label}, but there are names for {} classes only", names.len()),
        })
    }

    /// Returns the classes of mask values. Fails if there are more names than values, or a name is repeated.
    fn table(&self, names: &[String]) -> Result<Arc<ClassTable>> {
        let refuse = |reason| Error::Setting { setting: "dataset.parquet.names", reason };
        let most = usize::from(IGNORE) - 1;
        if names.len() > most {
            return Err(refuse(format!("there are {} names; a pixel map has room for {most}", names.len())));
        }
        let mut seen = BTreeSet::from(["background"]);
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(refuse(format!("the name `{name}` is repeated or stands for the value 0")));
        }
        let values = (0..=IGNORE - 1).take(names.len() + 1).map(|value| (value, value));
        let ignored = self.ignore.map(|value| (value, IGNORE));
        let holds =
            "there are fewer names of classes; the first name belongs to the value 1, 0 is the background";
        Ok(Arc::new(ClassTable::new(values.chain(ignored), holds)))
    }

    /// Returns the labels that occur in each mask. They are known only from the masks, which are read once per process.
    fn present(&self, rows: &Rows, names: &[String], table: &ClassTable) -> Result<Present> {
        static KNOWN: Mutex<BTreeMap<Key, Present>> = Mutex::new(BTreeMap::new());
        let key = (rows.state(), self.mask.clone().unwrap_or_default(), names.len(), self.ignore);
        if let Some(present) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(present));
        }
        let labels = |row: usize| {
            let row = rows.row(row);
            let refuse = |reason: String| Error::Dataset { path: row.place().into(), reason };
            let labels = label_map::decode(&row.mask()?).and_then(|labels| table.labels(labels));
            let labels = labels.map_err(|reason| refuse(format!("the mask {reason}")))?;
            Ok(labels.iter().copied().filter(|&label| label != 0 && label != IGNORE).collect())
        };
        let present = (0..rows.len()).into_par_iter().map(labels).collect::<Result<Vec<_>>>()?;
        let present = Arc::new(present);
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&present));
        Ok(present)
    }
}

fn classes_of(rows: &Rows, row: usize, table: &Arc<ClassTable>) -> Source {
    Source::Row { row: rows.row(row), reading: Reading::Classes(Arc::clone(table)), label: 1 }
}
