//! Tests of the page of invented runs: its structure, hostile names, and its behaviour in a browser if there is one.

#[allow(unreachable_pub)]
#[path = "../../../chain-page/tests/browser/mod.rs"]
mod browser;
mod reader;
mod structure;

use std::path::{Path, PathBuf};

use tasks::masking::MaskingRecord;
use tasks::{Answer, Failure, Fault};

use super::report;
use eval::Experiment;
use eval::forged;

/// Reads the experiment of the miniature ViT.
fn experiment() -> Experiment {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/mini/masking-vit.toml");
    Experiment::read(&config, &[]).expect("an experiment")
}

/// Invents answers to items with these names; the last item cannot be read.
fn answers(
    items: usize,
    experiment: &Experiment,
    id: impl Fn(usize) -> String,
) -> Vec<Answer<MaskingRecord>> {
    let item = |item: usize| (id(item), "0".repeat(64));
    let mut answers = forged::masking_answers(experiment, (0..items).map(item));
    if let Some(last) = answers.last_mut() {
        let reason = "torn </script><b>JPEG</b> & \"more\"".into();
        *last = Answer::Failed(Failure { id: id(items - 1), reason, fault: Fault::Data });
    }
    answers
}

/// Writes the folder of a run.
fn forge(folder: &Path, name: &str, experiment: &Experiment, answers: &[Answer<MaskingRecord>]) {
    forged::write_masking(folder, name, experiment, answers, &[]);
}

/// Writes a run with this number of items and its page. Returns the path of the page.
fn page(dir: &Path, items: usize) -> PathBuf {
    let experiment = experiment();
    forge(dir, "masking-vit", &experiment, &answers(items, &experiment, |item| format!("scene/{item:05}")));
    report(dir, None).expect("a page").path
}
