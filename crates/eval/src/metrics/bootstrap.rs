//! Uncertainty of the difference of two methods: the paired bootstrap over images (Efron 1979).
//!
//! Images are drawn with replacement, as many as there are, and both methods are evaluated on the same draw. An image comes with
//! all its items, since objects of one image are not independent ([`Clusters`]); mostly an image is one item. The metric over the
//! draw is compared, not a mean of values per item. [`super::significance`] decides what the differences over the
//! draws show, and how many items that takes. The two sides may also be one method in two runs ([`paired_sums`]).

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, concatenate};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tasks::Rng;

use super::clusters::Clusters;
use super::exact::exact_sums;
use super::significance::{PairedDifference, spread};

/// Number of resamples, enough for a 95 % percentile interval.
pub const RESAMPLES: usize = 10_000;

/// Largest relative difference of two values that differ only in the order of summation.
const ROUNDING: f64 = 1e-12;

/// A metric that depends on the items only through sums over them: a ratio of sums, a mean of ratios.
pub trait Additive: Sync {
    /// The record of one item.
    type Record;

    /// Returns what each item adds to the sums for one method, `[items, sums]`.
    ///
    /// # Errors
    /// Fails with [`BootstrapError::Missing`] for the first item that has no answer of the method.
    fn contributions(&self, records: &[Self::Record], method: &str) -> Result<Array2<f64>, BootstrapError>;

    /// Returns the formula that gives the metric from the sums.
    fn formula(&self) -> Formula;

    /// Returns which items share an image. By default every item has an image of its own.
    fn clusters(&self, records: &[Self::Record]) -> Clusters {
        Clusters::singles(records.len())
    }

    /// Returns the metric over all records; `None` if it is not defined or an item has no answer of the method. Sums are exact, so
    /// the order of the records does not matter.
    fn value_over(&self, records: &[Self::Record], method: &str) -> Option<f64> {
        self.formula().value(&exact_sums(self.contributions(records, method).ok()?.view()))
    }
}

/// The formula of a metric from sums over items; the sums are pairs of part and whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Formula {
    /// The mean of part ÷ whole over the pairs whose whole is above 0.
    Ratios,
    /// `x / (2 − x)` of that mean.
    Identity,
}

impl Formula {
    /// Returns the metric; `None` if no pair has a whole above 0.
    pub fn value(self, sums: &[f64]) -> Option<f64> {
        let ratios = || sums.chunks_exact(2).filter(|pair| pair[1] > 0.0).map(|pair| pair[0] / pair[1]);
        let count = ratios().count();
        let mean = ratios().sum::<f64>() / count as f64;
        (count > 0).then(|| match self {
            Self::Ratios => mean,
            Self::Identity => mean / (2.0 - mean),
        })
    }
}

/// Why two methods cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// An item has no answer of one of the methods.
    #[error(
        "item {item} has no answer of the method `{method}`, so it cannot be paired; compare methods of one run"
    )]
    Missing {
        /// The method.
        method: String,
        /// The item.
        item: String,
    },
    /// There is nothing to resample, or the metric is not defined.
    #[error(
        "`{a}` and `{b}` cannot be compared over {items} items: the metric is not defined for one of them"
    )]
    Undefined {
        /// One method.
        a: String,
        /// The other.
        b: String,
        /// Number of items.
        items: usize,
    },
}

/// A metric of one method and its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The metric over all items.
    pub value: f64,
    /// Lower and upper end of the 95 % percentile interval; `None` if too few images contribute
    /// ([`LEAST_ITEMS`](super::significance::LEAST_ITEMS)), or if the interval would leave out the value.
    pub interval: Option<(f64, f64)>,
}

/// Returns the bootstrap of `metric` for each of `methods` by itself, with the draws of [`paired`]. `None` for a method that an
/// item lacks, or if the metric is not defined over all items.
pub fn each<M: Additive + ?Sized>(
    records: &[M::Record],
    methods: &[&str],
    metric: &M,
    resamples: usize,
    seed: u64,
) -> Vec<Option<Spread>> {
    let clusters = metric.clusters(records);
    if clusters.count() == 0 {
        return vec![None; methods.len()];
    }
    let part = |method: &&str| clusters.sums(metric.contributions(records, method).ok()?.view());
    let parts: Vec<Option<Array2<f64>>> = methods.iter().map(part).collect();
    let stack = Stack::of(parts.iter().map(Option::as_ref));
    let values = |sums: &[f64]| -> Vec<Option<f64>> {
        let value = |columns: &Option<Range<usize>>| metric.formula().value(&sums[columns.clone()?]);
        stack.columns.iter().map(value).collect()
    };
    let resampled = over_draws(&stack.rows, resamples, seed, values);
    let of_method = |(method, value): (usize, Option<f64>)| {
        let mut values: Vec<f64> = resampled.iter().filter_map(|values| values[method]).collect();
        values.sort_unstable_by(f64::total_cmp);
        let contributing = parts[method].as_ref().map_or(0, |part| contributing(part.view()));
        let value = value?;
        Some(Spread { value, interval: spread(value, contributing, &values) })
    };
    values(&totals(&stack.rows)).into_iter().enumerate().map(of_method).collect()
}

/// Returns the paired bootstrap of `metric` between the methods `a` and `b`, over images. Resample `r` draws its images, each a
/// `below(images)`, from the stream `Rng::keyed(&[seed, r])`: the result depends only on the seed and the order of the
/// records, not on the number of threads, and different pairs of methods see the same draws.
///
/// # Errors
/// Fails if an item lacks a method, or if the metric is not defined over all items (there may be none) or on any resample.
pub fn paired<M: Additive + ?Sized>(
    records: &[M::Record],
    a: &str,
    b: &str,
    metric: &M,
    resamples: usize,
    seed: u64,
) -> Result<PairedDifference, BootstrapError> {
    let undefined = || BootstrapError::Undefined { a: a.to_owned(), b: b.to_owned(), items: records.len() };
    paired_each(records, &[(a, b)], metric, resamples, seed).pop().unwrap_or_else(|| Err(undefined()))
}

/// Returns [`paired`] for each of `pairs`. Every resample is drawn once for all of them.
pub fn paired_each<M: Additive + ?Sized>(
    records: &[M::Record],
    pairs: &[(&str, &str)],
    metric: &M,
    resamples: usize,
    seed: u64,
) -> Vec<Result<PairedDifference, BootstrapError>> {
    let clusters = metric.clusters(records);
    let methods: BTreeSet<&str> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
    let methods: Vec<&str> = methods.into_iter().collect();
    let contributions: Vec<_> = methods.iter().map(|method| metric.contributions(records, method)).collect();
    let sums = |of: &Result<Array2<f64>, BootstrapError>| clusters.sums(of.as_ref().ok()?.view());
    let parts: Vec<Option<Array2<f64>>> = contributions.iter().map(sums).collect();
    let stack = Stack::of(parts.iter().map(Option::as_ref));
    let place = |method: &str| methods.binary_search(&method).ok();
    let places: Vec<_> = pairs.iter().map(|(a, b)| place(a).zip(place(b))).collect();
    let difference = |sums: &[f64], places: Option<(usize, usize)>| {
        let value = |place: usize| metric.formula().value(&sums[stack.columns[place].clone()?]);
        let (a, b) = places?;
        Some(minus(value(a)?, value(b)?))
    };
    let seen = totals(&stack.rows);
    let seen: Vec<Option<f64>> = places.iter().map(|&places| difference(&seen, places)).collect();
    let all = |sums: &[f64]| places.iter().map(|&places| difference(sums, places)).collect::<Vec<_>>();
    let resampled = OnceCell::new();
    let one = |(pair, &(a, b)): (usize, &(&str, &str))| {
        let undefined =
            || BootstrapError::Undefined { a: a.to_owned(), b: b.to_owned(), items: records.len() };
        let (of_a, of_b) = places[pair].ok_or_else(undefined)?;
        for place in [of_a, of_b] {
            contributions[place].as_ref().map_err(Clone::clone)?;
        }
        let difference = || {
            let (a, b) = (parts[of_a].as_ref()?, parts[of_b].as_ref()?);
            let either = a.rows().into_iter().zip(b.rows());
            let contributing = either.filter(|(a, b)| adds(*a) || adds(*b)).count();
            let differences = || {
                let resampled = resampled.get_or_init(|| over_draws(&stack.rows, resamples, seed, all));
                resampled.iter().filter_map(|values| values[pair]).collect()
            };
            PairedDifference::of(seen[pair]?, contributing, differences)
        };
        difference().ok_or_else(undefined)
    };
    pairs.iter().enumerate().map(one).collect()
}

/// Returns the paired bootstrap between two sides, given what each item adds to their sums, `[items, sums of the side]`: two
/// methods of one run, or one method in two runs over the same items in the same order. `clusters` says which of these items share
/// an image. `None` if the numbers of items differ, or if the metric is not defined over all items or on any resample.
pub fn paired_sums<'a>(
    (a, b): (ArrayView2<'a, f64>, ArrayView2<'a, f64>),
    clusters: &Clusters,
    formula: Formula,
    resamples: usize,
    seed: u64,
) -> Option<PairedDifference> {
    let middle = a.ncols();
    let both = clusters.sums(concatenate(Axis(1), &[a, b]).ok()?.view())?;
    let difference =
        |sums: &[f64]| Some(minus(formula.value(&sums[..middle])?, formula.value(&sums[middle..])?));
    let seen = difference(&totals(&both))?;
    let differences = || over_draws(&both, resamples, seed, difference).into_iter().flatten().collect();
    PairedDifference::of(seen, contributing(both.view()), differences)
}

/// Returns the difference of two values of a metric.
fn minus(a: f64, b: f64) -> f64 {
    // Sums of the same numbers in another order count as equal, whatever the sign of the rounding error.
    let rounding = ROUNDING * a.abs().max(b.abs()).max(1.0);
    if (a - b).abs() <= rounding { 0.0 } else { a - b }
}

/// Returns the metric of one method over each resample, given what each image adds to its sums, with the draws of
/// [`paired_sums`]: resample `r` of several methods over the same images has the same images. NaN if the metric is not defined on a
/// resample; empty without images.
pub(crate) fn over_resamples(
    sums: ArrayView2<'_, f64>,
    formula: Formula,
    resamples: usize,
    seed: u64,
) -> Vec<f64> {
    if sums.nrows() == 0 {
        return Vec::new();
    }
    over_draws(&sums.to_owned(), resamples, seed, |sums| formula.value(sums).unwrap_or(f64::NAN))
}

/// What each image adds to the sums of several methods, side by side.
struct Stack {
    /// `[images, sums of all methods]`.
    rows: Array2<f64>,
    /// The columns of each method; `None` for a method without sums.
    columns: Vec<Option<Range<usize>>>,
}

impl Stack {
    /// Stacks the sums of methods over the same images.
    fn of<'a>(parts: impl Iterator<Item = Option<&'a Array2<f64>>> + Clone) -> Self {
        let views: Vec<_> = parts.clone().flatten().map(Array2::view).collect();
        let rows = concatenate(Axis(1), &views).unwrap_or_default();
        let mut end = 0;
        let columns = parts.map(|part| {
            let from = end;
            end += part?.ncols();
            Some(from..end)
        });
        let columns = columns.collect();
        Self { rows, columns }
    }
}

/// Number of resamples that are summed together, so that each row is read once for all of them.
const TOGETHER: usize = 8;
/// Number of columns that are summed together, so that their sums stay in the first cache.
const COLUMNS: usize = 128;

/// Returns `value` of the sums of each resample of the images whose contributions are the rows.
///
/// Each sum is taken in the order of the rows, whatever the number of threads.
fn over_draws<T: Send>(
    rows: &Array2<f64>,
    resamples: usize,
    seed: u64,
    value: impl Fn(&[f64]) -> T + Sync,
) -> Vec<T> {
    let (images, width) = rows.dim();
    let rows = rows.as_standard_layout();
    let rows = rows.as_slice().unwrap_or_default();
    let together = |(counts, sums): &mut (Vec<u32>, Vec<[f64; TOGETHER]>), group: usize| {
        let range = group * TOGETHER..resamples.min((group + 1) * TOGETHER);
        counts.fill(0);
        for (counts, resample) in counts.chunks_exact_mut(images.max(1)).zip(range.clone()) {
            let mut rng = Rng::keyed(&[seed, resample as u64]);
            (0..images).for_each(|_| counts[rng.below(images)] += 1);
        }
        sums.fill([0.0; TOGETHER]);
        for (first, sums) in (0..width).step_by(COLUMNS).zip(sums.chunks_mut(COLUMNS)) {
            for (image, row) in rows.chunks_exact(width).enumerate() {
                let count: [f64; TOGETHER] =
                    std::array::from_fn(|resample| f64::from(counts[resample * images + image]));
                for (sums, value) in sums.iter_mut().zip(&row[first..]) {
                    sums.iter_mut().zip(count).for_each(|(sum, count)| *sum += count * value);
                }
            }
        }
        let one = |resample: usize| value(&sums.iter().map(|sums| sums[resample]).collect::<Vec<f64>>());
        (0..range.len()).map(one).collect::<Vec<T>>()
    };
    let buffers = || (vec![0; TOGETHER * images], vec![[0.0; TOGETHER]; width]);
    (0..resamples.div_ceil(TOGETHER)).into_par_iter().map_init(buffers, together).flatten_iter().collect()
}

/// Returns the sums of all rows, each taken in their order.
fn totals(rows: &Array2<f64>) -> Vec<f64> {
    let mut sums = vec![0.0; rows.ncols()];
    for row in rows.rows() {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// Returns the number of rows, one for each image, that add anything to the sums: an image that was wrong before masking adds nothing
/// to a metric of the images that were right.
pub(crate) fn contributing(rows: ArrayView2<'_, f64>) -> usize {
    rows.rows().into_iter().filter(|row| adds(*row)).count()
}

/// Whether a row adds anything to the sums.
fn adds(row: ArrayView1<'_, f64>) -> bool {
    row.iter().any(|&value| value != 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tasks::Rng;

    use super::super::significance::{LEAST_ITEMS, Significance};
    use super::*;

    /// The mean over items of one number each; a record holds the numbers of the methods `0`, `1`, ….
    struct Mean;

    impl Additive for Mean {
        type Record = Vec<f64>;

        fn contributions(&self, records: &[Vec<f64>], method: &str) -> Result<Array2<f64>, BootstrapError> {
            let index: usize = method.parse().unwrap();
            let missing =
                |item: usize| BootstrapError::Missing { method: method.into(), item: item.to_string() };
            let mut contributions = Array2::ones((records.len(), 2));
            for (item, record) in records.iter().enumerate() {
                contributions[(item, 0)] = *record.get(index).ok_or_else(|| missing(item))?;
            }
            Ok(contributions)
        }

        fn formula(&self) -> Formula {
            Formula::Ratios
        }
    }

    /// Returns pairs of numbers with a large common part; `shift` is added to the first.
    fn pairs(items: usize, shift: f64, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = Rng::keyed(&[seed, 99]);
        let mut near = |shift: f64| {
            let shared = rng.range(0.0, 100.0);
            vec![shared + rng.range(-1.0, 1.0) + shift, shared + rng.range(-1.0, 1.0)]
        };
        (0..items).map(|_| near(shift)).collect()
    }

    /// Returns the paired bootstrap of ratios if every item has an image of its own.
    fn of_singles(a: &Array2<f64>, b: &Array2<f64>, resamples: usize, seed: u64) -> Option<PairedDifference> {
        let clusters = Clusters::singles(a.nrows());
        paired_sums((a.view(), b.view()), &clusters, Formula::Ratios, resamples, seed)
    }

    /// Returns lower end, upper end and p.
    fn interval_and_p(found: &PairedDifference) -> (f64, f64, f64) {
        let interval = found.interval().expect("an interval");
        (interval.low(), interval.high(), interval.p_value().value())
    }

    #[test]
    fn rounding_is_not_a_difference() {
        // Thirds summed in two orders: every resample of a difference of 0 differs by a few parts in 1e17.
        let thirds = |turn: usize| {
            Array2::from_shape_fn((12, 2), |(item, sum)| match sum {
                0 => f64::from(u8::try_from((item + turn) % 3).unwrap()) / 3.0,
                _ => 1.0,
            })
        };
        // Two pairs of sums in exchanged order: the same metric, summed in another order.
        let (a, b) = (thirds(0), thirds(1));
        let one = concatenate(Axis(1), &[a.view(), b.view()]).unwrap();
        let other = concatenate(Axis(1), &[b.view(), a.view()]).unwrap();
        let found = of_singles(&one, &other, 500, 3).unwrap();
        assert_eq!(interval_and_p(&found), (0.0, 0.0, 1.0));
    }

    #[test]
    fn a_difference_far_below_the_spread_of_the_items_is_found() {
        let ours = paired(&pairs(400, 0.3, 1), "0", "1", &Mean, 2000, 5).unwrap();
        // The standard error of a difference of two uniforms of width 2 over 400 items is sqrt(2/3)/20 = 0.041.
        assert!((ours.value() - 0.3).abs() < 0.15, "{ours:?}");
        let (low, high, p) = interval_and_p(&ours);
        assert!(low > 0.0 && low < 0.3 && high > 0.3, "{ours:?}");
        assert!((high - low - 2.0 * 1.96 * 0.041).abs() < 0.03, "{ours:?}");
        assert_eq!((p, ours.items()), (2.0 / 2001.0, 400));
        let turned = interval_and_p(&paired(&pairs(400, 0.3, 1), "1", "0", &Mean, 2000, 5).unwrap());
        assert!((turned.0 + high).abs() < 1e-12 && turned.2 == p, "{turned:?}");
    }

    #[test]
    fn intervals_cover_the_true_value_as_often_as_stated() {
        // 300 samples without a difference: 95 % intervals leave 0 out in 15 of them, with a standard deviation of 3.8.
        let left_out = (0..300_u64)
            .filter(|&seed| {
                let found = paired(&pairs(60, 0.0, seed), "0", "1", &Mean, 200, seed).unwrap();
                let (low, high, _) = interval_and_p(&found);
                low > 0.0 || high < 0.0
            })
            .count();
        assert!((4..=34).contains(&left_out), "{left_out} of 300");
    }

    #[test]
    fn the_spread_of_one_method_is_that_of_its_mean() {
        let records = pairs(400, 0.0, 2);
        let found = each(&records, &["0", "1", "7"], &Mean, 2000, 5);
        assert_eq!(found[2], None, "a missing method");
        let spread = found[0].expect("a mean");
        let mean = records.iter().map(|record| record[0]).sum::<f64>() / 400.0;
        assert!((spread.value - mean).abs() < 1e-9);
        // The standard error of the mean of uniforms of width 100 over 400 items is 1.44.
        let (low, high) = spread.interval.expect("400 items");
        assert!((high - low - 2.0 * 1.96 * 1.44).abs() < 0.7, "{spread:?}");
        assert!(low < mean && mean < high);
        // The same draws as for pairs: a method compared with constant 0 varies as by itself.
        let against_zero: Vec<Vec<f64>> = records.iter().map(|record| vec![record[0], 0.0]).collect();
        let pair = interval_and_p(&paired(&against_zero, "0", "1", &Mean, 2000, 5).unwrap());
        assert!((pair.0 - low).abs() < 1e-9 && (pair.1 - high).abs() < 1e-9);
        assert_eq!(each(&[], &["0"], &Mean, 10, 0), [None]);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let records = pairs(50, 0.1, 3);
        let run = || paired(&records, "0", "1", &Mean, 500, 7).unwrap();
        let with =
            |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
        assert_eq!(with(1), with(5));
        assert_ne!(with(1), paired(&records, "0", "1", &Mean, 500, 8).unwrap());
    }

    /// Two runs of one method give the same result as two methods of one run.
    #[test]
    fn sides_may_have_different_numbers_of_sums() {
        let records = pairs(40, 0.2, 9);
        let (a, b) = (Mean.contributions(&records, "0").unwrap(), Mean.contributions(&records, "1").unwrap());
        // A class without pixels that only one side has.
        let wide = concatenate(Axis(1), &[b.view(), Array2::zeros((40, 2)).view()]).unwrap();
        let wanted = paired(&records, "0", "1", &Mean, 300, 4).unwrap();
        assert_eq!(of_singles(&a, &wide, 300, 4), Some(wanted));
        assert_eq!(of_singles(&a, &b.slice(ndarray::s![1.., ..]).to_owned(), 300, 4), None);
    }

    /// More resamples than are summed together, and more columns.
    #[test]
    fn resamples_are_sums_over_drawn_rows_in_their_order() {
        let mut rng = Rng::keyed(&[4]);
        let rows = Array2::from_shape_simple_fn((23, COLUMNS + 5), || rng.range(-1.0, 1.0));
        let found = over_draws(&rows, 2 * TOGETHER + 3, 6, <[f64]>::to_vec);
        assert_eq!(found.len(), 2 * TOGETHER + 3);
        for (resample, found) in (0..).zip(found) {
            let mut rng = Rng::keyed(&[6, resample]);
            let mut counts = [0.0; 23];
            (0..23).for_each(|_| counts[rng.below(23)] += 1.0);
            let mut wanted = vec![0.0; rows.ncols()];
            for (row, count) in rows.rows().into_iter().zip(counts) {
                wanted.iter_mut().zip(row).for_each(|(sum, value)| *sum += count * value);
            }
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn pairs_together_and_alone_are_equal() {
        let records: Vec<Vec<f64>> = pairs(40, 0.2, 8)
            .into_iter()
            .zip(0..)
            .map(|(mut record, item)| {
                record.push(record[0] * f64::from(item % 3));
                record
            })
            .collect();
        let asked = [("0", "1"), ("2", "0"), ("1", "3"), ("1", "1")];
        let found = paired_each(&records, &asked, &Mean, 300, 4);
        for ((a, b), found) in asked.into_iter().zip(found) {
            assert_eq!(found, paired(&records, a, b, &Mean, 300, 4), "{a} {b}");
            assert_eq!(found.is_err(), b == "3");
        }
    }

    #[test]
    fn formulas_by_hand() {
        assert_eq!(Formula::Ratios.value(&[1.0, 2.0, 3.0, 4.0, 5.0, 0.0]), Some(0.625));
        assert_eq!(Formula::Identity.value(&[1.0, 2.0]), Some(0.5 / 1.5));
        assert_eq!(Formula::Ratios.value(&[1.0, 0.0]), None);
    }

    #[test]
    fn unpaired_methods_are_refused() {
        let refusal = |records: &[Vec<f64>], resamples| {
            paired(records, "0", "1", &Mean, resamples, 0).unwrap_err().to_string()
        };
        assert!(
            refusal(&[vec![1.0, 2.0], vec![1.0]], 10).starts_with("item 1 has no answer of the method `1`")
        );
        assert!(refusal(&[], 10).contains("over 0 items"));
        assert!(refusal(&vec![vec![1.0, 2.0]; 6], 0).contains("over 6 items"));
    }

    /// Every image has three equal objects: the objects tell no more than the images do.
    #[test]
    fn copies_of_an_item_in_its_image_change_nothing() {
        let records = pairs(50, 0.4, 11);
        let sums = |method, times| {
            let one = Mean.contributions(&records, method).unwrap();
            concatenate(Axis(0), &vec![one.view(); times]).unwrap()
        };
        let images = |times| Clusters::of((0..times).flat_map(|_| 0..50));
        let found = |times, clusters: &Clusters| {
            let (a, b) = (sums("0", times), sums("1", times));
            paired_sums((a.view(), b.view()), clusters, Formula::Ratios, 2000, 6).unwrap()
        };
        let (alone, copied) = (found(1, &images(1)), found(3, &images(3)));
        assert_eq!((alone.items(), copied.items()), (50, 50));
        let ((low, high, p), copied) = (interval_and_p(&alone), interval_and_p(&copied));
        assert!((low - copied.0).abs() < 1e-12 && (high - copied.1).abs() < 1e-12 && p == copied.2);
        // As if the objects were independent, the interval is shorter by the root of three.
        let (from, to, _) = interval_and_p(&found(3, &Clusters::singles(150)));
        let shorter = (high - low) / (to - from);
        assert!((shorter - 3_f64.sqrt()).abs() < 0.15, "{shorter}");
    }

    #[test]
    fn images_are_counted_instead_of_objects() {
        let sums = |value: f64| Array2::from_shape_fn((40, 2), |(_, sum)| [value, 1.0][sum]);
        let (a, b) = (sums(1.0), sums(0.0));
        let found = |images: usize| {
            let clusters = Clusters::of((0..40).map(|item| item % images));
            paired_sums((a.view(), b.view()), &clusters, Formula::Ratios, 500, 1).unwrap()
        };
        assert_eq!((found(5).items(), found(5).significance(None)), (5, Significance::TooFewItems));
        assert_eq!((found(6).items(), found(6).significance(None)), (6, Significance::Yes { better: None }));
    }

    #[test]
    fn items_without_a_contribution_are_not_counted() {
        let sums = |contributing: usize| {
            Array2::from_shape_fn((40, 2), |(item, _)| if item < contributing { 1.0 } else { 0.0 })
        };
        let found = |contributing: usize| {
            let (a, mut b) = (sums(contributing), sums(contributing));
            b.column_mut(0).fill(0.0);
            of_singles(&a, &b, 500, 1).unwrap()
        };
        let (few, enough) = (found(5), found(6));
        assert_eq!((few.items(), few.interval(), few.value()), (5, None, 1.0));
        assert_eq!((enough.items(), enough.significance(None)), (6, Significance::Yes { better: None }));
    }

    proptest! {
        #[test]
        fn a_method_does_not_differ_from_itself(values in prop::collection::vec(-1e3..1e3, 1..30), seed: u64) {
            let records: Vec<Vec<f64>> = values.iter().map(|&value| vec![value]).collect();
            let found = paired(&records, "0", "0", &Mean, 50, seed).unwrap();
            prop_assert_eq!((found.value(), found.items()), (0.0, records.len()));
            match found.interval() {
                None => prop_assert!(records.len() < LEAST_ITEMS),
                Some(_) => prop_assert_eq!(interval_and_p(&found), (0.0, 0.0, 1.0)),
            }
        }

        #[test]
        fn intervals_enclose_the_middle_and_shift_with_the_difference(seed: u64, shift in -3.0..3.0) {
            let (still, moved) = (pairs(20, 0.0, 0), pairs(20, shift, 0));
            let [still, moved] = [still, moved].map(|records| paired(&records, "0", "1", &Mean, 99, seed).unwrap());
            let (value, (low, high, _)) = (still.value(), interval_and_p(&still));
            prop_assert!(low <= high);
            for (before, after) in [(low, interval_and_p(&moved).0), (high, interval_and_p(&moved).1), (value, moved.value())] {
                prop_assert!((before + shift - after).abs() < 1e-9);
            }
        }
    }
}
