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
scores = ["random", "column-sum", "cls", "tokenrank", "tokenrank-lambda2"]
fractions = { from = 0.0, to = 0.8, step = 0.4 }
"#;

/// The sweep of an experiment file below the repository's root, where the miniature network is.
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
fn every_combination_once_the_last_setting_fastest() {
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
fn a_method_is_run_once_for_all_settings_that_it_does_not_know() {
    let sweep = swept(
        "layers = [\"last:1\", \"all\"]\nheads = [\"before-ranking\", \"after-ranking\"]\n\
         cls = [\"kept\", \"dropped\"]\nalpha = [0.9, 0.99]\nlambda_weight = [\"proportional\", \"squared\"]",
    );
    assert_eq!(sweep.variants.len(), 32);
    let mut runs = HashMap::new();
    for plan in sweep.plans() {
        let TaskConfig::Masking(task) = &plan.experiment.task else { panic!("another task") };
        task.scores.iter().for_each(|&score| *runs.entry(score).or_insert(0) += 1);
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
            // The numbers come from a run before it that has the method, and from its own if it has one.
            let plan = sweep.variants[*source].plan.as_ref().expect("a run");
            let TaskConfig::Masking(task) = &plan.experiment.task else { panic!("another task") };
            let has = task.methods().iter().map(Method::to_string).any(|key| key == method.key);
            assert!(*source <= index && has, "{} of {index} from {source}", method.key);
        }
    }
}

#[test]
fn settings_of_other_parts_are_written_with_dots() {
    let sweep = swept("\"model.image_size\" = [64, 96]\nalpha = [0.9, 0.99]");
    let sizes: Vec<_> = sweep.plans().map(|plan| plan.experiment.model.image_size).collect();
    assert_eq!(sizes, [Some(64), Some(64), Some(96), Some(96)]);
    assert_eq!(sweep.axes, ["model.image_size", "alpha"]);
    assert_eq!(sweep.variants[1].values, ["64", "0.99"]);
    assert_eq!(sweep.slug(&sweep.variants[2]), PathBuf::from("runs/model.image-size-96_alpha-0.9"));
}

#[test]
fn every_combination_has_a_folder_of_its_own() {
    let mut sweep = swept("layers = [\"last:1\", \"all\"]\nalpha = [0.9, 0.99]");
    let slugs = |sweep: &Sweep| -> Vec<String> {
        sweep.variants.iter().map(|one| sweep.slug(one).display().to_string()).collect()
    };
    let before = slugs(&sweep);
    assert_eq!(before[0], "runs/layers-last-1_alpha-0.9");
    // Two that differ in what no name of a folder shows; the others keep their names.
    sweep.variants[1].values = vec!["last-1".into(), "0.9".into()];
    let after = slugs(&sweep);
    assert_eq!(after[2..], before[2..]);
    assert!(after[0] != after[1] && after[..2].iter().all(|slug| slug.starts_with(&before[0])), "{after:?}");
    sweep.variants.swap(0, 1);
    assert_eq!(slugs(&sweep)[..2], [&*after[1], &*after[0]], "names depend on the values alone");
}

#[test]
fn both_readings_of_cls_in_one_combination_stay_apart() {
    let sweep = swept("alpha = [0.9, 0.99]\ncls = [[\"kept\", \"dropped\"]]");
    let names: Vec<_> = sweep.variants[0].methods.iter().map(|shared| shared.method.key.clone()).collect();
    assert!(
        names.contains(&"tokenrank".to_owned()) && names.contains(&"tokenrank-no-cls".to_owned()),
        "{names:?}"
    );
}

#[test]
fn an_experiment_without_a_sweep_is_none() {
    assert!(sweep(BASE, &[]).expect("a good experiment").is_none());
    let assigned = sweep(BASE, &["sweep.alpha=[0.5, 0.9]"]).expect("a good sweep").expect("a sweep");
    assert_eq!(assigned.variants.len(), 2);
}

#[test]
fn what_cannot_be_run_is_refused_with_its_setting() {
    for (axes, words) in [
        ("", &["names no setting"][..]),
        ("alpha = 0.9", &["sweep.alpha", "no list"]),
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
    ] {
        let message = refusal(axes);
        assert!(words.iter().all(|word| message.contains(word)), "{axes}: {message}");
    }
    let many: Vec<String> = (1..=40).map(|i| format!("0.{i:03}")).collect();
    let axes = format!("alpha = [{0}]\n\"task.masking.fractions.to\" = [{0}]", many.join(","));
    assert!(refusal(&axes).contains("more than 1000"));
}
