//! A tensor in a file that is mapped into memory.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, TchError, Tensor};

/// Where a tensor lies in a file, and how its numbers are stored.
pub(crate) struct TensorEntry {
    /// Type of the numbers, or the name of a type that libtorch does not have.
    pub(crate) kind: Result<Kind, String>,
    pub(crate) shape: Vec<i64>,
    /// Distances between neighbours along every side, in numbers; `None` if the numbers lie one after another.
    pub(crate) strides: Option<Vec<i64>>,
    /// From the first number to the last.
    pub(crate) bytes: Range<usize>,
    pub(crate) checksum: Option<Arc<Checksum>>,
}

/// The checksum of a part of a file, which is checked once.
pub(crate) struct Checksum {
    bytes: Range<usize>,
    crc32: u32,
    checked: AtomicBool,
}

/// A tensor could not be read from a file.
pub(crate) enum EntryError {
    /// The file is damaged; the reason.
    Damaged(&'static str),
    Torch(TchError),
}

impl From<TchError> for EntryError {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

impl Checksum {
    pub(crate) fn new(bytes: Range<usize>, crc32: u32) -> Self {
        Self { bytes, crc32, checked: AtomicBool::new(false) }
    }

    fn fits(&self, file: &[u8]) -> bool {
        // Threads that check at the same time find the same.
        let fits = self.checked.load(Ordering::Relaxed)
            || file.get(self.bytes.clone()).is_some_and(|bytes| crc32fast::hash(bytes) == self.crc32);
        self.checked.store(fits, Ordering::Relaxed);
        fits
    }
}

impl TensorEntry {
    /// Reads the tensor, in its stored type `kind` and contiguous.
    ///
    /// # Errors
    /// The file has another checksum or is too short; libtorch fails.
    pub(crate) fn read(&self, kind: Kind, file: &[u8]) -> Result<Tensor, EntryError> {
        if self.checksum.as_ref().is_some_and(|checksum| !checksum.fits(file)) {
            return Err(EntryError::Damaged("its numbers do not fit their checksum"));
        }
        let bytes = file.get(self.bytes.clone()).ok_or(EntryError::Damaged("the file is too short"))?;
        let Some(strides) = &self.strides else {
            return Ok(Tensor::f_from_data_size(bytes, &self.shape, kind)?);
        };
        let numbers = bytes.len() / kind.elt_size_in_bytes().max(1);
        let flat = Tensor::f_from_data_size(bytes, &[numbers as i64], kind)?;
        Ok(flat.f_as_strided(&self.shape, strides, None)?.f_contiguous()?)
    }
}
