//! The table of the metrics. The names of the metrics depend on the features.

use crate::metrics::fidelity::{Resampled, Summary};
use crate::metrics::significance::{LEAST_ITEMS, biased, too_few};
use crate::table::{Cell, Row, Table};

/// The titles of the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Titles {
    /// Title of the score of class probabilities.
    pub score: String,
    /// Title of the Fréchet distance.
    pub frechet: String,
    /// Title of the kernel distance.
    pub kernel: String,
    /// Title of the fraction of generated images among the real ones.
    pub precision: String,
    /// Title of the fraction of real images among the generated ones.
    pub recall: String,
}

impl Titles {
    /// Returns the titles for these features. Only the published Inception-v3 gives Inception Score, FID and KID as the
    /// literature defines them; metrics of any other network carry its name.
    #[must_use]
    pub fn new(features: &str, published_inception: bool) -> Self {
        let [score, frechet, kernel] = match published_inception {
            true => ["Inception Score", "FID", "KID"].map(str::to_owned),
            false => ["class score", "Fréchet distance", "kernel distance"]
                .map(|name| format!("{name} ({features})")),
        };
        let [precision, recall] = ["precision", "recall"].map(|name| format!("{name} ({features})"));
        Self { score, frechet, kernel, precision, recall }
    }
}

/// Returns the ends of an interval, if there are enough images for one.
fn interval(found: &Resampled) -> Option<(f64, f64)> {
    found.low.zip(found.high)
}

/// Returns a table with a row per metric: value, spread and, if items were resampled, the interval.
#[must_use]
pub fn table(title: String, titles: &Titles, summary: &Summary) -> Table {
    let resampled = summary.frechet_resampled.is_some();
    let mut rows = Vec::new();
    let mut row = |name: &str, good: &str, value: Cell, spread: Cell, interval: Option<(f64, f64)>| {
        let mut cells = vec![value, spread];
        if resampled {
            cells.extend(
                interval.map_or([Cell::Empty; 2], |(low, high)| [Cell::Value(low), Cell::Value(high)]),
            );
        }
        rows.push(Row { labels: vec![format!("{name} {good}")], cells });
    };
    let mut notes = Vec::new();
    if let Some(score) = summary.inception_score {
        let interval = summary.inception_score_resampled.as_ref().and_then(interval);
        row(&titles.score, "↑", Cell::Value(score.mean), Cell::Value(score.std), interval);
        notes.push(format!("± of {}: standard deviation over the splits.", titles.score));
    }
    let found = summary.frechet_resampled.as_ref();
    let error = Cell::from(found.map(|found| found.standard_error));
    row(&titles.frechet, "↓", Cell::Value(summary.frechet), error, found.and_then(interval));
    if let Some(found) = found {
        let said = match interval(found) {
            Some(_) => format!(
                "Resamples have fewer different images, which raises the distance by {:.3} on average; the interval is moved by as \
                 much and belongs to the distance of {} images.",
                found.bias, found.items
            ),
            None if found.items < LEAST_ITEMS => too_few(),
            None => biased(),
        };
        notes.push(format!(
            "± of {}: standard error over {} resamples of the generated images. {said}",
            titles.frechet,
            found.values.len(),
        ));
    }
    if let Some(kernel) = summary.kernel {
        row(&titles.kernel, "↓", Cell::Fine(kernel.distance.mean), Cell::Fine(kernel.distance.std), None);
        notes.push(format!(
            "± of {}: standard deviation over {} subsets of {}.",
            titles.kernel, kernel.subsets, kernel.subset_size
        ));
    }
    if let Some(found) = summary.precision_recall {
        row(&titles.precision, "↑", Cell::Value(found.precision), Cell::Empty, None);
        row(&titles.recall, "↑", Cell::Value(found.recall), Cell::Empty, None);
    }
    notes.extend(summary.notes.iter().cloned());
    let mut columns = vec!["value".to_owned(), "±".to_owned()];
    if resampled {
        columns.extend(["95 % from", "to"].map(str::to_owned));
    }
    Table { title, labels: vec!["metric".to_owned()], columns, rows, notes }
}
