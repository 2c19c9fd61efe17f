//! Anchors and segments of methods whose results come from files.

use std::collections::BTreeMap;

use models::array_file::{NumberSort, StoredArray};
use ndarray::Array2;

use super::anchors::ranked;
use super::config::{DiffSegConfig, MOST_ANCHORS};
use super::method::{Method, Outside};
use crate::dataset::DenseImage;
use crate::error::{Error, Result};
use crate::score_file::{Keys, ScoreFile, ScoreFiles, Tokens};

/// Label maps whose largest label is below this are counted in a table with an entry for each label.
const SMALL_LABELS: i128 = 1 << 20;

/// What a file has for an image.
pub(super) enum Stored {
    /// Anchors, chosen by scores of the tokens.
    Anchors(Vec<usize>),
    /// The segment of every pixel, and the number of segments.
    Segments(Array2<u16>, usize),
}

/// The sizes that the contents of a file must have.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Rows and columns of the finest grid of tokens with self-attention.
    pub grid: (usize, usize),
    /// Side of the label maps in pixels.
    pub side: usize,
}

impl DiffSegConfig {
    /// Checks that these files have, for every image, either a score of each token or the segment of each pixel. Returns
    /// notes for the user, a sentence each.
    ///
    /// # Errors
    /// [`Error::Scores`] with the first image or file for which they have not.
    pub fn check_scores(
        &self,
        files: &ScoreFiles,
        items: &[DenseImage],
        sizes: Sizes,
    ) -> Result<Vec<String>> {
        let keys = || items.iter().map(|item| Keys::of_image(&item.id));
        files.check(&self.methods, keys, |file, name, array| match has_segments(file) {
            true => segments(file, name, array, sizes.side).map(drop),
            false => scores(file, name, array, sizes.grid).map(drop),
        })
    }

    /// Whether a method reads a pass of the UNet. Only label maps from files do without.
    ///
    /// # Errors
    /// The file of the method is not among `files`.
    pub(super) fn reads_pass(&self, method: &Method, files: &ScoreFiles) -> Result<bool> {
        Ok(match method {
            Method::File(outside) => !has_segments(files.get(outside.method())?),
            Method::Uniform(_)
            | Method::Tokenrank(_)
            | Method::TokenrankSampled(_)
            | Method::ColumnSum(_)
            | Method::Random(_) => true,
        })
    }

    /// Checks that settings of anchors are given only for files of scores.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that has no effect.
    pub(super) fn check_outside(&self, files: &ScoreFiles) -> Result<()> {
        for method in &self.methods {
            let Method::File(outside) = method else { continue };
            let given = [
                ("number", outside.number.is_some()),
                ("radius", outside.radius.is_some()),
                ("weight", outside.weight.is_some()),
            ];
            let given = given.iter().find(|(_, given)| *given);
            if let Some((setting, _)) = given
                && has_segments(files.get(outside.method())?)
            {
                let reason = format!(
                    "`{setting}` of `{}` has no effect: the file has the segments themselves, not scores by which anchors are \
                     chosen; leave it out",
                    outside.name
                );
                return Err(Error::Setting { setting: "task.diffseg.methods", reason });
            }
        }
        Ok(())
    }
}

/// Reads what a file has for an image.
///
/// # Errors
/// The image has no tensor; the tensor has another shape or type, or values out of range.
pub(super) fn stored(outside: &Outside, files: &ScoreFiles, id: &str, sizes: Sizes) -> Result<Stored> {
    let file = files.get(outside.method())?;
    let keys = Keys::of_image(id);
    let (name, array) = file.tensor(&keys)?;
    if has_segments(file) {
        let (labels, count) = segments(file, name, array, sizes.side)?;
        return Ok(Stored::Segments(labels, count));
    }
    let scores = scores(file, name, array, sizes.grid)?;
    Ok(Stored::Anchors(ranked(&scores, sizes.grid, outside.number(), outside.radius())))
}

/// Whether a file has the segment of every pixel; its first tensor decides.
fn has_segments(file: &ScoreFile) -> bool {
    file.first().1 == NumberSort::Whole
}

fn scores(file: &ScoreFile, name: &str, array: StoredArray<'_>, grid: (usize, usize)) -> Result<Vec<f64>> {
    same_sort(file, name, array)?;
    file.scores(name, array, Some(Tokens { grid, of: "tokens with self-attention" }))
}

/// Returns the segments of an image, numbered from 0 in the order of their labels, and their number.
fn segments(
    file: &ScoreFile,
    name: &str,
    array: StoredArray<'_>,
    side: usize,
) -> Result<(Array2<u16>, usize)> {
    same_sort(file, name, array)?;
    let refuse = |reason: String| file.refuse(format!("tensor `{name}` {reason}"));
    if array.shape != [side, side] {
        return Err(refuse(format!(
            "has shape {:?}; expected [{side}, {side}], the segment of each pixel of the central square of the image, resized to \
             task.diffseg.image_size",
            array.shape
        )));
    }
    let labels = array.wholes().unwrap_or_default();
    if let Some(at) = labels.iter().position(|&label| label < 0) {
        return Err(refuse(format!(
            "has the label {} at row {}, column {} (counted from 0); labels of segments are whole numbers from 0 on, and every \
             pixel belongs to a segment",
            labels[at],
            at / side,
            at % side
        )));
    }
    let (numbers, count) = numbered(&labels);
    if count > MOST_ANCHORS {
        return Err(refuse(format!("has {count} segments; there can be at most {MOST_ANCHORS}")));
    }
    let labels = Array2::from_shape_vec((side, side), numbers);
    labels.map(|labels| (labels, count)).map_err(|e| refuse(format!("is not a label map: {e}")))
}

/// Numbers labels, none of which is negative, from 0 in rising order. Returns the numbers, which are meaningless beyond 65,536
/// different labels, and how many different labels there are.
fn numbered(labels: &[i128]) -> (Vec<u16>, usize) {
    let most = labels.iter().copied().max().unwrap_or(0);
    if most < SMALL_LABELS {
        let mut number_of = vec![None; most as usize + 1];
        labels.iter().for_each(|&label| number_of[label as usize] = Some(0));
        let mut count = 0;
        for number in number_of.iter_mut().flatten() {
            *number = count as u16;
            count += 1;
        }
        let number = |&label: &i128| number_of[label as usize].unwrap_or(0);
        return (labels.iter().map(number).collect(), count);
    }
    let mut different = labels.to_vec();
    different.sort_unstable();
    different.dedup();
    let number_of: BTreeMap<i128, u16> =
        different.iter().enumerate().map(|(number, &label)| (label, number as u16)).collect();
    (labels.iter().map(|label| number_of.get(label).copied().unwrap_or(0)).collect(), different.len())
}

/// Fails if the tensor holds another sort of numbers than the first tensor of its file.
fn same_sort(file: &ScoreFile, name: &str, array: StoredArray<'_>) -> Result<()> {
    let (first, sort) = file.first();
    if array.sort() == sort {
        return Ok(());
    }
    Err(file.refuse(format!(
        "tensor `{name}` holds {}, unlike tensor `{first}`; a file has for all images either scores of tokens (F64, F32, F16 or \
         BF16) or labels of pixels (whole numbers)",
        array.type_name()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_numbered_in_their_order() {
        assert_eq!(numbered(&[7, 0, 7, 3]), (vec![2, 0, 2, 1], 3));
        let large = i128::from(u64::MAX);
        assert_eq!(numbered(&[large, 0, 5, large]), (vec![2, 0, 1, 2], 3));
        assert_eq!(numbered(&[5; 4]), (vec![0; 4], 1));
        let many: Vec<i128> = (0..70_000).collect();
        assert_eq!(numbered(&many).1, 70_000);
        let spread: Vec<i128> = (0..70_000).map(|label| label * SMALL_LABELS).collect();
        assert_eq!(numbered(&spread).1, 70_000);
    }
}
