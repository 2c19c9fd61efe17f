//! Fixtures that other implementations made, and directories that tests may spoil.

use std::path::{Path, PathBuf};

use models::Kind;
use safetensors::SafeTensors;
use tch::Tensor;
use tempfile::TempDir;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The stages of a fixture.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn open(name: &str) -> Self {
        Self(std::fs::read(fixture(name).join("golden.safetensors")).expect("a committed fixture"))
    }

    /// A stage; none where the fixture has no such stage.
    pub fn find(&self, stage: &str) -> Option<Tensor> {
        let file = SafeTensors::deserialize(&self.0).expect("a committed fixture");
        let view = file.tensor(stage).ok()?;
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        Some(Tensor::from_data_size(view.data(), &shape, Kind::Float))
    }

    pub fn get(&self, stage: &str) -> Tensor {
        self.find(stage).unwrap_or_else(|| panic!("there is no golden {stage}"))
    }
}

/// Largest difference, in units of the largest number.
pub fn relative_difference(ours: &Tensor, golden: &Tensor) -> f64 {
    assert_eq!(ours.size(), golden.size());
    let golden = golden.to_kind(Kind::Double);
    let difference = (ours.to_kind(Kind::Double) - &golden).abs().max() / golden.abs().max();
    difference.double_value(&[])
}

/// A copy of a fixture with its folders.
pub fn copy(name: &str) -> TempDir {
    fn below(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).expect("a committed fixture") {
            let path = entry.expect("a committed fixture").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                std::fs::create_dir(&target).expect("writable");
                below(&path, &target);
            } else {
                std::fs::copy(&path, target).expect("writable");
            }
        }
    }
    let dir = tempfile::tempdir().expect("a scratch folder");
    below(&fixture(name), dir.path());
    dir
}

/// A copy of a fixture with one text replaced in one of its files.
pub fn changed(name: &str, file: &str, from: &str, to: &str) -> TempDir {
    let dir = copy(name);
    let path = dir.path().join(file);
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(text.contains(from), "the test changes nothing: {from}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("writable");
    dir
}
