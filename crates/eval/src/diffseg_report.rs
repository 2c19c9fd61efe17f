//! The tables and the picture of a DiffSeg run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tasks::dataset::DenseImage;
use tasks::dataset::segmentation::{IGNORE, Segmented as Image};
use tasks::diffseg::{DiffSegRecord, Method, Pictures, SegmentPicture, Segments, middle, nearest};

use crate::differences::Differences;
use crate::error::Result;
use crate::experiment::Experiment;
use crate::figures::write_figure;
use crate::masking_report::as_answered;
use crate::metrics::bootstrap::{RESAMPLES, paired};
use crate::metrics::diffseg::{Classes, Matched};
use crate::metrics::{DiffSegMetric, DiffSegMetrics, Metric};
use crate::paper::PaperTable;
use crate::results::{Comparison, MetricValue};
use crate::table::{Cell, Row, Table};
use plot::{Kind, Rgb, Segmented, SegmentsRow, SegmentsSheet, segments};

/// The columns of the table.
const SHOWN: [DiffSegMetric; 7] = [
    DiffSegMetric::Accuracy,
    DiffSegMetric::ClassAccuracy,
    DiffSegMetric::Miou,
    DiffSegMetric::MiouOrderFree,
    DiffSegMetric::AdjustedRandIndex,
    DiffSegMetric::BoundaryRecall,
    DiffSegMetric::Proposals,
];

/// The metrics in which methods are compared.
const COMPARED: [DiffSegMetric; 5] = [
    DiffSegMetric::Accuracy,
    DiffSegMetric::Miou,
    DiffSegMetric::MiouOrderFree,
    DiffSegMetric::AdjustedRandIndex,
    DiffSegMetric::BoundaryRecall,
];

/// Images with a class for every pixel.
#[derive(Clone, Copy)]
pub(crate) struct Labelled<'a> {
    pub(crate) items: &'a [DenseImage],
    /// What the classes are called.
    pub(crate) classes: &'a [String],
    /// Those that segments are matched to.
    pub(crate) matched: &'a Classes,
}

/// The column of the paper's table that a metric stands in. What the paper calls mACC equals, on a grid, DiffSeg's published
/// share of right pixels.
pub(crate) fn paper_column(metric: DiffSegMetric) -> Option<&'static str> {
    match metric {
        DiffSegMetric::Accuracy => Some("mACC"),
        DiffSegMetric::Miou => Some("mIoU"),
        DiffSegMetric::ClassAccuracy
        | DiffSegMetric::ImageAccuracy
        | DiffSegMetric::MiouOrderFree
        | DiffSegMetric::AdjustedRandIndex
        | DiffSegMetric::BoundaryRecall
        | DiffSegMetric::Proposals => None,
    }
}

/// How a metric is called in a table.
pub(crate) fn head(metric: DiffSegMetric) -> &'static str {
    match metric {
        DiffSegMetric::Accuracy => "pixel acc",
        DiffSegMetric::ClassAccuracy => "class acc",
        DiffSegMetric::ImageAccuracy => "image acc",
        DiffSegMetric::Miou => "mIoU",
        DiffSegMetric::MiouOrderFree => "mIoU, order-free",
        DiffSegMetric::AdjustedRandIndex => "ARI",
        DiffSegMetric::BoundaryRecall => "boundary recall",
        DiffSegMetric::Proposals => "segments",
    }
}

/// What numbers in tables are multiplied by.
pub(crate) fn scale(metric: DiffSegMetric) -> f64 {
    if metric == DiffSegMetric::Proposals { 1.0 } else { 100.0 }
}

/// The values of all metrics.
pub(crate) fn metric_values(metrics: &DiffSegMetrics, paper: Option<&PaperTable>) -> Vec<MetricValue> {
    let mut values = Vec::new();
    for (method, scores) in metrics.finish() {
        for metric in DiffSegMetric::ALL {
            let Some(value) = metric.of(&scores) else { continue };
            let published = paper.and_then(|table| table.published(&method, paper_column(metric)?));
            values.push(MetricValue {
                name: metric.to_string(),
                method: Some(method.clone()),
                value: Some(value),
                higher_is_better: metric.higher_is_better(),
                // The paper's are in percent.
                published: published.map(|percent| percent / 100.0),
            });
        }
    }
    values
}

/// Ours beside the paper's. `methods` are keys and names in row order.
pub(crate) fn table(
    experiment: &Experiment,
    metrics: &DiffSegMetrics,
    methods: &[(String, String)],
    paper: Option<&PaperTable>,
) -> Table {
    let values = metrics.finish();
    let ours = |key: &str, metric: DiffSegMetric| Some(scale(metric) * metric.of(values.get(key)?)?);
    let differs = experiment.is_comparable();
    let arrow = |metric: DiffSegMetric| metric.higher_is_better().map_or("", |_| " ↑");
    let mut columns: Vec<String> =
        SHOWN.iter().map(|&metric| format!("{}{}", head(metric), arrow(metric))).collect();
    let beside = || SHOWN.into_iter().filter_map(|metric| Some((metric, paper_column(metric)?)));
    if paper.is_some() {
        for (metric, column) in beside() {
            columns.push(format!("paper, {column}"));
            columns.extend(differs.then(|| format!("Δ {}", head(metric))));
        }
    }
    let row = |(key, label): &(String, String)| {
        let mut cells: Vec<Cell> = SHOWN.iter().map(|&metric| ours(key, metric).into()).collect();
        if let Some(paper) = paper {
            for (metric, column) in beside() {
                let published = paper.published(key, column);
                cells.push(published.into());
                if differs {
                    let pair = ours(key, metric).zip(published);
                    cells.push(pair.map_or(Cell::Empty, |pair| paper.difference(column, pair)));
                }
            }
        }
        Row { labels: vec![label.clone()], cells }
    };
    Table {
        title: experiment.title.clone(),
        labels: vec!["anchors".into()],
        columns,
        rows: methods.iter().map(row).collect(),
        notes: notes(metrics, paper),
    }
}

fn notes(metrics: &DiffSegMetrics, paper: Option<&PaperTable>) -> Vec<String> {
    let mut notes = vec![format!(
        "{} images, in percent; {} classes, to which each image's segments are matched. {MEANING}",
        metrics.items(),
        metrics.classes(),
    )];
    notes.extend(paper.map(source_note));
    notes
}

/// What the metrics are.
pub(crate) const MEANING: &str = "Class acc: mean over the classes. mIoU: classes that an image does not show get left-over \
                                  segments, as in DiffSeg's evaluation; order-free: those count for nothing. ARI: adjusted \
                                  Rand index × 100. Segments: their mean number.";

/// What a reader of the paper's values must know.
pub(crate) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its mACC stands beside pixel acc: the uniform grid's equals the pixel accuracy that DiffSeg published; it \
         may as well be class acc. 12.5 points of accuracy with 1.3 of mIoU between its rows are implausible under one metric. \
         How it chooses anchors by TokenRank is not published; compare orderings, not values.",
        paper.source,
    )
}

/// Every method minus anchors on a grid, or minus the first where there is no grid.
pub(crate) fn comparisons(
    methods: &[Method],
    classes: &Classes,
    records: &[DiffSegRecord],
    seed: u64,
) -> Vec<Comparison> {
    let grid = methods.iter().find(|method| matches!(method, Method::Uniform(_)));
    let Some(minus) = grid.or(methods.first()) else { return Vec::new() };
    let mut comparisons = Vec::new();
    for method in methods.iter().filter(|method| method.key() != minus.key()) {
        for metric in COMPARED {
            // Images of one class have no boundaries: nothing to compare.
            let over = metric.over(classes);
            let Ok(difference) = paired(records, method.key(), minus.key(), &over, RESAMPLES, seed) else {
                continue;
            };
            comparisons.push(Comparison {
                metric: metric.to_string(),
                method: method.key().to_owned(),
                minus: minus.key().to_owned(),
                difference,
            });
        }
    }
    comparisons
}

/// Differences of methods with their intervals.
pub(crate) fn comparison_table(
    comparisons: &[Comparison],
    methods: &[(String, String)],
    items: u64,
) -> Table {
    let title = "Differences of anchors on the same images";
    let shown = Differences { title, methods, over: format!("{items} images"), shares: true };
    shown.table(comparisons, |name| {
        let metric = DiffSegMetric::ALL.into_iter().find(|metric| metric.to_string() == name);
        (metric.map_or_else(String::new, |metric| head(metric).to_owned()), true)
    })
}

/// Draws `pictures.png` where records carry segments: picture, truth, and every method's segments with its anchors.
pub(crate) fn pictures(
    out: &Path,
    labelled: Labelled<'_>,
    methods: &[(String, String)],
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
        let of_methods = methods.iter().filter_map(|(key, label)| {
            let found = (record.methods.get(key)?, pictures.methods.get(key)?);
            Some(segmented(label, found, pictures, labelled.matched))
        });
        let picture = seen.rgb;
        rows.push(SegmentsRow {
            image: Rgb { width: picture.width, height: picture.height, pixels: picture.data },
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

/// Segments in the colours of the classes they are matched to.
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
