//! Lists the images of a folder, in an order that does not depend on the file system.

use std::path::{Path, PathBuf};

use tasks::dataset::{format_of_file, note_left_out, python_order};

use crate::error::{Error, Result};
use runs::FileAction;

/// Extensions of image files, in lower case.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Returns the first `limit` paths of the PNG and JPEG files in a folder and its subfolders, in Python's order of paths
/// ([`python_order`]), as in torch-fidelity, pytorch-fid and clean-fid: splits and subsets depend on it. Hidden files are left out,
/// and links to folders are not followed. Images with other extensions are left out, with a note.
///
/// # Errors
/// Fails if the folder does not exist, has no images or cannot be read, or if a file is not a PNG or JPEG despite its extension.
pub fn images_below(folder: &Path, limit: Option<usize>) -> Result<Vec<PathBuf>> {
    let refuse =
        |reason: &str| Error::Task(tasks::Error::Dataset { path: folder.into(), reason: reason.into() });
    if !folder.is_dir() {
        return Err(tasks::missing(folder, "no such folder; give a folder of PNG or JPEG files").into());
    }
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::file(FileAction::Read, &folder))? {
            let entry = entry.map_err(Error::file(FileAction::Read, &folder))?;
            let (path, kind) =
                (entry.path(), entry.file_type().map_err(Error::file(FileAction::Read, &folder))?);
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            match kind.is_dir() {
                _ if hidden => {}
                true => open.push(path),
                false if EXTENSIONS.contains(&extension.as_str()) && path.is_file() => found.push(path),
                false => others.push(path),
            }
        }
    }
    others.sort_by(|a, b| python_order(a, b));
    note_left_out(folder, &others, "files named .png, .jpg or .jpeg are read");
    if found.is_empty() {
        return Err(refuse("no PNG or JPEG files in this folder or below it"));
    }
    found.sort_by(|a, b| python_order(a, b));
    found.truncate(limit.unwrap_or(usize::MAX));
    let other = |path: &PathBuf| match format_of_file(path) {
        Ok(Some("JPEG" | "PNG")) => None,
        Ok(Some(format)) => Some(format!("{} is a {format} file", path.display())),
        Ok(None) => Some(format!("{} is not an image in a known format", path.display())),
        Err(e) => Some(format!("{} cannot be read: {e}", path.display())),
    };
    let wrong: Vec<String> = found.iter().filter_map(other).collect();
    match wrong.first() {
        None => Ok(found),
        Some(first) => Err(refuse(&format!(
            "{} of {} files named as PNG or JPEG are neither ({first}); convert them, or move them elsewhere",
            wrong.len(),
            found.len()
        ))),
    }
}
