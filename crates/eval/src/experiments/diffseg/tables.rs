//! The tables and the figure of a DiffSeg run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plot::{Kind, Rgb, Segmented, SegmentsRow, SegmentsSheet, segments};
use tasks::dataset::DenseImage;
use tasks::dataset::segmentation::{IGNORE, Segmented as Image};
use tasks::diffseg::{DiffSegRecord, Pictures, SegmentPicture, Segments, middle, nearest};

use super::FACTS;
use super::classes::Classes;
use super::matched::Matched;
use crate::error::Result;
use crate::experiments::figures::{as_answered, write_figure};
use crate::experiments::kind::RunInputs;
use crate::experiments::spec::MethodInfo;
use crate::experiments::tables::{Comparable, metric_table};
use crate::metrics::clusters::Clusters;
use crate::paper::PaperTable;
use crate::results::MetricValue;
use crate::table::Table;

/// Images with a class for every pixel.
#[derive(Clone, Copy)]
pub(super) struct Labelled<'a> {
    pub(super) items: &'a [DenseImage],
    /// The names of the classes.
    pub(super) classes: &'a [String],
    /// The classes to which segments are matched.
    pub(super) matched: &'a Classes,
}

/// Returns the table of our values next to the paper's, a row for each method.
pub(super) fn table(
    inputs: &RunInputs<'_>,
    (images, classes): (&Clusters, &Classes),
    values: &[MetricValue],
    methods: &[MethodInfo],
) -> Table {
    let RunInputs { experiment, paper, .. } = inputs;
    let mut notes = vec![format!(
        "{images}, in percent; {} classes, to which each image's segments are matched. {MEANING}",
        classes.count(),
    )];
    notes.extend(paper.map(|paper| source_note(&paper.table)));
    let comparable = if experiment.is_comparable() { Comparable::Yes } else { Comparable::No };
    metric_table(&FACTS, (&experiment.title, notes), values, methods, *paper, comparable)
}

/// Explanation of the metrics.
pub(super) const MEANING: &str = "Class acc: mean over the classes. mIoU: classes that an image does not show get left-over \
                                  segments, as in DiffSeg's evaluation; order-free: those do not count. ARI: adjusted \
                                  Rand index × 100. Segments: mean number per image.";

/// Returns the note on the paper's values.
pub(super) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its mACC is compared with pixel acc, since its value for the uniform grid equals the pixel accuracy that \
         DiffSeg published; it may also be class acc. Its rows differ by 12.5 points of accuracy but only 1.3 of mIoU, which is \
         implausible under one metric. How it chooses anchors by TokenRank is not published; compare orderings, not values.",
        paper.source,
    )
}

/// Draws `pictures.png` if records carry segments: image, ground truth, and every method's segments with its anchors.
pub(super) fn figures(
    out: &Path,
    labelled: Labelled<'_>,
    methods: &[MethodInfo],
    records: &[DiffSegRecord],
) -> Result<Vec<PathBuf>> {
    let mut rows = Vec::new();
    for (item, record) in labelled.items.iter().zip(records) {
        let Some(pictures) = &record.pictures else { continue };
        let Some(item) = as_answered(&record.id, &record.sha256, item.load(), |item: &Image| &item.sha256)
        else {
            continue;
        };
        let seen = middle(&item)?;
        let labels = nearest(&seen.labels, pictures.size.0).into_iter().map(usize::from).collect();
        let class =
            |class: usize| if class < usize::from(IGNORE) { Kind::Class(class) } else { Kind::Ignored };
        let truth = Segmented {
            title: "truth".into(),
            size: pictures.size,
            labels,
            kinds: (0..=usize::from(IGNORE)).map(class).collect(),
            dots: Vec::new(),
        };
        let of_methods = methods.iter().filter_map(|MethodInfo { key, label, .. }| {
            let found = (record.methods.get(key)?, pictures.methods.get(key)?);
            Some(segmented(label, found, pictures, labelled.matched))
        });
        let rgb = seen.rgb;
        rows.push(SegmentsRow {
            image: Rgb { width: rgb.width, height: rgb.height, pixels: rgb.data },
            label: record.id.clone(),
            maps: std::iter::once(truth).chain(of_methods).collect(),
        });
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sheet = SegmentsSheet { rows, classes: labelled.classes.to_vec(), dots: "anchor".into() };
    Ok(vec![write_figure(out.join("pictures.png"), segments(&sheet))?])
}

/// Returns segments in the colours of the classes to which they are matched.
fn segmented(
    label: &str,
    (segments, picture): (&Segments, &SegmentPicture),
    pictures: &Pictures,
    classes: &Classes,
) -> Segmented {
    let matched = Matched::of(segments, classes).segments.into_iter().enumerate();
    let matched: BTreeMap<usize, usize> =
        matched.filter_map(|(class, segment)| Some((segment? as usize, class))).collect();
    let kind = |segment| matched.get(&segment).map_or(Kind::LeftOver, |class| Kind::Class(*class));
    let (rows, columns) = pictures.grid;
    let place = |&(row, column): &(u16, u16)| {
        ((f64::from(column) + 0.5) / columns as f64, (f64::from(row) + 0.5) / rows as f64)
    };
    Segmented {
        title: label.to_owned(),
        size: pictures.size,
        labels: picture.labels.decode().map(usize::from).collect(),
        kinds: (0..segments.proposals).map(kind).collect(),
        dots: picture.anchors.iter().map(place).collect(),
    }
}
