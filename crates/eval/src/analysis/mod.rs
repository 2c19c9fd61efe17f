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

use markov_core::{Direction, Element, Stochastic, StochasticView, Stop, Triangle};
use models::files;
use models::matrix_file::{Contents, MatrixFileError, Problem, Stack, StoredMatrix, TensorInfo};
use ndarray::{Array1, Array2};
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
    let source = Source { options, teleport: teleport.as_ref() };
    // All matrices are checked before the work on any of them begins.
    let mut open = None;
    for plan in &plans {
        let stack = contents.stack(plan.tensor)?;
        source.check(plan, &stack)?;
        open = (!several).then_some(stack);
    }

    let (mut output, mut triangles, mut short) = (Output::default(), Triangles::default(), Short::default());
    for plan in &plans {
        let stack = open.take().map_or_else(|| contents.stack(plan.tensor), Ok)?;
        let mut answers = Vec::new();
        for Outcome { answer, triangle, least } in source.outcomes(plan, &stack)? {
            triangles.count(triangle);
            short.count(least, source.tolerance(&stack));
            answers.push(answer);
        }
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

/// What applies to all matrices of a file.
struct Source<'a> {
    options: &'a AnalysisOptions,
    teleport: Option<&'a Teleport>,
}

/// What one matrix adds to the output and to the notes.
struct Outcome {
    answer: Answer,
    triangle: Option<Triangle>,
    /// If tokens are dropped, the least sum of a kept row over all tokens of the file.
    least: Option<f64>,
}

impl Source<'_> {
    /// How far the sum of a row may lie from 1.
    fn tolerance(&self, stack: &Stack) -> f64 {
        self.options.tolerance.unwrap_or(stack.storage.row_tolerance())
    }

    /// Checks all matrices of a tensor and their teleport distributions. The error is that of the first matrix that has one.
    fn check(&self, plan: &Plan<'_>, stack: &Stack) -> Result<(), AnalysisError> {
        let failed = |i| self.outcome(plan, stack, i, None).err();
        match (0..stack.count).into_par_iter().find_map_first(failed) {
            Some(error) => Err(error),
            None => self.teleports(plan).map(drop),
        }
    }

    /// Returns what is asked for of every matrix of a tensor.
    fn outcomes(&self, plan: &Plan<'_>, stack: &Stack) -> Result<Vec<Outcome>, AnalysisError> {
        let outcome = |(i, teleport)| {
            let questions =
                Questions { options: self.options, start: plan.start, absorb: &plan.absorb, teleport };
            self.outcome(plan, stack, i, Some(&questions))
        };
        self.teleports(plan)?.into_par_iter().enumerate().map(outcome).collect()
    }

    /// Returns the teleport distribution of every matrix of a tensor.
    fn teleports(&self, plan: &Plan<'_>) -> Result<Vec<Option<Array1<f64>>>, AnalysisError> {
        let teleport = |i| self.teleport.map(|teleport| teleport.of(i, plan.n, &plan.kept)).transpose();
        (0..plan.count()).map(teleport).collect()
    }

    fn outcome(
        &self,
        plan: &Plan<'_>,
        stack: &Stack,
        i: usize,
        questions: Option<&Questions<'_>>,
    ) -> Result<Outcome, AnalysisError> {
        let tolerance = self.tolerance(stack);
        match stack.matrix(i) {
            StoredMatrix::F64(values) => self.of_values(plan, i, &values, tolerance, questions),
            StoredMatrix::F32(values) => self.of_values(plan, i, &values, tolerance, questions),
        }
    }

    /// Checks the values `[n, n]` of a matrix and answers the questions, if there are any.
    fn of_values<T: Element>(
        &self,
        plan: &Plan<'_>,
        i: usize,
        values: &[T],
        tolerance: f64,
        questions: Option<&Questions<'_>>,
    ) -> Result<Outcome, AnalysisError> {
        let wide = || {
            let values = values.iter().map(|value| value.to_f64()).collect();
            Array2::from_shape_vec((plan.n, plan.n), values).unwrap_or_default()
        };
        let dropped = &self.options.drop;
        let refused = |source| AnalysisError::Matrix {
            place: plan.place(i),
            hint: notes::hint(wide().view(), dropped, tolerance).map(Box::new),
            source,
        };
        if dropped.is_empty() {
            let matrix = StochasticView::new(values, plan.n, tolerance).map_err(refused)?;
            return Ok(Outcome::of(&matrix, questions, None));
        }
        let whole = wide();
        let matrix = Stochastic::restricted(whole.view(), dropped.tokens(), tolerance).map_err(refused)?;
        let least = notes::least_sum(whole.view(), &plan.kept);
        drop(whole);
        Ok(Outcome::of(&matrix.view(), questions, Some(least)))
    }
}

impl Outcome {
    fn of<T: Element>(
        matrix: &StochasticView<'_, T>,
        questions: Option<&Questions<'_>>,
        least: Option<f64>,
    ) -> Self {
        match questions {
            Some(questions) => {
                Self { answer: Answer::of(matrix, questions), triangle: matrix.triangle(), least }
            }
            None => Self { answer: Answer::default(), triangle: None, least },
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
