//! How much a page may hold.

/// Bytes of the run's own pictures, and of small ones of items.
pub(super) const PICTURES: usize = 12 << 20;
const THUMBNAILS: usize = 4 << 20;
/// Bytes of the items' scores.
const ITEMS: usize = 24 << 20;

/// What is left for each.
pub(super) struct Budget {
    pictures: usize,
    thumbnails: usize,
    items: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { pictures: PICTURES, thumbnails: THUMBNAILS, items: ITEMS }
    }
}

impl Budget {
    /// Whether a picture of so many bytes fits; it then counts.
    pub fn picture(&mut self, bytes: usize) -> bool {
        take(&mut self.pictures, bytes)
    }

    /// Likewise for a small picture.
    pub fn thumbnail(&mut self, bytes: usize) -> bool {
        take(&mut self.thumbnails, bytes)
    }

    /// Likewise for the scores of a run's items.
    pub fn items(&mut self, bytes: usize) -> bool {
        take(&mut self.items, bytes)
    }
}

/// Base64 takes four bytes for three.
fn take(left: &mut usize, bytes: usize) -> bool {
    let bytes = bytes.div_ceil(3) * 4;
    let fits = bytes <= *left;
    if fits {
        *left -= bytes;
    }
    fits
}
