//! Compares scores with torch, Pillow and scikit-learn (`tools/golden_segment.py`).

use ndarray::{Array2, array};
use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::resample::{labels_at, nearest, upsample};
use super::signal::blurred;
use super::*;
use crate::segment::record::ClassCounts;

/// Tolerance against torch, which sums in float32.
const OF_TORCH: f32 = 1e-6;
const OF_SKLEARN: f64 = 1e-12;

#[derive(Deserialize)]
struct Golden {
    positions: std::collections::BTreeMap<usize, Positions>,
    blur: Vec<Blur>,
    bilinear: Vec<Bilinear>,
    two: Vec<TwoClasses>,
    several: Vec<SeveralClasses>,
}

#[derive(Deserialize)]
struct Positions {
    torch: String,
    pillow: String,
}

#[derive(Deserialize)]
struct Blur {
    map: Vec<Vec<f32>>,
    blurred: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Bilinear {
    map: Vec<Vec<f32>>,
    upsampled: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct TwoClasses {
    map: Vec<Vec<f32>>,
    labels: Vec<Vec<u8>>,
    settings: ScoreSettings,
    score: MapScore,
}

#[derive(Deserialize)]
struct SeveralClasses {
    signals: Vec<(u8, Vec<Vec<f32>>)>,
    labels: Vec<Vec<u8>>,
    settings: ScoreSettings,
    score: MapScore,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/fixtures/segment/golden.json")).expect("the fixture")
}

fn grid<T: Copy>(rows: &[Vec<T>]) -> Array2<T> {
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(row, column)| rows[row][column])
}

fn largest_difference(ours: &Array2<f32>, golden: &[Vec<f32>]) -> f32 {
    let golden = grid(golden);
    assert_eq!(ours.dim(), golden.dim());
    ours.iter().zip(&golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn positions_are_those_of_torch_and_pillow() {
    for (to, wanted) in golden().positions {
        let [mut torch, mut pillow] = [Sha256::new(), Sha256::new()];
        for from in 1..=1024_u16 {
            let line = Array2::from_shape_fn((1, from.into()), |(_, column)| column as f32);
            let (across, down) = (nearest(line.view(), (1, to)), nearest(line.t(), (to, 1)));
            assert_eq!(across, down.t());
            across.iter().for_each(|&at| torch.update((at as u16).to_le_bytes()));
            for position in models::image::nearest_positions(from.into(), to) {
                // Pillow leaves 0 past the end.
                let seen = if position < from.into() { position as u16 } else { 0 };
                pillow.update(seen.to_le_bytes());
            }
        }
        let hex = |digest: Sha256| format!("{:x}", digest.finalize());
        assert_eq!(hex(torch), wanted.torch, "torch, to {to}");
        assert_eq!(hex(pillow), wanted.pillow, "Pillow, to {to}");
    }
}

#[test]
fn blur_and_bilinear_are_those_of_torch() {
    let golden = golden();
    let mut worst = [0.0_f32; 2];
    for case in &golden.blur {
        let ours = blurred(grid(&case.map).view()).unwrap();
        worst[0] = worst[0].max(largest_difference(&ours, &case.blurred));
    }
    for case in &golden.bilinear {
        let size = (case.upsampled.len(), case.upsampled[0].len());
        let ours = upsample(grid(&case.map).view(), size, Upsample::Bilinear);
        worst[1] = worst[1].max(largest_difference(&ours, &case.upsampled));
    }
    println!("difference from torch: blur {:.1e}, bilinear {:.1e}", worst[0], worst[1]);
    assert!(worst.iter().all(|&worst| worst <= OF_TORCH), "{worst:?}");
}

#[test]
fn two_classes_are_scored_as_by_scikit_learn() {
    let mut worst = 0.0_f64;
    for (number, case) in golden().two.iter().enumerate() {
        let ours = score(grid(&case.map).view(), grid(&case.labels).view(), &case.settings).unwrap();
        assert_eq!(ours.classes, case.score.classes, "case {number}");
        assert_eq!((ours.correct, ours.labelled), (case.score.correct, case.score.labelled), "case {number}");
        for (ours, golden) in
            [(ours.pooled_ap, case.score.pooled_ap), (ours.foreground_ap, case.score.foreground_ap)]
        {
            assert_eq!(ours.is_some(), golden.is_some(), "case {number}");
            let difference = ours.zip(golden).map_or(0.0, |(ours, golden)| (ours - golden).abs());
            assert!(difference <= OF_SKLEARN, "case {number}: {ours:?} compared with {golden:?}");
            worst = worst.max(difference);
        }
    }
    println!("average precision, difference from scikit-learn: {worst:.1e}");
}

#[test]
fn several_classes_are_counted_as_by_numpy() {
    for (number, case) in golden().several.iter().enumerate() {
        let maps: Vec<(u8, Array2<f32>)> = case.signals.iter().map(|(k, map)| (*k, grid(map))).collect();
        let signals: Vec<ClassSignal> =
            maps.iter().map(|(class, map)| ClassSignal { class: *class, map: map.view() }).collect();
        let ours = score_classes(&signals, grid(&case.labels).view(), &case.settings).unwrap();
        assert_eq!(ours, case.score, "case {number}");
    }
}

#[test]
fn a_constant_signal_finds_nothing_and_knows_nothing() {
    let labels = array![[0, 0, 0], [0, 1, 0]];
    for threshold_at in [ThresholdAt::Map, ThresholdAt::Pixels] {
        let settings = ScoreSettings { side: 6, threshold_at, ..ScoreSettings::default() };
        let score = score(array![[2.5, 2.5]].view(), labels.view(), &settings).unwrap();
        assert_eq!(score.classes[&1], ClassCounts { intersection: 0, predicted: 0, labelled: 6 });
        assert_eq!((score.pooled_ap, score.foreground_ap), (Some(0.5), Some(6.0 / 36.0)));
    }
}

#[test]
fn zeros_of_either_sign_are_equal() {
    let labels = array![[1, 0, 0, 1]];
    let settings = ScoreSettings { side: 4, ..ScoreSettings::default() };
    let with = |zero: f32| score(array![[1.0, zero, 0.0, -zero]].view(), labels.view(), &settings).unwrap();
    assert_eq!(with(0.0), with(-0.0));
    assert_eq!(with(-0.0).foreground_ap, Some(0.75));
}

#[test]
fn maps_for_pictures_run_from_0_to_1() {
    assert_eq!(min_max(array![[3.0, 1.0], [2.0, 1.5]].view()), Ok(array![[1.0, 0.0], [0.5, 0.25]]));
    assert_eq!(min_max(array![[3.0, 3.0]].view()), Ok(array![[0.0, 0.0]]));
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let (map, labels) = (array![[0.0_f32, 1.0]], array![[0_u8, 1]]);
    let settings = ScoreSettings { side: 4, ..ScoreSettings::default() };
    let refusal = |map: &Array2<f32>, labels: &Array2<u8>, settings| {
        score(map.view(), labels.view(), &settings).expect_err("it was scored").to_string()
    };
    let blur = ScoreSettings { blur: true, ..settings };
    assert_eq!(refusal(&Array2::zeros((0, 3)), &labels, settings), "a signal of 0×3 has nothing to score");
    assert_eq!(refusal(&map, &Array2::zeros((3, 0)), settings), "a label map of 3×0 has nothing to score");
    assert!(refusal(&map, &labels, blur).ends_with("needs at least 2×2 tokens, found 1×2"));
    assert!(
        refusal(&array![[0.0, f32::NAN]], &labels, settings).starts_with("the signal is NaN at token (0, 1)")
    );
    assert!(refusal(&map, &array![[0, 2]], settings).starts_with("label 2 in a map of two classes"));

    let of = |class, map: &Array2<f32>| {
        let background = array![[0.0, 1.0]];
        let signals =
            [(0, background.view()), (class, map.view())].map(|(class, map)| ClassSignal { class, map });
        score_classes(&signals, labels.view(), &settings).expect_err("it was scored").to_string()
    };
    assert!(of(255, &map).ends_with("class 255 is reserved for ignored pixels"));
    assert!(of(1, &map.t().to_owned()).ends_with("found 1×2 and 2×1 tokens"));
    assert!(score_classes(&[], labels.view(), &settings).is_err());
}

#[test]
fn settings_are_read_with_their_defaults_and_checked() {
    let read = |json| serde_json::from_value::<ScoreSettings>(json);
    assert_eq!(read(serde_json::json!({})).unwrap(), ScoreSettings::default());
    let text = serde_json::json!({
        "side": 64, "upsample": "bilinear", "threshold": "quantile:0.8", "threshold_at": "pixels", "blur": true,
    });
    let settings = read(text.clone()).unwrap();
    assert_eq!(serde_json::to_value(settings).unwrap(), text);
    assert!(settings.check().is_ok());
    assert!(read(serde_json::json!({ "sides": 64 })).is_err());
    assert!(
        read(serde_json::json!({ "threshold": "best" }))
            .unwrap_err()
            .to_string()
            .contains("unknown threshold")
    );
    for (settings, wrong) in [
        (ScoreSettings { side: 0, ..settings }, "task.segment.score.side"),
        (ScoreSettings { threshold: Threshold::Fixed(2.0), ..settings }, "task.segment.score.threshold"),
    ] {
        assert!(settings.check().unwrap_err().to_string().starts_with(wrong));
    }
}

/// The definition without sorting or merging: for every distinct score, all pixels with at least that score.
fn average_precision_by_definition(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let all = positive.iter().filter(|&&is| is).count() as f64;
    let mut distinct = scores.to_vec();
    distinct.sort_by(|a, b| b.total_cmp(a));
    distinct.dedup();
    let (mut before, mut sum) = (0.0, 0.0);
    for cut in distinct {
        let above: Vec<bool> =
            scores.iter().zip(positive).filter(|(s, _)| **s >= cut).map(|(_, &is)| is).collect();
        let found = above.iter().filter(|&&is| is).count() as f64;
        sum += (found - before) / all * (found / above.len() as f64);
        before = found;
    }
    (all > 0.0).then_some(sum)
}

proptest! {
    #[test]
    fn average_precision_is_its_definition(
        pixels in prop::collection::vec((0_u8..6, prop::sample::select(vec![0, 1, IGNORED])), 1..40),
    ) {
        let side = pixels.len();
        let map = Array2::from_shape_fn((1, side), |(_, x)| f32::from(pixels[x].0) / 7.0);
        let labels = Array2::from_shape_fn((1, side), |(_, x)| pixels[x].1);
        let ours = score(map.view(), labels.view(), &ScoreSettings { side, ..ScoreSettings::default() }).unwrap();
        // The row is resized to a square of equal rows, so each pixel is counted once for each row.
        let s = min_max(map.view()).unwrap();
        let constant = s.iter().all(|&s| s == 0.0);
        let seen: Vec<(f32, bool)> =
            s.iter().zip(&labels).filter(|(_, label)| **label != IGNORED).map(|(&s, &label)| (s, label == 1)).collect();
        let (scores, foreground): (Vec<f32>, Vec<bool>) = seen.iter().copied().unzip();
        let both: Vec<f32> =
            scores.iter().map(|s| if constant { *s } else { 1.0 - s }).chain(scores.iter().copied()).collect();
        let one_hot: Vec<bool> = foreground.iter().map(|is| !is).chain(foreground.iter().copied()).collect();
        for (ours, wanted) in [
            (ours.foreground_ap, average_precision_by_definition(&scores, &foreground)),
            (ours.pooled_ap, average_precision_by_definition(&both, &one_hot)),
        ] {
            prop_assert_eq!(ours.is_some(), wanted.is_some());
            prop_assert!(ours.zip(wanted).is_none_or(|(ours, wanted)| (ours - wanted).abs() <= OF_SKLEARN));
        }
        prop_assert_eq!(ours.labelled, (seen.len() * side) as u64);
        let of_classes = ours.classes.values().map(|counts| counts.intersection).sum::<u64>();
        prop_assert_eq!(ours.correct, of_classes);
    }

    #[test]
    fn labels_of_that_size_stay(rows in 1_usize..12, label in 0_u8..3) {
        let labels = Array2::from_shape_fn((rows, rows), |(y, x)| label.wrapping_mul((y * 3 + x) as u8));
        prop_assert_eq!(labels_at(labels.view(), rows).unwrap(), labels);
    }
}

proptest! {
    #[test]
    fn a_mask_scores_as_the_signal_of_its_pixels(
        mask in proptest::collection::vec(0u8..2, 36), labels in proptest::collection::vec(0u8..3, 36),
    ) {
        let settings = ScoreSettings { side: 6, threshold: Threshold::Fixed(0.5), ..ScoreSettings::default() };
        let labels = labels.into_iter().map(|label| if label == 2 { IGNORED } else { label }).collect();
        let labels = Array2::from_shape_vec((6, 6), labels).expect("36 labels");
        let mask = Array2::from_shape_vec((6, 6), mask).expect("36 pixels");
        let found = score_mask(mask.view(), labels.view(), &settings).expect("a score");
        let full = mask.iter().all(|&inside| inside == 1);
        // A signal that is 1 everywhere carries no information and finds nothing.
        let wanted = score(mask.mapv(f32::from).view(), labels.view(), &settings).expect("a score");
        prop_assert_eq!((found.pooled_ap, found.foreground_ap), (wanted.pooled_ap, wanted.foreground_ap));
        let of_class = |score: &MapScore, class: u8| score.classes.get(&class).copied().unwrap_or_default();
        if full {
            prop_assert_eq!(of_class(&found, 1).predicted, found.labelled);
        } else {
            prop_assert_eq!(&found, &wanted);
        }
        // A finer mask of the same shape, at the size of its image.
        let finer = Array2::from_shape_fn((18, 12), |(row, column)| mask[(row / 3, column / 2)]);
        prop_assert_eq!(score_mask(finer.view(), labels.view(), &settings).expect("a score"), found);
    }
}

#[test]
fn of_several_masks_the_first_has_the_pixel() {
    let settings = ScoreSettings { side: 3, ..ScoreSettings::default() };
    let labels = array![[4, 4, 0], [IGNORED, 9, 0], [0, 9, 9]];
    let (four, nine) = (array![[1, 1, 0], [0, 0, 0], [0, 0, 1]], array![[0, 1, 1], [1, 1, 0], [0, 0, 1]]);
    let masks = [(4, four.view()), (9, nine.view())];
    let score = score_masks(masks, labels.view(), &settings).expect("a score");
    // Predicted: 4 4 9 / 9 9 0 / 0 0 4.
    let counts = |intersection, predicted, labelled| ClassCounts { intersection, predicted, labelled };
    assert_eq!(score.classes, [(0, counts(2, 3, 3)), (4, counts(2, 3, 2)), (9, counts(1, 2, 3))].into());
    assert_eq!((score.correct, score.labelled), (5, 8));
    assert_eq!((score.pooled_ap, score.foreground_ap), (None, None));
}
