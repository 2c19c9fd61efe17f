//! Unpacks the archives of data sets. Nothing in an archive is trusted: neither its paths, nor its sizes, nor links.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;
use zip::ZipArchive;

use super::Progress;
use super::disk::{amount, create_folder, free_space};
use super::error::{HubError, Result};
use crate::files::sync_folder;
use crate::limits::{ARCHIVE_FILES, DEFLATE_RATIO};

/// A folder of an archive, and where its files are put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackedFolder {
    /// Beginning of the names in the archive, such as `val2017/`; empty for all files.
    pub from: String,
    /// The folder that is made.
    pub to: PathBuf,
}

impl UnpackedFolder {
    /// Whether the folder is there: it gets its name only when it is complete.
    pub fn is_there(&self) -> bool {
        fs::read_dir(&self.to).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Where the files are until all are there.
    fn staged(&self) -> PathBuf {
        let name = self.to.file_name().unwrap_or_default().to_string_lossy();
        self.to.with_file_name(format!(".{name}.unpacking"))
    }
}

/// Unpacks folders of a zip or tar archive. Each is filled beside its place and renamed when it is complete; what an
/// earlier process has left is removed first. Folders that are there stay as they are.
///
/// # Errors
/// The archive is damaged or hostile, lacks one of the folders, or there is no room.
pub(super) fn unpack(archive: &Path, folders: &[UnpackedFolder], progress: &mut dyn Progress) -> Result<()> {
    let open: Vec<&UnpackedFolder> = folders.iter().filter(|folder| !folder.is_there()).collect();
    let mut staging = Staging { archive, folders: Vec::new(), written: 0, files: 0, room: None };
    for folder in open {
        let staged = folder.staged();
        if staged.symlink_metadata().is_ok() {
            remove(&staged)?;
        }
        create_folder(&staged)?;
        let canonical = staged.canonicalize().map_err(HubError::file("open", &staged))?;
        staging.room = staging.room.or_else(|| free_space(&canonical));
        staging.folders.push((folder, staged, 0));
    }
    if staging.folders.is_empty() {
        return Ok(());
    }
    let done = staging.fill(progress);
    if done.is_err() {
        // What cannot be removed is removed by the next attempt.
        staging.folders.iter().for_each(|(_, staged, _)| drop(fs::remove_dir_all(staged)));
        return done;
    }
    for (folder, staged, _) in &staging.folders {
        // A folder of this name without files is replaced.
        if folder.to.is_dir() {
            fs::remove_dir(&folder.to).map_err(HubError::file("replace", &folder.to))?;
        }
        fs::rename(staged, &folder.to).map_err(HubError::file("rename", staged))?;
        sync_folder(&folder.to).map_err(HubError::file("flush", &folder.to))?;
    }
    Ok(())
}

/// Removes a folder that an interrupted process has left, or a link or file in its place.
fn remove(path: &Path) -> Result<()> {
    let removed =
        if path.is_symlink() || path.is_file() { fs::remove_file(path) } else { fs::remove_dir_all(path) };
    removed.map_err(HubError::file("remove", path))
}

struct Staging<'a> {
    archive: &'a Path,
    /// Each folder with its place for now, and its number of files.
    folders: Vec<(&'a UnpackedFolder, PathBuf, usize)>,
    written: u64,
    files: usize,
    /// Bytes that may be written, if the system tells.
    room: Option<u64>,
}

impl Staging<'_> {
    fn fill(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let mut begin = [0; 4];
        let mut file = File::open(self.archive).map_err(HubError::file("open", self.archive))?;
        let whole = file.read_exact(&mut begin).is_ok();
        let file = File::open(self.archive).map_err(HubError::file("open", self.archive))?;
        if whole && begin.starts_with(b"PK") {
            self.zip(file, progress)?
        } else {
            self.tar(file, progress)?
        }
        match self.folders.iter().find(|(_, _, files)| *files == 0) {
            Some((folder, ..)) => Err(self.refuse(&format!("it has no files below `{}`", folder.from))),
            None => Ok(()),
        }
    }

    fn zip(&mut self, file: File, progress: &mut dyn Progress) -> Result<()> {
        let damaged = |e: zip::result::ZipError| self.refuse(&format!("it is damaged: {e}"));
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let count = zip.len();
        for index in 0..count {
            let entry = zip.by_index(index).map_err(|e| self.refuse(&format!("it is damaged: {e}")))?;
            let name = entry.name().to_owned();
            let Some(to) = self.target(&name)? else { continue };
            if entry.is_dir() {
                continue;
            }
            // The upper bits of the mode tell a link from a file.
            const KIND: u32 = 0o170_000;
            const REGULAR: u32 = 0o100_000;
            if entry.unix_mode().is_some_and(|mode| mode & KIND != 0 && mode & KIND != REGULAR) {
                return Err(self.refuse(&format!("`{name}` is not a regular file")));
            }
            let size = entry.size();
            if size > entry.compressed_size().saturating_add(1).saturating_mul(DEFLATE_RATIO) {
                return Err(self.refuse(&format!("`{name}` claims more bytes than the archive can hold")));
            }
            self.write(to, &name, size, entry, progress)?;
        }
        Ok(())
    }

    fn tar(&mut self, file: File, progress: &mut dyn Progress) -> Result<()> {
        let mut tar = tar::Archive::new(BufReader::new(file));
        let damaged = |archive: &Self, e: &io::Error| {
            archive.refuse(&format!("it is neither a whole zip nor a whole tar archive: {e}"))
        };
        let entries = tar.entries().map_err(|e| damaged(self, &e))?;
        for entry in entries {
            let entry = entry.map_err(|e| damaged(self, &e))?;
            let path = entry.path_bytes();
            let name =
                String::from_utf8(path.into_owned()).map_err(|_| self.refuse("a name in it is not UTF-8"))?;
            let Some(to) = self.target(&name)? else { continue };
            let kind = entry.header().entry_type();
            if kind == EntryType::Directory {
                continue;
            }
            if kind != EntryType::Regular && kind != EntryType::Continuous {
                return Err(self.refuse(&format!("`{name}` is not a regular file")));
            }
            let size = entry.size();
            self.write(to, &name, size, entry, progress)?;
        }
        Ok(())
    }

    /// Returns where a file goes: the index of the folder and its path below it. `None` if it belongs to no folder.
    fn target(&self, name: &str) -> Result<Option<(usize, PathBuf)>> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let found = self
            .folders
            .iter()
            .enumerate()
            .find_map(|(index, (folder, ..))| Some((index, name.strip_prefix(folder.from.as_str())?)));
        let Some((index, below)) = found.filter(|(_, below)| !below.is_empty()) else { return Ok(None) };
        let plain = |part: Component| matches!(part, Component::Normal(_));
        let path = PathBuf::from(below);
        if !path.components().all(plain) || below.contains(['\\', '\0']) {
            return Err(self.refuse(&format!("`{name}` leads out of its folder")));
        }
        Ok(Some((index, path)))
    }

    fn write(
        &mut self,
        (index, path): (usize, PathBuf),
        name: &str,
        size: u64,
        mut from: impl Read,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        self.files += 1;
        self.written = self.written.saturating_add(size);
        if self.files > ARCHIVE_FILES {
            return Err(self.refuse(&format!("it has more than {ARCHIVE_FILES} files")));
        }
        let folder = self.folders[index].1.clone();
        if let Some(room) = self.room.filter(|&room| self.written > room) {
            return Err(HubError::NoRoom {
                file: self.file_name(),
                needed: amount(self.written - room),
                reason: format!("{} were free", amount(room)),
                folder,
            });
        }
        let to = folder.join(path);
        if let Some(folder) = to.parent() {
            create_folder(folder)?;
        }
        let copied = File::options().write(true).create_new(true).open(&to).and_then(|mut out| {
            let copied = io::copy(&mut from.by_ref().take(size), &mut out)?;
            // Reading past the end makes the zip reader compare the checksum.
            let more = from.read(&mut [0])?;
            Ok((copied, more))
        });
        match copied {
            Ok((copied, 0)) if copied == size => {}
            Ok(_) => return Err(self.refuse(&format!("`{name}` has another size than the archive says"))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.refuse(&format!("`{name}` occurs twice")));
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other
                ) =>
            {
                return Err(self.refuse(&format!("`{name}` is damaged: {e}")));
            }
            Err(e) => return Err(HubError::file("write", &to)(e)),
        }
        self.folders[index].2 += 1;
        progress.at(&format!("unpacking {}", self.file_name()), self.written, None);
        Ok(())
    }

    fn file_name(&self) -> String {
        self.archive.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn refuse(&self, reason: &str) -> HubError {
        HubError::Archive { path: self.archive.into(), reason: reason.into() }
    }
}
