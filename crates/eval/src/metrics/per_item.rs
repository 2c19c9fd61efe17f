//! Contributions of the items of a run to a metric.

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bootstrap::{Formula, RESAMPLES, paired_sums};
use super::clusters::Clusters;
use super::significance::PairedDifference;

/// Seed of the resamples, equal in all comparisons.
const SEED: u64 = 0;

/// The contributions of the items to the sums of a metric, and the formula that gives the metric from the sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerItem {
    /// The formula of the metric.
    pub formula: Formula,
    /// `[items, sums]`; the sums are pairs of part and whole.
    #[serde(serialize_with = "write_rows", deserialize_with = "read_rows")]
    pub sums: Array2<f64>,
}

impl PerItem {
    /// Returns the metric over all items; `None` if it is not defined.
    pub fn value(&self) -> Option<f64> {
        self.formula.value(&self.sums.sum_axis(ndarray::Axis(0)).to_vec())
    }

    /// Returns the number of items whose contribution differs from that in `other`, which has the same items.
    pub(crate) fn changed(&self, other: &Self) -> usize {
        let rows = self.sums.rows().into_iter().zip(other.sums.rows());
        // The columns are classes; a class that only another item shows may be missing on one side.
        let same_columns = self.sums.ncols() == other.sums.ncols();
        let same = |a, b| if same_columns { a == b } else { something(&a).eq(something(&b)) };
        rows.filter(|(a, b)| !same(*a, *b)).count()
    }

    /// Returns the metric minus that of `other` over the same items, with its interval; `clusters` says which items share an image.
    /// `None` if one of the two is not defined or their formulas differ.
    pub(crate) fn minus(&self, other: &Self, clusters: &Clusters) -> Option<PairedDifference> {
        let sides = (self.sums.view(), other.sums.view());
        (self.formula == other.formula)
            .then(|| paired_sums(sides, clusters, self.formula, RESAMPLES, SEED))?
    }
}

/// Returns the non-empty pairs of an item. A class that only another item shows adds empty pairs.
fn something<'a>(row: &'a ArrayView1<'_, f64>) -> impl Iterator<Item = (f64, f64)> + 'a {
    let pairs = (0..row.len() / 2).map(|pair| (row[2 * pair], row[2 * pair + 1]));
    pairs.filter(|pair| *pair != (0.0, 0.0))
}

/// A number that is written without a decimal point if it is an integer, as most are.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Real(f64),
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        let exact = value.fract() == 0.0 && value.abs() < (1_u64 << f64::MANTISSA_DIGITS) as f64;
        if exact && !(value == 0.0 && value.is_sign_negative()) {
            Self::Whole(value as i64)
        } else {
            Self::Real(value)
        }
    }
}

fn write_rows<S: Serializer>(sums: &Array2<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    let row = |row: ArrayView1<'_, f64>| row.iter().map(|&value| Number::from(value)).collect::<Vec<_>>();
    serializer.collect_seq(sums.rows().into_iter().map(row))
}

fn read_rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Array2<f64>, D::Error> {
    let rows: Vec<Vec<f64>> = Vec::deserialize(deserializer)?;
    let (items, width) = (rows.len(), rows.first().map_or(2, Vec::len));
    if width % 2 != 0 || rows.iter().any(|row| row.len() != width) {
        return Err(serde::de::Error::custom(
            "sums: every item must have the same number of sums, and an even one",
        ));
    }
    Array2::from_shape_vec((items, width), rows.concat()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::super::significance::{LEAST_ITEMS, Significance};
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    fn ratios(sums: Array2<f64>) -> PerItem {
        PerItem { formula: Formula::Ratios, sums }
    }

    #[test]
    fn counts_are_written_without_points() {
        let json = serde_json::to_string(&ratios(array![[1.0, 2.0], [0.1, -0.0]])).unwrap();
        assert_eq!(json, r#"{"formula":"ratios","sums":[[1,2],[0.1,-0.0]]}"#);
    }

    #[test]
    fn items_with_other_contributions_have_changed() {
        let one = ratios(array![[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 3.0, 4.0]]);
        // A class in the middle that only the second item shows.
        let other = ratios(array![[1.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 2.0, 3.0, 4.0]]);
        assert_eq!((one.changed(&one), one.changed(&other), other.changed(&one)), (0, 1, 1));
        // An equal pair of another class.
        let (here, there) = (ratios(array![[1.0, 2.0, 0.0, 0.0]]), ratios(array![[0.0, 0.0, 1.0, 2.0]]));
        assert_eq!(here.changed(&there), 1);
    }

    #[test]
    fn few_items_give_no_interval() {
        let moved =
            |items: usize, by: f64| ratios(Array2::from_shape_fn((items, 2), |(_, sum)| [by, 1.0][sum]));
        let of = |items| {
            let clusters = Clusters::singles(items);
            moved(items, 0.5).minus(&moved(items, 0.25), &clusters).unwrap().significance(None)
        };
        assert_eq!(of(LEAST_ITEMS - 1), Significance::TooFewItems);
        assert_eq!(of(LEAST_ITEMS), Significance::Yes { better: None });
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        for (rows, _why) in
            [("[[1,2],[1]]", "uneven"), ("[[1],[2]]", "no pairs"), ("[[1,null]]", "not a number")]
        {
            let json = format!(r#"{{"formula":"ratios","sums":{rows}}}"#);
            assert!(serde_json::from_str::<PerItem>(&json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_rounded(rows in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20)) {
            let rows: Vec<f64> = rows.into_iter().flat_map(|(a, b)| [a, b]).filter(|x| x.is_finite()).collect();
            let sums = Array2::from_shape_vec((rows.len() / 2, 2), rows[..rows.len() / 2 * 2].to_vec()).unwrap();
            let json = serde_json::to_string(&ratios(sums.clone())).unwrap();
            let back = serde_json::from_str::<PerItem>(&json).unwrap().sums;
            let bits = |sums: &Array2<f64>| sums.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&sums));
        }
    }
}
