//! Precision and recall of generated pictures (Kynkäänniemi et al., arXiv 1904.06991).

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::FidelityError;

/// How precision and recall are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrecisionRecall {
    /// The k of the k-th nearest neighbour, the item itself not counted, that a ball reaches to.
    pub neighbours: usize,
}

impl Default for PrecisionRecall {
    /// The paper's and torch-fidelity's: the third neighbour.
    fn default() -> Self {
        Self { neighbours: 3 }
    }
}

/// Shares of items that lie among those of the other set.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Share {
    /// Share of the generated items inside a ball of some reference item.
    pub precision: f64,
    /// Share of the reference items inside a ball of some generated item.
    pub recall: f64,
}

/// Rows and columns of a block of distances.
const ROWS: usize = 512;
const COLUMNS: usize = 2048;

impl PrecisionRecall {
    /// Precision and recall between features `[n, d]` and `[m, d]`. Takes four times `n·m·d` products.
    ///
    /// # Errors
    /// Not more items than neighbours on either side, features of different widths, or not finite.
    pub fn between<'a>(
        &self,
        generated: ArrayView2<'a, f64>,
        reference: ArrayView2<'a, f64>,
    ) -> Result<Share, FidelityError> {
        let (wanted, found) = (reference.ncols(), generated.ncols());
        if wanted != found {
            return Err(FidelityError::Width { wanted, found });
        }
        for (features, what) in [(generated, "generated pictures"), (reference, "reference pictures")] {
            let (items, needed) = (features.nrows(), self.neighbours + 1);
            if items < needed {
                let (metric, advice) = ("precision and recall", "ask for fewer neighbours");
                return Err(FidelityError::TooFew { metric, what, items, needed, advice });
            }
            if let Some(row) = features.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite()))
            {
                return Err(FidelityError::NotFinite { item: row as u64 });
            }
        }
        // Distances do not change, and cancel less, around the middle.
        let Some(middle) = reference.mean_axis(Axis(0)) else {
            return Ok(Share { precision: 0.0, recall: 0.0 });
        };
        let (generated, reference) = (Points::new(&generated - &middle), Points::new(&reference - &middle));
        Ok(Share {
            precision: generated.share_inside(&reference, &reference.radii(self.neighbours)),
            recall: reference.share_inside(&generated, &generated.radii(self.neighbours)),
        })
    }
}

/// Points with their squared lengths.
struct Points {
    points: Array2<f64>,
    squares: Array1<f64>,
}

impl Points {
    fn new(points: Array2<f64>) -> Self {
        let squares = points.rows().into_iter().map(|row| row.dot(&row)).collect();
        Self { points, squares }
    }

    fn blocks(&self, length: usize) -> Vec<Range<usize>> {
        let items = self.points.nrows();
        (0..items).step_by(length).map(|start| start..(start + length).min(items)).collect()
    }

    /// Squared distances `[rows, columns]` between these points and others: `‖x‖² + ‖y‖² − 2 xᵀy`, and anew from the
    /// differences where next to nothing is left of the sum.
    fn squared_distances(&self, rows: &Range<usize>, others: &Self, columns: &Range<usize>) -> Array2<f64> {
        const CANCELLED: f64 = 1e-8;
        let (x, y) = (self.points.slice(s![rows.clone(), ..]), others.points.slice(s![columns.clone(), ..]));
        let mut distances = x.dot(&y.t());
        for ((i, j), distance) in distances.indexed_iter_mut() {
            let lengths = self.squares[rows.start + i] + others.squares[columns.start + j];
            *distance = lengths - 2.0 * *distance;
            if *distance <= CANCELLED * lengths {
                *distance = x.row(i).iter().zip(y.row(j)).map(|(a, b)| (a - b).powi(2)).sum();
            }
        }
        distances
    }

    /// Squared distance of each point to its k-th nearest neighbour among the others.
    fn radii(&self, neighbours: usize) -> Vec<f64> {
        let of_rows = |rows: Range<usize>| {
            // The item itself is the nearest, at distance 0.
            let mut nearest = vec![Vec::with_capacity(neighbours + COLUMNS + 1); rows.len()];
            for columns in self.blocks(COLUMNS) {
                let distances = self.squared_distances(&rows, self, &columns);
                for (kept, row) in nearest.iter_mut().zip(distances.rows()) {
                    kept.extend(row);
                    if kept.len() > neighbours + 1 {
                        kept.select_nth_unstable_by(neighbours, f64::total_cmp);
                        kept.truncate(neighbours + 1);
                    }
                }
            }
            nearest.into_iter().map(|kept| kept.into_iter().fold(0.0, f64::max)).collect::<Vec<f64>>()
        };
        self.blocks(ROWS).into_par_iter().flat_map_iter(of_rows).collect()
    }

    /// Share of these points within the radius of some other point.
    fn share_inside(&self, others: &Self, radii: &[f64]) -> f64 {
        let inside = |rows: Range<usize>| {
            let mut found = vec![false; rows.len()];
            for columns in others.blocks(COLUMNS) {
                let distances = self.squared_distances(&rows, others, &columns);
                for (found, row) in found.iter_mut().zip(distances.rows()) {
                    *found = *found
                        || row
                            .iter()
                            .zip(&radii[columns.clone()])
                            .any(|(distance, radius)| distance <= radius);
                }
            }
            found.into_iter().filter(|&found| found).count()
        };
        let count: usize = self.blocks(ROWS).into_par_iter().map(inside).sum();
        count as f64 / self.points.nrows() as f64
    }
}
