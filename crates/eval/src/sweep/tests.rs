use std::path::PathBuf;

use tasks::masking::{Method, Score};

use super::*;
use crate::experiment::TaskConfig;

const BASE: &str = r#"
title = "A sweep"

[model]
path = "datasets/mini/models/vit"

[dataset.mini]
count = 3
seed = 0

[task.masking]
methods = ["random", "column-sum", "cls", "tokenrank", "tokenrank-lambda2"]
fractions = { from = 0.0, to = 0.8, step = 0.4 }
"#;

/// Returns the sweep of an experiment file that uses the miniature network of the repository.
fn sweep(text: &str, assignments: &[&str]) -> Result<Option<Sweep>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("open-choices.toml");
    std::fs::write(&path, text).expect("writable");
    let mut all = vec![format!("model.path={}", root.join("datasets/mini/models/vit").display())];
    all.extend(assignments.iter().map(|&a| a.to_owned()));
    Sweep::new(&path, &RunOptions { assignments: all, device: "cpu".into(), ..RunOptions::default() })
}

fn swept(axes: &str) -> Sweep {
    sweep(&format!("{BASE}\n[sweep]\n{axes}"), &[]).expect("a good sweep").expect("a sweep")
}

fn refusal(axes: &str) -> String {
    match sweep(&format!("{BASE}\n[sweep]\n{axes}"), &[]) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{axes} was accepted"),
    }
}

#[test]
fn combinations_vary_the_last_setting_fastest() {
    let sweep = swept("layers = [\"last:1\", \"all\"]\nalpha = [0.9, 0.99]");
    let values: Vec<String> = sweep.variants.iter().map(|variant| sweep.describe(variant)).collect();
    let expected = [
        "layers last:1, alpha 0.9",
        "layers last:1, alpha 0.99",
        "layers all, alpha 0.9",
        "layers all, alpha 0.99",
    ];
    assert_eq!(values, expected);
    for (variant, plan) in sweep.variants.iter().zip(sweep.plans()) {
        let TaskConfig::Masking(task) = &plan.experiment.task else { panic!("another task") };
        assert_eq!([task.layers.to_string(), task.alpha.to_string()], *variant.values);
    }
}

#[test]
fn a_method_is_run_once_for_all_settings_that_do_not_affect_it() {
    let sweep = swept(
        "layers = [\"last:1\", \"all\"]\nheads = [\"before-ranking\", \"after-ranking\"]\n\
         cls = [\"kept\", \"dropped\"]\nalpha = [0.9, 0.99]\nlambda_weight = [\"proportional\", \"squared\"]",
    );
    assert_eq!(sweep.variants.len(), 32);
    let mut runs = HashMap::new();
    for plan in sweep.plans() {
        let TaskConfig::Masking(task) = &plan.experiment.task else { panic!("another task") };
        task.methods.iter().for_each(|score| *runs.entry(score.clone()).or_insert(0) += 1);
    }
    let expected = [
        (Score::Random, 1),
        (Score::ColumnSum, 4),
        (Score::Cls, 2),
        (Score::Tokenrank, 16),
        (Score::TokenrankLambda2, 32),
    ];
    assert_eq!(runs, HashMap::from(expected));
    for (index, variant) in sweep.variants.iter().enumerate() {
        assert_eq!(variant.methods.len(), 5);
        for Shared { method, variant: source } in &variant.methods {
            // The numbers come from its own run or from an earlier one that has the method.
            let plan = sweep.variants[*source].plan.as_ref().expect("a run");
            let TaskConfig::Masking(task) = &plan.experiment.task else { panic!("another task") };
            let has = task.methods().iter().map(Method::to_string).any(|key| key == method.key);
            assert!(*source <= index && has, "{} of {index} from {source}", method.key);
        }
    }
}

#[test]
fn settings_outside_the_task_are_written_with_dots() {
    let sweep = swept("\"model.image_size\" = [64, 96]\nalpha = [0.9, 0.99]");
    let size = |plan: &Plan| {
        let TaskConfig::Masking(task) = &plan.experiment.task else { panic!("another task") };
        task.image_size
    };
    let sizes: Vec<_> = sweep.plans().map(size).collect();
    assert_eq!(sizes, [Some(64), Some(64), Some(96), Some(96)]);
    assert_eq!(sweep.axes, ["model.image_size", "alpha"]);
    assert_eq!(sweep.variants[1].values, ["64", "0.99"]);
    assert_eq!(sweep.variants[2].folder, PathBuf::from("runs/model.image-size-96_alpha-0.9"));
}

#[test]
fn old_names_of_settings_can_be_swept() {
    let sweep = swept("scores = [[\"cls\"], [\"tokenrank\"]]\noverlays = [1, 2]");
    // Folders keep the old names.
    assert_eq!(sweep.axes, ["scores", "overlays"]);
    let TaskConfig::Masking(task) = &sweep.variants[1].plan.as_ref().expect("a run").experiment.task else {
        panic!("another task")
    };
    assert_eq!((task.methods.as_slice(), task.figures), (&[Score::Cls][..], 2));
    let message = refusal("scores = [[\"cls\"]]\nmethods = [[\"cls\"]]");
    assert!(message.contains("sweep.scores and sweep.methods name the same setting"), "{message}");
}

#[test]
fn every_key_of_the_file_can_be_swept() {
    let sweep = swept("seed = [0, 1]\n\"dataset.mini.count\" = [3, 4]");
    assert_eq!(sweep.axes, ["seed", "dataset.mini.count"]);
    let plan = |index: usize| sweep.variants[index].plan.as_ref().expect("a run");
    let seeds: Vec<u64> = sweep.plans().map(|plan| plan.experiment.seed).collect();
    assert_eq!((seeds, plan(1).items()), (vec![0, 0, 1, 1], 4));
    assert_eq!(sweep.variants[3].folder, PathBuf::from("runs/seed-1_dataset.mini.count-4"));
    // The seed decides the random order, so the other scores are run with the first seed only.
    let scores = |index: usize| {
        let TaskConfig::Masking(task) = &plan(index).experiment.task else { panic!("another task") };
        task.methods.clone()
    };
    assert_eq!((scores(0).len(), scores(2)), (5, vec![Score::Random]));

    // Without quotes dots make tables; the task may be named or not.
    let nested = swept(
        "model.image_size = [64, 96]\nfractions.step = [0.2, 0.4]\ntask.masking.alpha = [0.9, 0.99]\ntitle = [\"a\"]",
    );
    assert_eq!(nested.axes, ["model.image_size", "fractions.step", "task.masking.alpha", "title"]);
    assert_eq!(nested.variants.len(), 8);
    let TaskConfig::Masking(task) = &nested.variants[2].plan.as_ref().expect("a run").experiment.task else {
        panic!("another task")
    };
    assert_eq!((task.fractions.values().len(), task.alpha), (3, 0.9));

    // Lists of fractions are ordinary values.
    let curves = swept("fractions = [[0.0, 0.5], { from = 0.0, to = 0.8, step = 0.2 }]");
    let points: Vec<usize> = curves
        .plans()
        .map(|plan| {
            let TaskConfig::Masking(task) = &plan.experiment.task else { panic!("another task") };
            task.fractions.values().len()
        })
        .collect();
    assert_eq!(points, [2, 5]);
}

#[test]
fn a_setting_without_effect_in_every_combination_gives_a_note() {
    let random = |axes: &str| {
        let text = BASE.replace(
            "[\"random\", \"column-sum\", \"cls\", \"tokenrank\", \"tokenrank-lambda2\"]",
            "[\"random\"]",
        );
        sweep(&format!("{text}alpha = 0.5\n[sweep]\n{axes}"), &[])
            .expect("a good sweep")
            .expect("a sweep")
            .notes
    };
    let notes = random("seed = [0, 1]");
    assert!(notes.len() == 1 && notes[0].contains("task.masking.alpha = 0.5 has no effect"), "{notes:?}");
    let notes = random("methods = [[\"random\"], [\"tokenrank\"]]");
    assert_eq!(notes, [""; 0]);
}

#[test]
fn methods_with_and_without_cls_in_one_combination_stay_separate() {
    let sweep = swept("alpha = [0.9, 0.99]\ncls = [[\"kept\", \"dropped\"]]");
    let names: Vec<_> = sweep.variants[0].methods.iter().map(|shared| shared.method.key.clone()).collect();
    assert!(
        names.contains(&"tokenrank".to_owned()) && names.contains(&"tokenrank-no-cls".to_owned()),
        "{names:?}"
    );
}

#[test]
fn an_experiment_without_a_sweep_gives_none() {
    assert!(sweep(BASE, &[]).expect("a good experiment").is_none());
    let assigned = sweep(BASE, &["sweep.alpha=[0.5, 0.9]"]).expect("a good sweep").expect("a sweep");
    assert_eq!(assigned.variants.len(), 2);
}

#[test]
fn invalid_sweeps_are_refused_with_the_setting() {
    for (axes, words) in [
        ("", &["names no setting"][..]),
        ("alpha = 0.9", &["sweep.alpha", "must be a list"]),
        ("alpha = []", &["sweep.alpha", "empty"]),
        ("alpha = [0.9, 0.9]", &["sweep.alpha", "twice"]),
        ("alpha = [0.9, 0.90]", &["sweep.alpha", "twice"]),
        ("alpha = [1, 1.0]", &["sweep.alpha", "twice"]),
        ("\"model.image_size\" = [64, 0x40]", &["sweep.model.image_size", "twice"]),
        ("layers = [\"all\", 'all']", &["sweep.layers", "twice"]),
        ("cls = [[\"kept\", \"dropped\"], ['kept','dropped']]", &["sweep.cls", "twice"]),
        ("alfa = [0.9]", &["unknown field `alfa`", "alfa = 0.9"]),
        ("layers = [\"last:1\", \"first\"]", &["layers = first"]),
        ("cls = [\"kept\", \"sometimes\"]", &["sometimes", "kept"]),
        ("alpha = [0.9, 1.5]", &["alpha", "1.5"]),
        ("\"model.path.x\" = [1]", &["sweep.model.path.x", "a value, not a table"]),
        ("seed = [0, -1]", &["seed", "-1", "seed = -1"]),
        ("seed = 1", &["sweep.seed", "must be a list"]),
        ("model.path = 1", &["sweep.model.path", "must be a list"]),
        ("\"dataset.mini.cuont\" = [1]", &["unknown field `cuont`"]),
        ("\"dataset.mini.count\" = [0, 1]", &["dataset.mini.count", "between 1 and"]),
        (
            "alpha = [0.5, 0.9]\n\"task.masking.alpha\" = [0.5]",
            &["sweep.alpha and sweep.task.masking.alpha", "the same setting"],
        ),
        ("fractions = [[0.0, 0.5]]\nfractions_step = [1]", &["unknown field `fractions_step`"]),
        ("\"fractions.to\" = [0.5]\nfractions = [[0.0, 0.5]]", &["the same setting"]),
        ("model.path = [\"a\"]\n\"model.id\" = [\"b\"]", &["the same setting"]),
        ("fractions = [[0.0, 0.5, 0.2]]", &["0.2 is listed after 0.5"]),
    ] {
        let message = refusal(axes);
        assert!(words.iter().all(|word| message.contains(word)), "{axes}: {message}");
    }
    let many: Vec<String> = (1..=40).map(|i| format!("0.{i:03}")).collect();
    let axes = format!("alpha = [{0}]\n\"task.masking.fractions.to\" = [{0}]", many.join(","));
    assert!(refusal(&axes).contains("more than 1000"));
}
