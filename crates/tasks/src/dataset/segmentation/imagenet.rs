//! ImageNet-Segmentation: 4,276 images of ImageNet with a mask of the object, 445 classes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gtsegs::Archive;
use super::{NamedClass, SegmentedImage, Source};
use crate::dataset::Subset;
use crate::error::{Error, Result};

/// The name of each synset in prompts, as in ConceptAttention; the file says how it was made.
const NAMES: &str = include_str!("../../../../../datasets/imagenet-segmentation/names.toml");

/// `[dataset.imagenet-segmentation]`: the file of Guillaumin, Küttel and Ferrari, "ImageNet auto-annotation with
/// segmentation propagation", IJCV 2014.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageNetSegmentationConfig {
    /// Path of the file `gtsegs_ijcv.mat`.
    pub path: PathBuf,
    /// TOML file with the name of each synset for prompts, in lines such as `n02123045 = "cat"`. Default: short names that come
    /// with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<PathBuf>,
    /// Random subset of the images. Default: all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
}

impl ImageNetSegmentationConfig {
    pub(in crate::dataset) fn segmented(&self) -> Result<Vec<SegmentedImage>> {
        let (names, place) = match &self.names {
            Some(path) => (read_names(path)?, path.as_path()),
            None => {
                (parse(NAMES, Path::new("names.toml"))?, Path::new("the names that come with the program"))
            }
        };
        let archive = Arc::new(Archive::open(&self.path)?);
        let unknown: BTreeSet<&str> = archive
            .synsets()
            .iter()
            .map(String::as_str)
            .filter(|&synset| !names.contains_key(synset))
            .collect();
        if !unknown.is_empty() {
            let (few, more) = (unknown.iter().take(5).copied().collect::<Vec<_>>(), unknown.len() > 5);
            let reason = format!(
                "no name for the synset{} {}{} of {}; list all in a file of lines such as `n02123045 = \"cat\"` and set \
                 dataset.imagenet-segmentation.names to it",
                if unknown.len() == 1 { "" } else { "s" },
                few.join(", "),
                if more { ", …" } else { "" },
                self.path.display()
            );
            return Err(Error::Dataset { path: place.into(), reason });
        }
        let item = |(index, synset): (usize, &String)| {
            let classes = names.get(synset).map(|name| NamedClass { label: 1, name: name.clone() });
            let source = Source::Archive { archive: Arc::clone(&archive), index };
            SegmentedImage::new(format!("{synset}-{index:05}"), classes.into_iter().collect(), source)
        };
        let items = archive.synsets().iter().enumerate().map(item).collect();
        match self.subset {
            Some(subset) => subset.draw(items, |item: &SegmentedImage| &item.id, &self.path),
            None => Ok(items),
        }
    }
}

fn read_names(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = limits::read_text(path, limits::EXPERIMENT_BYTES)
        .map_err(|e| Error::Dataset { path: path.into(), reason: format!("cannot be read: {e}") })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<BTreeMap<String, String>> {
    let refuse = |reason: String| Error::Dataset { path: path.into(), reason };
    let names: BTreeMap<String, String> = toml::from_str(text).map_err(|e| {
        refuse(format!("is not a list of lines such as `n02123045 = \"cat\"`: {}", e.to_string().trim_end()))
    })?;
    match names.iter().find(|(_, name)| name.trim().is_empty()) {
        None => Ok(names),
        Some((synset, _)) => Err(refuse(format!("the name of {synset} is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::imagenet::is_synset;

    #[test]
    fn the_names_are_those_of_the_published_protocol() {
        let names = parse(NAMES, Path::new("names.toml")).unwrap();
        assert!(names.keys().all(|synset| is_synset(synset)));
        let distinct: BTreeSet<&String> = names.values().collect();
        assert_eq!(distinct.len(), 72);
        for (synset, name) in
            [("n02123045", "cat"), ("n02442172", "ferret"), ("n01877812", "mouse"), ("n02690373", "plane")]
        {
            assert_eq!(names.get(synset).map(String::as_str), Some(name), "{synset}");
        }
    }
}
