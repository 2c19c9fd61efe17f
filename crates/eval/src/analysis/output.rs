//! The quantities of all matrices as arrays of one file.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::path::Path;

use markov_core::Error as ChainError;
use models::matrix_file::{self, write_safetensors};

use super::answer::{Answer, Data, Reason, Values};
use super::notes::matrices;
use super::{AnalysisError, Incomplete};

/// Arrays to write, by name.
#[derive(Default)]
pub(super) struct Output {
    arrays: Vec<(String, Values)>,
    failures: Vec<Failure>,
}

/// Matrices that lack a quantity for the same kind of reason.
struct Failure {
    quantity: &'static str,
    kind: Kind,
    count: usize,
    /// The first matrix that lacks it, and why.
    place: String,
    reason: String,
}

#[derive(PartialEq)]
enum Kind {
    Chain(Discriminant<ChainError>),
    Short,
}

impl Output {
    /// Adds the quantities of matrices `[outer..., n, n]`, with `prefix` before each name. If a matrix lacks a quantity that
    /// another one has, its entries are NaN, or -1 among integers; a quantity that every matrix lacks is left out.
    pub(super) fn add(&mut self, prefix: &str, outer: &[usize], answers: &[Answer]) {
        let mut shapes: BTreeMap<&str, &Values> = BTreeMap::new();
        for (name, values) in answers.iter().flat_map(|answer| &answer.found) {
            shapes.entry(name).or_insert(values);
        }
        for (name, Values { shape, data }) in shapes {
            let size = shape.iter().product::<usize>();
            let found = || answers.iter().map(|answer| answer.found.get(name).map(|values| &values.data));
            let data = match data {
                Data::F64(_) => Data::F64(
                    found()
                        .flat_map(|data| match data {
                            Some(Data::F64(data)) => data.clone(),
                            Some(Data::I64(_)) | None => vec![f64::NAN; size],
                        })
                        .collect(),
                ),
                Data::I64(_) => Data::I64(
                    found()
                        .flat_map(|data| match data {
                            Some(Data::I64(data)) => data.clone(),
                            Some(Data::F64(_)) | None => vec![-1; size],
                        })
                        .collect(),
                ),
            };
            self.arrays.push((format!("{prefix}{name}"), Values { shape: [outer, shape].concat(), data }));
        }
    }

    /// Adds the numbers of the kept tokens in the whole matrix.
    pub(super) fn add_tokens(&mut self, prefix: &str, tokens: &[usize]) {
        let data = Data::I64(tokens.iter().map(|token| *token as i64).collect());
        self.arrays.push((format!("{prefix}tokens"), Values { shape: vec![tokens.len()], data }));
    }

    /// Records the quantities that a matrix lacks; `place` names the matrix.
    pub(super) fn note_failures(&mut self, answer: Answer, place: impl Fn() -> String) {
        for (quantity, reason) in answer.failed {
            let kind = match &reason {
                Reason::Chain(error) => Kind::Chain(discriminant(error)),
                Reason::Short { .. } => Kind::Short,
            };
            match self.failures.iter_mut().find(|other| other.quantity == quantity && other.kind == kind) {
                Some(other) => other.count += 1,
                None => {
                    let (place, reason) = (place(), reason.to_string());
                    self.failures.push(Failure { quantity, kind, count: 1, place, reason });
                }
            }
        }
    }

    /// Returns whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// Returns the missing quantities with their reasons; `None` if none is missing.
    pub(super) fn incomplete(&self) -> Option<Incomplete> {
        let lines = self.failures.iter().map(|failure| {
            let Failure { quantity, count, place, reason, .. } = failure;
            match count {
                1 => format!("{quantity} of {place}: {reason}"),
                _ => format!("{quantity} of {}, first of {place}: {reason}", matrices(*count)),
            }
        });
        let lines: Vec<String> = lines.collect();
        let missing = self.failures.iter().any(|failure| failure.kind != Kind::Short);
        let inaccurate = self.failures.iter().any(|failure| failure.kind == Kind::Short);
        let rest = match (self.is_empty(), missing) {
            (true, _) => ". Nothing else was asked for, so no file was written",
            (false, true) => {
                ". Everything else was written; in the file, a matrix has NaN for a quantity that it lacks, and a quantity \
                 that every matrix lacks is left out"
            }
            (false, false) => "",
        };
        (!lines.is_empty()).then(|| Incomplete { reasons: format!("{}{rest}", lines.join("\n")), inaccurate })
    }

    /// Writes the arrays, completely or not at all.
    pub(super) fn write(&self, out: &Path, metadata: &BTreeMap<String, String>) -> Result<(), AnalysisError> {
        let described = self.arrays.iter().map(|(name, Values { shape, data })| {
            let values = match data {
                Data::F64(data) => matrix_file::Values::F64(data),
                Data::I64(data) => matrix_file::Values::I64(data),
            };
            (name.clone(), shape.clone(), values)
        });
        Ok(write_safetensors(out, &described.collect::<Vec<_>>(), metadata)?)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Chain(error) => error.fmt(f),
            Reason::Short { error, wanted } if error > wanted => write!(
                f,
                "the relative error is about {error:.1e} where the iteration gave up, and {wanted:.1e} was wanted; the values are \
                 written with their residuals"
            ),
            Reason::Short { wanted, .. } => write!(
                f,
                "the iteration gave up before it could rule out, to {wanted:.1e}, that another eigenvalue is larger: many have \
                 nearly the same modulus. The values are written with their residuals"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inaccurate_spectrum_says_what_is_inaccurate() {
        let said = |error| Reason::Short { error, wanted: 1e-10 }.to_string();
        assert!(said(3e-9).contains("relative error is about 3.0e-9"), "{}", said(3e-9));
        // Accurate, but not proven to be the largest.
        assert!(said(1e-15).contains("rule out, to 1.0e-10"), "{}", said(1e-15));
    }
}
