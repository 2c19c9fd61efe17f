//! Where published data sets come from: the archives in their descriptors, `datasets/*/*.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::hub::{UnpackedFolder, WebFile};
use serde::Deserialize;

use super::DatasetConfig;
use crate::error::{Error, Result};

/// A file or archive of a data set that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPart {
    /// Where it comes from.
    pub file: WebFile,
    /// Whether it is served after a registration only, so that the user must download it.
    pub login: bool,
    /// Where it goes.
    pub place: Place,
}

/// Where a part of a data set goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is a file of the data set.
    File(PathBuf),
    /// It is an archive, and these folders of it are unpacked.
    Folders(Vec<UnpackedFolder>),
}

impl Place {
    fn is_there(&self) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Folders(folders) => folders.iter().all(UnpackedFolder::is_there),
        }
    }

    /// The folder whose disk is filled.
    pub fn folder(&self) -> &Path {
        let path = match self {
            Self::File(path) => Some(path.as_path()),
            Self::Folders(folders) => folders.first().map(|folder| folder.to.as_path()),
        };
        path.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

/// The part of a descriptor that says where the data come from.
#[derive(Deserialize)]
struct Descriptor {
    licence: String,
    archives: Vec<Archive>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    url: String,
    size: Option<u64>,
    md5: Option<String>,
    #[serde(default)]
    login: bool,
    /// Folder in the archive → folder below that of the data set. Empty if the file is used as it is.
    #[serde(default)]
    folders: BTreeMap<String, PathBuf>,
}

macro_rules! descriptor {
    ($name:literal) => {
        include_str!(concat!("../../../../datasets/", $name, "/", $name, ".toml"))
    };
}

const CITYSCAPES: &str = descriptor!("cityscapes");
const COCO_STUFF: &str = descriptor!("coco-stuff");
const IMAGENET: &str = descriptor!("imagenet");
const IMAGENET_SEGMENTATION: &str = descriptor!("imagenet-segmentation");
const PASCAL_VOC: &str = descriptor!("pascal-voc");

impl DatasetConfig {
    /// Returns the parts of a published data set that are not where this configuration expects them. Data of the user's
    /// own have no parts.
    ///
    /// # Errors
    /// Fails if an embedded descriptor is damaged, which a test rules out.
    pub fn missing(&self) -> Result<Vec<MissingPart>> {
        match self {
            Self::Cityscapes(config) => parts(CITYSCAPES, &config.split, &|below| config.root.join(below)),
            Self::CocoStuff(config) => parts(COCO_STUFF, "", &|below| config.root.join(config.place(below))),
            Self::Imagenet(config) => parts(IMAGENET, "", &|_| config.root.clone()),
            Self::ImagenetSegmentation(config) => parts(IMAGENET_SEGMENTATION, "", &|_| config.path.clone()),
            Self::PascalVoc(config) => parts(PASCAL_VOC, &config.split, &|below| config.root.join(below)),
            // Of a folder that COCO publishes, the images are known.
            Self::Reference(config) => {
                let parts = parts(COCO_STUFF, "", &|below| config.path.with_file_name(below))?;
                let is_wanted = |part: &MissingPart| match &part.place {
                    Place::Folders(folders) => folders.iter().any(|folder| folder.to == config.path),
                    Place::File(_) => false,
                };
                Ok(parts.into_iter().filter(is_wanted).collect())
            }
            Self::Folder(_) | Self::Masks(_) | Self::Mini(_) | Self::Parquet(_) => Ok(Vec::new()),
        }
    }
}

/// Returns the missing parts of a descriptor; `place` says where a folder goes.
fn parts(descriptor: &str, split: &str, place: &dyn Fn(&Path) -> PathBuf) -> Result<Vec<MissingPart>> {
    let damaged = |e: toml::de::Error| Error::Dataset { path: "datasets".into(), reason: e.to_string() };
    let Descriptor { licence, archives } = toml::from_str(descriptor).map_err(damaged)?;
    let part = |archive: Archive| {
        let folder = |(from, to): (&String, &PathBuf)| UnpackedFolder {
            from: from.replace("{split}", split),
            to: place(Path::new(&to.to_string_lossy().replace("{split}", split))),
        };
        let target = match archive.folders.is_empty() {
            true => Place::File(place(Path::new(""))),
            false => Place::Folders(archive.folders.iter().map(folder).collect()),
        };
        let Archive { url, size, md5, login, .. } = archive;
        let mut file =
            WebFile { name: String::new(), url, licence: licence.clone(), size, sha256: None, md5 };
        file.name = file.file_name().to_owned();
        MissingPart { file, login, place: target }
    };
    Ok(archives.into_iter().map(part).filter(|part| !part.place.is_there()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(dataset: &str) -> Vec<MissingPart> {
        let config: DatasetConfig = toml::from_str(dataset).expect("a dataset");
        config.missing().expect("whole descriptors")
    }

    #[test]
    fn every_published_data_set_says_where_its_parts_come_from() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let root = dir.path().display();
        for (dataset, files) in [
            (
                format!("coco-stuff = {{ root = '{root}' }}"),
                &["val2017.zip", "stuffthingmaps_trainval2017.zip"][..],
            ),
            (format!("pascal-voc = {{ root = '{root}' }}"), &["VOCtrainval_11-May-2012.tar"]),
            (format!("imagenet = {{ root = '{root}/val' }}"), &["ILSVRC2012_img_val.tar"]),
            (format!("imagenet-segmentation = {{ path = '{root}/gtsegs_ijcv.mat' }}"), &["gtsegs_ijcv.mat"]),
            (
                format!("cityscapes = {{ root = '{root}' }}"),
                &["leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"],
            ),
            (format!("reference = {{ path = '{root}/val2017' }}"), &["val2017.zip"]),
            (format!("reference = {{ path = '{root}/mine' }}"), &[]),
            (format!("folder = {{ root = '{root}' }}"), &[]),
            ("mini = { count = 3 }".to_owned(), &[]),
        ] {
            let parts = missing(&dataset);
            let found: Vec<&str> = parts.iter().map(|part| part.file.file_name()).collect();
            assert_eq!(found, files, "{dataset}");
            for part in parts {
                assert!(part.file.url.starts_with("http") && !part.file.licence.is_empty(), "{part:?}");
                let below = |path: &Path| assert!(path.starts_with(dir.path()), "{part:?}");
                match &part.place {
                    Place::File(path) => below(path),
                    Place::Folders(folders) => folders.iter().for_each(|folder| below(&folder.to)),
                }
            }
        }
    }

    #[test]
    fn parts_that_are_there_are_not_missing() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let dataset = format!("coco-stuff = {{ root = '{}', images = 'photos' }}", dir.path().display());
        let places = || -> Vec<PathBuf> {
            let folders = |part: MissingPart| match part.place {
                Place::Folders(folders) => folders.into_iter().map(|folder| folder.to).collect::<Vec<_>>(),
                Place::File(path) => vec![path],
            };
            missing(&dataset).into_iter().flat_map(folders).collect()
        };
        let (photos, maps) = (dir.path().join("photos"), dir.path().join("stuffthingmaps/val2017"));
        assert_eq!(places(), [photos.clone(), maps.clone()]);
        std::fs::create_dir(&photos).expect("writable");
        assert_eq!(places(), [photos.clone(), maps.clone()], "an empty folder is nothing");
        std::fs::write(photos.join("1.jpg"), "").expect("writable");
        assert_eq!(places(), [maps]);
    }
}
