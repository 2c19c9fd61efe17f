//! Items of a DiffSeg run.

use tasks::diffseg::{DiffSeg, DiffSegRecord, Segments};

use super::{Items, Score, Source, Spreads, record, values};
use crate::error::Result;
use crate::folder::RunFolder;
use crate::metrics::DiffSegMetric;
use crate::metrics::diffseg::{Classes, Matched, Tally, adjusted_rand_index};
use crate::report_page::budget::Budget;

pub(super) fn read(folder: &RunFolder, budget: &mut Budget) -> Result<(Items, Spreads)> {
    let answers = folder.answers::<DiffSegRecord>()?;
    let experiment = &folder.results.experiment;
    let dataset = experiment.dataset.labelled_pixels();
    // Without the data set, the classes that occur: those that do not occur take left-over segments alone, which none of
    // the numbers of one image below counts.
    let records: Vec<DiffSegRecord> = answers.iter().filter_map(|answer| record(answer).cloned()).collect();
    let classes =
        dataset.as_ref().ok().map(|found| Classes::of(&experiment.dataset, found.classes.len(), &records));
    let matched_to = classes.clone().unwrap_or_default();
    let mut items = Items::of(folder, &answers, Vec::new(), |record| &record.id, |_| Vec::new());
    let matched = |found: &Segments| Matched::of(found, &matched_to);

    let mut score = |title, meaning, digits, higher_is_better, value: &dyn Fn(&Segments) -> Option<f64>| {
        let values = values(folder, &answers, |record, key| value(record.methods.get(key)?));
        items.score(Score { title, meaning, higher_is_better, digits, values });
    };
    let good = Some(true);
    score(
        "IoU, order-free, %",
        "Mean over the classes of this image of intersection over union; left-over segments count for nothing.",
        1,
        good,
        &|found| {
            let shown = |class: &&Tally| class.labelled() > 0;
            let classes = matched(found).classes;
            let each = classes.iter().filter(shown);
            let each: Vec<f64> = each
                .filter_map(|class| share(class.true_positives as f64, class.overlapping_union() as f64))
                .collect();
            share(100.0 * each.iter().sum::<f64>(), each.len() as f64)
        },
    );
    score("Acc, %", "Share of the labelled pixels in the segment of their class.", 1, good, &|found| {
        let matched = matched(found);
        share(100.0 * matched.correct() as f64, matched.labelled as f64)
    });
    score("ARI × 100", "Adjusted Rand index between segments and classes.", 1, good, &|found| {
        adjusted_rand_index(&found.overlap).map(|index| 100.0 * index)
    });
    score("Boundary recall, %", "Share of the true boundaries with a found one nearby.", 1, good, &|found| {
        share(100.0 * found.boundary.found as f64, found.boundary.labelled as f64)
    });
    score("Segments", "How many the image was cut into.", 0, None, &|found| Some(found.proposals as f64));

    let found = dataset.map(|found| found.items);
    items.compare_data::<DiffSeg>(folder, &found, &answers);
    let source = Source::items(
        found,
        |item| &item.id,
        |item| item.load().ok().map(|found| (found.rgb, Some(found.sha256))),
    );
    let expected: Vec<_> =
        answers.iter().map(|answer| record(answer).map(|one| one.sha256.as_str())).collect();
    items.picture(source, &expected, budget);

    let (methods, mut spreads) = (experiment.methods(), Spreads::default());
    // The metrics depend on the number of classes; without it there are no intervals.
    for (metric, classes) in
        DiffSegMetric::ALL.into_iter().filter_map(|metric| Some((metric, classes.as_ref()?)))
    {
        let over = metric.over(classes);
        spreads.add(&metric.to_string(), &over, &records, &methods, experiment.seed);
    }
    Ok((items, spreads))
}

fn share(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}
