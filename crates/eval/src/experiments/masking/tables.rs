//! The table and the figures of a masking run.

use std::path::{Path, PathBuf};

use models::image::Preprocessor;
use tasks::dataset::{LabelledImage, Picture};
use tasks::masking::MaskingRecord;

use super::metrics::MaskingCurves;
use crate::error::Result;
use crate::experiments::figures::{as_answered, write_figure};
use crate::experiments::spec::MethodInfo;
use crate::experiments::target::PaperTarget;
use crate::paper::PaperTable;
use crate::table::{Cell, Row, Table};
use plot::{ColorRange, CurvePlot, Map, OverlayRow, Rgb, Series, curves, overlays};

/// Returns the table of our values next to the paper's, a row for each method.
pub(crate) fn table(
    title: &str,
    curves: &MaskingCurves,
    methods: &[MethodInfo],
    paper: Option<&PaperTarget>,
) -> Table {
    let values = curves.finish();
    let row = |MethodInfo { key, label, .. }: &MethodInfo| {
        let curve = values.get(key);
        let mut cells = vec![
            Cell::from(curve.and_then(|curve| curve.auc)),
            Cell::from(curve.and_then(|curve| curve.auc_still_right)),
        ];
        if let Some(PaperTarget { table, column: Some(column) }) = paper {
            cells.push(table.published(key, column).into());
        }
        Row { labels: vec![label.clone()], cells }
    };
    let mut columns = vec!["AUC ↓".to_owned(), "AUC ↓ (right before)".to_owned()];
    let mut notes = vec![format!(
        "{} images, top-1 accuracy before masking {:.1} %. {}",
        curves.items(),
        100.0 * curves.unmasked_accuracy(),
        meaning(curves.fractions()),
    )];
    if let Some(PaperTarget { table, column: Some(column) }) = paper {
        columns.push(format!("paper, {column}"));
        notes.push(source_note(table));
    }
    Table {
        title: title.into(),
        labels: vec!["tokens masked by".into()],
        columns,
        rows: methods.iter().map(row).collect(),
        notes,
    }
}

/// Returns an explanation of the metrics over these fractions of removed patches.
pub(crate) fn meaning(fractions: &[f64]) -> String {
    format!(
        "AUC: accuracy ÷ unmasked accuracy, mean over {:.0}–{:.0} % of the patches removed; “right before”: only images that \
         were right before masking.",
        100.0 * fractions.first().unwrap_or(&0.0),
        100.0 * fractions.last().unwrap_or(&0.0),
    )
}

/// Returns the note on the paper's values.
pub(crate) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its images, layers, fractions and normalisation are not published; compare orderings, not values.",
        paper.source
    )
}

/// Draws `curves.png` and, if records carry scores, `overlays.png`.
pub(crate) fn figures(
    out: &Path,
    title: &str,
    items: &[LabelledImage],
    preprocessor: &Preprocessor,
    masking: &MaskingCurves,
    methods: &[MethodInfo],
    records: &[MaskingRecord],
) -> Result<Vec<PathBuf>> {
    let values = masking.finish();
    let series = methods
        .iter()
        .filter_map(|MethodInfo { key, label, .. }| {
            let points = masking.fractions().iter().copied().zip(values.get(key)?.accuracy.iter().copied());
            Some(Series { name: label.clone(), points: points.collect(), band: Vec::new() })
        })
        .collect();
    let plot = CurvePlot {
        title: title.to_owned(),
        x_label: "fraction of patch tokens removed".into(),
        y_label: "top-1 accuracy".into(),
        y_range: None,
        series,
    };
    let mut figures = vec![write_figure(out.join("curves.png"), curves(&plot))?];

    let mut rows = Vec::new();
    for (item, record) in items.iter().zip(records) {
        let Some(scores) = &record.scores else { continue };
        let Some(image) =
            as_answered(&record.id, &record.sha256, item.load(), |image: &Picture| &image.sha256)
        else {
            continue;
        };
        let seen = preprocessor.apply_geometry(&image.rgb).map_err(models::Error::from)?;
        let (map_rows, columns) = scores.grid;
        let maps = methods.iter().filter_map(|MethodInfo { key, label, .. }| {
            let values = scores.maps.get(key)?.iter().map(|&value| f64::from(value)).collect();
            Some(Map { title: label.clone(), rows: map_rows, cols: columns, values })
        });
        let image = Rgb { width: seen.width, height: seen.height, pixels: seen.data };
        rows.push(OverlayRow { image, label: record.id.clone(), maps: maps.collect() });
    }
    if !rows.is_empty() {
        figures.push(write_figure(out.join("overlays.png"), overlays(&rows, ColorRange::PerMap))?);
    }
    Ok(figures)
}
