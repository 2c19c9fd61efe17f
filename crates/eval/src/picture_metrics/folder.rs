//! The pictures of a folder, in an order that does not depend on the file system.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Extensions of what is taken for a picture, in lower case.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Paths of the PNG and JPEG files below a folder and its folders, hidden ones left out, in order of their paths; the
/// first `limit` of them. Links to folders are not followed.
///
/// # Errors
/// No such folder, no pictures in it, or a folder that cannot be read.
pub fn pictures_below(folder: &Path, limit: Option<usize>) -> Result<Vec<PathBuf>> {
    let refuse =
        |reason: &str| Error::Task(tasks::Error::Dataset { path: folder.into(), reason: reason.into() });
    if !folder.is_dir() {
        return Err(refuse("no such folder; give a folder of PNG or JPEG files"));
    }
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::file("read", &folder))? {
            let entry = entry.map_err(Error::file("read", &folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(Error::file("read", &folder))?);
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            match kind.is_dir() {
                _ if hidden => {}
                true => open.push(path),
                false if EXTENSIONS.contains(&extension.as_str()) && path.is_file() => found.push(path),
                false => {}
            }
        }
    }
    if found.is_empty() {
        return Err(refuse("no PNG or JPEG files in this folder or below it"));
    }
    found.sort();
    found.truncate(limit.unwrap_or(usize::MAX));
    Ok(found)
}
