//! DiffSeg step by step against a second computation, and the experiment on a tiny pipeline.
//!
//! `tools/golden_diffseg.py` makes the fixture. With `TOKENRANK_REPORT=FILE` the first test writes the differences it
//! measures there, as `results/precision/diffseg.json` has them.

use std::collections::BTreeMap;
use std::path::Path;

use models::attend::{KeyBias, attend};
use models::probe::{KeepAll, Tee};
use models::sd::pipeline::SdPipeline;
use models::{Device, Kind, Site, Stream, TokenLayout, UnetLayer, UnetPart};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tasks::dataset::{DatasetConfig, DenseImage};
use tasks::diffseg::{
    Aggregates, Aggregator, DiffSeg, DiffSegConfig, DiffSegRecord, HeadShare, Method, anchors, distances,
    gather, labels, segment, unite,
};
use tasks::score_file::ScoreFiles;
use tasks::{Answer, Error, Task};
use tch::Tensor;

#[derive(Deserialize)]
struct Golden {
    grid: (usize, usize),
    size: (usize, usize),
    alpha: f64,
    layers: Vec<Layer>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Layer {
    name: String,
    grid: (i64, i64),
    heads: i64,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    method: Method,
    threshold: f64,
    rounds: usize,
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diffseg").join(name);
    std::fs::read(path).expect("a committed fixture")
}

fn golden(file: &SafeTensors, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap_or_else(|_| panic!("there is no golden {name}"));
    let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the fixture has no other types")]
    let kind = match view.dtype() {
        Dtype::U8 => Kind::Uint8,
        Dtype::I64 => Kind::Int64,
        Dtype::F32 => Kind::Float,
        other => panic!("{name} is of {other:?}"),
    };
    Tensor::from_data_size(view.data(), &shape, kind)
}

fn difference(ours: &Tensor, golden: &Tensor) -> f64 {
    assert_eq!(ours.size(), golden.size());
    (ours - golden).abs().max().double_value(&[])
}

fn both() -> Aggregator {
    Aggregator::new(&[HeadShare::Equal, HeadShare::Lambda2].into())
}

/// A site for layer `number`; its position in the network does not matter.
fn site(number: usize, grid: (i64, i64)) -> Site {
    let layer = UnetLayer { part: UnetPart::Down(number), attention: 0, layer: 0, cross: false };
    Site { stream: Stream::Unet(layer), block: number, step: 0, layout: TokenLayout::vision(0, grid) }
}

/// What a UNet with these layers would show a probe; every image of the batch is the same.
fn stored(file: &SafeTensors, layers: &[Layer], batch: i64) -> Result<Aggregates, Error> {
    let mut probe = both();
    for (number, Layer { name, grid, heads }) in layers.iter().enumerate() {
        let [q, k] = ["q", "k"].map(|part| golden(file, &format!("{name}.{part}")));
        assert_eq!(q.size()[..2], [*heads, grid.0 * grid.1]);
        let [q, k] = [q, k].map(|x| x.unsqueeze(0).repeat([batch, 1, 1, 1]));
        let _ = attend(&q, &k, &k, &KeyBias::none(), &site(number, *grid), &mut probe)?;
    }
    probe.finish()
}

#[test]
fn every_step_agrees_with_a_second_implementation() -> Result<(), Error> {
    let _guard = models::no_grad();
    let Golden { grid, size, alpha, layers, cases } =
        serde_json::from_slice(&fixture("golden.json")).expect("a committed fixture");
    let bytes = fixture("golden.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("a committed fixture");
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    let mut note = |stage: &str, difference: f64| {
        assert!(difference < 1e-5, "{stage}: {difference:e}");
        let entry = worst.entry(stage.to_owned()).or_default();
        *entry = entry.max(difference);
    };

    let aggregates = stored(&file, &layers, 2)?;
    assert_eq!(aggregates.grid(), grid);
    for (name, share) in [("mean", HeadShare::Equal), ("lambda2", HeadShare::Lambda2)] {
        for image in 0..2 {
            let ours = aggregates.get(share, image)?;
            // Numbers are of the order of 1/n; in the worst row, relative to its greatest.
            let wanted = golden(&file, name);
            let scale = wanted.amax(-1i64, true);
            note(
                &format!("aggregate, {name}"),
                difference(&(ours.slice(0, 0, None, 2) / &scale), &(wanted / &scale)),
            );
            let sums = ours.sum_dim_intlist(-1i64, false, Kind::Double) - 1.0;
            assert!(sums.abs().max().double_value(&[]) < 1e-6, "rows of {name} sum to one");
        }
    }

    let (mut pixels, mut other) = (0, 0);
    for Case { name, method, threshold, rounds } in cases {
        let aggregate = aggregates.get(method.aggregate(), 1)?;
        let chosen = anchors(&method, &aggregate, grid, alpha, 0)?;
        let wanted: Vec<i64> = Vec::try_from(golden(&file, &format!("{name}.anchors")))?;
        assert_eq!(chosen.iter().map(|&token| token as i64).collect::<Vec<_>>(), wanted, "{name}: anchors");

        if file.tensor(&format!("{name}.distances")).is_ok() {
            let maps = aggregate.index_select(0, &Tensor::from_slice(&wanted));
            note(
                "distances",
                difference(&distances(&maps, &aggregate)?, &golden(&file, &format!("{name}.distances"))),
            );
        }
        let mut proposals = gather(&aggregate, &chosen, threshold)?;
        for round in 1..=rounds {
            if round > 1 {
                proposals = unite(&proposals, threshold)?;
            }
            let stage = format!("{name}.round.{round}");
            if file.tensor(&stage).is_ok() {
                let wanted = golden(&file, &stage);
                let scale = wanted.amax(-1i64, true);
                note(
                    &format!("proposals after round {round}"),
                    difference(&(&proposals / &scale), &(wanted / scale)),
                );
            }
        }

        let found = labels(&proposals, grid, size)?;
        let wanted = golden(&file, &format!("{name}.labels"));
        assert_eq!(wanted.size(), [size.0 as i64, size.1 as i64]);
        let wanted: Vec<i64> = Vec::try_from(wanted.to_kind(Kind::Int64).reshape([-1]))?;
        let apart = found.iter().zip(&wanted).filter(|(a, b)| i64::from(**a) != **b).count();
        let present = wanted.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!(present > 1 && apart * 1000 <= wanted.len(), "{name}: {apart} pixels of {}", wanted.len());
        pixels += wanted.len();
        other += apart;

        // The whole of it in one call.
        let config = format!("methods = []\nthreshold = {threshold}\nrounds = {rounds}\nalpha = {alpha}");
        let config: DiffSegConfig = toml::from_str(&config).expect("a configuration");
        let whole = segment(&config, &method, &aggregate, grid, size, 0)?;
        assert_eq!((whole.anchors, whole.labels), (chosen, found));
        assert_eq!(whole.proposals as i64, proposals.size()[0]);
    }

    let worst: BTreeMap<String, String> =
        worst.into_iter().map(|(stage, difference)| (stage, format!("{difference:.1e}"))).collect();
    let report = serde_json::json!({
        "largest_difference": worst,
        "pixels": pixels,
        "pixels_with_another_label": other,
    });
    println!("{report:#}");
    if let Some(path) = std::env::var_os("TOKENRANK_REPORT") {
        std::fs::write(path, format!("{report:#}\n")).expect("a writable report");
    }
    Ok(())
}

#[test]
fn aggregates_do_not_depend_on_the_chunks_of_heads() -> Result<(), Error> {
    /// Shows one head at a time.
    struct Single(Aggregator);

    impl models::attend::AttentionProbe for Single {
        fn want(&mut self, site: &Site) -> models::attend::Want {
            self.0.want(site)
        }

        fn heads_at_once(&self) -> Option<i64> {
            Some(1)
        }

        fn see(
            &mut self,
            site: &Site,
            heads: std::ops::Range<i64>,
            view: &models::attend::View<'_>,
        ) -> models::Result<()> {
            assert_eq!(heads.end - heads.start, 1);
            self.0.see(site, heads, view)
        }
    }

    let _guard = models::no_grad();
    tch::manual_seed(2);
    let (mut together, mut single) = (both(), Single(both()));
    // The grids of no UNet: odd sides, which do not divide each other.
    for (number, grid) in [(9i64, 7i64), (4, 3), (9, 7), (5, 4)].into_iter().enumerate() {
        let [q, k] =
            [0, 1].map(|_| Tensor::randn([3, 4, grid.0 * grid.1, 5], (Kind::Float, Device::Cpu)) * 2.0);
        for probe in [&mut together as &mut dyn models::attend::AttentionProbe, &mut single] {
            let _ = attend(&q, &k, &k, &KeyBias::none(), &site(number, grid), probe)?;
        }
    }
    let (together, single) = (together.finish()?, single.0.finish()?);
    assert_eq!(together.grid(), (9, 7));
    for share in [HeadShare::Equal, HeadShare::Lambda2] {
        for image in 0..3 {
            let found = together.get(share, image)?;
            assert!(difference(&found, &single.get(share, image)?) < 1e-7);
            let sums = found.sum_dim_intlist(-1i64, false, Kind::Double) - 1.0;
            assert!(sums.abs().max().double_value(&[]) < 1e-6);
        }
    }
    let apart = difference(&together.get(HeadShare::Equal, 0)?, &together.get(HeadShare::Lambda2, 0)?);
    assert!(apart > 1e-5, "λ₂ changes nothing");
    Ok(())
}

fn pipeline() -> SdPipeline {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/sd-pipeline");
    SdPipeline::open(&dir, Kind::Float, Device::Cpu).expect("a committed fixture")
}

#[test]
fn aggregating_during_the_pass_equals_keeping_every_map() -> Result<(), Error> {
    let _guard = models::no_grad();
    let pipeline = pipeline();
    let unet = pipeline.unet()?;
    let text = pipeline.encode_texts(&[String::new()])?[0].unsqueeze(0).expand([2, -1, -1], false);
    let latents = models::noise::normal(&[2, 4, 16, 16], 3)?;
    let mut probe = Tee(both(), KeepAll::default());
    let _ = unet.forward(&latents, 300.0, &text, 0, &mut probe)?;
    let aggregates = probe.0.finish()?;
    assert_eq!(aggregates.grid(), (16, 16));

    // The heads of both resolutions in double precision, `[batch, heads, n, n]`.
    let kept = probe.1.finish()?;
    let of = |side: i64| -> Vec<Tensor> {
        let ours = kept.iter().filter(|layer| {
            let own = matches!(layer.site.stream, Stream::Unet(unet) if !unet.cross);
            own && layer.site.layout.image == (side, side)
        });
        ours.map(|layer| layer.probs.to_kind(Kind::Double)).collect()
    };
    let [fine, coarse] = [of(16), of(8)].map(|layers| Tensor::cat(&layers, 1));
    assert!(fine.size()[1] > 2 && coarse.size()[1] >= 2);
    for image in 0..2 {
        for share in [HeadShare::Equal, HeadShare::Lambda2] {
            let mean = |heads: &Tensor| {
                let heads = heads.get(image);
                let weights = match share {
                    HeadShare::Equal => Tensor::ones([heads.size()[0]], (Kind::Double, Device::Cpu)),
                    HeadShare::Lambda2 => {
                        let moduli = heads.linalg_eigvals().abs().sort(-1, true).0;
                        moduli.select(-1, 1)
                    }
                };
                let weights = &weights / weights.sum(Kind::Double);
                (heads * weights.reshape([-1, 1, 1])).sum_dim_intlist(0i64, false, Kind::Double)
            };
            let coarse =
                mean(&coarse).reshape([1, 64, 8, 8]).upsample_bilinear2d([16, 16], false, None, None);
            let coarse = coarse.reshape([8, 8, 256]);
            let coarse = &coarse / coarse.sum_dim_intlist(-1i64, true, Kind::Double);
            let coarse = coarse.repeat_interleave_self_int(2, 0, None).repeat_interleave_self_int(2, 1, None);
            let wanted = mean(&fine) * (16.0 / 24.0) + coarse.reshape([256, 256]) * (8.0 / 24.0);
            let found = aggregates.get(share, image as usize)?.to_kind(Kind::Double);
            let apart = difference(&found, &wanted) / wanted.max().double_value(&[]);
            assert!(apart < 1e-5, "{share:?} of image {image}: {apart:e}");
        }
    }
    Ok(())
}

fn scenes(count: usize) -> Vec<DenseImage> {
    let scenes = format!("mini = {{ count = {count}, size = 40 }}");
    toml::from_str::<DatasetConfig>(&scenes).expect("a dataset").labelled_pixels().expect("scenes").items
}

const METHODS: &str = r#"methods = ["uniform", { tokenrank = { number = 40 } }, { tokenrank-sampled = { number = 40 } },
    { column-sum = { number = 40, radius = 2 } }, { random = { number = 40 } },
    { tokenrank = { number = 40, weight = "lambda2" } }]"#;

fn task(settings: &str, count: usize) -> Result<DiffSeg, Error> {
    let config = toml::from_str(&format!("{METHODS}\n{settings}")).expect("a configuration");
    DiffSeg::new(config, pipeline(), scenes(count), 5, ScoreFiles::default())
}

fn records(settings: &str, count: usize) -> Result<Vec<DiffSegRecord>, Error> {
    let _guard = models::no_grad();
    let mut task = task(settings, count)?;
    let batch = task.batch_size();
    let mut records = Vec::new();
    for first in (0..count).step_by(batch) {
        let answers = task.run(first..(first + batch).min(count))?;
        records.extend(answers.into_iter().filter_map(Answer::record));
    }
    Ok(records)
}

#[test]
fn records_hold_every_pixel_and_pictures_of_the_first() -> Result<(), Error> {
    // So close that the maps of a random network are not all one segment.
    let records = records("threshold = 1e-6\nshown = 2\nbatch = 2", 3)?;
    let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["val-000000", "val-000001", "val-000002"]);
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record.methods.len(), 6);
        assert_eq!(record.sha256, scenes(3)[number].load()?.sha256);
        for (key, segments) in &record.methods {
            let pixels: u64 = segments.overlap.iter().map(|(.., pixels)| pixels).sum();
            assert_eq!(pixels, 32 * 32, "{key}");
            assert!(
                segments
                    .overlap
                    .iter()
                    .all(|&(class, segment, _)| { class <= 10 && (segment as usize) < segments.proposals })
            );
            assert!(segments.boundary.labelled > 0 && segments.boundary.found <= segments.boundary.labelled);
        }
        let several = record.methods.values().filter(|segments| segments.proposals > 1).count();
        assert!(several > 0, "{:?}", record.methods);
        let Some(pictures) = &record.pictures else {
            assert_eq!(number, 2);
            continue;
        };
        assert!(number < 2);
        assert_eq!((pictures.size, pictures.grid), ((32, 32), (16, 16)));
        for (key, picture) in &pictures.methods {
            let wanted = if key == "uniform" { 256 } else { 40 };
            assert_eq!(picture.anchors.len(), wanted, "{key}");
            assert!(picture.anchors.iter().all(|&(row, column)| row < 16 && column < 16));
            let labels: Vec<u16> = picture.labels.decode().collect();
            assert_eq!(labels.len(), 32 * 32);
            let mut won: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
            won.sort_unstable();
            won.dedup();
            let mut met: Vec<u32> =
                record.methods[key].overlap.iter().map(|&(_, segment, _)| segment).collect();
            met.sort_unstable();
            met.dedup();
            assert_eq!(won, met);
        }
    }
    let anchors = |number: usize, key: &str| -> Vec<(u16, u16)> {
        records[number].pictures.as_ref().expect("pictures").methods[key].anchors.clone()
    };
    assert_ne!(anchors(0, "random"), anchors(1, "random"), "images have draws of their own");
    assert_ne!(anchors(0, "random"), anchors(0, "tokenrank-sampled"));
    assert_eq!(anchors(0, "uniform"), anchors(1, "uniform"));
    Ok(())
}

#[test]
fn an_image_does_not_depend_on_the_rest_of_its_batch() -> Result<(), Error> {
    // Everything is one segment or each anchor is, whatever the last digits are.
    for threshold in ["inf", "0.0"] {
        let settings = |batch: usize| format!("threshold = {threshold}\nbatch = {batch}");
        let one = records(&settings(1), 5)?;
        for batch in [2, 5] {
            for (one, other) in one.iter().zip(records(&settings(batch), 5)?) {
                for (key, segments) in &one.methods {
                    let wanted = if threshold == "inf" {
                        1
                    } else if key == "uniform" {
                        256
                    } else {
                        40
                    };
                    assert_eq!((segments.proposals, other.methods[key].proposals), (wanted, wanted), "{key}");
                }
                // The drawn anchors depend only on the seed and the image.
                let random = |record: &DiffSegRecord| {
                    record.pictures.as_ref().map(|p| p.methods["random"].anchors.clone())
                };
                assert_eq!(random(one), random(&other));
            }
        }
    }
    Ok(())
}

#[test]
fn impossible_settings_are_refused() {
    for (settings, words) in [
        ("image_size = 30", "task.diffseg.image_size"),
        ("image_size = 13378", "more than 178956970 pixels"),
        ("image_size = -9223372036854775808", "more than 178956970 pixels"),
        ("batch = 0", "task.diffseg.batch"),
        ("rounds = 0", "task.diffseg.rounds"),
        ("threshold = -1.0", "task.diffseg.threshold"),
        ("threshold = nan", "task.diffseg.threshold"),
        ("alpha = 1.5", "(0, 1]"),
        ("tolerance = 2.0", "task.diffseg.tolerance"),
    ] {
        let message = task(settings, 1).err().unwrap_or_else(|| panic!("{settings}: accepted")).to_string();
        assert!(message.contains(words), "{settings}: {message}");
    }
    for (methods, words) in [
        ("[]", "no methods"),
        (r#"["random", { random = { number = 9 } }]"#, "two methods are called `random`"),
        ("[{ uniform = { side = 0 } }]", "asks for 0 anchors"),
        ("[{ tokenrank = { number = 70000 } }]", "70000"),
    ] {
        let config = toml::from_str(&format!("methods = {methods}")).expect("a configuration");
        let message = DiffSeg::new(config, pipeline(), scenes(1), 0, ScoreFiles::default()).err();
        let message = message.unwrap_or_else(|| panic!("{methods}: accepted")).to_string();
        assert!(message.contains(words), "{methods}: {message}");
    }
}
