//! The table and the figures of a masking run.

use std::path::{Path, PathBuf};

use models::image::Preprocessor;
use tasks::dataset::{LabelledImage, Picture};
use tasks::masking::{Direction, MaskingConfig, MaskingRecord, Mechanism};

use super::metrics::{MaskingCurves, measures};
use crate::error::Result;
use crate::experiments::figures::{as_answered, write_figure};
use crate::experiments::spec::{MethodInfo, MetricSpec};
use crate::experiments::target::PaperTarget;
use crate::paper::PaperTable;
use crate::results::MetricValue;
use crate::table::{Cell, Row, Table};
use plot::{ColorRange, CurvePlot, Map, OverlayRow, Rgb, Series, curves, overlays};

/// Returns the table of our values next to the paper's, a row for each method.
pub(crate) fn table(
    (title, task): (&str, &MaskingConfig),
    (curves, values): (&MaskingCurves, &[MetricValue]),
    methods: &[MethodInfo],
    paper: Option<&PaperTarget>,
) -> Table {
    // The paper's values are those of deletion.
    let paper = paper.filter(|_| task.direction == Direction::Deletion);
    let specs: Vec<MetricSpec> =
        measures(task).iter().filter(|measure| measure.is_of_methods()).map(|measure| measure.spec).collect();
    let row = |MethodInfo { key, label, .. }: &MethodInfo| {
        let is_it = |value: &&MetricValue, spec: &MetricSpec| {
            value.name == spec.key && value.method.as_ref() == Some(key)
        };
        let value = |spec: &MetricSpec| values.iter().find(|value| is_it(value, spec))?.value;
        let mut cells: Vec<Cell> = specs.iter().map(|spec| Cell::from(value(spec))).collect();
        if let Some(PaperTarget { table, column: Some(column) }) = paper {
            cells.push(table.published(key, column).into());
        }
        Row { labels: vec![label.clone()], cells }
    };
    let mut columns: Vec<String> = specs.iter().map(head).collect();
    let mut notes = vec![format!(
        "{} images, top-1 accuracy before masking {:.1} %. {}",
        curves.items(),
        100.0 * curves.unmasked_accuracy(),
        meaning(task),
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

/// Returns the head of a column: the title without the direction, which the note explains.
fn head(spec: &MetricSpec) -> String {
    let title = spec.title.rsplit(": ").next().unwrap_or(spec.title);
    match title.strip_suffix(", right before") {
        Some(short) => format!("{short}{} (right before)", spec.better.arrow()),
        None => format!("{title}{}", spec.better.arrow()),
    }
}

/// Returns an explanation of the metrics.
pub(crate) fn meaning(task: &MaskingConfig) -> String {
    let fractions = task.fractions.values();
    let percent = |fraction: Option<&f64>| format!("{:.0}", 100.0 * fraction.unwrap_or(&0.0));
    let mut text = format!(
        "AUC: accuracy ÷ unmasked accuracy, mean over {}–{} % of {}; “right before”: only images that were right before masking.",
        percent(fractions.first()),
        percent(fractions.last()),
        patches(task),
    );
    match task.direction {
        Direction::Deletion => {}
        Direction::LeastFirst => text += " The least important patches are masked first.",
        Direction::Insertion => text += " The most important patches become visible first.",
    }
    if task.confidence {
        text += " Probability and logit are those of the class predicted before masking.";
        match task.direction {
            Direction::Deletion => {
                text += " Comprehensiveness: how much that probability falls, mean over the fractions.";
            }
            Direction::Insertion => {
                text += " Sufficiency: how much that probability falls if only these patches are visible, mean over the fractions.";
            }
            Direction::LeastFirst => {}
        }
    }
    text
}

/// Describes what a fraction counts, such as “the patches removed”.
pub(crate) fn patches(task: &MaskingConfig) -> String {
    let how = match task.mechanism.as_slice() {
        [one] => one.participle(),
        _ => "masked",
    };
    match task.direction {
        Direction::Deletion | Direction::LeastFirst => format!("the patches {how}"),
        Direction::Insertion => format!("the patches visible, all others {how}"),
    }
}

/// Returns the label of the x axis.
fn x_label(task: &MaskingConfig) -> String {
    match (task.direction, task.mechanism.as_slice()) {
        (Direction::Deletion, [Mechanism::Remove]) => "fraction of patch tokens removed".into(),
        (Direction::Deletion, _) => "fraction of patches masked".into(),
        (Direction::LeastFirst, _) => "fraction of patches masked, least important first".into(),
        (Direction::Insertion, _) => "fraction of patches visible, most important first".into(),
    }
}

/// Returns the note on the paper's values.
pub(crate) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its images, layers, fractions and normalisation are not published; compare orderings, not values.",
        paper.source
    )
}

/// What overlays are drawn from.
pub(crate) struct Drawn<'a> {
    /// The images.
    pub(crate) items: &'a [LabelledImage],
    /// The preprocessing of the network.
    pub(crate) preprocessor: &'a Preprocessor,
    /// The records, in the order of the images.
    pub(crate) records: &'a [MaskingRecord],
}

/// Draws `curves.png` and, if records carry scores, `overlays.png`.
pub(crate) fn figures(
    out: &Path,
    (title, task): (&str, &MaskingConfig),
    drawn: &Drawn<'_>,
    masking: &MaskingCurves,
    methods: &[MethodInfo],
) -> Result<Vec<PathBuf>> {
    let Drawn { items, preprocessor, records } = *drawn;
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
        x_label: x_label(task),
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
