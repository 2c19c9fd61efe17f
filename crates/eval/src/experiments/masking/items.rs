//! The items of a masking run: how many tokens can be removed before the answer becomes wrong.

use tasks::masking::{Direction, Masking, MaskingConfig, MaskingRecord};

use super::metrics::{item_area, measures};
use crate::error::Result;
use crate::experiments::kind::Kind;
use crate::experiments::view::{ImageSource, ItemView, Score, Spreads, Strips, record, records, values};
use crate::folder::RunFolder;

/// Returns the items with their scores, strips and images.
pub(super) fn view(config: &MaskingConfig, run: &RunFolder) -> Result<ItemView> {
    let (answers, methods) = (run.answers::<MaskingRecord>()?, Kind::methods(config));
    let fractions = config.fractions.values();
    let was_right = |record: &MaskingRecord| record.unmasked == record.label;
    let facts = |record: &MaskingRecord| vec![record.label.to_string(), record.unmasked.to_string()];
    let heads = vec!["class", "predicted"];
    let mut items = ItemView::of(methods.clone(), &answers, heads, |record| &record.id, facts);

    let higher_is_better = Some(config.direction != Direction::Deletion);
    items.score(Score {
        title: "AUC of the item",
        meaning: "Mean over the fractions of right (1) and wrong (0): low where masking hurts early. Only items that were right before \
                  masking have one.",
        higher_is_better,
        digits: 3,
        values: values(&methods, &answers, |record, key| {
            was_right(record).then(|| item_area(record, key, &fractions)).flatten()
        }),
    });
    let inserts = config.direction == Direction::Insertion;
    let (title, meaning) = if inserts {
        (
            "First right at, %",
            "Fraction of patches visible at the first right answer; 100 if no answer is right.",
        )
    } else {
        (
            "First wrong at, %",
            "Fraction of patches masked at the first wrong answer; 100 if no answer is wrong.",
        )
    };
    items.score(Score {
        title,
        meaning,
        higher_is_better: higher_is_better.map(|higher| higher != inserts),
        digits: 0,
        values: values(&methods, &answers, |record, key| {
            let answers = record.predicted.get(key)?;
            let first = answers.iter().position(|&class| (class == record.label) == inserts);
            was_right(record)
                .then(|| 100.0 * first.map_or(1.0, |step| fractions[step.min(fractions.len() - 1)]))
        }),
    });
    items.score(Score {
        title: "Steps survived",
        meaning: "Number of fractions with a right answer, whether or not it was right before masking.",
        higher_is_better,
        digits: 0,
        values: values(&methods, &answers, |record, key| {
            Some(record.predicted.get(key)?.iter().filter(|&&class| class == record.label).count() as f64)
        }),
    });
    let right = |key: &str, record: &MaskingRecord| -> Option<String> {
        let answers = record.predicted.get(key)?.iter();
        Some(answers.map(|&class| if class == record.label { '1' } else { '0' }).collect())
    };
    let of = |key: &str| {
        answers
            .iter()
            .map(|answer| record(answer).and_then(|record| right(key, record)).unwrap_or_default())
            .collect()
    };
    items.strips = Some(Strips {
        title: if inserts {
            "right at each fraction of visible patches"
        } else {
            "right at each fraction of masked patches"
        },
        steps: fractions.iter().map(|fraction| format!("{:.0} %", 100.0 * fraction)).collect(),
        right: methods.iter().map(|method| of(&method.key)).collect(),
    });
    let wrong = |(_, answer): &(usize, &(usize, _))| record(answer).is_some_and(|record| !was_right(record));
    let wrong: Vec<usize> = answers.iter().enumerate().filter(wrong).map(|(item, _)| item).collect();
    items.flagged = (!wrong.is_empty()).then_some(("Wrong before", wrong));

    let experiment = &run.results.experiment;
    let found = experiment.dataset.items(usize::MAX);
    items.compare_data::<Masking>(run, &found, &answers);
    items.images = ImageSource::items(
        found,
        |item| &item.id,
        |item| item.load().ok().map(|image| (image.rgb, Some(image.sha256))),
    );

    let (records, measures) = (records(&answers), measures(config));
    items.spreads = Spreads::of(&measures, &records, &methods, experiment.seed);
    // Runs of earlier versions did not compare the methods.
    if run.results.comparisons.is_empty() {
        items.spreads.compare(&measures, &records, (&methods, items.lead), experiment.seed);
    }
    Ok(items)
}
