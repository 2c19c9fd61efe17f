//! Precision and recall of generated images (Kynkäänniemi et al., arXiv 1904.06991).

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::FidelityError;

/// How precision and recall are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrecisionRecall {
    /// k: a ball reaches to the k-th nearest neighbour, not counting the item itself.
    pub neighbours: usize,
}

impl Default for PrecisionRecall {
    /// Returns the third neighbour, as in the paper and in torch-fidelity.
    fn default() -> Self {
        Self { neighbours: 3 }
    }
}

/// Fractions of items that lie among the items of the other set.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fractions {
    /// Fraction of the generated items inside a ball of some reference item.
    pub precision: f64,
    /// Fraction of the reference items inside a ball of some generated item.
    pub recall: f64,
}

/// Numbers of rows and columns of a block of distances.
const ROWS: usize = 512;
const COLUMNS: usize = 2048;

impl PrecisionRecall {
    /// Returns precision and recall between features `[n, d]` and `[m, d]`. Takes four times `n·m·d` products.
    ///
    /// # Errors
    /// Fails if a set does not have more items than neighbours, or if features have different widths or are not finite.
    pub fn between<'a>(
        &self,
        generated: ArrayView2<'a, f64>,
        reference: ArrayView2<'a, f64>,
    ) -> Result<Fractions, FidelityError> {
        let (wanted, found) = (reference.ncols(), generated.ncols());
        if wanted != found {
            return Err(FidelityError::Width { wanted, found });
        }
        for (features, what) in [(generated, "generated images"), (reference, "reference images")] {
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
        // Shifting the mean to 0 keeps the distances and reduces cancellation.
        let Some(middle) = reference.mean_axis(Axis(0)) else {
            return Ok(Fractions { precision: 0.0, recall: 0.0 });
        };
        let (generated, reference) = (Points::new(&generated - &middle), Points::new(&reference - &middle));
        Ok(Fractions {
            precision: generated.fraction_inside(&reference, &reference.radii(self.neighbours)),
            recall: reference.fraction_inside(&generated, &generated.radii(self.neighbours)),
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

    /// Returns squared distances `[rows, columns]` between these points and others: `‖x‖² + ‖y‖² − 2 xᵀy`, recomputed from the
    /// differences if the sum cancels almost completely.
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

    /// Returns the squared distance of each point to its k-th nearest neighbour among the others.
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

    /// Returns the fraction of these points within the radius of some other point.
    fn fraction_inside(&self, others: &Self, radii: &[f64]) -> f64 {
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
