//! Experiment files, apart from the other targets because they need the crate `eval`. `crates/eval/tests/hostile.rs`
//! includes this file.

use std::path::Path;

use eval::TaskConfig;
use tasks::dataset::DatasetConfig;

/// An experiment file.
pub fn experiment(data: &[u8]) {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.expect("a scratch folder");
    let path = dir.path().join("experiment.toml");
    std::fs::write(&path, data).expect("writable");
    let _ = eval::title(&path);
    let Ok(experiment) = eval::Experiment::read(&path, &["seed=1".to_owned()]) else { return };
    let _ = match &experiment.task {
        TaskConfig::Masking(task) => task.check(),
        TaskConfig::Segment(task) => task.check(),
        TaskConfig::Guidance(task) => task.check(),
        TaskConfig::Diffseg(task) => task.check(),
    };
    if let DatasetConfig::Mini(mini) = &experiment.dataset
        && mini.count <= 1000
    {
        let _ = experiment.dataset.items(10);
        let _ = experiment.dataset.segmented();
    }
}
