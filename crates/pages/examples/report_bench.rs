//! Invents a run of the miniature masking experiment and times its page, for `tools/bench_report.py`.
//!
//! `report_bench forge ITEMS FOLDER` writes the run. `report_bench report FOLDER` writes its page and prints seconds and bytes.

use std::path::Path;
use std::time::Instant;

use eval::{Experiment, TaskConfig, forged};
use rayon::prelude::*;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["forge", items, folder] => forge(items, Path::new(folder)),
        ["report", folder] => report(Path::new(folder)),
        _ => panic!("report_bench forge ITEMS FOLDER, or report_bench report FOLDER"),
    }
}

fn forge(items: &str, folder: &Path) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/mini/masking-vit.toml");
    let experiment =
        Experiment::read(&config, &[format!("dataset.mini.count={items}")]).expect("an experiment");
    let TaskConfig::Masking(task) = &experiment.task else { panic!("another task") };
    let found = experiment.dataset.items(usize::MAX).expect("a data set");
    let read =
        |item: &tasks::dataset::LabelledImage| (item.id.clone(), item.load().expect("an image").sha256);
    let read: Vec<(String, String)> = found.par_iter().map(read).collect();
    let answers = forged::masking_answers(&experiment, read.into_iter());
    let methods: Vec<String> = task.methods().iter().map(ToString::to_string).collect();
    let pairs: Vec<(&str, &str)> = methods.iter().skip(1).map(|other| (&*methods[0], &**other)).collect();
    forged::write_masking(folder, "masking-vit", &experiment, &answers, &pairs);
}

fn report(folder: &Path) {
    let start = Instant::now();
    let page = pages::report(folder, None).expect("a page");
    println!("{{\"seconds\": {:.3}, \"bytes\": {}}}", start.elapsed().as_secs_f64(), page.bytes);
}
