//! Signals and masks of methods whose results come from files.

use models::array_file::{NumberSort, StoredArray};
use ndarray::Array2;

use super::config::SegmentConfig;
use crate::dataset::segmentation::SegmentedImage;
use crate::error::Result;
use crate::score_file::{Keys, ScoreFile, ScoreFiles, Tokens};

/// What a file has for the classes of an image, in their order.
pub(super) enum Stored {
    /// Signals over the grid of image tokens.
    Signals(Vec<Array2<f32>>),
    /// Masks of 0 and 1 over pixels.
    Masks(Vec<Array2<u8>>),
}

/// What a file has for one class.
enum One {
    Signal(Array2<f32>),
    Mask(Array2<u8>),
}

impl SegmentConfig {
    /// Checks that these files have a signal over `grid` (rows, columns) or a mask for every class of every image. The
    /// sizes of masks are checked only when their images are read. Returns notes for the user, a sentence each.
    ///
    /// # Errors
    /// [`Error::Scores`](crate::Error::Scores) with the first image or file for which they have not.
    pub fn check_scores(
        &self,
        files: &ScoreFiles,
        items: &[SegmentedImage],
        grid: (usize, usize),
    ) -> Result<Vec<String>> {
        let keys = || items.iter().flat_map(keys);
        files.check(&self.methods, keys, |file, name, array| one(file, name, array, grid).map(drop))
    }
}

/// The keys of the classes of an image.
fn keys(item: &SegmentedImage) -> impl Iterator<Item = Keys> {
    let only = item.classes.len() == 1;
    item.classes.iter().map(move |class| Keys::of_class(&item.id, &class.name, only))
}

/// Reads what a file has for the classes of an image of `size` pixels (rows, columns), whose image tokens form `grid`.
///
/// # Errors
/// A class has no tensor or two; a tensor has another shape or type, or numbers that are not finite; a mask and a signal are
/// for the same image.
pub(super) fn stored(
    file: &ScoreFile,
    item: &SegmentedImage,
    grid: (usize, usize),
    size: (usize, usize),
) -> Result<Stored> {
    let (mut signals, mut masks) = (Vec::new(), Vec::new());
    for keys in keys(item) {
        let (name, array) = file.tensor(&keys)?;
        match one(file, name, array, grid)? {
            One::Signal(signal) => signals.push(signal),
            One::Mask(mask) if mask.dim() == size => masks.push(mask),
            One::Mask(mask) => {
                let ((rows, columns), (height, width)) = (mask.dim(), size);
                return Err(file.refuse(format!(
                    "tensor `{name}` is a mask of shape [{rows}, {columns}], but its image has {height} rows and {width} columns of \
                     pixels; expected [{height}, {width}]: a mask covers the image as the dataset has it, before it is resized"
                )));
            }
        }
    }
    match (signals.is_empty(), masks.is_empty()) {
        (_, true) => Ok(Stored::Signals(signals)),
        (true, false) => Ok(Stored::Masks(masks)),
        (false, false) => Err(file.refuse(format!(
            "image `{}` has signals for some of its classes and masks for others; give the same for all",
            item.id
        ))),
    }
}

fn one(file: &ScoreFile, name: &str, array: StoredArray<'_>, grid: (usize, usize)) -> Result<One> {
    match array.sort() {
        NumberSort::Whole => mask(file, name, array).map(One::Mask),
        NumberSort::Real | NumberSort::Other => {
            let values = file.scores(name, array, Some(Tokens { grid, of: "image tokens" }))?;
            let values = values.into_iter().map(|value| value as f32).collect();
            // `scores` has checked the number of values.
            let signal = Array2::from_shape_vec(grid, values);
            signal.map(One::Signal).map_err(|e| file.refuse(format!("tensor `{name}`: {e}")))
        }
    }
}

/// Returns a mask of 0 and 1.
fn mask(file: &ScoreFile, name: &str, array: StoredArray<'_>) -> Result<Array2<u8>> {
    let refuse = |reason: String| file.refuse(format!("tensor `{name}` {reason}"));
    let kind = array.type_name();
    if !matches!(kind.as_str(), "BOOL" | "U8") {
        return Err(refuse(format!(
            "holds {kind}; a mask is BOOL or U8, and a signal over image tokens F64, F32, F16 or BF16"
        )));
    }
    let &[rows, columns] = array.shape else {
        return Err(refuse(format!("is a mask of shape {:?}; expected [height, width]", array.shape)));
    };
    let values = array.wholes().unwrap_or_default();
    if let Some(at) = values.iter().position(|value| !matches!(value, 0 | 1)) {
        return Err(refuse(format!(
            "is a mask with the value {} at row {}, column {} (counted from 0); a mask has 1 inside the object and 0 elsewhere",
            values[at],
            at / columns,
            at % columns
        )));
    }
    let values = values.into_iter().map(|value| u8::from(value == 1)).collect();
    Array2::from_shape_vec((rows, columns), values).map_err(|e| refuse(format!("is not a mask: {e}")))
}
