//! Comparisons of made-up runs.

use std::collections::BTreeMap;

use markov_core::{Stochastic, Stop, token_rank};
use ndarray::{Array2, Axis};
use serde_json::json;
use tasks::Rng;
use tasks::masking::MaskingRecord;

use super::*;
use crate::experiments::masking::metrics::{MaskingCurves, MaskingMetric};
use crate::metrics::bootstrap::Additive;
use crate::metrics::per_item::PerItem;
use crate::metrics::significance::Significance;
use runs::{Code, Environment};

/// Fractions of tokens removed.
const FRACTIONS: [f64; 4] = [0.0, 0.3, 0.6, 0.9];
const ITEMS: usize = 24;

/// Returns a run with a changed token order of TokenRank: the network stays right until a fraction larger by `shift` is removed.
fn masking(shift: f64) -> Snapshot {
    masking_with(|item| 0.1 + Rng::keyed(&[7, item as u64]).range(0.0, 0.5) + shift)
}

/// Returns a run in which the network is right until TokenRank has removed the fraction `ends` of an image's tokens.
fn masking_with(ends: impl Fn(usize) -> f64) -> Snapshot {
    let predicted = |ends: f64| FRACTIONS.iter().map(|&removed| if removed < ends { 3 } else { 1 }).collect();
    let record = |item: usize| MaskingRecord {
        id: format!("scene-{item}"),
        sha256: String::new(),
        label: 3,
        unmasked: if item.is_multiple_of(8) { 2 } else { 3 },
        predicted: [("random", 0.95), ("tokenrank", ends(item))]
            .map(|(method, ends)| (method.to_owned(), predicted(ends)))
            .into(),
        confidence: None,
        scores: None,
    };
    let records: Vec<_> = (0..ITEMS).map(record).collect();
    let mut curves = MaskingCurves::new(FRACTIONS.to_vec());
    records.iter().for_each(|record| curves.add(record));
    let mut values = Vec::new();
    for (method, curve) in curves.finish() {
        for (metric, value) in
            [(MaskingMetric::AUC, curve.auc), (MaskingMetric::AUC_STILL_RIGHT, curve.auc_still_right)]
        {
            let over = metric.over(&FRACTIONS);
            let sums = over.contributions(&records, &method).unwrap();
            values.push(Measured {
                metric: metric.to_string(),
                method: Some(method.clone()),
                value,
                higher_is_better: Some(false),
                per_item: Some(PerItem { formula: over.formula(), sums }),
                resampled: Vec::new(),
            });
        }
    }
    Snapshot {
        experiment: json!({
            "title": "Masking",
            "model": { "path": "here" },
            "dataset": { "mini": { "count": 500 } },
            "task": { "masking": { "alpha": 0.99 } },
        }),
        limit: Some(ITEMS),
        items: ITEMS as u64,
        failed: Vec::new(),
        data_sha256: "d".repeat(64),
        weights_sha256: "e".repeat(64),
        judge_sha256: None,
        scores_sha256: BTreeMap::new(),
        code: Code { version: "0.1.0".into(), commit: Some("c".repeat(40)), sources_sha256: "a".repeat(64) },
        environment: Environment {
            platform: "linux x86_64".into(),
            processor: Some("Some CPU".into()),
            threads: 1,
            device: "cpu".into(),
            libtorch: Some("2.11.0".into()),
        },
        command: Some("tokenrank run configs/mini/masking-vit.toml --limit 24".into()),
        ids: records.into_iter().map(|record| record.id).collect(),
        images: Vec::new(),
        values,
        pictures: BTreeMap::new(),
    }
}

/// Returns a run with metrics of generated images, which are not sums over items.
fn guidance(frechet: f64, changed: usize) -> Snapshot {
    let hash = |item| format!("{:016x}", if item < changed { item + 1000 } else { item });
    let value = Measured {
        metric: "frechet".into(),
        method: Some("none".into()),
        value: Some(frechet),
        higher_is_better: Some(false),
        per_item: None,
        resampled: Vec::new(),
    };
    Snapshot {
        judge_sha256: Some("f".repeat(64)),
        values: vec![value],
        pictures: [("none".to_owned(), (0..ITEMS).map(hash).collect())].into(),
        ..masking(0.0)
    }
}

fn one(run: Snapshot) -> Runs {
    [("masking-vit".to_owned(), run)].into()
}

fn tolerances(default: f64) -> Tolerances {
    Tolerances { default, ..Tolerances::default() }
}

fn against(ours: Snapshot, tolerance: f64) -> Report {
    compare("mini-quick", &one(ours), &one(masking(0.0)), &tolerances(tolerance), false)
}

#[track_caller]
fn of<'a>(report: &'a Report, metric: &str, method: &str) -> &'a Compared {
    let found = |value: &&Compared| value.metric == metric && value.method.as_deref() == Some(method);
    report.values.iter().find(found).unwrap()
}

#[test]
fn a_run_is_the_same_as_itself() {
    let report = against(masking(0.0), 0.0);
    assert!(report.passes());
    assert!(report.values.iter().all(|value| value.verdict == Verdict::Same && value.changed == Some(0)));
    assert_eq!(report.to_text(false, false), "mini-quick: none of 4 values moved; 4 the same.\n");
}

/// Five images are too few for a verdict, whatever the number of their objects, and whichever side knows the images.
#[test]
fn items_that_share_images_are_resampled_together() {
    let images = |run: Snapshot, count: usize| {
        let images = (0..ITEMS).map(|item| item % count).collect();
        Snapshot { images, ..run }
    };
    for (ours, baseline, wanted) in [
        (images(masking(0.3), 5), masking(0.0), 5),
        (masking(0.3), images(masking(0.0), 5), 5),
        (images(masking(0.3), 12), images(masking(0.0), 12), 12),
        (masking(0.3), masking(0.0), ITEMS),
    ] {
        let report = compare("mini-quick", &one(ours), &one(baseline), &tolerances(0.02), false);
        let moved = of(&report, "auc", "tokenrank");
        let paired = moved.paired.unwrap();
        assert_eq!((paired.items(), moved.items), (wanted, Some(ITEMS)));
        let few = paired.significance(None) == Significance::TooFewItems;
        assert_eq!(few, wanted < 6);
    }
    // A file has the images only if they are shared, and a file without them is read.
    let json = serde_json::to_value(masking(0.0)).unwrap();
    assert!(json.get("images").is_none());
    assert!(serde_json::from_value::<Snapshot>(json).unwrap().agrees(&masking(0.0)));
    let shared = images(masking(0.0), 7);
    let json = serde_json::to_value(&shared).unwrap();
    let back: Snapshot = serde_json::from_value(json).unwrap();
    assert_eq!((back.images.len(), back.images == shared.images), (ITEMS, true));
}

/// The settings are equal, so only the values can reveal the change.
#[test]
fn a_changed_token_order_is_caught_by_its_values() {
    // Removing important tokens later keeps the network right for longer, which is worse; removing them earlier is better.
    for (shift, better) in [(0.3, false), (-0.3, true)] {
        let report = against(masking(shift), 0.02);
        assert!(!report.passes() && report.differences.is_empty(), "{report:?}");
        for metric in ["auc", "auc-still-right"] {
            let moved = of(&report, metric, "tokenrank");
            assert_eq!(moved.verdict, Verdict::Moved { better: Some(better) });
            let significance = moved.paired.unwrap().significance(Some(false));
            assert_eq!(significance, Significance::Yes { better: Some(better) });
            assert!(moved.changed > Some(ITEMS / 2), "{moved:?}");
            assert_eq!(of(&report, metric, "random").verdict, Verdict::Same);
        }
        // Failures come first.
        let ranks: Vec<usize> = report.values.iter().map(|value| value.verdict.rank()).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
    }
}

/// A transposed chain: the attention sinks, on which the class depends here, exist only in the forward chain.
#[test]
fn a_transposed_chain_is_caught_by_its_values() {
    const TOKENS: usize = 16;
    const OBJECT: usize = 5;
    let ends = |item: usize, transposed: bool| {
        let mut rng = Rng::keyed(&[11, item as u64]);
        let weights = Array2::from_shape_fn((TOKENS, TOKENS), |(_, to)| {
            rng.range(0.0, 1.0) + if to < OBJECT { 1.0 } else { 0.0 }
        });
        let sums = weights.sum_axis(Axis(1)).insert_axis(Axis(1));
        let attention = Stochastic::new(weights / sums).unwrap();
        let chain = attention.teleport(0.99).unwrap();
        let chain = if transposed { chain.backward().unwrap() } else { chain.forward() };
        let scores = token_rank(&chain, Stop::default()).unwrap().pi;
        let mut order: Vec<usize> = (0..TOKENS).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        // Right until the third of the object's tokens is removed.
        let third = order.iter().enumerate().filter(|(_, token)| **token < OBJECT).nth(2).unwrap().0;
        (third + 1) as f64 / TOKENS as f64
    };
    let [right, wrong] = [false, true].map(|transposed| one(masking_with(|item| ends(item, transposed))));
    let report = compare("s", &wrong, &right, &tolerances(0.02), false);
    assert!(report.differences.is_empty() && !report.passes());
    assert_eq!(of(&report, "auc", "tokenrank").verdict, Verdict::Moved { better: Some(false) });
    assert_eq!(of(&report, "auc", "random").verdict, Verdict::Same);
}

#[test]
fn a_new_and_a_missing_metric_are_failures() {
    let mut ours = masking(0.0);
    let gone = ours.values.remove(1);
    ours.values.push(Measured { metric: "accuracy".into(), ..gone });
    let report = against(ours, 1.0);
    assert_eq!(report.values.iter().filter(|value| value.verdict == Verdict::Missing).count(), 1);
    assert_eq!(of(&report, "accuracy", "random").verdict, Verdict::New);
    assert!(!report.passes() && report.closing().contains("1 missing; 1 new"), "{}", report.closing());
    assert!(of(&report, "accuracy", "random").sentence().contains("update the baseline"));
    // And so are whole runs.
    let report = compare("s", &one(masking(0.0)), &Runs::new(), &tolerances(1.0), false);
    assert!(report.differences[0].kind == "new" && !report.passes());
    let report = compare("s", &Runs::new(), &one(masking(0.0)), &tolerances(1.0), false);
    assert!(report.differences[0].kind == "missing" && !report.passes());
}

#[test]
fn an_incomparable_run_is_a_failure_whatever_its_values_are() {
    type Change = fn(&mut Snapshot);
    let kinds: [(&str, &str, Change); 7] = [
        ("settings", "task.masking.alpha: 0.99 → 0.5", |run| {
            run.experiment["task"]["masking"]["alpha"] = json!(0.5)
        }),
        ("settings", "limit: 24 → none", |run| run.limit = None),
        ("items", "another number of items: 24 → 23", |run| run.items = 23),
        ("items", "scene-4 → other", |run| run.ids[4] = "other".into()),
        ("data", "dddddddddddd → 0", |run| run.data_sha256 = "0".into()),
        ("weights", "eeeeeeeeeeee → 0", |run| run.weights_sha256 = "0".into()),
        ("failed", "1 items could not be answered: scene-9", |run| run.failed.push("scene-9".into())),
    ];
    for (kind, words, change) in kinds {
        let mut ours = masking(0.0);
        change(&mut ours);
        let report = against(ours, 1.0);
        let [difference] = &report.differences[..] else { panic!("{kind}: {:?}", report.differences) };
        assert!(difference.kind == kind && difference.what.contains(words), "{difference:?}");
        assert!(!report.passes() && report.to_text(false, false).starts_with("masking-vit: "));
        // The values are compared nevertheless.
        assert_eq!(report.values.len(), 4);
    }
}

/// Both are reported, the settings first.
#[test]
fn changed_settings_do_not_hide_moved_values() {
    let mut ours = masking(0.3);
    ours.experiment["task"]["masking"]["alpha"] = json!(0.5);
    let text = against(ours, 0.02).to_text(false, false);
    let (settings, values) = (text.find("alpha: 0.99 → 0.5").unwrap(), text.find("moved, worse").unwrap());
    assert!(settings < values, "{text}");
}

#[test]
fn paths_titles_and_machines_do_not_fail_a_comparison() {
    let mut ours = masking(0.0);
    ours.experiment["model"]["path"] = json!("elsewhere");
    ours.experiment["title"] = json!("Another title");
    ours.environment.processor = Some("Another CPU".into());
    ours.code.commit = None;
    let report = against(ours, 0.0);
    assert!(report.passes(), "{:?}", report.differences);
    let text = report.to_text(false, false);
    assert!(
        text.contains("Another machine")
            && text.contains("cpu on Some CPU, libtorch 2.11.0 → cpu on Another CPU"),
        "{text}"
    );
}

/// A baseline that was written before settings were renamed is still valid.
#[test]
fn old_names_of_settings_do_not_fail_a_comparison() {
    for (old, new) in crate::experiment::tests::OLD_AND_NEW {
        let json = |text: &str| json!(toml::from_str::<toml::Value>(text).unwrap());
        let experiment = |text: &str| json!(serde_json::from_value::<crate::Experiment>(json(text)).unwrap());
        let mut baseline = masking(0.0);
        // As an earlier program wrote it.
        baseline.experiment = json(old);
        let mut ours = masking(0.0);
        ours.experiment = experiment(new);
        let report = compare("suite", &one(ours.clone()), &one(baseline.clone()), &tolerances(0.0), false);
        assert!(report.passes(), "{:?}", report.differences);
        ours.experiment["seed"] = json!(3);
        assert!(!compare("suite", &one(ours), &one(baseline), &tolerances(0.0), false).passes());
    }
    // The committed baseline, which an earlier program wrote.
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/baselines/mini-quick.json");
    let baseline: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut seen = 0;
    let mut runs = vec![&baseline];
    while let Some(value) = runs.pop() {
        if let Some(experiment) = value.get("experiment").filter(|experiment| experiment.is_object()) {
            serde_json::from_value::<crate::Experiment>(experiment.clone()).unwrap();
            seen += 1;
        }
        runs.extend(value.as_object().into_iter().flat_map(|table| table.values()));
        runs.extend(value.as_array().into_iter().flatten());
    }
    assert!(seen >= 7, "{seen} experiments");
}

#[test]
fn only_differences_above_the_tolerance_are_moved() {
    let mut ours = masking(0.0);
    let value = ours.values[0].value.unwrap();
    ours.values[0].value = Some(value + 0.0625);
    for (tolerance, passes) in [(0.0625, true), (0.07, true), (0.0624, false)] {
        assert_eq!(against(ours.clone(), tolerance).passes(), passes, "{tolerance}");
    }
    // A tolerance of 0 requires equal bits.
    ours.values[0].value = Some(value.next_up());
    assert!(!against(ours.clone(), 0.0).passes() && against(ours, 1e-9).passes());
}

#[test]
fn systematic_differences_fail_only_if_strict() {
    let loose = tolerances(1.0);
    let run = |strict| compare("s", &one(masking(0.3)), &one(masking(0.0)), &loose, strict);
    assert_eq!(of(&run(false), "auc", "tokenrank").verdict, Verdict::Systematic);
    assert!(run(false).passes() && !run(true).passes());
    assert!(run(false).closing().contains("2 within tolerance but systematic"), "{}", run(false).closing());
}

#[test]
fn a_value_undefined_on_one_side_is_a_failure() {
    for value in [None, Some(f64::NAN)] {
        let mut ours = masking(0.0);
        ours.values[0].value = value;
        let report = against(ours, 1.0);
        assert!(report.values[0].verdict == Verdict::Undefined && !report.passes());
    }
}

#[test]
fn values_undefined_on_both_sides_are_counted_and_a_run_without_any_other_fails() {
    for value in [None, Some(f64::NAN)] {
        let undefined = |count: usize| {
            let mut run = masking(0.0);
            run.values.iter_mut().take(count).for_each(|measured| measured.value = value);
            run
        };
        let run =
            |count| compare("s", &one(undefined(count)), &one(undefined(count)), &tolerances(1.0), true);
        let (some, all) = (run(1), run(4));
        assert!(
            some.passes() && some.closing().contains("1 undefined on both sides; 3 the same"),
            "{}",
            some.closing()
        );
        assert!(!all.passes() && all.to_text(false, false).contains("so nothing was compared"));
    }
}

#[test]
fn changed_images_are_counted_for_metrics_that_are_not_sums() {
    let run = |ours: Snapshot| {
        compare("s", &one(ours), &one(guidance(30.0, 0)), &tolerances(0.5), false).values.remove(0)
    };
    let within = run(guidance(30.25, 5));
    assert_eq!((within.verdict, within.changed, within.paired), (Verdict::Within, Some(5), None));
    assert_eq!(run(guidance(29.0, 24)).verdict, Verdict::Moved { better: Some(true) });
    let mut judged = guidance(30.0, 0);
    judged.judge_sha256 = None;
    let report = compare("s", &one(judged), &one(guidance(30.0, 0)), &tolerances(0.5), false);
    assert_eq!(report.differences[0].kind, "judge");
}

#[test]
fn files_of_scores_are_compared_by_their_content_and_not_by_their_place() {
    let run = |file: &str, hash: &str| {
        let mut run = masking(0.0);
        run.experiment["task"]["masking"]["methods"] = json!(["random", { "file": file, "name": "mine" }]);
        run.scores_sha256 = [("mine".to_owned(), hash.repeat(64))].into();
        run
    };
    let differences = |ours: Snapshot| {
        let report = compare("s", &one(ours), &one(run("here", "a")), &tolerances(0.5), false);
        report.differences.into_iter().map(|found| (found.kind, found.what)).collect::<Vec<_>>()
    };
    assert_eq!(differences(run("there", "a")), []);
    let found = differences(run("here", "b"));
    assert_eq!(
        found,
        [("scores", "another file of scores for mine: aaaaaaaaaaaa → bbbbbbbbbbbb".to_owned())]
    );
    let mut other = run("here", "a");
    other.experiment["task"]["masking"]["methods"][1]["name"] = json!("other");
    assert_eq!(differences(other)[0].0, "settings");
}

#[test]
fn resamples_of_generated_images_are_paired_between_runs() {
    // The values over resamples vary a lot, but equally in both runs.
    let drawn = |shift: f64, seed: u64, changed: usize| {
        let mut run = guidance(30.0 + shift, changed);
        let move_of = |resample: u64| Rng::keyed(&[3, resample]).range(-5.0, 5.0);
        run.values[0].resampled = (0..200).map(|resample| 32.0 + shift + move_of(resample)).collect();
        run.experiment["seed"] = json!(seed);
        run
    };
    let run = |ours: Snapshot| {
        let baseline = drawn(0.0, 0, 0);
        compare("s", &one(ours), &one(baseline), &tolerances(0.5), false).values.remove(0)
    };
    let near = run(drawn(0.25, 0, 5));
    let interval = near.interval().unwrap();
    assert!((interval.low() - 0.25).abs() < 1e-12 && (interval.high() - 0.25).abs() < 1e-12, "{interval:?}");
    assert_eq!((near.verdict, interval.resamples()), (Verdict::Systematic, 200));
    // Equal images, other seeds and other numbers of resamples give no interval.
    assert_eq!(run(drawn(0.0, 0, 0)).paired, None);
    assert_eq!(run(drawn(0.25, 1, 5)).paired, None);
    let mut fewer = drawn(0.25, 0, 5);
    fewer.values[0].resampled.pop();
    assert_eq!(run(fewer).paired, None);
}

#[test]
fn on_the_terminal_and_as_markdown() {
    let mut ours = masking(0.3);
    ours.data_sha256 = "0".repeat(64);
    let report = against(ours, 0.02);
    insta::assert_snapshot!(report.to_text(false, false), @r"
masking-vit: other data: dddddddddddd → 000000000000

Values compared with the baseline mini-quick
 run         ┆ metric          ┆ method    ┆ verdict      ┆ baseline ┆    ours ┆ difference ┆ tolerance ┆     from ┆       to ┆       p ┆ items changed ┆ of 
═════════════╪═════════════════╪═══════════╪══════════════╪══════════╪═════════╪════════════╪═══════════╪══════════╪══════════╪═════════╪═══════════════╪════
 masking-vit ┆ auc             ┆ tokenrank ┆ moved, worse ┆  0.34921 ┆ 0.73016 ┆   +0.38095 ┆   0.02000 ┆ +0.33333 ┆ +0.44444 ┆ < 0.001 ┆            24 ┆ 24 
 masking-vit ┆ auc-still-right ┆ tokenrank ┆ moved, worse ┆  0.29365 ┆ 0.62698 ┆   +0.33333 ┆   0.02000 ┆ +0.33333 ┆ +0.33333 ┆ < 0.001 ┆            21 ┆ 24 
From, to, p: paired bootstrap of the difference over the items, 10000 resamples (generated images: as many as `metrics.resamples`), 95 % percentile interval, two-sided p. Systematic: the interval leaves out 0 and p is at most 0.05.
mini-quick: 2 of 4 values moved (2 worse); 2 the same; not the baseline's runs: masking-vit.
");
    insta::assert_snapshot!(report.to_markdown(false), @r"
### mini-quick: not as the baseline

- **masking-vit**: other data: dddddddddddd → 000000000000

Values compared with the baseline mini-quick

| run         | metric          | method    | verdict      | baseline |    ours | difference | tolerance |     from |       to |       p | items changed | of |
|-------------|-----------------|-----------|--------------|----------|---------|------------|-----------|----------|----------|---------|---------------|----|
| masking-vit | auc             | tokenrank | moved, worse |  0.34921 | 0.73016 |   +0.38095 |   0.02000 | +0.33333 | +0.44444 | < 0.001 |            24 | 24 |
| masking-vit | auc-still-right | tokenrank | moved, worse |  0.29365 | 0.62698 |   +0.33333 |   0.02000 | +0.33333 | +0.33333 | < 0.001 |            21 | 24 |

From, to, p: paired bootstrap of the difference over the items, 10000 resamples (generated images: as many as \`metrics.resamples\`), 95 % percentile interval, two-sided p. Systematic: the interval leaves out 0 and p is at most 0.05.

**2 of 4 values moved (2 worse); 2 the same; not the baseline's runs: masking-vit.**
");
}

#[test]
fn junit_is_valid_xml_for_any_names() {
    let mut ours = masking(0.3);
    ours.values[2].metric = "a<b & \"c\" \u{1}".into();
    ours.values[2].per_item = None;
    let runs: Runs = [("run <&> 'x' ]]>".to_owned(), ours)].into();
    let base: Runs = [("run <&> 'x' ]]>".to_owned(), masking(0.0))].into();
    let report = compare("suite & \"co\"", &runs, &base, &tolerances(0.02), false);
    let xml = report.to_junit().unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap_or_else(|e| panic!("{e}: {xml}"));
    let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    assert_eq!(cases.len(), report.values.len() + 1);
    let failed = cases.iter().filter(|case| case.children().any(|node| node.has_tag_name("failure"))).count();
    let wanted = report.values.iter().filter(|value| value.verdict.fails(false)).count();
    assert_eq!(failed, wanted);
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    assert_eq!(suite.attribute("name"), Some("run <&> 'x' ]]>"));
    assert_eq!(suite.attribute("failures"), Some(&*wanted.to_string()));
    assert!(cases.iter().any(|case| case.attribute("name").unwrap().starts_with("a<b & \"c\"")));
}

mod files {
    use std::path::Path;

    use super::super::baseline::Baseline;
    use super::super::update::merged;
    use super::*;

    fn written(dir: &Path) -> (std::path::PathBuf, Baseline) {
        let path = dir.join("mini-quick.json");
        let mut tolerances = tolerances(0.01);
        tolerances.metrics.insert("masking-vit/auc".into(), 0.02);
        let baseline = Baseline::new(&path, one(masking(0.0)), tolerances);
        baseline.write(&path, None).unwrap();
        (path, baseline)
    }

    #[test]
    fn a_baseline_that_another_process_has_changed_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (path, baseline) = written(dir.path());
        let known = Baseline::read(&path).unwrap();
        let mut other = baseline.clone();
        other.tolerances.metrics.clear();
        other.write(&path, known.as_ref()).unwrap();
        let now = std::fs::read(&path).unwrap();
        for stale in [known.as_ref(), None] {
            let message = baseline.write(&path, stale).unwrap_err().to_string();
            assert!(message.contains("another process has changed"), "{message}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), now);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_baseline_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut baseline) = written(dir.path());
        let back = Baseline::read(&path).unwrap().unwrap();
        assert_eq!(
            back.command.as_deref(),
            Some("tokenrank run configs/mini/masking-vit.toml --limit 24 --out DIR")
        );
        baseline.runs.values_mut().for_each(|run| run.command = None);
        assert_eq!((&*back.suite, &back), ("mini-quick", &baseline));
        let report = compare("s", &one(masking(0.0)), &back.runs, &back.tolerances, true);
        assert!(report.passes() && report.closing().contains("4 the same"), "{}", report.closing());
        assert!(Baseline::read(&dir.path().join("none.json")).unwrap().is_none());
    }

    #[test]
    fn damage_is_distinguished_from_another_version() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = written(dir.path());
        let text = std::fs::read_to_string(&path).unwrap();
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Baseline::read(&path).err().map(|e| e.to_string()).unwrap_or_else(|| panic!("accepted: {text}"))
        };
        let with = |old: &str, new: &str| {
            assert!(text.contains(old), "{old}");
            refusal(&text.replacen(old, new, 1))
        };
        for (message, words) in [
            (refusal(&text[..text.len() / 2]), "damaged"),
            (refusal("[]"), "no schema"),
            (with("\"schema\": 1", "\"schema\": 2"), "has schema 2, this program reads 1"),
            (with("\"suite\"", "\"sweet\""), "unknown field `sweet`"),
            (with("\"metric\":", "\"metrik\":"), "unknown field `metrik`"),
            (with("\"default\": 0.01", "\"default\": -1"), "found -1"),
            (with("masking-vit/auc", "masking-vit/acu"), "`masking-vit/acu`"),
            (with("\"items\": 24", "\"items\": 23"), "23 items and 24 names"),
            (with("\"method\":\"random\"", "\"method\":\"tokenrank\""), "comes twice"),
            (with("\"scene-0\",", ""), "24 items and 23 names"),
            (with("\"sums\":[[", "\"sums\":[[7,7],["), "has sums of 25 items"),
            (with("\"value\":0.", "\"value\":0.0"), "is not what its items add up to"),
        ] {
            assert!(message.contains(words), "{words}: {message}");
            assert!(message.contains("mini-quick.json"), "{message}");
        }
    }

    #[test]
    fn another_program_or_machine_does_not_update_the_baseline() {
        let dir = tempfile::tempdir().unwrap();
        let (path, baseline) = written(dir.path());
        let back = Baseline::read(&path).unwrap().unwrap();
        let mut other = baseline.runs;
        for run in other.values_mut() {
            (run.environment.processor, run.code.commit) = (None, None);
        }
        let update =
            |ours: &Runs| merged(&path, ours.clone(), back.tolerances.clone(), Some(back.clone()), false);
        let (same, what) = update(&other);
        assert!(!what.is_written() && same == back, "{what:?}");
        other.values_mut().for_each(|run| run.values[0].value = Some(0.5));
        let (_, what) = update(&other);
        assert_eq!(what.runs["masking-vit"], RunUpdate::Updated { gone: Vec::new() });
    }

    /// Three runs in the baseline, one in the result: the others are removed only if requested.
    #[test]
    fn runs_that_the_result_lacks_are_kept_unless_pruned() {
        let path = Path::new("suite.json");
        let names = ["clip", "dino", "vit"];
        let runs = |shift: f64, names: &[&str]| -> Runs {
            names.iter().map(|name| ((*name).to_owned(), masking(shift))).collect()
        };
        let mut tolerances = tolerances(0.01);
        tolerances.metrics.insert("dino/auc".into(), 0.02);
        let known = Baseline::new(path, runs(0.0, &names), tolerances.clone());
        let ours = {
            let mut ours = runs(0.3, &["vit"]);
            ours.get_mut("vit").unwrap().values.remove(0);
            ours
        };
        let update = |prune| merged(path, ours.clone(), tolerances.clone(), Some(known.clone()), prune);

        let (baseline, what) = update(false);
        assert_eq!(baseline.runs.keys().collect::<Vec<_>>(), names);
        for name in ["clip", "dino"] {
            assert_eq!((&what.runs[name], &baseline.runs[name]), (&RunUpdate::Kept, &known.runs[name]));
        }
        assert_eq!((&baseline.runs["vit"], &baseline.tolerances), (&ours["vit"], &tolerances));
        assert_eq!(
            what.lines(),
            [
                "updated: vit",
                "kept: clip, dino; this result does not have them",
                "vit no longer has: auc of random",
            ]
        );

        let (baseline, what) = update(true);
        assert_eq!(baseline.runs, ours);
        assert!(
            baseline.tolerances.metrics.is_empty() && what.tolerances_changed,
            "the tolerance of dino stays"
        );
        assert_eq!(what.lines()[..2], ["updated: vit", "removed: clip, dino"]);
    }

    /// The default tolerance does not suit a new metric of another scale.
    #[test]
    fn tolerances_of_a_new_metric_follow_its_scale() {
        let path = Path::new("suite.json");
        let known = Baseline::new(path, one(masking(0.0)), tolerances(0.01));
        let ours: Runs = [("guidance".to_owned(), guidance(155.215, 0))].into();
        let (baseline, _) = merged(path, ours.clone(), known.tolerances.clone(), Some(known), false);
        assert_eq!(
            baseline.tolerances,
            Tolerances { default: 0.01, metrics: [("frechet".into(), 0.78)].into() }
        );
        // The rule also holds without a baseline, or if two folders are compared.
        let fresh = Tolerances::for_runs(&ours);
        assert_eq!(fresh, Tolerances { default: 0.005, metrics: [("frechet".into(), 0.78)].into() });
        let moved: Runs = [("guidance".to_owned(), guidance(155.193, 1))].into();
        assert!(compare("s", &moved, &ours, &fresh, false).passes());
        // Runs of different scales have different tolerances.
        let both: Runs = [("a".to_owned(), guidance(155.215, 0)), ("b".to_owned(), guidance(3.0, 0))].into();
        let fresh = Tolerances::for_runs(&both);
        assert_eq!((fresh.of("a", "frechet"), fresh.of("b", "frechet")), (0.78, 0.015));
    }
}
