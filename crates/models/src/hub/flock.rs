//! Locks of the cache, one for each blob, shared with Python's library.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use super::disk::{create_folder, open_own};
use super::error::{HubError, Result};

/// Content of the lock file of a blob whose download this program began. Python's library empties the file when it
/// locks it, so partial downloads of Python never have this mark.
const MARK: &[u8] = b"tokenrank\n";

/// A lock that is held until the value is dropped or the process ends in any way.
pub(super) struct FileLock {
    file: File,
}

impl FileLock {
    /// Waits for the lock. Calls `waiting` if it is not free at once. On network file systems without locks it does
    /// not wait.
    pub(super) fn wait(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        let file = open_own(path).map_err(HubError::file("open", path))?;
        let held = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                loop {
                    match file.lock() {
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        other => break other,
                    }
                }
            }
            Err(TryLockError::Error(e)) => Err(e),
            Ok(()) => Ok(()),
        };
        match held {
            Err(e) if !has_no_locks(&e) => Err(HubError::file("lock", path)(e)),
            _ => Ok(Self { file }),
        }
    }

    /// Takes the lock of a file that exists, if it is free and the file system has locks.
    pub(super) fn try_take(path: &Path) -> Option<Self> {
        let file = path.is_file().then(|| open_own(path).ok())??;
        file.try_lock().ok()?;
        Some(Self { file })
    }

    /// Marks the blob as one whose download this program began.
    pub(super) fn mark(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        (&self.file).write_all(MARK)
    }

    /// Whether [`mark`](Self::mark) marked the blob.
    pub(super) fn is_marked(&self) -> bool {
        let mut found = Vec::new();
        let limit = MARK.len() as u64 + 1;
        (&self.file).take(limit).read_to_end(&mut found).is_ok() && found == MARK
    }
}

/// Whether the file system has no locks: it does not know them, or its lock daemon does not run.
fn has_no_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn file_systems_without_locks_are_recognised() {
        for (errno, without) in [
            (Errno::NOLCK, true),
            (Errno::NOSYS, true),
            (Errno::OPNOTSUPP, true),
            (Errno::IO, false),
            (Errno::BADF, false),
        ] {
            assert_eq!(has_no_locks(&errno.into()), without, "{errno}");
        }
    }

    #[test]
    fn a_lock_is_exclusive_and_keeps_its_mark() -> Result<()> {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("locks/etag.lock");
        assert!(FileLock::try_take(&path).is_none());
        let lock = FileLock::wait(&path, || panic!("nobody has it"))?;
        lock.mark().expect("writable");
        assert!(FileLock::try_take(&path).is_none());
        drop(lock);
        assert!(FileLock::try_take(&path).expect("free").is_marked());
        std::fs::write(&path, "").expect("writable");
        assert!(!FileLock::try_take(&path).expect("free").is_marked());
        Ok(())
    }
}
