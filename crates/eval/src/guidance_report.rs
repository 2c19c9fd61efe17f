//! The tables and the pictures of a guidance run.

use std::path::{Path, PathBuf};

use tasks::guidance::{Guidance, GuidanceConfig, GuidanceRecord, Method, read_picture};

use crate::differences::Differences;
use crate::error::{Error, Result};
use crate::metrics::fidelity::{Resampled, Summary};
use crate::paper::PaperTable;
use crate::picture_metrics::Titles;
use crate::plot::{Ends, Gallery, Map, OverlayRow, Rgb, gallery, overlays};
use crate::results::{Comparison, MetricValue, Resamples};
use crate::table::{Cell, Row, Table};

/// Pictures whose masks are drawn.
const MASKED: usize = 3;
/// Passes whose masks are drawn.
const PASSES: usize = 6;

/// The metrics, by their names in results and in the paper's table.
const SCORE: (&str, &str) = ("inception-score", "IS");
const FRECHET: (&str, &str) = ("frechet", "FID");
const KERNEL: (&str, &str) = ("kernel", "KID");

/// The column of the paper's table that a metric of the results stands in.
pub(crate) fn paper_column(metric: &str) -> Option<&'static str> {
    [SCORE, FRECHET, KERNEL].into_iter().find(|(name, _)| *name == metric).map(|(_, column)| column)
}

/// What the metrics say of a method.
pub(crate) struct Judged {
    pub(crate) key: String,
    pub(crate) label: String,
    pub(crate) summary: Summary,
    /// Share of the tokens that were degraded; none where nothing is.
    pub(crate) mask_area: Option<f64>,
}

/// A metric's names, its value, and how far that is from certain.
type Metric = ((&'static str, &'static str), Option<f64>, Option<f64>);

impl Judged {
    /// The three metrics of the paper, in its order.
    fn metrics(&self) -> [Metric; 3] {
        let Summary {
            inception_score, inception_score_resampled, frechet, frechet_resampled, kernel, ..
        } = &self.summary;
        let error = |resampled: &Option<Resampled>| resampled.as_ref().map(|found| found.standard_error);
        [
            (SCORE, inception_score.map(|score| score.mean), error(inception_score_resampled)),
            (FRECHET, Some(*frechet), error(frechet_resampled)),
            (KERNEL, kernel.map(|kernel| kernel.distance.mean), kernel.map(|kernel| kernel.distance.std)),
        ]
    }
}

/// The values of all metrics.
pub(crate) fn metric_values(judged: &[Judged], paper: Option<&PaperTable>) -> Vec<MetricValue> {
    let mut values = Vec::new();
    for method in judged {
        let mut push = |name: &str, value: Option<f64>, higher_is_better, published| {
            let (name, method) = (name.to_owned(), Some(method.key.clone()));
            values.push(MetricValue {
                name,
                method,
                value,
                higher_is_better: Some(higher_is_better),
                published,
            });
        };
        for ((name, column), value, _) in method.metrics() {
            let published = paper.and_then(|table| table.published(&method.key, column));
            push(name, value, name == SCORE.0, published);
        }
        let shares = method.summary.precision_recall;
        push("precision", shares.map(|shares| shares.precision), true, None);
        push("recall", shares.map(|shares| shares.recall), true, None);
    }
    values
}

/// Ours beside the paper's; differences where they say something.
pub(crate) fn table(
    title: &str,
    judged: &[Judged],
    titles: &Titles,
    paper: Option<&PaperTable>,
    comparable: bool,
) -> Table {
    let mut columns = Vec::new();
    for (name, better) in [(&titles.score, "↑"), (&titles.frechet, "↓"), (&titles.kernel, "↓")] {
        columns.extend([format!("{name} {better}"), "±".to_owned()]);
    }
    columns.extend(["precision ↑", "recall ↑", "masked, %"].map(str::to_owned));
    if paper.is_some() {
        for column in [SCORE.1, FRECHET.1, KERNEL.1] {
            columns.push(format!("paper, {column}"));
            columns.extend(comparable.then(|| format!("Δ {column}")));
        }
    }
    let row = |method: &Judged| {
        let fine = |name: &str| if name == KERNEL.0 { Cell::Fine } else { Cell::Value };
        let mut cells = Vec::new();
        for ((name, _), value, error) in method.metrics() {
            cells.extend([value, error].map(|value| value.map_or(Cell::Empty, fine(name))));
        }
        let shares = method.summary.precision_recall;
        cells.push(shares.map(|shares| shares.precision).into());
        cells.push(shares.map(|shares| shares.recall).into());
        cells.push(method.mask_area.map(|share| 100.0 * share).into());
        if let Some(paper) = paper {
            for ((_, column), value, _) in method.metrics() {
                let published = paper.published(&method.key, column);
                cells.push(published.into());
                if comparable {
                    let pair = value.zip(published);
                    cells.push(pair.map_or(Cell::Empty, |pair| paper.difference(column, pair)));
                }
            }
        }
        Row { labels: vec![method.label.clone()], cells }
    };
    Table {
        title: title.into(),
        labels: vec!["method".into()],
        columns,
        rows: judged.iter().map(row).collect(),
        notes: notes(judged, titles, paper),
    }
}

fn notes(judged: &[Judged], titles: &Titles, paper: Option<&PaperTable>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(Summary { generated, reference, kernel, frechet_resampled, .. }) =
        judged.first().map(|first| &first.summary)
    {
        let reference = reference.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        notes.push(format!(
            "{generated} pictures under each method, from the same noise; {reference} reference pictures. {} depends on \
             both numbers. {SHARES} Masked: tokens whose part of the picture was blurred.",
            titles.frechet
        ));
        let mut spreads = Vec::new();
        if let Some(found) = frechet_resampled {
            spreads
                .push(format!("standard error over {} resamples of the drawn pictures", found.values.len()));
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

/// What the metrics are over resamples of the picture numbers.
pub(crate) fn resamples(judged: &[Judged]) -> Vec<Resamples> {
    let of = |method: &Judged| {
        let Summary { inception_score_resampled, frechet_resampled, .. } = &method.summary;
        let key = method.key.clone();
        [(SCORE.0, inception_score_resampled.clone()), (FRECHET.0, frechet_resampled.clone())].map(
            |(metric, found)| {
                Some(Resamples { metric: metric.into(), method: key.clone(), values: found?.values })
            },
        )
    };
    judged.iter().flat_map(of).flatten().collect()
}

/// What two of the metrics are.
pub(crate) const SHARES: &str = "Precision and recall (arXiv 1904.06991): shares of drawn pictures among the reference, and of the \
                                 reference among those drawn.";

/// What a reader of the paper's values must know.
pub(crate) fn source_note(paper: &PaperTable) -> String {
    format!(
        "Paper: {}. Its number of pictures, reference, sampler, scale and mask are not published; compare orderings, not values.",
        paper.source
    )
}

/// Every method minus the one listed before it, and minus the first, over the same resamples of the picture numbers.
pub(crate) fn comparisons(judged: &[Judged]) -> Vec<Comparison> {
    let mut pairs: Vec<(&Judged, &Judged)> = judged.windows(2).map(|pair| (&pair[1], &pair[0])).collect();
    if let Some((first, rest)) = judged.split_first() {
        pairs.extend(rest.iter().skip(1).map(|method| (method, first)));
    }
    let mut comparisons = Vec::new();
    for (method, minus) in pairs {
        let mut push = |metric: &str, ours: &Option<Resampled>, theirs: &Option<Resampled>| {
            let difference = ours.as_ref().zip(theirs.as_ref()).and_then(|(a, b)| a.minus(b));
            if let Some(difference) = difference {
                let (method, minus) = (method.key.clone(), minus.key.clone());
                comparisons.push(Comparison { metric: metric.to_owned(), method, minus, difference });
            }
        };
        let (a, b) = (&method.summary, &minus.summary);
        push(SCORE.0, &a.inception_score_resampled, &b.inception_score_resampled);
        push(FRECHET.0, &a.frechet_resampled, &b.frechet_resampled);
    }
    comparisons
}

/// Differences of methods with their intervals.
pub(crate) fn comparison_table(
    comparisons: &[Comparison],
    methods: &[(String, String)],
    titles: &Titles,
) -> Table {
    let title = "Differences of methods from the same noise";
    let shown = Differences { title, methods, over: "the picture numbers".into(), shares: false };
    shown.table(comparisons, |metric| match metric == SCORE.0 {
        true => (titles.score.clone(), true),
        false => (titles.frechet.clone(), false),
    })
}

/// Draws `pictures.png`, the same noise under each method, and `masks.png`, what was degraded in which pass.
pub(crate) fn pictures(
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
        let picture = read_picture(&Guidance::file(folder, method.key(), &record.id), generated)?;
        Ok(Some(Rgb { width: picture.width, height: picture.height, pixels: picture.data }))
    };
    let drawn = |path: PathBuf, done: Result<(), crate::plot::PlotError>| {
        done.map_err(|e| Error::Export { path: path.clone(), reason: e.to_string() }).map(|()| path)
    };
    let row = |method: &Method| -> Result<(String, Vec<Rgb>)> {
        let row = shown.iter().filter_map(|record| read(method, record).transpose());
        Ok((method.label().to_owned(), row.collect::<Result<_>>()?))
    };
    let sheet = Gallery {
        columns: shown.iter().map(|record| format!("seed {}", record.seed)).collect(),
        rows: config.methods.iter().map(row).collect::<Result<_>>()?,
    };
    let path = out.join("pictures.png");
    let mut paths = vec![drawn(path.clone(), gallery(&path, &sheet))?];

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
        let path = out.join("masks.png");
        paths.push(drawn(path.clone(), overlays(&path, &rows, Ends::ZeroAndOne("left alone", "degraded")))?);
    }
    Ok(paths)
}

/// Up to [`PASSES`] passes of so many, the first and the last among them, at equal distances.
fn some_passes(passes: usize) -> impl Iterator<Item = usize> {
    let count = PASSES.min(passes);
    (0..count).map(move |i| if count > 1 { i * (passes - 1) / (count - 1) } else { 0 })
}
