//! Atomic writing of files: a file appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

/// Maximum length of a file name, in bytes, on the usual file systems.
const NAME_MAX: usize = 255;

/// Writes a file atomically: fills `.NAME.partial` in the same folder, flushes it to the disk, renames it to `path`,
/// and flushes the rename. A reader of `path` always finds either the old content or all of the new. Only one process
/// at a time writes the partial file; a second one waits. A partial file left by a killed process is overwritten by the
/// next writer. If `path` is a link, its target is written.
///
/// # Errors
/// `fill` or the system fails, or `path` is something other than a file. The partial file is removed and `path` is left
/// as it was.
pub fn write_whole<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let path = &target(path)?;
    let partial = partial(path)?;
    // Stays locked until it is dropped, after the rename or the removal, so that no other process changes the file
    // before.
    let file = claim(&partial)?;
    let write = || {
        let mut out = BufWriter::new(file.try_clone()?);
        fill(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&partial, path)?;
        Ok(sync_folder(path)?)
    };
    write().inspect_err(|_| {
        // A failed removal is ignored: the first error is the one to report.
        let _ = fs::remove_file(&partial);
    })
}

/// Returns the file to write: `path`, or the target if it is a link. Refuses anything else, since a rename would
/// replace it.
fn target(path: &Path) -> io::Result<PathBuf> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(refuse(ErrorKind::IsADirectory, "it is a folder; name a file")),
        Ok(found) if !found.is_file() => {
            Err(refuse(ErrorKind::InvalidInput, "it is a device or pipe; name a file"))
        }
        Err(e) if is_link => {
            Err(refuse(e.kind(), "it is a link to a file that cannot be found; name the file itself"))
        }
        Ok(_) if is_link => path.canonicalize(),
        // Creating the partial file reveals any other problem with the folder.
        _ => Ok(path.to_owned()),
    }
}

fn refuse(kind: ErrorKind, reason: &str) -> io::Error {
    io::Error::new(kind, reason)
}

/// Creates the partial file, empty and locked.
fn claim(partial: &Path) -> io::Result<File> {
    loop {
        if fs::symlink_metadata(partial).is_ok_and(|found| !found.is_file()) {
            let reason = format!("{} is in the way and is not a regular file; remove it", partial.display());
            return Err(refuse(ErrorKind::AlreadyExists, &reason));
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(partial)?;
        match file.lock() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            // Some network file systems have no locks; there, two processes that write the same file are not protected
            // from each other.
            Ok(()) | Err(_) => {}
        }
        // The previous holder of the lock may have removed the file or renamed it to its final name meanwhile.
        if is_at(&file, partial) {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

/// Whether the open file is still the one at `path`, which is not a link.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let id = |found: &fs::Metadata| (found.dev(), found.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(open), Ok(named)) if id(&open) == id(&named))
}

/// Whether there is a file at `path`.
#[cfg(not(unix))]
pub fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Returns where a path was looked for, to end a message: a relative path may be missing only from the current folder. Empty
/// if the path is absolute or exists.
pub fn looked_for(path: &Path) -> String {
    match std::path::absolute(path) {
        Ok(full) if path.is_relative() && !path.exists() => {
            format!(" (looked for at {}: relative paths count from the current folder)", full.display())
        }
        Ok(_) | Err(_) => String::new(),
    }
}

/// Levels below a folder of inputs in which [`input_at`] searches.
const DEPTH: usize = 4;

/// Returns the file of `inputs`, or of one of the folders among them, that is the file `out` by this or another name, such
/// as that of a link. It would be lost if `out` was written.
pub fn input_at<'a>(out: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Option<PathBuf> {
    let wanted = identity(out)?;
    inputs.into_iter().find_map(|input| find(&wanted, input, DEPTH))
}

fn find(wanted: &Identity, path: &Path, depth: usize) -> Option<PathBuf> {
    if path.is_dir() {
        let below = fs::read_dir(path).ok().filter(|_| depth > 0)?.flatten();
        return below.into_iter().find_map(|entry| find(wanted, &entry.path(), depth - 1));
    }
    (identity(path)? == *wanted).then(|| path.to_owned())
}

#[cfg(unix)]
type Identity = (u64, u64);

/// Returns what all names of a file have in common; `None` if there is no such file.
#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;

    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    path.canonicalize().ok()
}

/// Flushes the folder of a file to the disk, so that a rename or removal survives a power failure.
///
/// # Errors
/// The system cannot open or flush the folder.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot flush folders and report that.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// Returns `.NAME.partial`, with the name cut if the result would be too long. Files whose cut names are equal share
/// one partial file and take turns.
fn partial(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else { return Err(ErrorKind::InvalidFilename.into()) };
    let mut partial = std::ffi::OsString::from(".");
    let room = NAME_MAX - ".".len() - ".partial".len();
    if name.len() <= room {
        partial.push(name);
    } else {
        let name = name.to_string_lossy();
        partial.push(&name[..name.floor_char_boundary(room)]);
    }
    partial.push(".partial");
    Ok(path.with_file_name(partial))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_finished_leaves_the_old_one() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("results.json");
        write_whole(&path, |out| out.write_all(b"old"))?;
        let full = write_whole(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(full.map_err(|e| e.kind()), Err(io::ErrorKind::StorageFull));
        assert_eq!(fs::read(&path)?, b"old");
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        write_whole(&path, |out| out.write_all(b"new"))?;
        assert_eq!(fs::read(&path)?, b"new");
        Ok(())
    }

    #[test]
    fn writers_of_one_file_take_turns() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("table.md");
        let write = |byte: u8| -> io::Result<()> {
            (0..20).try_for_each(|_| {
                write_whole(&path, |out| {
                    for _ in 0..50 {
                        out.write_all(&[byte; 100])?;
                        out.flush()?;
                    }
                    Ok(())
                })
            })
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (b'a'..=b'd').map(|byte| scope.spawn(move || write(byte))).collect();
            // A reader finds one writer's file, never a mixture or a piece.
            while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                if let Ok(found) = fs::read(&path) {
                    assert!(found.len() == 5000 && found.iter().all(|byte| *byte == found[0]));
                }
            }
            writers.into_iter().try_for_each(|writer| writer.join().expect("no panic"))
        })?;
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_partial_file_of_a_killed_process_is_overwritten() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("table.md");
        fs::write(partial(&path)?, b"half of something longer")?;
        write_whole(&path, |out| out.write_all(b"whole"))?;
        assert_eq!(fs::read(&path)?, b"whole");
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn names_may_be_as_long_as_the_system_allows() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        for name in ["n".repeat(246), "n".repeat(247), "n".repeat(NAME_MAX), "ü".repeat(127)] {
            write_whole(&dir.path().join(&name), |out| out.write_all(b"long"))?;
            assert_eq!(fs::read(dir.path().join(&name))?, b"long");
        }
        assert_eq!(fs::read_dir(dir.path())?.count(), 4);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn only_files_are_replaced() -> io::Result<()> {
        use std::os::unix::fs::{FileTypeExt, symlink};

        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let refused = |path: &Path| {
            let error = write_whole(path, |out| out.write_all(b"new")).expect_err("refused");
            error.to_string()
        };
        // A device that exists everywhere, reached through a link, so that a failing test destroys nothing.
        symlink("/dev/null", at("null"))?;
        assert!(refused(&at("null")).contains("device or pipe"));
        assert!(fs::metadata("/dev/null")?.file_type().is_char_device());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket"))?;
        assert!(refused(&at("socket")).contains("device or pipe"));
        assert!(refused(dir.path()).contains("folder"));
        symlink(at("missing"), at("dangling"))?;
        assert!(refused(&at("dangling")).contains("cannot be found"));
        symlink("elsewhere", at(".file.partial"))?;
        assert!(refused(&at("file")).contains("in the way"));
        let mut left: Vec<_> =
            fs::read_dir(dir.path())?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        left.sort();
        assert_eq!(left, [".file.partial", "dangling", "null", "socket"]);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_target_is_written() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
        fs::create_dir(&folder)?;
        fs::write(folder.join("file"), b"old")?;
        std::os::unix::fs::symlink("folder/file", &link)?;
        write_whole(&link, |out| out.write_all(b"new"))?;
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert_eq!(fs::read(folder.join("file"))?, b"new");
        assert_eq!(fs::read_dir(dir.path())?.count() + fs::read_dir(&folder)?.count(), 3);
        Ok(())
    }
}
