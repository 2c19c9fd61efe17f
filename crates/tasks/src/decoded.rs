//! The images of a batch, read and preprocessed for a vision network.

use std::ops::Range;

use models::image::Preprocessor;
use ndarray::Array3;
use rayon::prelude::*;

use crate::ahead::Ahead;
use crate::dataset::LabelledImage;
use crate::error::Result;
use crate::task::{Failure, parted};

/// Preprocessed images of a batch, and the items whose image cannot be read.
pub(crate) struct Decoded {
    /// Position in the batch and hash of each image.
    pub(crate) images: Vec<(usize, String)>,
    /// The pixels of each image, `[3, h, w]`.
    pub(crate) pixels: Vec<Array3<f32>>,
    pub(crate) failures: Vec<(usize, Failure)>,
}

impl Ahead<Decoded> {
    /// Returns the images of `items[range]`, and begins to decode those of the batch after it.
    pub(crate) fn images(
        &mut self,
        range: &Range<usize>,
        items: &[LabelledImage],
        preprocessor: &Preprocessor,
    ) -> Decoded {
        self.take(range, |range| {
            let (preprocessor, items) = (preprocessor.clone(), items[range].to_vec());
            move || decode(&preprocessor, &items)
        })
    }
}

fn decode(preprocessor: &Preprocessor, items: &[LabelledImage]) -> Decoded {
    let read = |item: &LabelledImage| -> Result<(Array3<f32>, String)> {
        let image = item.load()?;
        let pixels = preprocessor.apply(&image.rgb).map_err(models::Error::from)?;
        Ok((pixels, image.sha256))
    };
    let each: Vec<_> =
        items.par_iter().map(|item| read(item).map_err(|e| Failure::new(&item.id, e))).collect();
    let (found, failures) = parted(each);
    let (images, pixels) =
        found.into_iter().map(|(place, (pixels, sha256))| ((place, sha256), pixels)).unzip();
    Decoded { images, pixels, failures }
}
