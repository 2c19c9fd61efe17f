//! The MATLAB v7.3 file of ImageNet-Segmentation, which is an HDF5 file.
//!
//! `/value` is a struct of three cell arrays of the same length, stored as references: `img` to `uint8` images, `gt` to
//! cells whose first element refers to a `uint8` mask of 0 and 1, `id` to UTF-16 names such as `n02123045_1234`. MATLAB
//! stores columns first, so an image has the shape `[3, width, height]` and a mask `[width, height]`.
//!
//! The layout follows the readers of Chefer et al. (<https://github.com/hila-chefer/Transformer-Explainability>,
//! `data/Imagenet.py`) and of ConceptAttention.

use std::fmt;
use std::path::{Path, PathBuf};

use hdf5_pure::{ChunkCacheConfig, DType, Dataset, File, FileAccessProperties, Object};
use models::image::Rgb8;
use models::limits::{DEFLATE_RATIO, MAX_PIXELS};
use ndarray::Array2;

use super::{Segmented, digest};
use crate::dataset::imagenet::is_synset;
use crate::error::{Error, Result};

/// Download address of the file.
const URL: &str = "http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat";
/// Upper limit for the number of entries and the length of names.
const MAX_ENTRIES: u64 = 1 << 20;
const MAX_NAME: u64 = 256;

/// The opened file, and the positions of its images and masks. Images are read on demand and not kept.
pub(in crate::dataset) struct Archive {
    path: PathBuf,
    /// Size of the file in bytes.
    length: u64,
    images: Vec<Dataset>,
    truths: Vec<Dataset>,
    synsets: Vec<String>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("path", &self.path).field("images", &self.images.len()).finish()
    }
}

/// The result of a check of the file; the error does not name the file.
type Check<T> = std::result::Result<T, String>;

impl Archive {
    /// Opens the file and reads the synsets of its images.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let refuse = |reason: String| Error::Dataset { path: path.into(), reason };
        if !path.is_file() {
            return Err(Error::NoData {
                path: path.into(),
                reason: format!("no such file; get it from {URL}"),
                setting: "dataset.imagenet-segmentation.path",
                value: "FILE",
            });
        }
        match hdf5_pure::is_hdf5(path) {
            Ok(true) => {}
            Ok(false) => {
                return Err(refuse(format!(
                    "is not a MATLAB v7.3 (HDF5) file; get gtsegs_ijcv.mat from {URL}"
                )));
            }
            Err(e) => return Err(refuse(format!("cannot be read: {e}"))),
        }
        Self::index(path).map_err(|reason| refuse(unlike(&reason)))
    }

    fn index(path: &Path) -> Check<Self> {
        // Each image is read once or twice in a run, so a cache of chunks would only fill the memory.
        let properties = FileAccessProperties::new().with_chunk_cache(ChunkCacheConfig::disabled());
        let length = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        let file = File::open_streaming_with_options(path, properties).map_err(|e| e.to_string())?;
        let images = column(&file, "/value/img", length)?;
        let truths = column(&file, "/value/gt", length)?;
        let ids = column(&file, "/value/id", length)?;
        if images.is_empty() || images.len() != truths.len() || images.len() != ids.len() {
            let counts = [images.len(), truths.len(), ids.len()];
            return Err(format!(
                "/value has {counts:?} entries of img, gt and id, which should be equally many"
            ));
        }
        let synset =
            |(index, id)| synset(id, length).map_err(|reason| format!("/value/id[{index}] {reason}"));
        let synsets = ids.iter().enumerate().map(synset).collect::<Check<_>>()?;
        Ok(Self { path: path.into(), length, images, truths, synsets })
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The synset of each image, such as `n02123045`.
    pub(crate) fn synsets(&self) -> &[String] {
        &self.synsets
    }

    /// Reads one image and its mask.
    pub(crate) fn load(&self, index: usize) -> Result<Segmented> {
        self.entry(index).map_err(|reason| {
            let reason = unlike(&format!("image {index} of {}: {reason}", self.images.len()));
            Error::Dataset { path: self.path.clone(), reason }
        })
    }

    fn entry(&self, index: usize) -> Check<Segmented> {
        let (image, truth) = (self.images.get(index), self.truths.get(index));
        let (Some(image), Some(truth)) = (image, truth) else { return Err("there is no such image".into()) };
        let &[3, width, height] = self.shape(image, "the image")?.as_slice() else {
            return Err(format!("the image has shape {:?}, not [3, width, height]", image.shape()));
        };
        let mask = referred(truth, "gt", self.length)?.into_iter().next().ok_or("gt is an empty cell")?;
        let found = self.shape(&mask, "the mask")?;
        if found != [width, height] {
            return Err(format!(
                "the mask has shape {found:?} but the image of shape {:?} needs [{width}, {height}]",
                [3, width, height]
            ));
        }
        let planes = self.samples(image, "the image")?;
        let mask = self.samples(&mask, "the mask")?;
        if let Some(value) = mask.iter().find(|&&value| value > 1) {
            return Err(format!("the mask holds the value {value}; only 0 and 1 are allowed"));
        }
        let sha256 = digest(&planes, &mask);
        let size = (width as usize, height as usize);
        let rgb = Rgb8 { width: size.0, height: size.1, data: rows_first(&planes, size)? };
        let labels = Array2::from_shape_vec(size, mask).map_err(|e| e.to_string())?;
        let labels = labels.reversed_axes().as_standard_layout().into_owned();
        Ok(Segmented { rgb, labels, sha256, image_sha256: None })
    }

    /// Returns the shape of an array of bytes. Fails if it is empty or larger than the file could hold.
    fn shape(&self, dataset: &Dataset, what: &str) -> Check<Vec<u64>> {
        let refuse = |e: hdf5_pure::Error| format!("{what}: {e}");
        let shape = dataset.shape().map_err(refuse)?;
        let kind = dataset.dtype().map_err(refuse)?;
        if !matches!(kind, DType::U8) {
            return Err(format!("{what} has samples of type {kind}, not u8"));
        }
        let most = self.length.saturating_mul(DEFLATE_RATIO).min(3 * MAX_PIXELS);
        match area(&shape) {
            Some(size) if size > 0 && size <= most => Ok(shape),
            _ => Err(format!("{what} has the impossible shape {shape:?}")),
        }
    }

    fn samples(&self, dataset: &Dataset, what: &str) -> Check<Vec<u8>> {
        check_chunks(dataset, self.length).map_err(|reason| format!("{what}: {reason}"))?;
        dataset.read_u8().map_err(|e| format!("{what}: {e}"))
    }
}

/// Reorders `[3, width, height]` to `[height, width, 3]`.
fn rows_first(planes: &[u8], (width, height): (usize, usize)) -> Check<Vec<u8>> {
    let planes = ndarray::ArrayView3::from_shape((3, width, height), planes).map_err(|e| e.to_string())?;
    Ok(planes.permuted_axes([2, 1, 0]).iter().copied().collect())
}

/// Returns the arrays to which the elements of a cell array refer.
fn column(file: &File, name: &str, length: u64) -> Check<Vec<Dataset>> {
    let cells = file.dataset(name).map_err(|e| format!("{name}: {e}"))?;
    referred(&cells, name, length)
}

fn referred(cells: &Dataset, name: &str, length: u64) -> Check<Vec<Dataset>> {
    let refuse = |e: hdf5_pure::Error| format!("{name}: {e}");
    let count = area(&cells.shape().map_err(refuse)?).filter(|&count| count <= MAX_ENTRIES);
    if count.is_none() || !matches!(cells.dtype().map_err(refuse)?, DType::ObjectReference) {
        return Err(format!("{name} is not a cell array"));
    }
    check_chunks(cells, length).map_err(|reason| format!("{name}: {reason}"))?;
    let objects = cells.dereference().map_err(refuse)?;
    let dataset = |object| {
        let Object::Dataset(dataset) = object else {
            return Err(format!("{name} holds something other than arrays"));
        };
        Ok(*dataset)
    };
    objects.into_iter().map(dataset).collect()
}

/// Fails if a chunk lies outside of the file: the library would allocate memory for the claimed size before it reads.
fn check_chunks(dataset: &Dataset, length: u64) -> Check<()> {
    if !dataset.is_chunked() {
        return Ok(());
    }
    let chunks = dataset.chunks().map_err(|e| e.to_string())?;
    match chunks.iter().find(|chunk| chunk.address.saturating_add(chunk.storage_size) > length) {
        None => Ok(()),
        Some(chunk) => {
            Err(format!("a chunk of {} bytes ends beyond the end of the file", chunk.storage_size))
        }
    }
}

/// Returns the synset of an id: `n02123045` for `n02123045_1234`.
fn synset(id: &Dataset, length: u64) -> Check<String> {
    let refuse = |e: hdf5_pure::Error| e.to_string();
    if area(&id.shape().map_err(refuse)?).is_none_or(|length| length > MAX_NAME) {
        return Err("is not a name".into());
    }
    check_chunks(id, length)?;
    let text = String::from_utf16_lossy(&id.read_u16().map_err(refuse)?);
    let name = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let synset = name.split('_').next().unwrap_or_default();
    if is_synset(synset) {
        return Ok(synset.to_owned());
    }
    Err(format!("is {name:?}, which does not begin with a synset such as n02123045"))
}

/// Number of elements; `None` beyond 64 bits.
fn area(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |area, &side| area.checked_mul(side))
}

fn unlike(reason: &str) -> String {
    format!("is damaged or not laid out like gtsegs_ijcv.mat: {reason}. Download the file again from {URL}")
}
