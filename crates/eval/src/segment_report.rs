//! The tables and the picture of a segmentation run.

use std::path::{Path, PathBuf};

use models::image::{Resample, resize};
use tasks::dataset::SegmentedImage;
use tasks::dataset::segmentation::Segmented;
use tasks::segment::{SegmentConfig, SegmentRecord};

use crate::differences::Differences;
use crate::error::Result;
use crate::experiment::Experiment;
use crate::figures::write_figure;
use crate::masking_report::as_answered;
use crate::metrics::{Metric, SegmentMetric, SegmentMetrics};
use crate::paper::PaperTable;
use crate::results::Comparison;
use crate::table::{Cell, Row, Table};
use crate::work::paper_column;
use plot::{Ends, Map, OverlayRow, Rgb, overlays};

/// Pixels a side of the pictures.
const SHOWN: usize = 224;

/// Ours beside the paper's. `methods` are keys and names in row order.
pub(crate) fn table(
    experiment: &Experiment,
    metrics: &SegmentMetrics,
    methods: &[(String, String)],
    paper: Option<&PaperTable>,
) -> Table {
    let values = metrics.finish();
    let ours = |key: &str, metric: SegmentMetric| metric.of(values.get(key)?);
    let there = |metric: &SegmentMetric| methods.iter().any(|(key, _)| ours(key, *metric).is_some());
    let shown: Vec<SegmentMetric> = SegmentMetric::ALL.into_iter().filter(there).collect();
    let differs = experiment.is_comparable();

    let mut columns: Vec<String> = shown.iter().map(|metric| format!("{} ↑", head(*metric))).collect();
    let beside: Vec<(SegmentMetric, &str)> =
        shown.iter().filter_map(|metric| Some((*metric, paper_column(*metric)?))).collect();
    if paper.is_some() {
        for (_, column) in &beside {
            columns.push(format!("paper, {column}"));
            if differs {
                columns.push(format!("Δ {column}"));
            }
        }
    }
    let row = |(key, label): &(String, String)| {
        let percent = |metric| ours(key, metric).map(|share| 100.0 * share);
        let mut cells: Vec<Cell> = shown.iter().map(|metric| percent(*metric).into()).collect();
        if let Some(paper) = paper {
            for (metric, column) in &beside {
                let published = paper.published(key, column);
                cells.push(published.into());
                if differs {
                    let pair = percent(*metric).zip(published);
                    cells.push(pair.map_or(Cell::Empty, |pair| paper.difference(column, pair)));
                }
            }
        }
        Row { labels: vec![label.clone()], cells }
    };
    let mut notes = vec![format!("{} images, in percent. {}", metrics.items(), meaning())];
    notes.extend(paper.map(source_note));
    Table {
        title: experiment.title.clone(),
        labels: vec!["method".into()],
        columns,
        rows: methods.iter().map(row).collect(),
        notes,
    }
}

/// What the metrics are.
pub(crate) fn meaning() -> String {
    format!(
        "mIoU: intersections and unions summed over the images first. {}: what ConceptAttention's evaluation prints as mIoU, a \
         function of accuracy and no IoU.",
        head(SegmentMetric::MiouIdentity),
    )
}

/// What a reader of the paper's values must know.
pub(crate) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its network, noise level, blocks, prompts and λ₂ formula are not published; the mIoU of its ConceptAttention \
         row is {}. Compare orderings, not values.",
        paper.source,
        head(SegmentMetric::MiouIdentity),
    )
}

/// How a metric is called in a table.
pub(crate) fn head(metric: SegmentMetric) -> &'static str {
    match metric {
        SegmentMetric::Accuracy => "Acc",
        SegmentMetric::Miou => "mIoU",
        SegmentMetric::MiouIdentity => "acc/(2−acc)",
        SegmentMetric::Map => "mAP",
        SegmentMetric::MapForeground => "AP of the object",
    }
}

/// Differences of methods with their intervals.
pub(crate) fn comparison_table(
    comparisons: &[Comparison],
    methods: &[(String, String)],
    items: u64,
) -> Table {
    let title = "Differences of methods on the same images";
    let shown = Differences { title, methods, over: format!("{items} images"), shares: true };
    shown.table(comparisons, |name| {
        let metric = SegmentMetric::ALL.into_iter().find(|metric| metric.to_string() == name);
        (metric.map_or_else(String::new, |metric| head(metric).to_owned()), true)
    })
}

/// Draws `overlays.png` where records carry signals: picture, truth, and every method's signal.
pub(crate) fn pictures(
    out: &Path,
    config: &SegmentConfig,
    items: &[SegmentedImage],
    methods: &[(String, String)],
    records: &[SegmentRecord],
) -> Result<Vec<PathBuf>> {
    let mut rows = Vec::new();
    for (item, record) in items.iter().zip(records) {
        let Some(signals) = &record.maps else { continue };
        let Some(segmented) =
            as_answered(&record.id, &record.sha256, item.load(), |item: &Segmented| &item.sha256)
        else {
            continue;
        };
        let picture =
            resize(&segmented.rgb, (SHOWN, SHOWN), Resample::Bicubic).map_err(models::Error::from)?;
        let (height, width) = segmented.labels.dim();
        let class = item.classes.first().map_or(0, |class| class.label);
        let truth = segmented.labels.iter().map(|&label| f64::from(u8::from(label == class)));
        let truth = Map { title: "truth".into(), rows: height, cols: width, values: truth.collect() };
        let (grid_rows, columns) = signals.grid;
        let of_methods = methods.iter().filter_map(|(key, label)| {
            let values = signals.maps.get(key)?.iter().map(|&value| f64::from(value)).collect();
            Some(Map { title: label.clone(), rows: grid_rows, cols: columns, values })
        });
        let prompt = config.prompt_for(record.names.iter().map(String::as_str));
        rows.push(OverlayRow {
            image: Rgb { width: picture.width, height: picture.height, pixels: picture.data },
            label: format!("{} · {prompt}", record.id),
            maps: std::iter::once(truth).chain(of_methods).collect(),
        });
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![write_figure(out.join("overlays.png"), overlays(&rows, Ends::OfEachMap))?])
}
