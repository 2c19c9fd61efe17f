//! The items of a guidance run: generated images.

use runs::layout::PICTURES;
use tasks::guidance::{Guidance, GuidanceConfig, GuidanceRecord};

use crate::error::Result;
use crate::experiments::kind::Kind;
use crate::experiments::view::{Generated, ImageSource, Item, ItemView, Score, values};
use crate::folder::RunFolder;
use crate::image_metrics::ReferenceSource;

/// Returns the items with their scores and images.
pub(super) fn view(config: &GuidanceConfig, run: &RunFolder) -> Result<ItemView> {
    let (answers, methods) = (run.answers::<GuidanceRecord>()?, Kind::methods(config));
    let facts = |record: &GuidanceRecord| {
        [record.seed.to_string()].into_iter().chain(record.prompt.clone()).collect()
    };
    let columns = if config.prompts.is_some() { vec!["seed", "prompt"] } else { vec!["seed"] };
    let mut items = ItemView::of(methods.clone(), &answers, columns, |record| &record.id, facts);
    items.score(Score {
        title: "Masked, %",
        meaning: "Fraction of the tokens whose part of the image was blurred, on average over the passes.",
        higher_is_better: None,
        digits: 2,
        values: values(&methods, &answers, |record, key| Some(100.0 * record.methods.get(key)?.mask_area?)),
    });
    let folder = run.path.join(PICTURES);
    let files =
        |row: &Item| methods.iter().map(|method| Guidance::file(&folder, &method.key, &row.id)).collect();
    let files: Vec<Vec<_>> = items.rows.iter().map(files).collect();
    let of_lead = items
        .rows
        .iter()
        .zip(&files)
        .filter_map(|(row, files)| Some((row.id.clone(), files.get(items.lead)?.clone())));
    items.images = if folder.is_dir() {
        ImageSource::files(of_lead.collect::<Vec<_>>())
    } else {
        ImageSource::Missing("the folder `pictures` is missing next to the records".into())
    };
    let folders = methods.iter().map(|method| folder.join(&method.key)).collect();
    items.generated = Some(Generated { folders, files, row: "seed" });

    let (then, now) = (&run.results.judge, ReferenceSource::of(&run.results.experiment.dataset));
    // Without the reference, there is nothing to compare.
    if let (Some(then), Some(now)) = (then, now.ok().and_then(|now| now.sha256()))
        && then.reference_sha256 != now
    {
        let note = "the reference has changed since the run; the numbers belong to the earlier one";
        items.notes.push(note.into());
    }
    Ok(items)
}
