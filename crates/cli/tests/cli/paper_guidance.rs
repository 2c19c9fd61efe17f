//! The paper's guidance experiment: what `validate` says offline with nothing fetched, and that it fits a pipeline of the
//! published shape.

use models::inception::Inception;
use models::{Device, Kind};

use crate::common::{root, words};
use crate::paper::{put, put_weights, stable_diffusion, validate};

const CONFIG: &str = "configs/paper/guidance-sd15.toml";

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let nowhere = dir.path().join("nowhere");
    let sets = [
        format!("dataset.reference.path={}", nowhere.display()),
        format!("metrics.features=inception:{}", nowhere.display()),
    ];
    let message = words(&validate(CONFIG, &sets, 3));
    for word in [
        "3 problems",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "tokenrank fetch stable-diffusion-v1-5",
        "pt_inception-2015-12-05-6726825d.pth",
        "tokenrank fetch inception-2015-12-05",
        "--set dataset.reference.path=PATH",
    ] {
        assert!(message.contains(word), "{word} is not in\n{message}");
    }
}

#[test]
fn the_experiment_fits_a_pipeline_of_the_published_shape() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let folder = |name: &str| dir.path().join(name);
    stable_diffusion(&folder("sd"));
    let picture =
        std::fs::read(root().join("crates/tasks/tests/fixtures/gtsegs/0-image.png")).expect("a fixture");
    put(&folder("coco"), "000000000139.jpg", &picture);
    put(&folder("coco"), "000000000285.jpg", &picture);
    let weights = "weights.safetensors";
    put_weights(&folder("inception"), weights, |dir| {
        Inception::load(&dir.join(weights), Kind::Float, Device::Cpu)
    });
    let sets = [
        format!("model.path={}", folder("sd").display()),
        format!("dataset.reference.path={}", folder("coco").display()),
        format!("metrics.features=inception:{}", folder("inception/weights.safetensors").display()),
    ];
    let output = validate(CONFIG, &sets, 0);
    let answer = String::from_utf8(output.stdout).expect("text");
    assert!(answer.contains("ready, 5000 items"), "{answer}");

    // What does not fit is found before anything is drawn.
    let path = folder("sd").join("scheduler/scheduler_config.json");
    let scheduler = std::fs::read_to_string(&path).expect("just written").replace("PNDM", "LMSDiscrete");
    put(&folder("sd"), "scheduler/scheduler_config.json", scheduler);
    let message = words(&validate(CONFIG, &sets, 3));
    assert!(message.contains("LMSDiscreteScheduler"), "{message}");
}
