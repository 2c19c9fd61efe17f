//! Items of a guidance run: pictures.

use tasks::guidance::{Guidance, GuidanceRecord};

use super::{Items, Score, Source, Spreads, values};
use crate::error::Result;
use crate::folder::RunFolder;
use crate::picture_metrics::ReferenceSource;
use crate::report_page::budget::Budget;

pub(super) fn read(folder: &RunFolder, budget: &mut Budget) -> Result<(Items, Spreads)> {
    let answers = folder.answers::<GuidanceRecord>()?;
    let facts = |record: &GuidanceRecord| vec![record.seed.to_string()];
    let mut items = Items::of(folder, &answers, vec!["seed"], |record| &record.id, facts);
    items.score(Score {
        title: "Masked, %",
        meaning: "Share of the tokens whose part of the picture was blurred, on average over the passes.",
        higher_is_better: None,
        digits: 2,
        values: values(folder, &answers, |record, key| Some(100.0 * record.methods.get(key)?.mask_area?)),
    });
    let pictures = folder.path.join("pictures");
    let (key, _) = folder.results.experiment.methods().swap_remove(items.lead);
    let file = |row: &super::Item| (row.id.clone(), Guidance::file(&pictures, &key, &row.id));
    let source = match pictures.is_dir() {
        true => Source::files(items.rows.iter().map(file).collect::<Vec<_>>()),
        false => Source::Missing("the folder pictures is not beside the records".into()),
    };
    items.picture(source, &[], budget);
    let (then, now) = (&folder.results.judge, ReferenceSource::of(&folder.results.experiment.dataset));
    // Where the reference is not here, there is nothing to say.
    if let (Some(then), Some(now)) = (then, now.ok().and_then(|now| now.sha256()))
        && then.reference_sha256 != now
    {
        items.note(
            folder,
            "the reference has changed since the run, and the numbers are of the one that was there then"
                .into(),
        );
    }
    Ok((items, Spreads::default()))
}
