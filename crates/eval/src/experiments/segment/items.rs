//! The items of a segmentation run.

use tasks::segment::{ClassCounts, MapScore, Segment, SegmentConfig, SegmentRecord};

use super::metrics::measures;
use crate::error::Result;
use crate::experiments::kind::Kind;
use crate::experiments::view::{ImageSource, ItemView, Score, Spreads, records, values};
use crate::folder::RunFolder;

/// Returns the items with their scores and images.
pub(super) fn view(config: &SegmentConfig, run: &RunFolder) -> Result<ItemView> {
    let (answers, methods) = (run.answers::<SegmentRecord>()?, Kind::methods(config));
    let facts = |record: &SegmentRecord| vec![record.names.join(", ")];
    let heads = vec!["searched for"];
    let mut items = ItemView::of(methods.clone(), &answers, heads, |record| &record.id, facts);
    let mut score = |title, meaning, value: fn(&MapScore) -> Option<f64>| {
        let percent = |record: &SegmentRecord, key: &str| Some(100.0 * value(record.methods.get(key)?)?);
        let values = values(&methods, &answers, percent);
        items.score(Score { title, meaning, higher_is_better: Some(true), digits: 1, values });
    };
    score("IoU, %", "Mean over the classes of this image of intersection over union.", |score| {
        let iou = |counts: &ClassCounts| fraction(counts.intersection as f64, counts.union() as f64);
        let each: Vec<f64> = score.classes.values().filter_map(iou).collect();
        fraction(each.iter().sum(), each.len() as f64)
    });
    score("Acc, %", "Fraction of the labelled pixels whose class is right.", |score| {
        fraction(score.correct as f64, score.labelled as f64)
    });
    score("AP, %", "Average precision of this image, both channels pooled.", |score| score.pooled_ap);
    score("AP of the object, %", "Average precision of the foreground.", |score| score.foreground_ap);

    let experiment = &run.results.experiment;
    let found = experiment.dataset.segmented();
    items.compare_data::<Segment>(run, &found, &answers);
    items.images = ImageSource::items(
        found,
        |item| &item.id,
        |item| item.load().ok().map(|found| (found.rgb, Some(found.sha256))),
    );
    items.spreads = Spreads::of(&measures(), &records(&answers), &methods, experiment.seed);
    Ok(items)
}

fn fraction(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}
