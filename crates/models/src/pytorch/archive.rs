//! The zip archives of `torch.save`: `NAME/data.pkl`, and `NAME/data/KEY` with the numbers of each storage, stored
//! without compression.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::Unpickled;
use super::{Stored, entries};
use crate::limits::PICKLE_BYTES;
use crate::tensor_entry::{Checksum, TensorEntry};

const PICKLE: &str = "data.pkl";

/// Reads the descriptions of the tensors of an archive.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, TensorEntry)>, String> {
    let mut zip = Zip { archive: ZipArchive::new(Cursor::new(bytes)).map_err(|error| text(&error))?, bytes };
    let folder = zip.folder()?;
    let (range, _) = zip.entry(&format!("{folder}{PICKLE}"))?;
    if range.len() as u64 > PICKLE_BYTES {
        let most = PICKLE_BYTES;
        return Err(format!("its {PICKLE} has {} bytes; the maximum is {most}", range.len()));
    }
    let order = format!("{folder}byteorder");
    if zip.has(&order) && &bytes[zip.entry(&order)?.0] != b"little" {
        return Err("its numbers are stored with the highest byte first, which is not read".into());
    }
    let pickle = Unpickled::read(&bytes[range])?.0;
    let mut taken: Vec<Range<usize>> = Vec::new();
    entries(&pickle, |key, storage| {
        let name = format!("{folder}data/{key}");
        let (range, crc) = zip.entry(&name)?;
        let size = storage.kind.map_or(1, |kind| kind.elt_size_in_bytes());
        if storage.numbers.checked_mul(size) != Some(range.len()) {
            let (numbers, found) = (storage.numbers, range.len());
            return Err(format!("{name} has {found} bytes, which is not the size of {numbers} numbers"));
        }
        if storage.view.is_some() {
            return Err("a storage is a view, which archives do not have".into());
        }
        // torch.save never writes two storages that share bytes.
        let at = taken.partition_point(|other| other.start < range.start);
        let overlaps = |other: Option<&Range<usize>>| {
            other.is_some_and(|other| other.start < range.end && range.start < other.end)
        };
        if overlaps(taken.get(at)) || overlaps(at.checked_sub(1).and_then(|before| taken.get(before))) {
            return Err(format!("{name} overlaps another storage"));
        }
        taken.insert(at, range.clone());
        // PyTorch can leave checksums out and stores zero then.
        let checksum = (crc != 0).then(|| Arc::new(Checksum::new(range.clone(), crc)));
        Ok(Stored { bytes: range, checksum })
    })
}

struct Zip<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    bytes: &'a [u8],
}

impl Zip<'_> {
    fn has(&self, name: &str) -> bool {
        self.archive.file_names().any(|file| file == name)
    }

    /// Returns the folder that holds everything, with its slash.
    fn folder(&self) -> Result<String, String> {
        let folders = |file| {
            let mut folders: Vec<&str> =
                self.archive.file_names().filter_map(|name| name.strip_suffix(file)).collect();
            folders.retain(|folder| {
                folder.is_empty() || (folder.ends_with('/') && folder.matches('/').count() == 1)
            });
            folders
        };
        if !folders("constants.pkl").is_empty() {
            return Err("it is a TorchScript program; only tensors are read: in Python, save \
                        `torch.jit.load(…).state_dict()` with `torch.save` or safetensors"
                .into());
        }
        match folders(PICKLE).as_slice() {
            [folder] => Ok((*folder).to_owned()),
            [] => Err(format!("it is a zip archive without {PICKLE}, so `torch.save` has not written it")),
            several => Err(format!("it holds {PICKLE} {} times", several.len())),
        }
    }

    /// Returns where an entry lies in the file, and its checksum.
    fn entry(&mut self, name: &str) -> Result<(Range<usize>, u32), String> {
        let entry = match self.archive.by_name(name) {
            Err(ZipError::FileNotFound) => return Err(format!("it lacks {name}")),
            entry => entry.map_err(|error| text(&error))?,
        };
        if entry.compression() != CompressionMethod::Stored {
            return Err(format!("{name} is compressed, which `torch.save` never does"));
        }
        let range = usize::try_from(entry.data_start()).ok().and_then(|start| {
            let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
            (end <= self.bytes.len() && entry.size() == entry.compressed_size()).then_some(start..end)
        });
        Ok((range.ok_or_else(|| format!("{name} reaches beyond the end of the file"))?, entry.crc32()))
    }
}

fn text(error: &ZipError) -> String {
    format!("it is not a whole zip archive: {error}")
}
