//! Thumbnails of items, read again from the data set.

use std::collections::BTreeMap;

use eval::experiments::view::ImageSource;
use models::image::{Resample, Rgb8, resize};
use rayon::prelude::*;

use super::budget::Budget;
use chain_page::html::png_uri;

use plot::Rgb;

/// Longer side of a thumbnail in pixels.
const SIDE: usize = 96;
/// Number of worst items of the lead method that get a thumbnail.
pub(super) const OF_LEAD: usize = 32;
/// Number of best and of worst items of each method that get a thumbnail.
pub(super) const OF_EACH: usize = 8;

/// Thumbnails by item.
#[derive(Default)]
pub(super) struct Thumbnails {
    /// Thumbnails, by index of the item.
    pub images: BTreeMap<usize, Thumbnail>,
    /// Reason why thumbnails are missing, if any are.
    pub note: Option<String>,
}

pub(super) struct Thumbnail {
    pub uri: String,
    pub width: usize,
    pub height: usize,
}

impl Thumbnails {
    /// Makes thumbnails of items. `wanted` has the index of each item, its id and, if known, the hash of its data for comparison.
    pub(super) fn make<'a>(
        source: &ImageSource,
        wanted: impl Iterator<Item = (usize, (&'a str, Option<&'a str>))>,
        budget: &mut Budget,
    ) -> Self {
        let items = match source {
            ImageSource::Items(items) => items,
            ImageSource::Missing(reason) => {
                let note =
                    format!("The data set is not on this machine, so items have no thumbnails: {reason}");
                return Self { note: Some(note), ..Self::default() };
            }
        };
        let wanted: Vec<_> = wanted.collect();
        let read = |&(item, (id, expected)): &(usize, (&str, Option<&str>))| {
            let Some((rgb, found)) = items.get(id).and_then(|read| read()) else {
                return (item, Err("not there"));
            };
            let changed = expected.zip(found.as_deref()).is_some_and(|(expected, found)| expected != found);
            let small = if changed { Err("changed since") } else { thumbnail(&rgb).ok_or("not drawn") };
            (item, small)
        };
        let small: Vec<_> = wanted.par_iter().map(read).collect();
        let (mut images, mut missing, mut over) = (BTreeMap::new(), 0, 0);
        for (item, found) in small {
            match found {
                Err(_) => missing += 1,
                Ok((png, width, height)) if budget.thumbnail(png.len()) => {
                    images.insert(item, Thumbnail { uri: png_uri(&png), width, height });
                }
                Ok(_) => over += 1,
            }
        }
        let mut notes = Vec::new();
        if missing > 0 {
            notes.push(format!(
                "{missing} images of items cannot be read any more or have changed since the run."
            ));
        }
        if over > 0 {
            notes.push(format!("{over} more images of items are left out to limit the size of the page."));
        }
        Self { images, note: (!notes.is_empty()).then(|| notes.join(" ")) }
    }
}

fn thumbnail(rgb: &Rgb8) -> Option<(Vec<u8>, usize, usize)> {
    shrunk(rgb, SIDE)
}

/// Returns a PNG reduced to fit into a square with this side, with its width and height. Small images are not enlarged.
pub(super) fn shrunk(rgb: &Rgb8, side: usize) -> Option<(Vec<u8>, usize, usize)> {
    let longer = rgb.width.max(rgb.height);
    let scaled = |length: usize| (length * side / longer.max(1)).max(1);
    let small = match longer > side {
        true => resize(rgb, (scaled(rgb.width), scaled(rgb.height)), Resample::Bicubic).ok()?,
        false => Rgb8 { width: rgb.width, height: rgb.height, data: rgb.data.clone() },
    };
    let (width, height) = (small.width, small.height);
    let png = Rgb { width, height, pixels: small.data }.png().ok()?;
    Some((png, width, height))
}
