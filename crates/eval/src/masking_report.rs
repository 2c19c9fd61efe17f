//! The table and the pictures of a run.

use std::path::{Path, PathBuf};

use models::image::Preprocessor;
use tasks::dataset::{LabelledImage, Picture};
use tasks::masking::MaskingRecord;

use crate::error::Result;
use crate::figures::write_figure;
use crate::metrics::{MaskingCurves, Metric};
use crate::paper::PaperTable;
use crate::plan::Beside;
use crate::table::{Cell, Row, Table};
use plot::{CurvePlot, Ends, Map, OverlayRow, Rgb, Series, curves, overlays};
use runs::progress::say;

/// Ours beside the paper's. `labels` are the keys and names of the methods in row order.
pub(crate) fn masking_table(
    title: &str,
    curves: &MaskingCurves,
    labels: &[(String, String)],
    paper: Option<&Beside>,
) -> Table {
    let values = curves.finish();
    let row = |(key, label): &(String, String)| {
        let curve = values.get(key);
        let mut cells = vec![
            Cell::from(curve.and_then(|curve| curve.auc)),
            Cell::from(curve.and_then(|curve| curve.auc_still_right)),
        ];
        if let Some(Beside { table, column: Some(column) }) = paper {
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
    if let Some(Beside { table, column: Some(column) }) = paper {
        columns.push(format!("paper, {column}"));
        notes.push(source_note(table));
    }
    Table {
        title: title.into(),
        labels: vec!["tokens masked by".into()],
        columns,
        rows: labels.iter().map(row).collect(),
        notes,
    }
}

/// What the metrics are, over these shares of removed patches.
pub(crate) fn meaning(fractions: &[f64]) -> String {
    format!(
        "AUC: accuracy ÷ unmasked accuracy, mean over {:.0}–{:.0} % of the patches removed; “right before”: only images that \
         were right before masking.",
        100.0 * fractions.first().unwrap_or(&0.0),
        100.0 * fractions.last().unwrap_or(&0.0),
    )
}

/// What a reader of the paper's values must know.
pub(crate) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its images, layers, fractions and normalisation are not published; compare orderings, not values.",
        paper.source
    )
}

/// An item to be shown beside its record; none, said, where it can no longer be read or is another one by now. That must not
/// keep a run from its end.
pub(crate) fn as_answered<T>(
    id: &str,
    sha256: &str,
    loaded: tasks::Result<T>,
    hash: impl Fn(&T) -> &str,
) -> Option<T> {
    let why = match loaded {
        Ok(item) if hash(&item) == sha256 => return Some(item),
        Ok(_) => "it has changed since it was answered".to_owned(),
        Err(error) => error.to_string(),
    };
    say(&format!("{id} is not among the pictures: {why}"));
    None
}

/// Draws `curves.png` and, where records carry scores, `overlays.png`.
pub(crate) fn masking_pictures(
    out: &Path,
    title: &str,
    items: &[LabelledImage],
    preprocessor: &Preprocessor,
    masking: &MaskingCurves,
    labels: &[(String, String)],
    records: &[MaskingRecord],
) -> Result<Vec<PathBuf>> {
    let values = masking.finish();
    let series = labels
        .iter()
        .filter_map(|(key, label)| {
            let points = masking.fractions().iter().copied().zip(values.get(key)?.accuracy.iter().copied());
            Some(Series { name: label.clone(), points: points.collect() })
        })
        .collect();
    let plot = CurvePlot {
        title: title.to_owned(),
        x_label: "share of patch tokens removed".into(),
        y_label: "top-1 accuracy".into(),
        series,
    };
    let mut pictures = vec![write_figure(out.join("curves.png"), curves(&plot))?];

    let mut rows = Vec::new();
    for (item, record) in items.iter().zip(records) {
        let Some(scores) = &record.scores else { continue };
        let Some(picture) =
            as_answered(&record.id, &record.sha256, item.load(), |picture: &Picture| &picture.sha256)
        else {
            continue;
        };
        let seen = preprocessor.apply_geometry(&picture.rgb).map_err(models::Error::from)?;
        let (map_rows, columns) = scores.grid;
        let maps = labels.iter().filter_map(|(key, label)| {
            let values = scores.maps.get(key)?.iter().map(|&value| f64::from(value)).collect();
            Some(Map { title: label.clone(), rows: map_rows, cols: columns, values })
        });
        let image = Rgb { width: seen.width, height: seen.height, pixels: seen.data };
        rows.push(OverlayRow { image, label: record.id.clone(), maps: maps.collect() });
    }
    if !rows.is_empty() {
        pictures.push(write_figure(out.join("overlays.png"), overlays(&rows, Ends::OfEachMap))?);
    }
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_answered_is_shown() {
        let shown = |loaded: tasks::Result<String>| as_answered("one", "12ab", loaded, |hash: &String| hash);
        assert_eq!(shown(Ok("12ab".into())).as_deref(), Some("12ab"));
        assert_eq!(shown(Ok("34cd".into())), None);
        let gone = tasks::Error::Dataset { path: "one.png".into(), reason: "no such file".into() };
        assert_eq!(shown(Err(gone)), None);
    }
}
