//! The masking experiment against a slow re-derivation: whole maps kept, keys masked instead of tokens removed.

use std::path::Path;

use models::attend::{KeyBias, NoProbe};
use models::probe::{KeepAll, KeptLayer};
use models::{Device, Kind, LoadOptions, VisionModel};
use tasks::dataset::{DatasetConfig, LabelledImage};
use tasks::masking::{Masking, MaskingConfig, MaskingRecord};
use tasks::{Answer, Task};
use tch::Tensor;

const IMAGES: usize = 6;
const ALPHA: f64 = 0.9;
const FRACTIONS: [f64; 4] = [0.0, 0.3, 0.6, 0.9];

fn model() -> VisionModel {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini/models/vit");
    VisionModel::load(&dir, &LoadOptions::default()).expect("the embedded miniature")
}

fn items() -> Vec<LabelledImage> {
    let dataset: DatasetConfig =
        serde_json::from_value(serde_json::json!({ "mini": { "count": IMAGES } })).expect("a dataset table");
    dataset.items(10).expect("scenes")
}

fn config(heads: &str, batch: usize) -> MaskingConfig {
    serde_json::from_value(serde_json::json!({
        "methods": ["random", "center", "column-sum", "cls", "tokenrank", "tokenrank-lambda2"],
        "cls": ["kept", "dropped"],
        "layers": "last:2",
        "heads": heads,
        "alpha": ALPHA,
        "lambda_weight": "squared",
        "fractions": { "from": 0.0, "to": 0.9, "step": 0.3 },
        "batch": batch,
        "overlays": IMAGES,
    }))
    .expect("a task table")
}

fn run(heads: &str, batch: usize) -> Vec<MaskingRecord> {
    let config = config(heads, batch);
    let files = config.score_files().expect("no files");
    let mut task = Masking::new(config, model(), items(), 5, files).expect("a task");
    let total = task.manifest().len();
    (0..total)
        .step_by(batch)
        .flat_map(|start| task.run(start..(start + batch).min(total)).expect("a batch"))
        .filter_map(Answer::record)
        .collect()
}

/// Transition matrices of the chosen layers, `[heads of all layers, n, n]`.
fn maps(layers: &[KeptLayer], cls_kept: bool) -> Tensor {
    let maps: Vec<Tensor> = layers
        .iter()
        .map(|layer| {
            let logits = layer.logits.squeeze_dim(0).to_kind(Kind::Double);
            let n = logits.size()[1];
            let logits = if cls_kept { logits } else { logits.narrow(1, 1, n - 1).narrow(2, 1, n - 1) };
            logits.softmax(-1, Kind::Double)
        })
        .collect();
    Tensor::cat(&maps, 0)
}

/// Steady states of `[m, n, n]` by brute force: `T^(2^20)`.
fn steady(maps: &Tensor) -> Tensor {
    let n = maps.size()[1];
    let mut power = maps * ALPHA + (1.0 - ALPHA) / n as f64;
    for _ in 0..20 {
        power = power.matmul(&power);
    }
    power.select(1, 0)
}

/// Second largest eigenvalue moduli of `[m, n, n]`.
fn lambda2(maps: &Tensor) -> Tensor {
    let (sorted, _) = maps.linalg_eigvals().abs().sort(-1, true);
    sorted.select(1, 1)
}

/// The score of every patch under a method, from whole maps.
fn score(method: &str, layers: &[KeptLayer], heads: &str) -> Vec<f64> {
    let (name, cls_kept) = match method.strip_suffix("-no-cls") {
        Some(name) => (name, false),
        None => (method, true),
    };
    let maps = maps(layers, cls_kept);
    let weights = match name {
        "tokenrank-lambda2" => lambda2(&maps).square(),
        _ => Tensor::ones([maps.size()[0]], (Kind::Double, Device::Cpu)),
    };
    let weights = &weights / weights.sum(Kind::Double);
    let mean = (&maps * weights.reshape([-1, 1, 1])).sum_dim_intlist(0i64, false, Kind::Double);
    let states = match (name, heads) {
        ("column-sum", _) => mean.mean_dim(0i64, false, Kind::Double),
        ("cls", _) => mean.get(0),
        (_, "before-ranking") => steady(&mean.unsqueeze(0)).get(0),
        _ => (steady(&maps) * weights.unsqueeze(1)).sum_dim_intlist(0i64, false, Kind::Double),
    };
    let patches = if cls_kept { states.narrow(0, 1, states.size()[0] - 1) } else { states };
    Vec::try_from(patches).expect("a vector")
}

#[test]
fn records_agree_with_a_slow_implementation() {
    let model = model();
    let network = &model.network;
    for heads in ["before-ranking", "after-ranking"] {
        let records = run(heads, 4);
        for (item, record) in items().iter().zip(&records) {
            assert_eq!((&item.id, item.label), (&record.id, record.label));
            let pixels = model.preprocessor.apply(&item.load().expect("drawn").rgb).expect("pixels");
            let embedded = network.embed(&VisionModel::batch(&[pixels]).expect("a batch")).expect("embeds");
            let mut probe = KeepAll::default();
            let encoded = network.encode(&embedded, &KeyBias::none(), &mut probe).expect("encodes");
            let class = |encoded: &models::vision::Encoded| {
                network
                    .logits(encoded)
                    .expect("computes")
                    .expect("a classifier")
                    .argmax(-1, false)
                    .int64_value(&[0]) as usize
            };
            assert_eq!(record.unmasked, class(&encoded));
            let mut layers = probe.finish().expect("seen");
            let last_two = layers.split_off(layers.len() - 2);

            let scores = record.scores.as_ref().expect("kept for every image");
            for (method, found) in &scores.maps {
                let wanted = match method.as_str() {
                    "random" | "center" => found.iter().map(|&score| f64::from(score)).collect(),
                    _ => score(method, &last_two, heads),
                };
                let l1: f64 = found.iter().zip(&wanted).map(|(&a, b)| (f64::from(a) - b).abs()).sum();
                assert!(l1 < 1e-3, "{method}, {heads}: scores differ by {l1:e} in L1");

                // Keys masked for everybody, in the order that the record's scores give.
                let mut order: Vec<usize> = (0..found.len()).collect();
                order.sort_by(|&a, &b| found[b].total_cmp(&found[a]));
                for (fraction, &predicted) in FRACTIONS.iter().zip(&record.predicted[method]) {
                    let removed = (fraction * found.len() as f64).round() as usize;
                    let mut bias = vec![0f32; found.len() + 1];
                    order[..removed].iter().for_each(|&patch| bias[patch + 1] = f32::NEG_INFINITY);
                    let bias = KeyBias::new(&Tensor::from_slice(&bias).unsqueeze(0)).expect("a bias");
                    let encoded = network.encode(&embedded, &bias, &mut NoProbe).expect("encodes");
                    assert_eq!(predicted, class(&encoded), "{method} at {fraction}, {heads}, {}", item.id);
                }
            }
        }
    }
}

#[test]
fn random_order_depends_on_the_image_and_center_order_on_the_grid() {
    let records = run("before-ranking", 3);
    let of =
        |record: &MaskingRecord, method: &str| record.scores.as_ref().expect("kept").maps[method].clone();
    assert_ne!(of(&records[0], "random"), of(&records[1], "random"));
    assert_eq!(of(&records[0], "random"), of(&run("after-ranking", 2)[0], "random"));
    let center = of(&records[0], "center");
    let grid = records[0].scores.as_ref().expect("kept").grid;
    let best = center.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let middle: Vec<usize> = (0..center.len()).filter(|&patch| center[patch] == best).collect();
    let (r, c) = (grid.0 / 2, grid.1 / 2);
    assert_eq!(middle, [(r - 1) * grid.1 + c - 1, (r - 1) * grid.1 + c, r * grid.1 + c - 1, r * grid.1 + c]);
}

#[test]
fn predictions_do_not_depend_on_the_batch() {
    let (one, all) = (run("before-ranking", 1), run("before-ranking", IMAGES));
    for (a, b) in one.iter().zip(&all) {
        assert_eq!(a.predicted, b.predicted);
    }
}
