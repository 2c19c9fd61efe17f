//! Items of a segmentation run.

use tasks::segment::{ClassCounts, MapScore, Segment, SegmentRecord};

use super::{Items, Score, Source, Spreads, record, values};
use crate::error::Result;
use crate::folder::RunFolder;
use crate::metrics::SegmentMetric;
use crate::report_page::budget::Budget;

pub(super) fn read(folder: &RunFolder, budget: &mut Budget) -> Result<(Items, Spreads)> {
    let answers = folder.answers::<SegmentRecord>()?;
    let facts = |record: &SegmentRecord| vec![record.names.join(", ")];
    let mut items = Items::of(folder, &answers, vec!["searched for"], |record| &record.id, facts);
    let mut score = |title, meaning, value: fn(&MapScore) -> Option<f64>| {
        let percent = |record: &SegmentRecord, key: &str| Some(100.0 * value(record.methods.get(key)?)?);
        let values = values(folder, &answers, percent);
        items.score(Score { title, meaning, higher_is_better: Some(true), digits: 1, values });
    };
    score("IoU, %", "Mean over the classes of this image of intersection over union.", |score| {
        let iou = |counts: &ClassCounts| share(counts.intersection as f64, counts.union() as f64);
        let each: Vec<f64> = score.classes.values().filter_map(iou).collect();
        share(each.iter().sum(), each.len() as f64)
    });
    score("Acc, %", "Share of the labelled pixels whose class is right.", |score| {
        share(score.correct as f64, score.labelled as f64)
    });
    score("AP, %", "Average precision of this image, both channels pooled.", |score| score.pooled_ap);
    score("AP of the object, %", "Average precision of the foreground.", |score| score.foreground_ap);

    let experiment = &folder.results.experiment;
    let found = experiment.dataset.segmented();
    items.compare_data::<Segment>(folder, &found, &answers);
    let source = Source::items(
        found,
        |item| &item.id,
        |item| item.load().ok().map(|found| (found.rgb, Some(found.sha256))),
    );
    let expected: Vec<_> =
        answers.iter().map(|answer| record(answer).map(|one| one.sha256.as_str())).collect();
    items.picture(source, &expected, budget);

    let records: Vec<SegmentRecord> = answers.iter().filter_map(|answer| record(answer).cloned()).collect();
    let (methods, mut spreads) = (experiment.methods(), Spreads::default());
    for metric in SegmentMetric::ALL {
        spreads.add(&metric.to_string(), &metric, &records, &methods, experiment.seed);
    }
    Ok((items, spreads))
}

fn share(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}
