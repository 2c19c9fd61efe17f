//! Items of a masking run: how long the right answer survives.

use tasks::masking::{Masking, MaskingConfig, MaskingRecord};

use super::{Items, Score, Source, Spreads, Strips, record, values};
use crate::error::Result;
use crate::folder::RunFolder;
use crate::metrics::{MaskingMetric, item_area};
use crate::report_page::budget::Budget;

pub(super) fn read(
    folder: &RunFolder,
    config: &MaskingConfig,
    budget: &mut Budget,
) -> Result<(Items, Spreads)> {
    let answers = folder.answers::<MaskingRecord>()?;
    let fractions = config.fractions.values();
    let was_right = |record: &MaskingRecord| record.unmasked == record.label;
    let facts = |record: &MaskingRecord| vec![record.label.to_string(), record.unmasked.to_string()];
    let mut items = Items::of(folder, &answers, vec!["class", "predicted"], |record| &record.id, facts);

    items.score(Score {
        title: "AUC of the item",
        meaning: "Mean over the range of removed tokens of right (1) and wrong (0): low where the removal hurts early. Only items \
                  that were right before masking have one.",
        higher_is_better: Some(false),
        digits: 3,
        values: values(folder, &answers, |record, key| {
            was_right(record).then(|| item_area(record, key, &fractions)).flatten()
        }),
    });
    items.score(Score {
        title: "First wrong at, %",
        meaning: "Share of tokens removed at the first wrong answer; 100 where none is wrong.",
        higher_is_better: Some(false),
        digits: 0,
        values: values(folder, &answers, |record, key| {
            let first = record.predicted.get(key)?.iter().position(|&class| class != record.label);
            was_right(record)
                .then(|| 100.0 * first.map_or(1.0, |step| fractions[step.min(fractions.len() - 1)]))
        }),
    });
    items.score(Score {
        title: "Steps survived",
        meaning: "Number of removal steps with a right answer, whether or not it was right before masking.",
        higher_is_better: Some(false),
        digits: 0,
        values: values(folder, &answers, |record, key| {
            Some(record.predicted.get(key)?.iter().filter(|&&class| class == record.label).count() as f64)
        }),
    });
    let methods = folder.results.experiment.methods();
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
        title: "right at each share of removed tokens",
        steps: fractions.iter().map(|share| format!("{:.0} %", 100.0 * share)).collect(),
        right: methods.iter().map(|(key, _)| of(key)).collect(),
    });
    let wrong = |(_, answer): &(usize, &(usize, _))| record(answer).is_some_and(|record| !was_right(record));
    let wrong: Vec<usize> = answers.iter().enumerate().filter(wrong).map(|(item, _)| item).collect();
    items.flagged = (!wrong.is_empty()).then_some(("Wrong before", wrong));

    let experiment = &folder.results.experiment;
    let found = experiment.dataset.items(usize::MAX);
    items.compare_data::<Masking>(folder, &found, &answers);
    let source = Source::items(
        found,
        |item| &item.id,
        |item| item.load().ok().map(|picture| (picture.rgb, Some(picture.sha256))),
    );
    let expected: Vec<_> =
        answers.iter().map(|answer| record(answer).map(|one| one.sha256.as_str())).collect();
    items.picture(source, &expected, budget);

    let records: Vec<MaskingRecord> = answers.iter().filter_map(|answer| record(answer).cloned()).collect();
    let mut spreads = Spreads::default();
    for metric in [MaskingMetric::Auc, MaskingMetric::AucStillRight] {
        let (name, area) = (&metric.to_string(), metric.over(&fractions));
        spreads.add(name, &area, &records, &methods, experiment.seed);
        spreads.compare(name, &area, &records, (&methods, items.lead), experiment.seed);
    }
    Ok((items, spreads))
}
