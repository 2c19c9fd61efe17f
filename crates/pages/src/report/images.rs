//! Figures that a run drew, and images that it generated, method by method.

use std::path::{Path, PathBuf};

use eval::experiments::KINDS;
use models::image::Rgb8;

use super::budget::Budget;
use super::items::Items;
use super::links::Links;
use super::thumbnails::shrunk;
use chain_page::html::png_uri;

/// Maximum number of rows of generated images shown side by side.
const SIDE_BY_SIDE: usize = 16;
/// Longer side of these images in pixels.
const SIDE: usize = 192;

/// Figures and images of a run.
#[derive(Default)]
pub(super) struct Images {
    pub figures: Vec<Figure>,
    pub grid: Option<Grid>,
    /// Names and links of figures that do not fit on the page.
    pub left_out: Vec<(String, String)>,
}

/// A figure of the run, a PNG file.
pub(super) struct Figure {
    pub title: String,
    pub file: String,
    pub href: String,
    pub uri: String,
    pub width: u32,
    pub height: u32,
}

/// Images generated from the same noise, to be compared between methods.
pub(super) struct Grid {
    pub methods: Vec<String>,
    /// Number and seed, then an image for each method.
    pub rows: Vec<(String, Vec<Option<Shown>>)>,
    /// Number of rows in the whole run.
    pub of: usize,
}

/// A small version of an image, with the link to its file.
pub(super) struct Shown {
    pub uri: String,
    pub href: String,
    pub width: usize,
    pub height: usize,
}

impl Images {
    /// Finds the PNG files in a run's folder except `curves.png`, whose curves the page draws itself.
    pub(super) fn find(folder: &Path, links: &Links, budget: &mut Budget) -> Self {
        let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        let mut found = Self::default();
        for entry in files {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            if name == "curves.png" || !name.ends_with(".png") || !path.is_file() {
                continue;
            }
            let href = links.to(&path);
            let bytes = std::fs::read(&path).unwrap_or_default();
            // Files that are not PNG are skipped.
            let Some((width, height)) = size(&bytes) else { continue };
            if budget.image(bytes.len()) {
                let mut known = KINDS.iter().flat_map(|facts| facts.figures);
                let title = known.find(|figure| figure.file == name);
                let title = title.map_or(name.trim_end_matches(".png"), |figure| figure.title).to_owned();
                let uri = png_uri(&bytes);
                found.figures.push(Figure { title, file: name, href, uri, width, height });
            } else {
                found.left_out.push((name, href));
            }
        }
        found
    }

    /// Adds the images that each method generated from the same noise.
    pub(super) fn side_by_side(&mut self, items: &Items, links: &Links, budget: &mut Budget) {
        let Some(generated) = &items.view.generated else { return };
        let mut rows = Vec::new();
        let drawn = items.view.rows.iter().zip(&generated.files).filter(|(row, _)| row.failed.is_none());
        let drawn: Vec<_> = drawn.collect();
        for (row, files) in drawn.iter().take(SIDE_BY_SIDE) {
            let shown = |path: &PathBuf| {
                let (png, width, height) = shrunk(&Rgb8::open(path).ok()?, SIDE)?;
                Some((png, Shown { uri: String::new(), href: links.to(path), width, height }))
            };
            let found: Vec<Option<(Vec<u8>, Shown)>> = files.iter().map(shown).collect();
            if !budget.image(found.iter().flatten().map(|(png, _)| png.len()).sum()) {
                break;
            }
            let with_uri = |found: Option<(Vec<u8>, Shown)>| {
                found.map(|(png, shown)| Shown { uri: png_uri(&png), ..shown })
            };
            if found.iter().any(Option::is_some) {
                let fact = row.facts.first().map_or("", String::as_str);
                let name = format!("{} {fact}", generated.row);
                rows.push((name, found.into_iter().map(with_uri).collect()));
            }
        }
        if !rows.is_empty() {
            self.grid = Some(Grid { methods: items.methods.clone(), rows, of: drawn.len() });
        }
    }
}

/// Reads width and height from the header of a PNG file; `None` if it is not a PNG file.
fn size(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..16)?.strip_prefix(b"IHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?))
}
