//! The chain analysis of arbitrary attention matrices, as computed and written by `tokenrank rank`.

mod answer;
mod error;
mod notes;
mod output;
mod spectrum;
mod teleport;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use markov_core::{Direction, Stochastic, Stop};
use models::files;
use models::matrix_file::{Contents, Matrices, MatrixFileError, Problem, TensorInfo};
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use answer::{Answer, Questions};
pub use error::{AnalysisError, Incomplete};
pub use notes::{Hint, Note, Question};
use notes::{Short, Triangles};
use output::Output;
use teleport::Teleport;
pub use tokens::TokenList;

/// Maximum number of values of one quantity over all matrices (16 GiB).
const MOST_NUMBERS: usize = 1 << 31;

/// What to compute for the matrices.
#[derive(Debug, Clone)]
pub struct AnalysisOptions {
    /// Weight of attention in the teleporting chain (α).
    pub alpha: f64,
    /// File with the distribution that teleports go to, over all tokens of the file; uniform if `None`.
    pub teleport: Option<PathBuf>,
    /// Direction of everything but the eigenvalues.
    pub direction: Direction,
    /// Token from which bounces, and walks until absorption, start.
    pub start: Option<usize>,
    /// Number of bounces; needs a start.
    pub bounces: Option<usize>,
    /// Tokens that are left out of the chain.
    pub drop: TokenList,
    /// Tokens in which walks end; if empty, nothing about absorption is computed.
    pub absorb: TokenList,
    /// Number of metastable sets.
    pub sets: Option<usize>,
    /// Number of eigenvalue moduli.
    pub spectrum: Option<usize>,
    /// Relative accuracy of the eigenvalue moduli.
    pub spectrum_tolerance: f64,
    /// How far the sum of a row may lie from 1; if `None`, the number format of the file decides.
    pub tolerance: Option<f64>,
    /// Stopping rule of the power method.
    pub stop: Stop,
}

/// The outcome of an analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Remarks on the matrices, a paragraph each.
    pub notes: Vec<Note>,
    /// Whether the file was written; it is not when every quantity is missing.
    pub written: bool,
    /// What is missing or less accurate than was asked for, with the reasons; the other quantities were written.
    pub incomplete: Option<Incomplete>,
}

/// Analyses the matrices of `file` that `keys` select ([`Contents::choose`]) and writes the quantities to `out`, completely or
/// not at all.
///
/// With `m` tokens that are not dropped, float64 except where noted: `tokenrank` `[..., m]`, `iterations` `[...]`; `bounces`
/// `[..., bounces, m]`; `lambda`, `lambda.residual` and `lambda.condition` `[..., min(spectrum, m)]`; `sets.assignment` `[..., m]`
/// (int64), `sets.memberships` `[..., m, sets]`, `sets.staying` and `sets.weights` `[..., sets]`, `sets.crispness` `[...]`; `visits`
/// and `steps` `[..., m]`, `absorption` `[..., m, absorb]`; `tokens` `[m]` (int64), the numbers of the kept tokens, if some
/// are dropped. With several tensors, names begin with the tensor's name and a dot.
///
/// A quantity that cannot be computed for a matrix is NaN there (-1 among int64), or left out when no matrix has it;
/// [`Analysis::incomplete`] has the reasons.
///
/// # Errors
/// Fails if an option does not fit, a file cannot be read or written, or a matrix is not a transition matrix.
pub fn analyse(
    file: &Path,
    keys: &[String],
    options: &AnalysisOptions,
    out: &Path,
) -> Result<Analysis, AnalysisError> {
    check(options)?;
    check_out(out, file, "the matrices are read from")?;
    if let Some(teleport) = &options.teleport {
        check_out(out, teleport, "the teleport distribution is read from")?;
    }
    let contents = Contents::of(file)?;
    let tensors = contents.choose(keys)?;
    let teleport = options.teleport.as_deref().map(Teleport::read).transpose()?;
    let several = tensors.len() > 1;
    let mut plans = Vec::new();
    for tensor in &tensors {
        if !tensor.is_square() {
            // The reader refuses the tensor, with its reason.
            contents.read(tensor)?;
        }
        plans.push(Plan::of(file, tensor, several, options, teleport.as_ref())?);
    }
    check_numbers(&plans, options)?;
    let source = Source { contents: &contents, options, teleport: teleport.as_ref() };
    if several {
        // All matrices are checked before the work on any of them begins.
        plans.iter().try_for_each(|plan| source.chains(plan).map(drop))?;
    }

    let (mut output, mut triangles, mut short) = (Output::default(), Triangles::default(), Short::default());
    for plan in &plans {
        let (chains, teleports) = source.chains_counted(plan, &mut short)?;
        chains.iter().for_each(|chain| triangles.count(chain.triangle()));
        let answers: Vec<Answer> = chains
            .par_iter()
            .zip(teleports)
            .map(|(chain, teleport)| {
                let questions = Questions { options, start: plan.start, absorb: &plan.absorb, teleport };
                Answer::of(chain, &questions)
            })
            .collect();
        output.add(&plan.prefix, &plan.outer, &answers);
        for (i, answer) in answers.into_iter().enumerate() {
            output.note_failures(answer, || plan.place(i));
        }
    }
    let written = !output.is_empty();
    if written {
        for plan in plans.iter().filter(|_| !options.drop.is_empty()) {
            output.add_tokens(&plan.prefix, &plan.kept);
        }
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let metadata = BTreeMap::from([
            ("source".to_owned(), file.display().to_string()),
            ("tensors".to_owned(), serde_json::json!(names).to_string()),
        ]);
        output.write(out, &metadata)?;
    }
    let notes = triangles.note(options).into_iter().chain(short.note()).collect();
    Ok(Analysis { notes, written, incomplete: output.incomplete() })
}

/// A tensor and the numbers of its tokens after dropping.
struct Plan<'a> {
    tensor: &'a TensorInfo,
    /// File and tensor, for messages.
    place: String,
    /// Prefix of the names in the output.
    prefix: String,
    outer: Vec<usize>,
    n: usize,
    /// Tokens that are not dropped.
    kept: Vec<usize>,
    /// Position of the start among the kept tokens.
    start: Option<usize>,
    absorb: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn of(
        file: &Path,
        tensor: &'a TensorInfo,
        several: bool,
        options: &AnalysisOptions,
        teleport: Option<&Teleport>,
    ) -> Result<Self, AnalysisError> {
        let (outer, n) = match tensor.shape.as_slice() {
            [outer @ .., _, n] => (outer.to_vec(), *n),
            _ => (Vec::new(), 0),
        };
        let refused = |option, reason: String| AnalysisError::Option { option, reason };
        let missing = |token: usize| {
            format!(
                "there is no token {token}; the matrices of `{}` have {n} tokens, counted from 0",
                tensor.name
            )
        };
        if let Some(token) = options.drop.tokens().iter().find(|token| **token >= n) {
            return Err(refused("drop", missing(*token)));
        }
        let dropped = |token: &usize| options.drop.tokens().binary_search(token).is_ok();
        let kept: Vec<usize> = (0..n).filter(|token| !dropped(token)).collect();
        if kept.is_empty() {
            let reason = format!("all {n} tokens of `{}` are left out; keep at least one", tensor.name);
            return Err(refused("drop", reason));
        }
        let position = |option: &'static str, token: usize| match kept.binary_search(&token) {
            Ok(position) => Ok(position),
            Err(_) if token >= n => Err(refused(option, missing(token))),
            Err(_) => Err(refused(option, format!("token {token} is left out of the chain"))),
        };
        let start = options.start.map(|token| position("start", token)).transpose()?;
        let absorb = options.absorb.tokens().iter().map(|token| position("absorb", *token));
        let absorb = absorb.collect::<Result<Vec<_>, _>>()?;
        if let Some(sets) = options.sets.filter(|sets| *sets > kept.len()) {
            let reason = format!("`{}` has only {} tokens, fewer than {sets} sets", tensor.name, kept.len());
            return Err(refused("sets", reason));
        }
        if let Some(teleport) = teleport {
            teleport.check(&outer, n, &tensor.name)?;
        }
        let prefix = if several { format!("{}.", tensor.name) } else { String::new() };
        let place = format!("{}: tensor `{}`", file.display(), tensor.name);
        Ok(Self { tensor, place, prefix, outer, n, kept, start, absorb })
    }

    fn count(&self) -> usize {
        self.outer.iter().product()
    }

    /// Returns file, tensor and index of a matrix, for messages.
    fn place(&self, flat: usize) -> String {
        let mut rest = flat;
        let mut index: Vec<String> = self
            .outer
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
        format!("{}{index}", self.place)
    }
}

/// The file of matrices and the options that apply to all of them.
struct Source<'a> {
    contents: &'a Contents,
    options: &'a AnalysisOptions,
    teleport: Option<&'a Teleport>,
}

type Chains = (Vec<Stochastic<f64>>, Vec<Option<ndarray::Array1<f64>>>);

impl Source<'_> {
    /// Reads the matrices of a tensor, checked and without dropped tokens, and the teleport distribution of each.
    fn chains(&self, plan: &Plan<'_>) -> Result<Chains, AnalysisError> {
        self.chains_counted(plan, &mut Short::default())
    }

    fn chains_counted(&self, plan: &Plan<'_>, short: &mut Short) -> Result<Chains, AnalysisError> {
        let Matrices { storage, data, .. } = self.contents.read(plan.tensor)?;
        let tolerance = self.options.tolerance.unwrap_or(storage.row_tolerance());
        let flat = data
            .into_shape_with_order((plan.count(), plan.n, plan.n))
            .map_err(|e| AnalysisError::Option { option: "key", reason: e.to_string() })?;
        let mut chains = Vec::with_capacity(plan.count());
        for (i, matrix) in flat.axis_iter(Axis(0)).enumerate() {
            let chain = self.chain(matrix, tolerance).map_err(|source| AnalysisError::Matrix {
                place: plan.place(i),
                hint: notes::hint(matrix, &self.options.drop, tolerance).map(Box::new),
                source,
            })?;
            if !self.options.drop.is_empty() {
                short.count(matrix, &plan.kept, tolerance);
            }
            chains.push(chain);
        }
        let teleport = |i| self.teleport.map(|teleport| teleport.of(i, plan.n, &plan.kept)).transpose();
        let teleports = (0..plan.count()).map(teleport).collect::<Result<_, _>>()?;
        Ok((chains, teleports))
    }

    fn chain(&self, matrix: ArrayView2<'_, f64>, tolerance: f64) -> markov_core::Result<Stochastic<f64>> {
        match self.options.drop.tokens() {
            [] => Stochastic::with_tolerance(matrix.to_owned(), tolerance),
            dropped => Stochastic::restricted(matrix, dropped, tolerance),
        }
    }
}

fn check(options: &AnalysisOptions) -> Result<(), AnalysisError> {
    let refuse = |option, reason: String| Err(AnalysisError::Option { option, reason });
    if !(options.alpha > 0.0 && options.alpha <= 1.0) {
        return refuse("alpha", format!("must lie in (0, 1], found {}", options.alpha));
    }
    if let Some(tolerance) = options.tolerance.filter(|tolerance| !(0.0..1.0).contains(tolerance)) {
        return refuse("tolerance", format!("must lie in [0, 1), found {tolerance}"));
    }
    let accuracy = options.spectrum_tolerance;
    if !(accuracy > 0.0 && accuracy < 1.0) {
        return refuse("spectrum-tolerance", format!("must lie in (0, 1), found {accuracy}"));
    }
    if options.teleport.is_some() && options.alpha == 1.0 && options.absorb.is_empty() {
        return refuse("teleport", "has no effect at α = 1, with which walks never teleport".into());
    }
    match options {
        AnalysisOptions { bounces: Some(0), .. } => refuse("bounces", "must be at least 1".into()),
        AnalysisOptions { spectrum: Some(0), .. } => refuse("spectrum", "must be at least 1".into()),
        AnalysisOptions { sets: Some(0), .. } => refuse("sets", "must be at least 1".into()),
        _ => Ok(()),
    }
}

/// Refuses an output that would overwrite an input or whose folder does not exist, before any work.
fn check_out(out: &Path, read: &Path, what: &str) -> Result<(), AnalysisError> {
    if files::input_at(out, [read]).is_some() {
        let reason = format!("{} is the file that {what}; name another one", out.display());
        return Err(AnalysisError::Option { option: "out", reason });
    }
    match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            let problem = Problem::NoFolder { folder: folder.to_owned() };
            Err(MatrixFileError { path: out.to_owned(), problem }.into())
        }
        _ => Ok(()),
    }
}

/// Refuses outputs that do not fit into memory.
fn check_numbers(plans: &[Plan<'_>], options: &AnalysisOptions) -> Result<(), AnalysisError> {
    let asked = [
        ("bounces", options.bounces.filter(|_| options.start.is_some())),
        ("sets", options.sets),
        ("absorb", Some(options.absorb.tokens().len())),
    ];
    for (option, each) in asked {
        let Some(each) = each else { continue };
        let of_plan = |plan: &Plan<'_>| plan.count().checked_mul(plan.kept.len())?.checked_mul(each);
        let all = plans.iter().try_fold(0_usize, |all, plan| all.checked_add(of_plan(plan)?));
        if all.is_none_or(|all| all > MOST_NUMBERS) {
            let matrices = plans.iter().map(Plan::count).sum::<usize>();
            let tokens = plans.iter().map(|plan| plan.kept.len()).max().unwrap_or(0);
            let reason = format!(
                "{each} for each of {tokens} tokens in {matrices} matrices are more than {MOST_NUMBERS} numbers (16 GiB); ask \
                 for fewer"
            );
            return Err(AnalysisError::Option { option, reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use models::matrix_file::{Values, write_safetensors};

    use super::*;

    #[test]
    fn bounces_that_exceed_the_memory_limit_are_refused() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let (file, out) = (dir.path().join("two.safetensors"), dir.path().join("out.safetensors"));
        let tensor = ("a".to_owned(), vec![3, 2, 2], Values::F64(&[0.5; 12]));
        write_safetensors(&file, &[tensor], &BTreeMap::new()).expect("written");
        let analysed = |steps| {
            let options = AnalysisOptions {
                alpha: 0.99,
                teleport: None,
                direction: Direction::Forward,
                start: Some(0),
                bounces: Some(steps),
                drop: TokenList::default(),
                absorb: TokenList::default(),
                sets: None,
                spectrum: None,
                spectrum_tolerance: 1e-10,
                tolerance: None,
                stop: Stop::default(),
            };
            analyse(&file, &[], &options, &out)
        };
        for steps in [MOST_NUMBERS / 6 + 1, 1_000_000_000_000, usize::MAX] {
            let message = analysed(steps).expect_err("refused").to_string();
            assert!(message.starts_with("bounces: ") && message.contains("16 GiB"), "{message}");
            assert!(!out.exists());
        }
        analysed(1000).expect("fits");
    }
}
