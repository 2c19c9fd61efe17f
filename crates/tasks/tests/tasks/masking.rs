//! The masking experiment against a slow re-derivation: whole maps kept, keys masked instead of tokens removed.

use std::path::Path;

use models::attend::{KeyBias, NoProbe};
use models::image::Rgb8;
use models::probe::{KeepAll, KeptLayer};
use models::{Device, Kind, LoadOptions, VisionModel};
use ndarray::{Array3, Axis, s};
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

/// The side of a patch of the miniature ViT.
const PATCH: usize = 8;

/// Pixels `[3, h, w]` in which patches are replaced by those of another image.
fn pasted(pixels: &Array3<f32>, other: &Array3<f32>, patches: &[usize]) -> Array3<f32> {
    let columns = pixels.dim().2 / PATCH;
    let mut out = pixels.clone();
    for patch in patches {
        let (row, column) = (patch / columns * PATCH, patch % columns * PATCH);
        let area = s![.., row..row + PATCH, column..column + PATCH];
        out.slice_mut(area).assign(&other.slice(area));
    }
    out
}

/// A Gaussian blur, sample by sample in double precision, mirrored at the edges.
fn blurred(pixels: &Array3<f32>) -> Array3<f32> {
    let (_, height, width) = pixels.dim();
    let sigma = height.min(width) as f64 / 16.0;
    let radius = (3.0 * sigma).ceil() as i64;
    let weight = |offset: i64| (-(offset as f64).powi(2) / (2.0 * sigma * sigma)).exp();
    let total: f64 = (-radius..=radius).map(weight).sum();
    let mirrored = |at: i64, side: usize| {
        let last = side as i64 - 1;
        (if at < 0 {
            -at
        } else if at > last {
            2 * last - at
        } else {
            at
        }) as usize
    };
    let along = |planes: &Array3<f64>, axis: usize| {
        Array3::from_shape_fn(planes.dim(), |(channel, row, column)| {
            let sample = |offset: i64| {
                if axis == 1 {
                    planes[(channel, mirrored(row as i64 + offset, height), column)]
                } else {
                    planes[(channel, row, mirrored(column as i64 + offset, width))]
                }
            };
            (-radius..=radius).map(|offset| weight(offset) * sample(offset)).sum::<f64>() / total
        })
    };
    along(&along(&pixels.mapv(f64::from), 2), 1).mapv(|value| value as f32)
}

/// Every mechanism and direction: pixels are replaced in the image and embedded again, tokens are zeroed in place.
#[test]
fn mechanisms_agree_with_a_slow_implementation() {
    const FRACTIONS: [f64; 3] = [0.0, 0.4, 1.0];
    let model = model();
    let network = &model.network;
    let items = &items()[..3];
    for direction in ["deletion", "least-first", "insertion"] {
        let config: MaskingConfig = serde_json::from_value(serde_json::json!({
            "methods": ["random", "tokenrank"],
            "mechanism": ["zero-token", { "pixels": "grey" }, { "pixels": "black" }, { "pixels": "mean" }, { "pixels": "blur" }],
            "direction": direction,
            "confidence": true,
            "fractions": FRACTIONS,
            "figures": 3,
        }))
        .expect("a task table");
        let files = config.score_files().expect("no files");
        let mut task = Masking::new(config, self::model(), items.to_vec(), 5, files).expect("a task");
        let records: Vec<MaskingRecord> =
            task.run(0..3).expect("a batch").into_iter().filter_map(Answer::record).collect();
        assert_eq!(records.len(), 3);
        for (item, record) in items.iter().zip(&records) {
            let pixels = model.preprocessor.apply(&item.load().expect("drawn").rgb).expect("pixels");
            let embed = |pixels: &Array3<f32>| {
                network.embed(&VisionModel::batch([pixels]).expect("a batch")).expect("embeds")
            };
            let (_, height, width) = pixels.dim();
            let channel =
                |value: &dyn Fn(usize) -> f32| Array3::from_shape_fn((3, height, width), |(c, ..)| value(c));
            let mean =
                |c: usize| pixels.index_axis(Axis(0), c).mapv(f64::from).mean().expect("pixels") as f32;
            let black = model
                .preprocessor
                .apply(&Rgb8 { width, height, data: vec![0; 3 * width * height] })
                .expect("black");
            let grey = channel(&|_| 0.0);
            let (mean, blur) = (channel(&mean), blurred(&pixels));
            let confidence = record.confidence.as_ref().expect("asked for");
            let maps = &record.scores.as_ref().expect("kept").maps;
            assert_eq!(maps.len(), 2, "a map for each ranking");
            for (method, predicted) in &record.predicted {
                let name =
                    if method.starts_with("random") { "random-zero-token" } else { "tokenrank-zero-token" };
                let scores = &maps[name];
                let mut order: Vec<usize> = (0..scores.len()).collect();
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                for (step, fraction) in FRACTIONS.iter().enumerate() {
                    let count = (fraction * order.len() as f64).round() as usize;
                    let masked: Vec<usize> = match direction {
                        "deletion" => order[..count].to_vec(),
                        "least-first" => order.iter().rev().take(count).copied().collect(),
                        _ => order[count..].to_vec(),
                    };
                    let mechanism = method.trim_start_matches("random-").trim_start_matches("tokenrank-");
                    let embedded = match mechanism {
                        "zero-token" => {
                            let embedded = embed(&pixels);
                            for &patch in &masked {
                                let _ = embedded.tokens.narrow(1, 1 + patch as i64, 1).zero_();
                            }
                            embedded
                        }
                        "grey" => embed(&pasted(&pixels, &grey, &masked)),
                        "black" => embed(&pasted(&pixels, &black, &masked)),
                        "mean" => embed(&pasted(&pixels, &mean, &masked)),
                        "blur" => embed(&pasted(&pixels, &blur, &masked)),
                        other => panic!("no mechanism {other}"),
                    };
                    let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe).expect("encodes");
                    let logits = network.logits(&encoded).expect("computes").expect("a classifier").get(0);
                    let at = format!("{method} at {fraction}, {direction}, {}", item.id);
                    assert_eq!(predicted[step], logits.argmax(-1, false).int64_value(&[]) as usize, "{at}");
                    let (found, class) = (confidence.masked[method][step], record.unmasked as i64);
                    let probability = logits.softmax(-1, Kind::Double).double_value(&[class]);
                    assert!(
                        (f64::from(found.probability) - probability).abs() < 1e-4,
                        "{at}: {found:?} {probability}"
                    );
                    assert!((f64::from(found.logit) - logits.double_value(&[class])).abs() < 1e-3, "{at}");
                }
            }
        }
    }
}

#[test]
fn settings_of_mechanisms_are_checked() {
    let config = |settings: &str| -> MaskingConfig {
        toml::from_str(&format!("methods = [\"cls\"]\n{settings}")).expect("a table")
    };
    let refused = |settings: &str, word: &str| {
        let message = config(settings).check().expect_err(settings).to_string();
        assert!(message.contains(word), "{settings}: {message}");
    };
    refused("fractions = [0.0, 1.0]", "below 1");
    refused("fractions = [0.0, 1.0]\nmechanism = [\"zero-token\", \"remove\"]", "below 1");
    refused("fractions = [0.0, 0.5]\nmechanism = []", "at least one mechanism");
    refused("fractions = [0.0, 0.5]\nmechanism = [\"remove\", \"remove\"]", "listed twice");
    assert!(
        config("fractions = { from = 0.0, to = 1.0, step = 0.5 }\nmechanism = \"zero-token\"")
            .check()
            .is_ok()
    );
    // The names tell several mechanisms apart, and only then.
    let keys = |settings: &str| -> Vec<String> {
        config(settings).methods().iter().map(ToString::to_string).collect()
    };
    assert_eq!(keys("fractions = [0.0, 0.5]\nmechanism = { pixels = \"blur\" }"), ["cls"]);
    let list = "fractions = [0.0, 0.5]\nmechanism = [\"remove\", { pixels = \"blur\" }]";
    assert_eq!(keys(list), ["cls", "cls-blur"]);
    // A setting with its default is not written, so that runs of earlier versions keep their identity.
    let json = serde_json::json!(config("fractions = [0.0, 0.5]"));
    assert!(["mechanism", "direction", "confidence"].iter().all(|key| json.get(key).is_none()), "{json}");
    let json = serde_json::json!(config(list));
    let again: MaskingConfig = serde_json::from_value(json).expect("read again");
    assert_eq!(again.methods(), config(list).methods());

    let network = &model().network;
    let message = config("fractions = [0.0, 0.5]\nmechanism = \"mask-token\"")
        .check_network(network)
        .expect_err("none")
        .to_string();
    assert!(message.contains("mask_token"), "{message}");
    assert!(config("fractions = [0.0, 0.5]\nconfidence = true").check_network(network).is_ok());
}

/// Rollout and outgoing TokenRank from whole maps.
#[test]
fn rollout_and_outgoing_ranks_agree_with_a_slow_implementation() {
    let model = model();
    let network = &model.network;
    for heads in ["before-ranking", "after-ranking"] {
        let config: MaskingConfig = serde_json::from_value(serde_json::json!({
            "methods": ["rollout", "rollout-sum", "tokenrank-outgoing"],
            "layers": "last:2", "heads": heads, "alpha": ALPHA, "fractions": [0.0, 0.5], "figures": 2,
        }))
        .expect("a task table");
        let files = config.score_files().expect("no files");
        let items = items()[..2].to_vec();
        let mut task = Masking::new(config, self::model(), items.clone(), 5, files).expect("a task");
        let records: Vec<MaskingRecord> =
            task.run(0..2).expect("a batch").into_iter().filter_map(Answer::record).collect();
        for (item, record) in items.iter().zip(&records) {
            let pixels = model.preprocessor.apply(&item.load().expect("drawn").rgb).expect("pixels");
            let embedded = network.embed(&VisionModel::batch(&[pixels]).expect("a batch")).expect("embeds");
            let mut probe = KeepAll::default();
            network.encode(&embedded, &KeyBias::none(), &mut probe).expect("encodes");
            let mut layers = probe.finish().expect("seen");
            let layers = layers.split_off(layers.len() - 2);
            let n = embedded.layout.tokens();
            let identity = Tensor::eye(n, (Kind::Double, Device::Cpu));
            let product = layers.iter().fold(identity.shallow_clone(), |product, layer| {
                let mean = maps(std::slice::from_ref(layer), true).mean_dim(0i64, false, Kind::Double);
                ((mean + &identity) / 2.0).matmul(&product)
            });
            let all = maps(&layers, true);
            let chains = if heads == "before-ranking" { all.mean_dim(0i64, true, Kind::Double) } else { all };
            // Teleport first, reversal second.
            let jumps = &chains * ALPHA + (1.0 - ALPHA) / n as f64;
            let mut power =
                (&jumps / jumps.sum_dim_intlist(1i64, true, Kind::Double)).transpose(1, 2).contiguous();
            for _ in 0..20 {
                power = power.matmul(&power);
            }
            let outgoing = power.select(1, 0).mean_dim(0i64, false, Kind::Double);
            let found = &record.scores.as_ref().expect("kept").maps;
            for (method, wanted) in [
                ("rollout", product.get(0)),
                ("rollout-sum", product.mean_dim(0i64, false, Kind::Double)),
                ("tokenrank-outgoing", outgoing),
            ] {
                let wanted: Vec<f64> = Vec::try_from(wanted.narrow(0, 1, n - 1)).expect("a vector");
                let off: f64 =
                    found[method].iter().zip(&wanted).map(|(&a, b)| (f64::from(a) - b).abs()).sum();
                assert!(off < 1e-5, "{method}, {heads}: {off:e}");
            }
        }
    }
}
