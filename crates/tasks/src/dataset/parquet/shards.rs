//! Reading values of columns from Parquet files, page by page.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use models::limits::PICTURE_BYTES;

use super::footer::{Chunk, Footer, ImageColumn, Leaf, RowGroup};
use super::page::{Header, Page, PageKind, Values};
use super::thrift::Check;
use crate::error::{Error, Result};

const MAGIC: &[u8; 4] = b"PAR1";
/// Maximum size of a footer, in bytes. Those of ImageNet's shards have about 10 kB.
const FOOTER_BYTES: u64 = 16 << 20;
/// Bytes that are read to find the header of a page; headers with long statistics need more.
const HEADER_BYTES: u64 = 4 << 10;
/// Maximum size of the header of a page, in bytes.
const MOST_HEADER_BYTES: u64 = 16 << 20;
/// Number of rows that a file may have besides eight for each of its bytes. Only rows that are all null or all alike take
/// less, and a row that is listed takes about 200 bytes of memory.
const SPARE_ROWS: u64 = 1000;

/// Length and time of the last change of a file.
pub(in crate::dataset) type Stamp = (u64, Option<SystemTime>);

/// A Parquet file, of which the footer has been read.
#[derive(Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    pub footer: Footer,
    /// State of the file when the footer was read.
    pub stamp: Stamp,
}

impl Shard {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let refuse = |reason: String| Error::Dataset { path: path.into(), reason };
        if !path.is_file() {
            return Err(refuse("is not a file".into()));
        }
        let (mut file, stamp) = open(path).map_err(refuse)?;
        let damaged = |reason: String| {
            refuse(format!("is damaged or not a Parquet file: {reason}. Download the file again"))
        };
        let bytes = footer(&mut file, stamp.0).map_err(damaged)?;
        let footer = Footer::parse(&bytes).map_err(|reason| damaged(format!("its footer: {reason}")))?;
        let most = stamp.0.saturating_mul(8).saturating_add(SPARE_ROWS);
        if footer.rows > most {
            return Err(damaged(format!("{} bytes cannot hold {} rows", stamp.0, footer.rows)));
        }
        Ok(Self { path: path.into(), footer, stamp })
    }

    /// Opens the file again. Fails if it is not the one whose footer was read.
    fn reopen(&self) -> Check<File> {
        let (file, stamp) = open(&self.path)?;
        if stamp != self.stamp {
            return Err("changed while it was being read; run the same command again".into());
        }
        Ok(file)
    }

    fn chunk(&self, group: usize, leaf: Leaf) -> Check<(&RowGroup, &Chunk)> {
        let group = self.footer.groups.get(group).ok_or("it has no such row group")?;
        let chunk = group.chunks.get(leaf.index).ok_or("it has no such column")?;
        chunk.check(self.stamp.0, group.rows)?;
        Ok((group, chunk))
    }

    /// Calls `each` with the values of all rows in order, and the number of the row.
    pub(super) fn each_row(
        &self,
        leaf: Leaf,
        mut each: impl FnMut(u64, Option<&[u8]>) -> Check<()>,
    ) -> Check<()> {
        let mut number = 0;
        for group in 0..self.footer.groups.len() {
            let mut column = Column::new(leaf);
            let rows = self.chunk(group, leaf)?.0.rows;
            for row in 0..rows {
                each(number, column.row(self, group, row)?)?;
                number += 1;
            }
        }
        Ok(())
    }

    /// Returns the row group of a row, and the number of the row in it.
    fn place(&self, row: u64) -> Option<(usize, u64)> {
        let mut first = 0;
        for (number, group) in self.footer.groups.iter().enumerate() {
            if row - first < group.rows {
                return Some((number, row - first));
            }
            first += group.rows;
        }
        None
    }
}

fn open(path: &Path) -> Check<(File, Stamp)> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    Ok((file, (found.len(), found.modified().ok())))
}

fn read_at(file: &mut File, at: u64, length: u64) -> Check<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut read = |file: &mut File| {
        bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))?;
        file.seek(SeekFrom::Start(at))?;
        file.take(length).read_to_end(&mut bytes)
    };
    match read(file) {
        Ok(found) if found as u64 == length => Ok(bytes),
        Ok(_) => Err("it ends too early".into()),
        Err(e) => Err(format!("it cannot be read: {e}")),
    }
}

fn footer(file: &mut File, length: u64) -> Check<Vec<u8>> {
    if length < 12 || read_at(file, 0, 4)? != MAGIC {
        return Err("it does not begin with PAR1".into());
    }
    let end = read_at(file, length - 8, 8)?;
    match (end.first_chunk(), end.last_chunk()) {
        (Some(size), Some(MAGIC)) => {
            let size = u64::from(u32::from_le_bytes(*size));
            if size > (length - 12).min(FOOTER_BYTES) {
                return Err(format!("its footer claims {size} bytes"));
            }
            read_at(file, length - 8 - size, size)
        }
        _ => Err("it does not end with PAR1, as if a download had been cut off".into()),
    }
}

/// A column of one row group. Of its pages, the dictionary and the one that was read last are kept.
#[derive(Debug)]
struct Column {
    leaf: Leaf,
    pages: Option<Pages>,
    /// The position among the pages of the page that was read last.
    last: Option<(usize, Page)>,
}

/// Where the pages of a column lie.
#[derive(Debug)]
struct Pages {
    dictionary: Option<(Header, u64)>,
    unpacked: Option<Arc<Values>>,
    /// The header of each data page, the position of its content in the file and its first row.
    data: Vec<(Header, u64, u64)>,
}

impl Column {
    fn new(leaf: Leaf) -> Self {
        Self { leaf, pages: None, last: None }
    }

    /// Returns the value of a row of the row group. Reads its page unless that is the one read last.
    fn row(&mut self, shard: &Shard, group: usize, row: u64) -> Check<Option<&[u8]>> {
        let held = |pages: &Pages, at: usize| {
            pages.data.get(at).is_some_and(|(header, _, first)| row >= *first && row - first < header.values)
        };
        let is_held = match (&self.pages, &self.last) {
            (Some(pages), Some((at, _))) => held(pages, *at),
            _ => false,
        };
        if !is_held {
            self.turn_to(shard, group, row)?;
        }
        let (Some(pages), Some((at, page))) = (&self.pages, &self.last) else { return Ok(None) };
        let first = pages.data.get(*at).map_or(0, |(.., first)| *first);
        Ok(page.row(usize::try_from(row - first).unwrap_or(usize::MAX)))
    }

    /// Reads the page of a row.
    fn turn_to(&mut self, shard: &Shard, group: usize, row: u64) -> Check<()> {
        let (group, chunk) = shard.chunk(group, self.leaf)?;
        let mut file = shard.reopen()?;
        // Freed before the next one is read.
        self.last = None;
        if self.pages.is_none() {
            self.pages = Some(Pages::find(&mut file, chunk, group.rows)?);
        }
        let Some(pages) = &mut self.pages else { return Ok(()) };
        let at = pages.data.partition_point(|(.., first)| *first <= row).checked_sub(1);
        let (at, (header, start, _)) = at
            .and_then(|at| Some((at, *pages.data.get(at)?)))
            .ok_or_else(|| format!("no page has row {row} of a row group"))?;
        if header.needs_dictionary()
            && pages.unpacked.is_none()
            && let Some((header, start)) = pages.dictionary
        {
            let bytes = read_at(&mut file, start, header.packed)?;
            pages.unpacked = Some(Arc::new(Values::dictionary(&header, bytes, chunk.codec, self.leaf)?));
        }
        let bytes = read_at(&mut file, start, header.packed)?;
        let page = Page::read(&header, bytes, chunk.codec, self.leaf, pages.unpacked.as_ref())?;
        self.last = Some((at, page));
        Ok(())
    }
}

impl Pages {
    /// Reads the headers of all pages of a chunk, but not their contents.
    fn find(file: &mut File, chunk: &Chunk, rows: u64) -> Check<Self> {
        let mut pages = Self { dictionary: None, unpacked: None, data: Vec::new() };
        let end = chunk.start.saturating_add(chunk.length);
        let (mut at, mut first) = (chunk.start, 0_u64);
        while first < rows {
            let (header, length) = header(file, at, end)?;
            at = at.saturating_add(length);
            if at.saturating_add(header.packed) > end {
                return Err(format!("a page of {} bytes ends beyond its column", header.packed));
            }
            match header.kind {
                PageKind::Data | PageKind::DataV2 => {
                    if header.values == 0 || header.values > rows - first {
                        return Err(format!("a page claims {} of {rows} rows", header.values));
                    }
                    pages.data.push((header, at, first));
                    first += header.values;
                }
                PageKind::Dictionary if pages.dictionary.is_none() => pages.dictionary = Some((header, at)),
                PageKind::Dictionary => return Err("a column has two dictionaries".into()),
                PageKind::Index => {}
            }
            at += header.packed;
        }
        Ok(pages)
    }
}

/// Reads the header of the page at a position, and its length.
fn header(file: &mut File, at: u64, end: u64) -> Check<(Header, u64)> {
    let most = end.saturating_sub(at).min(MOST_HEADER_BYTES);
    let mut length = HEADER_BYTES.min(most);
    loop {
        let bytes = read_at(file, at, length)?;
        match Header::parse(&bytes) {
            Ok((header, length)) => return Ok((header, length as u64)),
            Err(reason) if length == most => return Err(reason),
            // The statistics of a page may be long.
            Err(_) => length = length.saturating_mul(16).min(most),
        }
    }
}

/// The files of a dataset, of which the row groups that were read last are kept.
#[derive(Debug)]
pub(super) struct Shards {
    pub shards: Vec<Shard>,
    /// For each file, the columns of images and of masks.
    pub columns: Vec<(ImageColumn, Option<Leaf>)>,
    recent: Mutex<VecDeque<(GroupKey, Arc<Group>)>>,
}

/// A file and a row group in it.
type GroupKey = (usize, usize);

/// The columns of a row group that are read row by row.
#[derive(Debug)]
struct Group {
    image: Mutex<Column>,
    mask: Option<Mutex<Column>>,
}

impl Shards {
    pub(super) fn new(shards: Vec<Shard>, columns: Vec<(ImageColumn, Option<Leaf>)>) -> Self {
        Self { shards, columns, recent: Mutex::default() }
    }

    /// Returns a row group. One is kept for each thread, since threads take rows in order: they share a row group, and
    /// none is read twice.
    fn group(&self, shard: usize, group: usize) -> Option<Arc<Group>> {
        let key = (shard, group);
        let most = rayon::current_num_threads().max(2);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().position(|(other, _)| *other == key).and_then(|place| recent.remove(place));
        let (_, found) = match found {
            Some(found) => found,
            None => {
                let (image, mask) = self.columns.get(shard)?;
                let column = |leaf| Mutex::new(Column::new(leaf));
                (key, Arc::new(Group { image: column(image.bytes), mask: mask.map(column) }))
            }
        };
        recent.push_front((key, Arc::clone(&found)));
        recent.truncate(most);
        Some(found)
    }
}

/// A row of a dataset in Parquet files.
#[derive(Debug, Clone)]
pub(in crate::dataset) struct Row {
    shards: Arc<Shards>,
    shard: usize,
    row: u64,
    place: PathBuf,
}

impl Row {
    pub(super) fn new(shards: &Arc<Shards>, shard: usize, row: u64) -> Self {
        let file = shards.shards.get(shard).map(|shard| shard.path.clone()).unwrap_or_default();
        Self { shards: Arc::clone(shards), shard, row, place: file.join(row.to_string()) }
    }

    /// The path of the file followed by the number of the row from 0, for messages.
    pub(in crate::dataset) fn place(&self) -> &Path {
        &self.place
    }

    /// The file that has the row.
    pub(in crate::dataset) fn file(&self) -> &Path {
        self.place.parent().unwrap_or(&self.place)
    }

    /// Reads the bytes of the image file.
    pub(in crate::dataset) fn image(&self) -> Result<Vec<u8>> {
        self.value("image", |group| Some(&group.image))
    }

    /// Reads the bytes of the mask file.
    pub(in crate::dataset) fn mask(&self) -> Result<Vec<u8>> {
        self.value("mask", |group| group.mask.as_ref())
    }

    fn value(&self, what: &str, column: impl Fn(&Group) -> Option<&Mutex<Column>>) -> Result<Vec<u8>> {
        let refuse = |reason: String| Error::Dataset { path: self.place.clone(), reason };
        let shard = self.shards.shards.get(self.shard);
        let place = shard.and_then(|shard| Some((shard, shard.place(self.row)?)));
        let found = place.and_then(|(shard, (group, row))| {
            Some((shard, group, row, self.shards.group(self.shard, group)?))
        });
        let Some((shard, group, row, columns)) = found else {
            return Err(refuse("there is no such row".into()));
        };
        let Some(column) = column(&columns) else { return Err(refuse(format!("has no {what}"))) };
        let mut column = column.lock().unwrap_or_else(PoisonError::into_inner);
        match column.row(shard, group, row).map_err(|reason| refuse(format!("the {what}: {reason}")))? {
            Some(bytes) if bytes.len() as u64 <= PICTURE_BYTES => Ok(bytes.to_vec()),
            Some(bytes) => Err(refuse(format!("the {what} has {} bytes", bytes.len()))),
            None => Err(refuse(format!("the {what} is null: the file has no {what} in this row"))),
        }
    }
}
