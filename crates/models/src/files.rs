//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// Writes a file by way of `.NAME.partial` beside it: filled, flushed to the disk, renamed, and the rename flushed as
/// well. Whatever happens meanwhile, a reader of `path` finds what was there before or all of what is there now; a partial
/// file that a killed process leaves is overwritten by the next one and read by nobody.
///
/// # Errors
/// Those of `fill` and of the system; the partial file is removed and `path` is as it was.
pub fn write_whole<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let partial = partial(path)?;
    let write = || {
        let mut out = BufWriter::new(File::create(&partial)?);
        fill(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&partial, path)?;
        Ok(sync_folder(path)?)
    };
    write().inspect_err(|_| {
        // The error that matters is the first one.
        let _ = fs::remove_file(&partial);
    })
}

/// Waits until the names in a file's folder are on the disk: a rename may otherwise be lost with the power.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        // Some network file systems keep no promise about folders and say so.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

fn partial(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidFilename.into()) };
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(path.with_file_name(partial))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
}
