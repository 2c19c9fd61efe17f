//! The tables and the figures of a guidance run.

use std::path::{Path, PathBuf};

use plot::{ColorRange, Gallery, Map, OverlayRow, Rgb, gallery, overlays};
use tasks::guidance::{Guidance, GuidanceConfig, GuidanceRecord, Method, read_picture};

use super::metrics::{GuidanceMetric, Judged};
use crate::error::Result;
use crate::experiments::figures::write_figure;
use crate::experiments::spec::{MethodInfo, Unit};
use crate::experiments::tables::{Differences, Resampled};
use crate::experiments::target::PaperTarget;
use crate::image_metrics::Titles;
use crate::metrics::fidelity::Summary;
use crate::paper::PaperTable;
use crate::results::Comparison;
use crate::table::{Cell, Row, Table};

/// Number of images whose masks are drawn.
const MASKED: usize = 3;
/// Maximum number of passes whose masks are drawn.
const PASSES: usize = 6;

/// Returns the table of our values next to the paper's, a row for each method, with differences if the two are comparable.
pub(super) fn table(
    title: &str,
    judged: &[Judged],
    titles: &Titles,
    paper: Option<&PaperTarget>,
    comparable: bool,
) -> Table {
    let mut columns = Vec::new();
    for metric in GuidanceMetric::OF_PAPER {
        let head = format!("{}{}", metric.title(titles), metric.spec().better.arrow());
        columns.extend([head, "±".to_owned()]);
    }
    columns.extend([GuidanceMetric::Precision, GuidanceMetric::Recall].map(|metric| metric.spec().head()));
    columns.push("masked, %".to_owned());
    let in_paper: Vec<(GuidanceMetric, &PaperTarget, &str)> = paper.map_or_else(Vec::new, |paper| {
        let column = |metric: GuidanceMetric| Some((metric, paper, paper.column_of(&metric.spec())?));
        GuidanceMetric::OF_PAPER.into_iter().filter_map(column).collect()
    });
    for (.., column) in &in_paper {
        columns.push(format!("paper, {column}"));
        columns.extend(comparable.then(|| format!("Δ {column}")));
    }
    let row = |method: &Judged| {
        let summary = &method.summary;
        let mut cells = Vec::new();
        for metric in GuidanceMetric::OF_PAPER {
            let cell = if metric.spec().digits > 3 { Cell::Fine } else { Cell::Value };
            let values = [metric.value(summary), metric.error(summary)];
            cells.extend(values.map(|value| value.map_or(Cell::Empty, cell)));
        }
        for metric in [GuidanceMetric::Precision, GuidanceMetric::Recall] {
            cells.push(metric.value(summary).into());
        }
        cells.push(method.mask_area.map(|fraction| 100.0 * fraction).into());
        for (metric, paper, column) in &in_paper {
            let published = paper.table.published(&method.key, column);
            cells.push(published.into());
            if comparable {
                let pair = metric.value(summary).zip(published);
                cells.push(pair.map_or(Cell::Empty, |pair| paper.table.difference(column, pair)));
            }
        }
        Row { labels: vec![method.label.clone()], cells }
    };
    Table {
        title: title.into(),
        labels: vec!["method".into()],
        columns,
        rows: judged.iter().map(row).collect(),
        notes: notes(judged, titles, paper.map(|paper| &paper.table)),
    }
}

fn notes(judged: &[Judged], titles: &Titles, paper: Option<&PaperTable>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(Summary { generated, reference, kernel, frechet_resampled, .. }) =
        judged.first().map(|first| &first.summary)
    {
        let reference = reference.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        notes.push(format!(
            "{generated} images per method, from the same noise; {reference} reference images. {} depends on \
             both numbers. {FRACTIONS} Masked: fraction of the tokens whose part of the image was blurred.",
            titles.frechet
        ));
        let mut spreads = Vec::new();
        if let Some(found) = frechet_resampled {
            spreads.push(format!(
                "standard error over {} resamples of the generated images",
                found.values.len()
            ));
        }
        if let Some(kernel) = kernel {
            spreads.push(format!(
                "of {}: standard deviation over {} subsets of {}",
                titles.kernel, kernel.subsets, kernel.subset_size
            ));
        }
        if !spreads.is_empty() {
            notes.push(format!("±: {}.", spreads.join("; ")));
        }
    }
    let mut said: Vec<&String> = Vec::new();
    for note in judged.iter().flat_map(|method| &method.summary.notes) {
        if !said.contains(&note) {
            said.push(note);
        }
    }
    notes.extend(said.into_iter().cloned());
    notes.extend(paper.map(source_note));
    notes
}

/// Explanation of precision and recall.
pub(super) const FRACTIONS: &str = "Precision and recall (arXiv 1904.06991): fraction of the generated images among the \
                                    reference, and of the reference among the generated images.";

/// Returns the note on the paper's values.
pub(super) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its number of images, reference, sampler, scale and mask are not published; compare orderings, not values.",
        paper.source
    )
}

/// Returns the table of differences of methods with their intervals.
pub(super) fn comparison_table(comparisons: &[Comparison], methods: &[MethodInfo], titles: &Titles) -> Table {
    let title = "Differences of methods from the same noise";
    let shown = Differences { title, methods, over: Resampled::Numbers, unit: Unit::Plain };
    shown.table(comparisons, |key| {
        let metric = GuidanceMetric::ALL.into_iter().find(|metric| metric.spec().key == key);
        let better = metric.and_then(|metric| metric.spec().better.higher_is_better());
        (metric.map_or_else(String::new, |metric| metric.title(titles).to_owned()), better)
    })
}

/// Draws `pictures.png` (images from the same noise under each method) and `masks.png` (the tokens degraded in each pass).
pub(super) fn figures(
    out: &Path,
    folder: &Path,
    config: &GuidanceConfig,
    records: &[GuidanceRecord],
) -> Result<Vec<PathBuf>> {
    let shown = &records[..config.figures.min(records.len())];
    if shown.is_empty() {
        return Ok(Vec::new());
    }
    let read = |method: &Method, record: &GuidanceRecord| -> Result<Option<Rgb>> {
        let Some(generated) = record.methods.get(method.key()) else { return Ok(None) };
        let rgb = read_picture(&Guidance::file(folder, method.key(), &record.id), generated)?;
        Ok(Some(Rgb { width: rgb.width, height: rgb.height, pixels: rgb.data }))
    };
    let row = |method: &Method| -> Result<(String, Vec<Rgb>)> {
        let row = shown.iter().filter_map(|record| read(method, record).transpose());
        Ok((method.label().to_owned(), row.collect::<Result<_>>()?))
    };
    let sheet = Gallery {
        columns: shown.iter().map(|record| format!("seed {}", record.seed)).collect(),
        rows: config.methods.iter().map(row).collect::<Result<_>>()?,
    };
    let mut paths = vec![write_figure(out.join("pictures.png"), gallery(&sheet))?];

    let mut rows = Vec::new();
    for record in shown.iter().take(MASKED) {
        for method in &config.methods {
            let masks = record.methods.get(method.key()).and_then(|generated| generated.masks.as_ref());
            let (Some(masks), Some(image)) = (masks, read(method, record)?) else { continue };
            let label = format!("{} · seed {}", method.label(), record.seed);
            let maps = some_passes(masks.passes.len()).map(|pass| Map {
                title: format!("pass {}", pass + 1),
                rows: masks.grid.0,
                cols: masks.grid.1,
                values: masks.passes[pass].chars().map(|c| f64::from(u8::from(c == '#'))).collect(),
            });
            rows.push(OverlayRow { image, label, maps: maps.collect() });
        }
    }
    if !rows.is_empty() {
        let sheet = overlays(&rows, ColorRange::ZeroToOne("left alone", "degraded"));
        paths.push(write_figure(out.join("masks.png"), sheet)?);
    }
    Ok(paths)
}

/// Returns up to [`PASSES`] of `passes` passes at equal distances, including the first and the last.
fn some_passes(passes: usize) -> impl Iterator<Item = usize> {
    let count = PASSES.min(passes);
    (0..count).map(move |i| if count > 1 { i * (passes - 1) / (count - 1) } else { 0 })
}
