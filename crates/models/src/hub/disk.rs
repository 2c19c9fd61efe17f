//! Folders, files and free space of the cache, which other users may be able to write to.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::error::{HubError, Result};

/// Creates a folder and those above it.
///
/// # Errors
/// The system refuses; a link to a folder that does not exist is named.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| {
        let dangling = |path: &&Path| path.is_symlink() && !path.exists();
        match folder.ancestors().find(dangling) {
            Some(link) => {
                let reason =
                    "it is a link to a folder that does not exist; create that folder or remove the link";
                HubError::file("create", link)(io::Error::other(reason))
            }
            None => HubError::file("create", folder)(e),
        }
    })
}

/// Opens a file for reading and writing, and creates it if there is none. Refuses everything that could lead the
/// writes elsewhere: links, further names of the same file, devices and pipes.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    let refuse = |what: &str| Err(io::Error::other(format!("it is {what}; remove it and try again")));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;

        // Opening a pipe must not wait for its other end.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = match options.open(path) {
        Err(_) if path.is_symlink() => return refuse("a link"),
        opened => opened?,
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return refuse("not a regular file");
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&found) > 1 {
        return refuse("a second name of another file (a hard link)");
    }
    Ok(file)
}

/// Returns the number of bytes that this user can still write to the disk of a folder, if the system tells.
#[cfg(unix)]
pub fn free_space(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    // Some virtual file systems claim to have no blocks at all.
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
pub fn free_space(_: &Path) -> Option<u64> {
    None
}

/// Formats a number of bytes in decimal units (1 kB = 1000 bytes).
pub fn amount(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_with_one_name_are_opened() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("victim"), "precious").expect("writable");
        symlink(path("victim"), path("link")).expect("a link");
        symlink(path("nowhere"), path("dangling")).expect("a link");
        fs::hard_link(path("victim"), path("hard")).expect("a link");
        symlink("/dev/null", path("device")).expect("a link");
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo");
        assert!(made.success());
        for (name, word) in [
            ("link", "a link"),
            ("dangling", "a link"),
            ("device", "a link"),
            ("hard", "hard link"),
            ("pipe", "not a regular file"),
            (".", "directory"),
        ] {
            let error = open_own(&path(name)).expect_err(name).to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
        assert!(!path("nowhere").exists());
        assert_eq!(fs::read(path("victim")).expect("readable"), b"precious");
        open_own(&path("new")).expect("a new file");
        open_own(&path("new")).expect("the same file");
    }

    #[test]
    fn a_folder_behind_a_dangling_link_is_named() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let link = dir.path().join("hub");
        symlink(dir.path().join("unmounted"), &link).expect("a link");
        let error = create_folder(&link.join("models--a--b/blobs")).expect_err("nowhere").to_string();
        assert!(error.contains(&format!("cannot create {}: it is a link", link.display())), "{error}");
        assert!(free_space(dir.path()).is_some_and(|bytes| bytes > 0));
    }
}
