//! Limits on the size of a page.

/// Maximum bytes of the figures and images of runs.
pub(super) const IMAGES: usize = 12 << 20;
/// Maximum bytes of the thumbnails of items.
const THUMBNAILS: usize = 4 << 20;
/// Maximum bytes of the items of all runs.
const ITEMS: usize = 24 << 20;
/// Maximum bytes of the items of one run.
const ITEMS_OF_RUN: usize = 6 << 20;

/// Remaining bytes of each kind.
pub(super) struct Budget {
    images: usize,
    thumbnails: usize,
    items: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { images: IMAGES, thumbnails: THUMBNAILS, items: ITEMS }
    }
}

impl Budget {
    /// Whether an image of this many bytes fits; if so, it is charged to the budget.
    pub(super) fn image(&mut self, bytes: usize) -> bool {
        take(&mut self.images, bytes)
    }

    /// Whether a thumbnail of this many bytes fits; if so, it is charged to the budget.
    pub(super) fn thumbnail(&mut self, bytes: usize) -> bool {
        take(&mut self.thumbnails, bytes)
    }

    /// Takes what the items of the next run may need, if they need `wanted` bytes and this many runs are left. Returns the number
    /// of bytes.
    pub(super) fn items(&mut self, wanted: usize, runs: usize) -> usize {
        let bytes = wanted.min(ITEMS_OF_RUN).min(self.items / runs.max(1));
        self.items -= bytes;
        bytes
    }
}

/// Charges bytes to a budget if they fit in base64, which takes four bytes for three.
fn take(left: &mut usize, bytes: usize) -> bool {
    let bytes = bytes.div_ceil(3) * 4;
    let fits = bytes <= *left;
    if fits {
        *left -= bytes;
    }
    fits
}
