//! The experiments on scenes that lie in files, which a test may damage or replace.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{arg, root, run};
use crate::experiments::Small;

/// An experiment on scenes that lie in files.
pub struct OnFiles<'a> {
    small: &'a Small,
    pub dir: tempfile::TempDir,
    config: PathBuf,
}

impl<'a> OnFiles<'a> {
    pub fn new(small: &'a Small) -> Self {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let folder = dir.path().join("scenes");
        let dataset = match small.task {
            "masking" => format!("[folder]\nroot = {folder:?}"),
            _ => format!("[masks]\nroot = {folder:?}\ntable = \"masks.csv\""),
        };
        scenes(&folder, if small.task == "diffseg" { 2..=3 } else { 1..=1 });
        let config = with_dataset(dir.path(), small.config, &dataset);
        Self { small, dir, config }
    }

    #[track_caller]
    pub fn run(&self, out: &str, more: &[&str], code: i32) -> Output {
        let out = self.out(out);
        let args = self.small.args(&out, more);
        let config = arg(&self.config);
        let args: Vec<&str> =
            args.iter().map(|word| if word == self.small.config { config } else { word }).collect();
        run(&args, code)
    }

    pub fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("scenes").join(name)
    }

    /// Puts one file of the scenes in the place of another.
    pub fn replace(&self, name: &str, by: &str) {
        let bytes = std::fs::read(self.file(by)).expect("a file");
        std::fs::write(self.file(name), bytes).expect("writable");
    }
}

/// Scenes of the miniature as files.
pub fn scenes(folder: &Path, objects: RangeInclusive<usize>) {
    let spec = tasks::mini::SceneSpec::new(64, objects).expect("a spec");
    tasks::mini::export(folder, &spec, 0, tasks::mini::Split::Val, 9).expect("written");
    // As [dataset.masks] reads them: a row for each class of an image.
    let scenes = std::fs::read_to_string(folder.join("scenes.jsonl")).expect("scenes");
    let mut rows = std::collections::BTreeSet::new();
    for line in scenes.lines() {
        let scene: serde_json::Value = serde_json::from_str(line).expect("a scene");
        let file = scene["file"].as_str().expect("a name").trim_start_matches("images/").to_owned();
        for object in scene["objects"].as_array().expect("objects") {
            let (name, label) = (object["class"].as_str().expect("a class"), object["label"].as_u64());
            rows.insert(format!("{file},{name},{}", 1 + label.expect("a label")));
        }
    }
    let rows: Vec<String> = rows.into_iter().collect();
    std::fs::write(folder.join("masks.csv"), format!("file,name,value\n{}\n", rows.join("\n")))
        .expect("written");
}

/// Writes an experiment of the repository with another data set, the content of `[dataset]`. Returns the file.
pub fn with_dataset(dir: &Path, config: &str, dataset: &str) -> PathBuf {
    let text = std::fs::read_to_string(root().join(config)).expect("an experiment");
    let mut document: toml::Table = toml::from_str(&text).expect("TOML");
    document.insert("dataset".into(), toml::from_str::<toml::Table>(dataset).expect("TOML").into());
    let path = dir.join(Path::new(config).file_name().expect("a name"));
    std::fs::write(&path, toml::to_string(&document).expect("TOML")).expect("written");
    path
}
