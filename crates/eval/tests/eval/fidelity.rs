//! Properties of distances between sets of features that hold for any features.

use eval::metrics::fidelity::{
    FeatureSet, FidelityError, Fractions, Gaussian, InceptionScore, Item, KernelDistance, Moments,
    PrecisionRecall, Reference, Settings, evaluate, frechet_distance, frechet_resampled,
    inception_score_resampled,
};
use eval::metrics::significance::Significance;
use ndarray::{Array1, Array2, Axis, concatenate, s};
use proptest::prelude::*;
use tasks::Rng;

/// Returns correlated features `[n, d]`.
fn features(n: usize, d: usize, seed: u64) -> Array2<f64> {
    let mut rng = Rng::keyed(&[seed]);
    let mut normal =
        |shape| Array2::from_shape_simple_fn(shape, || (0..6).map(|_| rng.range(-1.0, 1.0)).sum::<f64>());
    let (x, mix) = (normal((n, d)), normal((d, d)));
    x.dot(&mix) / d as f64 + seed as f64 % 3.0
}

fn gaussian(features: &Array2<f64>) -> Gaussian {
    Gaussian::of(features.view()).expect("a covariance")
}

fn frechet(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    frechet_distance(&gaussian(a), &gaussian(b)).expect("a distance")
}

fn fractions(a: &Array2<f64>, b: &Array2<f64>) -> Fractions {
    PrecisionRecall::default().between(a.view(), b.view()).expect("precision and recall")
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-7 * scale
}

/// Applies the orthogonal map `I − 2vvᵀ/‖v‖²` twice with different `v`.
fn turned(x: &Array2<f64>) -> Array2<f64> {
    let d = x.ncols();
    let reflected = |x: Array2<f64>, v: Array1<f64>| {
        let along = x.dot(&v) * (2.0 / v.dot(&v));
        &x - &along.insert_axis(Axis(1)).dot(&v.insert_axis(Axis(0)))
    };
    let once = reflected(x.clone(), Array1::from_shape_fn(d, |i| 1.0 + i as f64));
    reflected(once, Array1::from_shape_fn(d, |i| (i as f64 * 0.7).sin() + 0.1))
}

fn item(row: &[f64], logits: Option<&[f64]>) -> Item {
    let narrow = |row: &[f64]| row.iter().map(|&x| x as f32).collect();
    Item { features: narrow(row), logits: logits.map(narrow) }
}

fn set(features: &Array2<f64>, logits: &Array2<f64>, numbers: &[usize]) -> FeatureSet {
    let mut set = FeatureSet::new();
    for &i in numbers {
        let (features, logits) = (features.row(i).to_vec(), logits.row(i).to_vec());
        set.add(i as u64, item(&features, Some(&logits))).expect("fits");
    }
    set
}

#[test]
fn the_distance_of_normal_distributions_follows_the_closed_form() {
    // Diagonal covariances commute: ‖Δμ‖² + Σ (σ₁ − σ₂)².
    let diagonal = |mean: [f64; 3], deviations: [f64; 3]| {
        let variances = Array1::from_iter(deviations.map(|x: f64| x * x));
        Gaussian::new(Array1::from_iter(mean), Array2::from_diag(&variances), None).expect("statistics")
    };
    let a = diagonal([1.0, 2.0, 3.0], [1.0, 0.0, 3.0]);
    let b = diagonal([1.0, 4.0, 2.5], [4.0, 2.0, 1.0]);
    let distance = frechet_distance(&a, &b).expect("a distance");
    assert!(close(distance, 4.0 + 0.25 + 9.0 + 4.0 + 4.0, 1.0), "{distance}");
    // Without any spread, only the distance of the means remains.
    let (a, b) = (diagonal([0.0; 3], [0.0; 3]), diagonal([3.0, 4.0, 0.0], [0.0; 3]));
    assert_eq!(frechet_distance(&a, &b), Ok(25.0));
}

#[test]
fn precision_and_recall_of_known_sets() {
    let line = |values: &[f64]| Array2::from_shape_vec((values.len(), 1), values.to_vec()).expect("a line");
    let reference = line(&[0.0, 1.0, 2.0, 3.0, 10.0]);
    // Third neighbours of the reference are 3, 2, 2, 3 and 9 away, so its balls cover −3 to 19.
    let generated = line(&[-2.5, -3.5, 18.0, 20.0, 2.2]);
    assert_eq!(fractions(&generated, &reference).precision, 3.0 / 5.0);
    assert_eq!(fractions(&reference, &generated).recall, 3.0 / 5.0);
    // All points are equal: balls of radius 0 contain each other.
    let (same, apart) = (line(&[5.0; 6]), line(&[5.0 + 1e-6; 6]));
    assert_eq!(fractions(&same, &same), Fractions { precision: 1.0, recall: 1.0 });
    assert_eq!(fractions(&same, &apart), Fractions { precision: 0.0, recall: 0.0 });
}

#[test]
fn a_subset_larger_than_the_set_is_refused_with_what_to_set() {
    let (a, b) = (features(30, 4, 1), features(90, 4, 2));
    let refused = KernelDistance::default().between(a.view(), b.view()).expect_err("too large");
    assert_eq!(
        refused.to_string(),
        "the kernel distance draws subsets of 1000 without replacement, and there are 30 generated and 90 reference \
         images; set the subset size to at most 30, or add images"
    );
    for (kernel, words) in [
        (
            KernelDistance { subset_size: 1, ..KernelDistance::default() },
            "subset size of the kernel distance is 1; it must be at least 2",
        ),
        (
            KernelDistance { subset_size: 5, subsets: 0, ..KernelDistance::default() },
            "number of subsets of the kernel distance is 0",
        ),
    ] {
        let refused = kernel.between(a.view(), b.view()).expect_err("a bad setting").to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn inconsistent_features_are_refused() {
    let (a, b) = (features(30, 4, 1), features(30, 5, 2));
    let width = FidelityError::Width { wanted: 5, found: 4 };
    assert_eq!(
        KernelDistance { subset_size: 9, ..KernelDistance::default() }.between(a.view(), b.view()),
        Err(width.clone())
    );
    assert_eq!(PrecisionRecall::default().between(a.view(), b.view()), Err(width));
    assert!(frechet_distance(&gaussian(&a), &gaussian(&b)).is_err());
    let refused =
        PrecisionRecall::default().between(a.slice(s![..3, ..]), a.view()).expect_err("three items");
    assert_eq!(
        refused.to_string(),
        "precision and recall needs at least 4 generated images, and there are 3; add images, or ask for fewer \
         neighbours"
    );
    assert!(
        Gaussian::of(a.slice(s![..1, ..])).expect_err("one item").to_string().contains("at least 2 images")
    );
    assert!(Gaussian::new(Array1::zeros(3), Array2::zeros((3, 4)), None).is_err());
    assert!(Gaussian::new(Array1::zeros(0), Array2::zeros((0, 0)), None).is_err());
    let mut broken = a.clone();
    broken[(17, 2)] = f64::INFINITY;
    assert_eq!(Gaussian::of(broken.view()), Err(FidelityError::NotFinite { item: 17 }));

    let mut set = FeatureSet::new();
    set.add(3, item(&[1.0, 2.0], Some(&[0.0]))).expect("the first");
    set.add(3, item(&[1.0, 2.0], Some(&[0.0]))).expect("the same again");
    assert_eq!(set.len(), 1);
    for (number, wrong, words) in [
        (3, item(&[1.0, 2.5], Some(&[0.0])), "item 3 was given twice"),
        (4, item(&[1.0], Some(&[0.0])), "expected features of 2 numbers, found 1"),
        (4, item(&[1.0, 2.0], None), "item 4 has 0 logits where the others have 1"),
        (4, item(&[1.0, f64::NAN], Some(&[0.0])), "item 4 has a feature that is not finite"),
    ] {
        let refused = set.add(number, wrong).expect_err(words).to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(set.len(), 1);
}

#[test]
fn notes_name_reduced_and_missing_metrics() {
    let (generated, reference, logits) = (features(40, 6, 1), features(25, 6, 5), features(40, 3, 3));
    let all: Vec<usize> = (0..40).collect();
    let generated = set(&generated, &logits, &all).finish();
    let whole = Reference::Features(set(&reference, &logits, &all[..25]).finish());
    let settings = Settings { precision_recall_items: 30, resamples: 20, ..Settings::default() };
    let summary = evaluate(&generated, &whole, &settings).expect("a summary");
    assert_eq!(
        summary.notes,
        [
            "Kernel distance: subsets of 25 instead of 1000, since there are 40 generated and 25 reference images; \
             values are comparable between equal subset sizes only.",
            "Precision and recall: 30 of the 40 generated images, drawn with seed 2020."
        ]
    );
    assert_eq!((summary.generated, summary.reference), (40, Some(25)));
    assert_eq!(summary.kernel.expect("a distance").subset_size, 25);
    assert!(summary.precision_recall.is_some() && summary.inception_score.is_some());
    let resampled = summary.frechet_resampled.expect("resamples");
    assert_eq!((resampled.value, resampled.values.len()), (summary.frechet, 20));

    let Reference::Features(features) = &whole else { unreachable!("features") };
    let statistics = Reference::Statistics(Gaussian::of(features.features.view()).expect("a covariance"));
    let mut bare = generated.clone();
    bare.logits = None;
    let less = evaluate(&bare, &statistics, &Settings::default()).expect("a summary");
    assert_eq!(less.frechet, summary.frechet);
    assert_eq!((less.kernel, less.precision_recall, less.inception_score), (None, None, None));
    assert_eq!(less.notes.len(), 2, "{:?}", less.notes);
}

/// Compares the standard error over resamples with the spread over fresh samples, and checks the documented bias.
#[test]
fn resamples_spread_as_fresh_samples_do() {
    let reference = gaussian(&features(4000, 3, 9));
    let population = features(40 * 200, 3, 9);
    let fresh: Vec<f64> = (0..40)
        .map(|k| {
            frechet_distance(
                &reference,
                &gaussian(&population.slice(s![k * 200..(k + 1) * 200, ..]).to_owned()),
            )
            .expect("a distance")
        })
        .collect();
    let mean = fresh.iter().sum::<f64>() / 40.0;
    let spread = (fresh.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 39.0).sqrt();
    let errors: Vec<_> = (0..10)
        .map(|k| {
            frechet_resampled(population.slice(s![k * 200..(k + 1) * 200, ..]), &reference, 100, 4)
                .expect("resamples")
        })
        .collect();
    let error = errors.iter().map(|r| r.standard_error).sum::<f64>() / 10.0;
    assert!(error > spread / 3.0 && error < spread * 3.0, "{error}, expected about {spread}");
    assert!(errors.iter().map(|r| r.bias).sum::<f64>() > 0.0);
    assert!(errors.iter().all(|r| r.low.is_some() && r.low <= r.high && r.level == 0.95));
    let nothing = errors[0].minus(&errors[0]).expect("as many resamples");
    let interval = nothing.interval().expect("200 items");
    assert_eq!((nothing.value(), nothing.items()), (0.0, 200));
    assert_eq!((interval.low(), interval.high(), interval.p_value().value()), (0.0, 0.0, 1.0));

    let logits = features(200, 5, 1);
    let score = InceptionScore { splits: 2, ..InceptionScore::default() };
    let resampled = inception_score_resampled(&score, logits.view(), 200, 1).expect("resamples");
    assert_eq!(resampled.value, score.of(logits.view()).expect("a score").mean);
    let (low, high) = resampled.low.zip(resampled.high).expect("200 items");
    assert!(low < resampled.value && resampled.value < high + resampled.standard_error);
    // Five images give no interval, alone or compared with another five.
    let five = |k: usize| {
        frechet_resampled(population.slice(s![k..k + 5, ..]), &reference, 100, 4).expect("resamples")
    };
    assert_eq!((five(0).low, five(0).high), (None, None));
    assert_eq!(five(0).minus(&five(5)).expect("as many resamples").interval(), None);
    assert!(inception_score_resampled(&score, logits.view(), 1, 1).is_err());
    assert_eq!(resampled.minus(&errors[0]), None);
}

/// Thirty images of a population at a time, and the population as the reference.
fn few_of_many() -> (Vec<Array2<f64>>, Gaussian) {
    let population = features(4000, 12, 9);
    let few = |k: usize| population.slice(s![30 * k..30 * (k + 1), ..]).to_owned();
    ((0..12).map(few).collect(), gaussian(&population))
}

/// Resamples of a few images of many features are all farther from the reference than the images themselves: their percentile interval
/// leaves out the distance. The printed interval does not.
#[test]
fn an_interval_of_a_distance_has_the_distance_inside() {
    let (sets, reference) = few_of_many();
    let mut left_out = 0;
    for few in &sets {
        let found = frechet_resampled(few.view(), &reference, 100, 1).expect("resamples");
        let mut sorted = found.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        left_out += usize::from(found.value < sorted[2]);
        let (low, high) = found.low.zip(found.high).expect("30 images");
        assert!(0.0 <= low && low <= found.value && found.value <= high, "{low} {} {high}", found.value);
        // Moved as a whole, but not below 0; ends lie between neighbouring resamples.
        let between = |end: f64, below: usize| {
            (sorted[below] - found.bias..=sorted[below + 1] - found.bias).contains(&end)
        };
        assert!((low == 0.0 || between(low, 2)) && between(high, 96), "{low} {high} {sorted:?}");
    }
    assert!(left_out > 8, "the percentile interval leaves out {left_out} of 12 distances");
}

/// The covariance of repeated images raises the distance of varied images, but hardly that of images which are nearly equal: the
/// difference of two such methods is biased, and its interval is not shown where it would leave out the difference.
#[test]
fn a_difference_of_distances_is_inside_its_interval_or_has_none() {
    let (sets, reference) = few_of_many();
    let of =
        |features: &Array2<f64>| frechet_resampled(features.view(), &reference, 100, 1).expect("resamples");
    let mut without = 0;
    for varied in &sets {
        let found = of(&(varied * 1.2)).minus(&of(varied)).expect("as many resamples");
        let interval = found.interval().expect("an interval");
        assert!(interval.low() <= found.value() && found.value() <= interval.high(), "{found:?}");
        let equal = of(&(varied * 0.05)).minus(&of(varied)).expect("as many resamples");
        if equal.interval().is_none() {
            assert_eq!(equal.significance(Some(false)), Significance::Biased);
            without += 1;
        }
    }
    assert!(without > 6, "{without} of 12 have no interval");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frechet_is_a_squared_distance_invariant_under_rotation(
        (n, m, d) in (2_usize..40, 2_usize..40, 1_usize..12), seed in 0_u64..1000,
    ) {
        let (a, b) = (features(n, d, seed), features(m, d, seed + 1));
        let scale = 1.0 + a.iter().chain(&b).map(|x| x * x).sum::<f64>();
        let distance = frechet(&a, &b);
        prop_assert!(close(frechet(&a, &a), 0.0, scale), "{}", frechet(&a, &a));
        prop_assert!(distance > -1e-7 * scale);
        prop_assert!(close(distance, frechet(&b, &a), scale), "{} {}", distance, frechet(&b, &a));
        prop_assert!(close(distance, frechet(&turned(&a), &turned(&b)), scale));
        prop_assert!(close(distance, frechet(&(&a + 3.0), &(&b + 3.0)), scale));
        prop_assert!(close(4.0 * distance, frechet(&(&a * 2.0), &(&b * 2.0)), 4.0 * scale));
        // A shift of one set adds its square.
        let apart = frechet(&a, &(&a + 2.0));
        prop_assert!(close(apart, 4.0 * d as f64, scale), "{}", apart);
    }

    #[test]
    fn kernel_distance_precision_and_recall_are_invariant_under_rotation(
        (n, m, d) in (5_usize..40, 5_usize..40, 1_usize..12), seed in 0_u64..1000,
    ) {
        let (a, b) = (features(n, d, seed), features(m, d, seed + 1));
        let kernel = KernelDistance { subsets: 3, subset_size: 5, ..KernelDistance::default() };
        let distance = |a: &Array2<f64>, b: &Array2<f64>| kernel.between(a.view(), b.view()).expect("a distance");
        let (straight, turned_) = (distance(&a, &b), distance(&turned(&a), &turned(&b)));
        let scale = 1.0 + a.iter().chain(&b).map(|x| x * x).sum::<f64>().powi(3);
        prop_assert!(close(straight.mean, turned_.mean, scale) && close(straight.std, turned_.std, scale));
        let (there, back) = (fractions(&a, &b), fractions(&b, &a));
        prop_assert_eq!((there.precision, there.recall), (back.recall, back.precision));
        prop_assert_eq!(there, fractions(&turned(&a), &turned(&b)));
        prop_assert_eq!(fractions(&a, &a), Fractions { precision: 1.0, recall: 1.0 });
        // Adding images to one set can only increase the fraction of the other set inside it.
        let both = concatenate(Axis(0), &[a.view(), b.view()]).expect("one width");
        prop_assert_eq!(fractions(&a, &both).precision, 1.0);
    }

    #[test]
    fn order_division_and_repetition_of_items_do_not_matter(
        order in Just((0..24_usize).collect::<Vec<_>>()).prop_shuffle(), cut in 0_usize..24, seed in 0_u64..100,
    ) {
        let (x, logits) = (features(24, 3, seed), features(24, 4, seed + 1));
        let whole = set(&x, &logits, &(0..24).collect::<Vec<_>>());
        let mut merged = set(&x, &logits, &order[cut..]);
        merged.merge(set(&x, &logits, &order[..cut.max(3)])).expect("one run");
        prop_assert_eq!(&merged, &whole);
        prop_assert_eq!(merged.finish(), whole.finish());
        prop_assert_eq!(whole.finish().numbers, (0..24).collect::<Vec<u64>>());
        let text = serde_json::to_string(&merged).expect("text");
        prop_assert_eq!(serde_json::from_str::<FeatureSet>(&text).expect("the same"), whole);
    }

    #[test]
    fn streamed_moments_equal_moments_at_once(
        (n, d) in (2_usize..60, 1_usize..8), cuts in prop::collection::vec(0_usize..60, 0..5), far in 0.0..1e4_f64,
        seed in 0_u64..100,
    ) {
        let x = features(n, d, seed) + far;
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(n)).chain([0, n]).collect();
        cuts.sort_unstable();
        let parts: Vec<Moments> = cuts
            .windows(2)
            .map(|pair| {
                let mut part = Moments::new();
                part.add(x.slice(s![pair[0]..pair[1], ..])).expect("one width");
                part
            })
            .collect();
        let mut backwards = Moments::new();
        parts.iter().rev().try_for_each(|part| backwards.merge(part)).expect("one width");
        prop_assert_eq!(backwards.items(), n as u64);
        let (streamed, whole) = (backwards.finish().expect("a covariance"), gaussian(&x));
        let off = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().fold(0.0_f64, |m, d| m.max(d.abs()));
        prop_assert!(off(&streamed.covariance, &whole.covariance) <= 1e-9 * (1.0 + whole.covariance.iter().fold(0.0_f64, |m, v| m.max(v.abs()))));
        prop_assert!((&streamed.mean - &whole.mean).iter().all(|d| d.abs() <= 1e-10 * (1.0 + far)));
        // Also equal to the textbook formula.
        let centred = &x - &x.mean_axis(Axis(0)).expect("items");
        prop_assert!(off(&whole.covariance, &(centred.t().dot(&centred) / (n as f64 - 1.0))) <= 1e-9 * (1.0 + far));
    }
}
