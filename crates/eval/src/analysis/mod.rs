//! The chain analysis of any attention matrix: what `tokenrank rank` computes and writes.

use std::collections::BTreeMap;
use std::path::Path;

use markov_core::{Direction, Effort, Stochastic, Stop, bounce_token, spectrum, token_rank};
use models::matrix_file::{self, Values, write_safetensors};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Most numbers of all bounces together, 16 GiB.
const MOST_NUMBERS: usize = 1 << 31;

/// What to ask of the chains.
#[derive(Debug, Clone, Copy)]
pub struct AnalysisOptions {
    /// Share of attention in the teleporting chain.
    pub alpha: f64,
    /// Direction of TokenRank and bounces.
    pub direction: Direction,
    /// Bounces: from which token, how many.
    pub bounces: Option<(usize, usize)>,
    /// How many eigenvalue moduli.
    pub spectrum: Option<usize>,
    /// How far from 1 a row may sum.
    pub tolerance: f64,
    /// When the power method stops.
    pub stop: Stop,
}

/// Why a file could not be analysed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// An option that fits no chain.
    #[error("{option}: {reason}")]
    Option {
        /// The option as written on the command line.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of matrices, or the file to write.
    #[error(transparent)]
    File(#[from] matrix_file::MatrixFileError),
    /// A matrix that is no transition matrix.
    #[error("{place}: {source}")]
    Matrix {
        /// The file, the tensor in it and, for tensors of several, which matrix.
        place: String,
        /// What is wrong with it.
        source: markov_core::Error,
    },
    /// A chain without the answer that was asked for.
    #[error("{place}: {source}")]
    Chain {
        /// The file, the tensor in it and, for tensors of several, which matrix.
        place: String,
        /// Why there is none.
        source: markov_core::Error,
    },
}

/// Answers for one matrix.
struct Answer {
    pi: Array1<f64>,
    iterations: usize,
    bounces: Option<Array2<f64>>,
    moduli: Option<Vec<f64>>,
}

/// Analyses every matrix of `file` and writes the answers to `out`, whole or not at all: `tokenrank` `[..., n]`,
/// `iterations` `[...]`, and if asked for `bounces` `[..., N, n]` and `lambda` `[..., min(K, n)]`, all float64.
///
/// # Errors
/// A file that cannot be read or written, a matrix that is no transition matrix, a chain without a steady state.
pub fn analyse(
    file: &Path,
    key: Option<&str>,
    options: &AnalysisOptions,
    out: &Path,
) -> Result<(), AnalysisError> {
    check(options)?;
    let matrices = matrix_file::read(file, key)?;
    let shape = matrices.data.shape().to_vec();
    let (outer, n) = (&shape[..shape.len() - 2], shape[shape.len() - 1]);
    if let Some((start, _)) = options.bounces
        && start >= n
    {
        let reason = format!("there is no token {start}; the matrices have {n} tokens, counted from 0");
        return Err(AnalysisError::Option { option: "--start", reason });
    }
    let count = outer.iter().product::<usize>();
    if let Some((_, steps)) = options.bounces
        && count.checked_mul(n).and_then(|each| each.checked_mul(steps)).is_none_or(|all| all > MOST_NUMBERS)
    {
        let reason = format!(
            "{steps} bounces of {count} matrices with {n} tokens are more than {MOST_NUMBERS} numbers (16 GiB); ask for \
             fewer"
        );
        return Err(AnalysisError::Option { option: "--bounces", reason });
    }
    let flat = matrices
        .data
        .to_shape((count, n, n))
        .map_err(|e| AnalysisError::Option { option: "FILE", reason: e.to_string() })?;
    // Refusals come for all matrices before the first is analysed, so that the first bad one is named.
    let chains = (0..count)
        .map(|i| check_matrix(flat.index_axis(Axis(0), i), options.tolerance))
        .enumerate()
        .map(|(i, checked)| {
            checked.map_err(|source| AnalysisError::Matrix {
                place: place(file, &matrices.name, outer, i),
                source,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let answers: Vec<Answer> = chains
        .par_iter()
        .enumerate()
        .map(|(i, chain)| {
            answer(chain, options).map_err(|source| AnalysisError::Chain {
                place: place(file, &matrices.name, outer, i),
                source,
            })
        })
        .collect::<Result<_, _>>()?;
    write(&answers, outer, n, file, out)
}

fn check(options: &AnalysisOptions) -> Result<(), AnalysisError> {
    let refuse = |option, reason: String| Err(AnalysisError::Option { option, reason });
    if !(options.alpha > 0.0 && options.alpha <= 1.0) {
        return refuse("--alpha", format!("must lie in (0, 1], found {}", options.alpha));
    }
    if !(options.tolerance >= 0.0 && options.tolerance < 1.0) {
        return refuse("--tolerance", format!("must lie in [0, 1), found {}", options.tolerance));
    }
    match options {
        AnalysisOptions { bounces: Some((_, 0)), .. } => refuse("--bounces", "must be at least 1".into()),
        AnalysisOptions { spectrum: Some(0), .. } => refuse("--spectrum", "must be at least 1".into()),
        _ => Ok(()),
    }
}

fn check_matrix(matrix: ArrayView2<'_, f64>, tolerance: f64) -> markov_core::Result<Stochastic<f64>> {
    Stochastic::with_tolerance(matrix.to_owned(), tolerance)
}

fn answer(matrix: &Stochastic<f64>, options: &AnalysisOptions) -> markov_core::Result<Answer> {
    let chain = matrix.teleport(options.alpha)?.towards(options.direction)?;
    let rank = token_rank(&chain, options.stop)?;
    let bounces = options.bounces.map(|(start, steps)| bounce_token(&chain, start, steps)).transpose()?;
    // λ is a property of the matrix itself, without teleport.
    let moduli = match options.spectrum {
        Some(k) => Some(spectrum(&matrix.forward(), k.min(matrix.states()), Effort::default())?.moduli()),
        None => None,
    };
    Ok(Answer { pi: rank.pi, iterations: rank.iterations, bounces, moduli })
}

/// File, tensor and index of a matrix, for messages.
fn place(file: &Path, tensor: &str, outer: &[usize], flat: usize) -> String {
    let mut rest = flat;
    let mut index: Vec<String> = outer
        .iter()
        .rev()
        .map(|&size| {
            let at = rest % size;
            rest /= size;
            at.to_string()
        })
        .collect();
    index.reverse();
    let index = if index.is_empty() { String::new() } else { format!(", matrix [{}]", index.join(", ")) };
    format!("{}: tensor `{tensor}`{index}", file.display())
}

fn write(
    answers: &[Answer],
    outer: &[usize],
    n: usize,
    file: &Path,
    out: &Path,
) -> Result<(), AnalysisError> {
    let ranks = answers.iter().flat_map(|answer| answer.pi.iter().copied()).collect();
    let iterations = answers.iter().map(|answer| answer.iterations as f64).collect();
    let mut tensors: Vec<(&str, Vec<usize>, Vec<f64>)> =
        vec![("tokenrank", vec![n], ranks), ("iterations", vec![], iterations)];
    let bounces: Vec<&Array2<f64>> = answers.iter().filter_map(|answer| answer.bounces.as_ref()).collect();
    if let Some(first) = bounces.first() {
        let data = bounces.iter().flat_map(|states| states.iter().copied()).collect();
        tensors.push(("bounces", vec![first.nrows(), n], data));
    }
    let moduli: Vec<&Vec<f64>> = answers.iter().filter_map(|answer| answer.moduli.as_ref()).collect();
    if let Some(first) = moduli.first() {
        let data = moduli.iter().flat_map(|values| values.iter().copied()).collect();
        tensors.push(("lambda", vec![first.len()], data));
    }
    let described = tensors.iter().map(|(name, inner, data)| {
        ((*name).to_owned(), [outer, inner.as_slice()].concat(), Values::F64(data))
    });
    let metadata = BTreeMap::from([("source".to_owned(), file.display().to_string())]);
    Ok(write_safetensors(out, &described.collect::<Vec<_>>(), &metadata)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounces_that_fit_no_memory_are_refused() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let (file, out) = (dir.path().join("two.safetensors"), dir.path().join("out.safetensors"));
        let tensor = ("a".to_owned(), vec![3, 2, 2], Values::F64(&[0.5; 12]));
        write_safetensors(&file, &[tensor], &BTreeMap::new()).expect("written");
        let analysed = |steps| {
            let options = AnalysisOptions {
                alpha: 0.99,
                direction: Direction::Forward,
                bounces: Some((0, steps)),
                spectrum: None,
                tolerance: 1e-3,
                stop: Stop::default(),
            };
            analyse(&file, None, &options, &out)
        };
        for steps in [MOST_NUMBERS / 6 + 1, 1_000_000_000_000, usize::MAX] {
            let message = analysed(steps).expect_err("refused").to_string();
            assert!(message.starts_with("--bounces: ") && message.contains("16 GiB"), "{message}");
            assert!(!out.exists());
        }
        analysed(1000).expect("fits");
    }
}
