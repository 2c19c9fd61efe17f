//! Notes for the user. Libraries do not print; they call [`note`], and the program prints what [`take`] returns. Each
//! note is returned once per process, however often a file is read or listed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::image::Orientation;

static NOTES: Mutex<Notes> = Mutex::new(Notes {
    lines: Vec::new(),
    known: BTreeSet::new(),
    turned: Vec::new(),
    read: BTreeSet::new(),
});

struct Notes {
    /// Notes that [`take`] has not returned yet.
    lines: Vec<String>,
    /// Every note so far.
    known: BTreeSet<String>,
    /// Images whose orientation was ignored and that [`take`] has not reported yet.
    turned: Vec<PathBuf>,
    /// Every image whose orientation was ignored so far.
    read: BTreeSet<PathBuf>,
}

fn notes() -> MutexGuard<'static, Notes> {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a note of one line.
pub fn note(line: String) {
    let mut notes = notes();
    if notes.known.insert(line.clone()) {
        notes.lines.push(line);
    }
}

/// Adds a note for an image whose EXIF orientation is ignored.
pub fn orientation_ignored(path: &Path, bytes: &[u8]) {
    if Orientation::of(bytes) == Orientation::Upright {
        return;
    }
    let mut notes = notes();
    if notes.read.insert(path.to_owned()) {
        notes.turned.push(path.to_owned());
    }
}

/// Returns the notes since the last call, one line each.
pub fn take() -> Vec<String> {
    let mut notes = notes();
    let mut lines = std::mem::take(&mut notes.lines);
    let turned = std::mem::take(&mut notes.turned);
    lines.extend(turned.iter().min().map(|first| ignored(turned.len(), first)));
    lines
}

fn ignored(images: usize, first: &Path) -> String {
    let images = match images {
        1 => format!("image {} carries an EXIF orientation", first.display()),
        n => format!("{n} images carry an EXIF orientation, such as {}", first.display()),
    };
    format!(
        "{images}: it is ignored, as by torchvision and torch-fidelity, and the pixels are taken as they are stored; to have \
         them upright, turn the files themselves"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_note_is_returned_once() {
        let six =
            b"\xff\xd8\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        for path in ["b.jpg", "a.jpg", "b.jpg"] {
            orientation_ignored(Path::new(path), six);
            orientation_ignored(Path::new("upright.jpg"), b"\xff\xd8\xff\xd9");
        }
        note("one line".into());
        note("one line".into());
        let said = take();
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], "one line");
        assert!(
            said[1].starts_with("2 images carry an EXIF orientation, such as a.jpg: it is ignored"),
            "{said:?}"
        );
        note("one line".into());
        orientation_ignored(Path::new("a.jpg"), six);
        assert_eq!(take(), [""; 0]);
        orientation_ignored(Path::new("c.jpg"), six);
        assert!(take()[0].starts_with("image c.jpg carries an EXIF orientation: it is ignored"));
    }
}
