//! The paper's DiffSeg experiment: what `validate` says offline with nothing fetched, and that it fits a pipeline of the
//! published shape beside the published list of images.

use std::path::Path;

use crate::common::{root, words};
use crate::paper::{JPEG_BEGINS, PNG_BEGINS, put, stable_diffusion, validate};

const CONFIG: &str = "configs/paper/diffseg-coco-stuff.toml";

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let sets = [format!("dataset.coco-stuff.root={}", dir.path().join("nowhere").display())];
    let message = words(&validate(CONFIG, &sets, 3));
    for word in [
        "2 problems",
        "CompVis/stable-diffusion-v1-4",
        "tokenrank fetch stable-diffusion-v1-4",
        "none of the 2175 images",
        "none of the 2175 pixel maps",
        "val2017.zip",
        "stuffthingmaps_trainval2017.zip",
        "--set dataset.coco-stuff.root=DIR",
    ] {
        assert!(message.contains(word), "{word} is not in\n{message}");
    }
}

/// A tree with a file for each image of the published list and for its pixel map, each as far as `validate` reads it.
fn coco(dir: &Path) {
    let list =
        std::fs::read_to_string(root().join("datasets/coco-stuff/images.txt")).expect("a committed list");
    for name in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        put(dir, &format!("val2017/{name}.jpg"), JPEG_BEGINS);
        put(dir, &format!("stuffthingmaps/val2017/{name}.png"), PNG_BEGINS);
    }
}

#[test]
fn the_experiment_fits_a_pipeline_of_the_published_shape() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let folder = |name: &str| dir.path().join(name);
    stable_diffusion(&folder("sd"));
    coco(&folder("coco"));
    let sets = [
        format!("model.path={}", folder("sd").display()),
        format!("dataset.coco-stuff.root={}", folder("coco").display()),
    ];
    let output = validate(CONFIG, &sets, 0);
    let answer = String::from_utf8(output.stdout).expect("text");
    assert!(answer.contains("ready, 2175 items"), "{answer}");

    // An image without its map, and a size that latents cannot have: both, before anything is read.
    let lost = folder("coco").join("stuffthingmaps/val2017/000000000139.png");
    std::fs::remove_file(lost).expect("just written");
    let sets = [&sets[..], &["task.diffseg.image_size=500".to_owned()]].concat();
    let message = words(&validate(CONFIG, &sets, 2));
    for word in ["lacks 1 of the 2175 pixel maps", "000000000139.png", "task.diffseg.image_size"] {
        assert!(message.contains(word), "{word} is not in\n{message}");
    }
}
