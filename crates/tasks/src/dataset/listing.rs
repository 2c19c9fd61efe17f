//! Files of a folder: their order, and a note about images that are left out.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::notes;

use super::source::format_of_file;

/// Maximum number of left-out files that a note names.
const NAMED: usize = 3;

/// The order of Python's `sorted` on paths as strings. Published tools list folders in this order, and the order
/// decides subsets and splits. `Path` compares folder by folder instead and sorts `a/1.png` before `a-b/1.png`.
pub fn python_order(a: &Path, b: &Path) -> Ordering {
    code_points(a).cmp(code_points(b))
}

/// Returns the code points of a path; invalid UTF-8 bytes are mapped as Python's `surrogateescape` does.
fn code_points(path: &Path) -> impl Iterator<Item = u32> + '_ {
    path.as_os_str().as_encoded_bytes().utf8_chunks().flat_map(|chunk| {
        let escaped = chunk.invalid().iter().map(|&byte| 0xdc00 + u32::from(byte));
        chunk.valid().chars().map(u32::from).chain(escaped)
    })
}

/// Notes, in one line, the images among `files` that a listing of `folder` leaves out. `taken` ends the sentence "… are
/// left out, because only". Files that are not images are not mentioned.
pub fn note_left_out(folder: &Path, files: &[PathBuf], taken: &str) {
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = Vec::new();
    for path in files {
        if let Ok(Some(format)) = format_of_file(path) {
            *formats.entry(format).or_default() += 1;
            names.push(path.strip_prefix(folder).unwrap_or(path).display().to_string());
        }
    }
    if names.is_empty() {
        return;
    }
    let formats: Vec<String> = formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    let more = if names.len() > NAMED { ", …" } else { "" };
    let files = if names.len() == 1 { "image is" } else { "images are" };
    notes::note(format!(
        "{}: {} {files} left out ({}: {}{more}), because only {taken}",
        folder.display(),
        names.len(),
        formats.join(", "),
        names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", "),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_ordered_as_python_orders_strings() {
        // The result of `sorted` in Python 3.11 on these strings.
        let wanted = [
            "A/1.png",
            "a b/1.png",
            "a-b/1.png",
            "a.png",
            "a/1.png",
            "a/b-c/1.png",
            "a/b/1.png",
            "a0/1.png",
            "é/1.png",
            "\u{ff21}",
            "😀",
        ];
        let mut found: Vec<&Path> = wanted.iter().rev().map(Path::new).collect();
        found.sort_by(|a, b| python_order(a, b));
        assert_eq!(found, wanted.map(Path::new));
        assert!(Path::new("a/1.png") < Path::new("a-b/1.png"), "or the comparison would not be needed");
    }

    #[cfg(unix)]
    #[test]
    fn invalid_utf8_is_ordered_as_python_escapes_it() {
        use std::os::unix::ffi::OsStrExt;

        // Escaped bytes sort after most letters and before full-width ones.
        let raw = Path::new(std::ffi::OsStr::from_bytes(b"\xff"));
        assert_eq!(python_order(Path::new("é"), raw), Ordering::Less);
        assert_eq!(python_order(raw, Path::new("\u{ff21}")), Ordering::Less);
    }
}
