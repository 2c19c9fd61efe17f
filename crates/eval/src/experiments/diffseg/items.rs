//! The items of a DiffSeg run.

use tasks::diffseg::{DiffSeg, DiffSegConfig, DiffSegRecord, Segments};

use super::classes::Classes;
use super::matched::{Matched, Tally};
use super::metrics::{fraction, measures};
use super::rand_index::adjusted_rand_index;
use crate::error::Result;
use crate::experiments::kind::Kind;
use crate::experiments::view::{ImageSource, ItemView, Score, Spreads, records, values};
use crate::folder::RunFolder;

/// Returns the items with their scores and images.
pub(super) fn view(config: &DiffSegConfig, run: &RunFolder) -> Result<ItemView> {
    let (answers, methods) = (run.answers::<DiffSegRecord>()?, Kind::methods(config));
    let experiment = &run.results.experiment;
    let dataset = experiment.dataset.labelled_pixels();
    // Without the data set, only classes that occur in the records: a class that does not occur takes only left-over segments,
    // which none of the scores below counts.
    let records: Vec<DiffSegRecord> = records(&answers);
    let classes =
        dataset.as_ref().ok().map(|found| Classes::of(&experiment.dataset, found.classes.len(), &records));
    let matched_to = classes.clone().unwrap_or_default();
    let mut items = ItemView::of(methods.clone(), &answers, Vec::new(), |record| &record.id, |_| Vec::new());
    let matched = |found: &Segments| Matched::of(found, &matched_to);

    let mut score = |title, meaning, digits, higher_is_better, value: &dyn Fn(&Segments) -> Option<f64>| {
        let values = values(&methods, &answers, |record, key| value(record.methods.get(key)?));
        items.score(Score { title, meaning, higher_is_better, digits, values });
    };
    let good = Some(true);
    score(
        "IoU, order-free, %",
        "Mean over the classes of this image of intersection over union; left-over segments do not count.",
        1,
        good,
        &|found| {
            let shown = |class: &&Tally| class.labelled() > 0;
            let classes = matched(found).classes;
            let each = classes.iter().filter(shown);
            let each: Vec<f64> = each
                .filter_map(|class| fraction(class.true_positives as f64, class.overlapping_union() as f64))
                .collect();
            fraction(100.0 * each.iter().sum::<f64>(), each.len() as f64)
        },
    );
    score("Acc, %", "Fraction of the labelled pixels in the segment of their class.", 1, good, &|found| {
        let matched = matched(found);
        fraction(100.0 * matched.correct() as f64, matched.labelled as f64)
    });
    score("ARI × 100", "Adjusted Rand index between segments and classes.", 1, good, &|found| {
        adjusted_rand_index(&found.overlap).map(|index| 100.0 * index)
    });
    score(
        "Boundary recall, %",
        "Fraction of the true boundaries with a found one nearby.",
        1,
        good,
        &|found| fraction(100.0 * found.boundary.found as f64, found.boundary.labelled as f64),
    );
    score("Segments", "Number of segments of the image.", 0, None, &|found| Some(found.proposals as f64));

    let found = dataset.map(|found| found.items);
    items.compare_data::<DiffSeg>(run, &found, &answers);
    items.images = ImageSource::items(
        found,
        |item| &item.id,
        |item| item.load().ok().map(|found| (found.rgb, Some(found.sha256))),
    );
    // The metrics depend on the number of classes; without it there are no intervals.
    if let Some(classes) = &classes {
        items.spreads = Spreads::of(&measures(classes), &records, &methods, experiment.seed);
    }
    Ok(items)
}
