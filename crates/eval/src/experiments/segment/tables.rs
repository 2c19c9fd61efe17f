//! The tables and the figure of a segmentation run.

use std::path::{Path, PathBuf};

use models::image::{Resample, resize};
use plot::{ColorRange, Map, OverlayRow, Rgb, overlays};
use tasks::dataset::SegmentedImage;
use tasks::dataset::segmentation::Segmented;
use tasks::segment::{SegmentConfig, SegmentRecord};

use super::FACTS;
use super::metrics::SegmentMetric;
use crate::error::Result;
use crate::experiments::figures::{as_answered, write_figure};
use crate::experiments::kind::RunInputs;
use crate::experiments::spec::MethodInfo;
use crate::experiments::tables::{Comparable, metric_table};
use crate::metrics::clusters::Clusters;
use crate::paper::PaperTable;
use crate::results::MetricValue;
use crate::table::Table;

/// Side of the images in the figure, in pixels.
const SHOWN: usize = 224;

/// Returns the table of our values next to the paper's, a row for each method.
pub(super) fn table(
    inputs: &RunInputs<'_>,
    images: &Clusters,
    values: &[MetricValue],
    methods: &[MethodInfo],
) -> Table {
    let RunInputs { experiment, paper, .. } = inputs;
    let mut notes = vec![format!("{images}, in percent. {}", meaning())];
    notes.extend(paper.map(|paper| source_note(&paper.table)));
    let comparable = if experiment.is_comparable() { Comparable::Yes } else { Comparable::No };
    metric_table(&FACTS, (&experiment.title, notes), values, methods, *paper, comparable)
}

/// Returns an explanation of the metrics.
pub(super) fn meaning() -> String {
    format!(
        "mIoU: intersections and unions summed over the images first. {}: what ConceptAttention's evaluation prints as mIoU, a \
         function of accuracy, not an IoU.",
        SegmentMetric::MiouIdentity.spec().title,
    )
}

/// Returns the note on the paper's values.
pub(super) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its network, noise level, blocks, prompts and λ₂ formula are not published; the mIoU of its ConceptAttention \
         row is {}. Compare orderings, not values.",
        paper.source,
        SegmentMetric::MiouIdentity.spec().title,
    )
}

/// Draws `overlays.png` if records carry signals: image, ground truth, and every method's signal.
pub(super) fn figures(
    out: &Path,
    config: &SegmentConfig,
    items: &[SegmentedImage],
    methods: &[MethodInfo],
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
        let rgb = resize(&segmented.rgb, (SHOWN, SHOWN), Resample::Bicubic).map_err(models::Error::from)?;
        let (height, width) = segmented.labels.dim();
        let class = item.classes.first().map_or(0, |class| class.label);
        let truth = segmented.labels.iter().map(|&label| f64::from(u8::from(label == class)));
        let truth = Map { title: "truth".into(), rows: height, cols: width, values: truth.collect() };
        let (grid_rows, columns) = signals.grid;
        let of_methods = methods.iter().filter_map(|MethodInfo { key, label, .. }| {
            let values = signals.maps.get(key)?.iter().map(|&value| f64::from(value)).collect();
            Some(Map { title: label.clone(), rows: grid_rows, cols: columns, values })
        });
        let prompt = config.prompt_for(record.names.iter().map(String::as_str));
        rows.push(OverlayRow {
            image: Rgb { width: rgb.width, height: rgb.height, pixels: rgb.data },
            label: format!("{} · {prompt}", record.id),
            maps: std::iter::once(truth).chain(of_methods).collect(),
        });
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![write_figure(out.join("overlays.png"), overlays(&rows, ColorRange::PerMap))?])
}
