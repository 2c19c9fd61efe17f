//! Teleport distributions from a file.

use std::path::Path;

use markov_core::Error as ChainError;
use models::matrix_file::{Contents, Matrices, read_array};
use ndarray::{Array1, ArrayD, ArrayView1};

use super::AnalysisError;

/// Name of the tensor of teleport distributions in a file of several tensors.
const NAME: &str = "teleport";

/// Distributions over the tokens: one for all matrices `[n]`, or one for each `[..., n]`.
pub(super) struct Teleport {
    file: String,
    values: ArrayD<f64>,
    tolerance: f64,
}

impl Teleport {
    /// Reads the only tensor of the file, or the one called `teleport`.
    pub(super) fn read(path: &Path) -> Result<Self, AnalysisError> {
        let contents = Contents::of(path)?;
        let several = contents.tensors().len() > 1;
        let named = contents.tensors().iter().any(|tensor| tensor.name == NAME);
        if several && !named {
            let reason =
                format!("{} holds several tensors; call the one that is meant `{NAME}`", path.display());
            return Err(AnalysisError::Option { option: "teleport", reason });
        }
        let Matrices { name, storage, data } = read_array(path, several.then_some(NAME))?;
        let file = format!("{}: tensor `{name}`", path.display());
        Ok(Self { file, values: data, tolerance: storage.row_tolerance() })
    }

    /// Checks that the file has one distribution over `n` tokens, or one for each of the matrices `[outer..., n, n]`.
    pub(super) fn check(&self, outer: &[usize], n: usize, tensor: &str) -> Result<(), AnalysisError> {
        let shape = self.values.shape();
        let each = [outer, &[n]].concat();
        if shape == [n] || shape == each {
            return Ok(());
        }
        let wanted = if outer.is_empty() { format!("[{n}]") } else { format!("[{n}] or {each:?}") };
        let reason = format!(
            "{} has shape {shape:?}, and the matrices of `{tensor}` need {wanted}: a probability for every token, dropped ones \
             included",
            self.file
        );
        Err(AnalysisError::Option { option: "teleport", reason })
    }

    /// Returns the distribution for matrix `which` over its kept tokens, renormalised.
    pub(super) fn of(&self, which: usize, n: usize, kept: &[usize]) -> Result<Array1<f64>, AnalysisError> {
        let values = self.values.as_slice().unwrap_or_default();
        let at = if values.len() == n { 0 } else { which * n };
        let row = ArrayView1::from(values.get(at..at + n).unwrap_or_default());
        let refuse = |reason: String| {
            let place =
                if values.len() == n { self.file.clone() } else { format!("{}, vector {which}", self.file) };
            let source = ChainError::Distribution { what: "the teleport vector", states: n, reason };
            Err(AnalysisError::Matrix { place, source, hint: None })
        };
        if let Some((i, value)) = row.iter().enumerate().find(|(_, v)| !(v.is_finite() && **v >= 0.0)) {
            return refuse(format!("entry {i} is {value}"));
        }
        let sum = row.sum();
        if (sum - 1.0).abs() > self.tolerance {
            return refuse(format!("it sums to {sum}"));
        }
        let kept: Array1<f64> = kept.iter().map(|token| row[*token]).collect();
        let mass = kept.sum();
        if mass < f64::MIN_POSITIVE {
            return refuse("all of its mass lies on dropped tokens".into());
        }
        Ok(kept / mass)
    }
}
