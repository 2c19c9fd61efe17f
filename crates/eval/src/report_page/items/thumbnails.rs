//! Small pictures of items, read again from the data set.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use models::image::{Resample, Rgb8, resize};
use rayon::prelude::*;

use crate::html::png_uri;
use crate::report_page::budget::Budget;
use plot::Rgb;

/// Pixels of the longer side.
const SIDE: usize = 96;
/// Items at the worst end of the method that the table opens with, and at either end of each method.
pub(super) const OF_LEAD: usize = 32;
pub(super) const OF_EACH: usize = 8;

/// Pictures by item, and what a reader must know of those that are not there.
#[derive(Default)]
pub(in crate::report_page) struct Thumbnails {
    /// As data URIs, with width and height.
    pub pictures: BTreeMap<usize, Thumbnail>,
    /// Why there are none, or not all.
    pub note: Option<String>,
}

pub(in crate::report_page) struct Thumbnail {
    pub uri: String,
    pub width: usize,
    pub height: usize,
}

type Read<'a> = Box<dyn Fn() -> Option<(Rgb8, Option<String>)> + Send + Sync + 'a>;

/// Where pictures come from.
pub(super) enum Source {
    /// What reads an item, by its id; with the identity of what was read.
    Items(HashMap<String, Read<'static>>),
    /// The data set is not there.
    Missing(String),
}

impl Source {
    pub fn items<I: Send + Sync + 'static>(
        found: tasks::Result<Vec<I>>,
        id: impl Fn(&I) -> &str,
        read: impl Fn(&I) -> Option<(Rgb8, Option<String>)> + Copy + Send + Sync + 'static,
    ) -> Self {
        match found {
            Ok(items) => {
                let with_id = |item: I| {
                    let name = id(&item).to_owned();
                    let read: Read<'static> = Box::new(move || read(&item));
                    (name, read)
                };
                Self::Items(items.into_iter().map(with_id).collect())
            }
            Err(error) => Self::Missing(error.to_string()),
        }
    }

    pub fn files(files: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let with_id = |(name, path): (String, PathBuf)| {
            let read: Read<'static> = Box::new(move || Some((Rgb8::open(&path).ok()?, None)));
            (name, read)
        };
        Self::Items(files.into_iter().map(with_id).collect())
    }
}

impl Thumbnails {
    /// Pictures of items with these ids, whose identity is compared where it is known.
    pub(super) fn make<'a>(
        source: Source,
        wanted: impl Iterator<Item = (usize, (&'a str, Option<&'a str>))>,
        budget: &mut Budget,
    ) -> Self {
        let items = match source {
            Source::Items(items) => items,
            Source::Missing(reason) => {
                let note = format!("The data set is not here, so items have no pictures: {reason}");
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
        let (mut pictures, mut missing, mut over) = (BTreeMap::new(), 0, 0);
        for (item, found) in small {
            match found {
                Err(_) => missing += 1,
                Ok((png, width, height)) => match budget.thumbnail(png.len()) {
                    true => {
                        pictures.insert(item, Thumbnail { uri: png_uri(&png), width, height });
                    }
                    false => over += 1,
                },
            }
        }
        let mut notes = Vec::new();
        if missing > 0 {
            notes.push(format!(
                "{missing} pictures of items cannot be read any more or have changed since the run."
            ));
        }
        if over > 0 {
            notes.push(format!(
                "{over} further pictures of items are left out: the page would grow too large."
            ));
        }
        Self { pictures, note: (!notes.is_empty()).then(|| notes.join(" ")) }
    }
}

fn thumbnail(rgb: &Rgb8) -> Option<(Vec<u8>, usize, usize)> {
    shrunk(rgb, SIDE)
}

/// A PNG within a square of this side, never enlarged, with its width and height.
pub(in crate::report_page) fn shrunk(rgb: &Rgb8, side: usize) -> Option<(Vec<u8>, usize, usize)> {
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
