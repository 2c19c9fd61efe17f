//! Tests of the page of invented runs: its structure, hostile names, and its behaviour in a browser if there is one.

#[allow(unreachable_pub)]
#[path = "../../../chain-page/tests/browser/mod.rs"]
mod browser;
mod reader;
mod structure;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tasks::masking::MaskingRecord;
use tasks::{Answer, Failure, Fault, Rng};

use super::report;
use eval::experiments::masking::metrics::MaskingCurves;
use eval::forged;
use eval::results::{Curves, MetricValue};
use eval::{Experiment, TaskConfig};

/// Reads the experiment of the miniature ViT.
fn experiment() -> Experiment {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/mini/masking-vit.toml");
    Experiment::read(&config, &[]).expect("an experiment")
}

/// Invents answers of a classifier that becomes wrong as tokens are removed, sooner under some methods than under others. The last
/// item cannot be read.
fn answers(
    items: usize,
    experiment: &Experiment,
    id: impl Fn(usize) -> String,
) -> Vec<Answer<MaskingRecord>> {
    let TaskConfig::Masking(config) = &experiment.task else { panic!("another task") };
    let methods = config.methods();
    let steps = config.fractions.values().len();
    let answer = |item: usize| {
        if item + 1 == items {
            let reason = "torn </script><b>JPEG</b> & \"more\"".into();
            return Answer::Failed(Failure { id: id(item), reason, fault: Fault::Data });
        }
        let mut rng = Rng::keyed(&[7, item as u64]);
        let label = rng.below(10);
        let mut predicted = BTreeMap::new();
        for (place, method) in methods.iter().enumerate() {
            let survives = 1 + rng.below(steps - place);
            let answers = (0..steps).map(|step| if step < survives { label } else { (label + 1) % 10 });
            predicted.insert(method.to_string(), answers.collect());
        }
        let unmasked = if item % 10 == 3 { (label + 1) % 10 } else { label };
        let sha256 = "0".repeat(64);
        Answer::Record(MaskingRecord {
            id: id(item),
            sha256,
            label,
            unmasked,
            predicted,
            confidence: None,
            scores: None,
        })
    };
    (0..items).map(answer).collect()
}

/// Writes the folder of a run.
fn forge(folder: &Path, name: &str, experiment: &Experiment, answers: &[Answer<MaskingRecord>]) {
    let TaskConfig::Masking(config) = &experiment.task else { panic!("another task") };
    let mut curves = MaskingCurves::new(config.fractions.values());
    for answer in answers {
        if let Answer::Record(record) = answer {
            curves.add(record);
        }
    }
    forged::write(folder, name, experiment, answers, |results| {
        let found = curves.finish();
        for (method, curve) in &found {
            results.metrics.push(MetricValue {
                name: "auc".into(),
                method: Some(method.clone()),
                value: curve.auc,
                higher_is_better: Some(false),
                published: (method == "tokenrank").then_some(0.26),
            });
        }
        let by = |of: fn(&eval::experiments::masking::metrics::MethodCurve) -> &Vec<f64>| {
            found.iter().map(|(method, curve)| (method.clone(), of(curve).clone())).collect()
        };
        results.curves = Some(Curves {
            fractions: curves.fractions().to_vec(),
            accuracy: by(|curve| &curve.accuracy),
            still_right: by(|curve| &curve.still_right),
        });
    });
}

/// Writes a run with this number of items and its page. Returns the path of the page.
fn page(dir: &Path, items: usize) -> PathBuf {
    let experiment = experiment();
    forge(dir, "masking-vit", &experiment, &answers(items, &experiment, |item| format!("scene/{item:05}")));
    report(dir, None).expect("a page").path
}
