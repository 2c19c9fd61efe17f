//! The functions of the package, for batches of matrices `[..., n, n]`.
//!
//! A matrix whose answer does not exist raises `ValueError`, unless `keep` is set: then its numbers are NaN, and the
//! sentences are returned beside the numbers.

use std::collections::BTreeSet;

use markov_core::{
    Error, HeadWeights, RowStochastic, Sets, Spectrum, Stochastic, Stop, Triangle, absorption, bounce,
    bounce_batch, lambda2_mixed, metastable_sets as metastable, spectrum as leading, token_rank_mixed,
    uniform, weigh_heads,
};
use ndarray::{Array2, ArrayD, Axis, IxDyn};
use numpy::{Complex64, PyArrayDyn, PyReadonlyArray2, PyReadonlyArray3, ToPyArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::{Rows, Walk, check_rows, direction as parse, effort, row, tolerance};
use crate::failure::{Failure, runtime_error, value_error};
use crate::maps::{Held, Maps};
use crate::parallel::detached;

/// An array and the sentences for the matrices that have no answer.
type Answer<'py, T> = (Bound<'py, PyArrayDyn<T>>, Vec<String>);

/// An [`Answer`] and the numbers of matrices that are lower triangular, as causal attention is, and upper triangular.
type CausalAnswer<'py, T> = (Bound<'py, PyArrayDyn<T>>, Vec<String>, (usize, usize));

/// Counts the triangles of matrices with an answer.
fn triangles<R>(results: &[Result<(R, Option<Triangle>), Failure>]) -> (usize, usize) {
    let count = |wanted| results.iter().flatten().filter(|(_, found)| *found == Some(wanted)).count();
    (count(Triangle::Lower), count(Triangle::Upper))
}

/// Returns the failures of a batch as sentences, or the first one as an error unless the caller wants to go on.
fn sentences<R>(results: &[Result<R, Failure>], keep: bool) -> PyResult<Vec<String>> {
    let mut all = Vec::new();
    for failure in results.iter().filter_map(|result| result.as_ref().err()) {
        if !keep {
            return Err(PyValueError::new_err(failure.sentence()));
        }
        all.push(failure.sentence());
    }
    Ok(all)
}

/// Returns the answers of all matrices as one array `[..., tail]`; failed ones are `missing`.
fn gather<'py, R, T: numpy::Element + Clone>(
    py: Python<'py>,
    outer: &[usize],
    tail: &[usize],
    results: &[Result<R, Failure>],
    numbers: impl Fn(&R) -> Vec<T>,
    missing: T,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let width: usize = tail.iter().product();
    let mut all = Vec::with_capacity(results.len() * width);
    for result in results {
        match result {
            Ok(found) => all.extend(numbers(found)),
            Err(_) => all.extend(vec![missing.clone(); width]),
        }
    }
    let shape = [outer, tail].concat();
    Ok(ArrayD::from_shape_vec(IxDyn(&shape), all).map_err(runtime_error)?.to_pyarray(py))
}

/// Steady states `[..., n]`.
#[pyfunction]
#[pyo3(signature = (a, *, alpha, direction, teleport, method, tol, steps, keep, threads))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn token_rank<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    alpha: f64,
    direction: &str,
    teleport: Option<PyReadonlyArray2<'py, f64>>,
    method: &str,
    tol: Option<f64>,
    steps: Option<usize>,
    keep: bool,
    threads: Option<usize>,
) -> PyResult<CausalAnswer<'py, f64>> {
    let stop = stop(method, tol, steps)?;
    let (held, direction) = (Held::of(a)?, parse(direction)?);
    let maps = held.maps()?;
    let teleport = targets(teleport, &maps)?;
    let walk = Walk { alpha, direction, teleport: teleport.as_ref().map(Rows::view) };
    let results = detached(py, threads, || {
        maps.each(|which, map| {
            let triangle = map.triangle();
            Ok((token_rank_mixed(&walk.through(map, which)?, stop)?.pi.to_vec(), triangle))
        })
    })?;
    let failed = sentences(&results, keep)?;
    let pi = gather(py, maps.outer(), &[maps.states()], &results, |(pi, _)| pi.clone(), f64::NAN)?;
    Ok((pi, failed, triangles(&results)))
}

fn stop(method: &str, tol: Option<f64>, steps: Option<usize>) -> PyResult<Stop> {
    let tol = tol.map(tolerance).transpose()?;
    if steps == Some(0) {
        return Err(PyValueError::new_err("steps must be at least 1, found 0"));
    }
    let default = match (method, tol) {
        ("exact", None) => Stop::strict(),
        ("exact", Some(tol)) => Stop::accelerated(tol),
        ("power", _) => Stop::reference(),
        (other, _) => {
            return Err(PyValueError::new_err(format!(
                "method is \"exact\" or \"power\", found \"{other}\""
            )));
        }
    };
    Ok(Stop {
        tolerance: tol.unwrap_or(default.tolerance),
        max_iterations: steps.unwrap_or(default.max_iterations),
        ..default
    })
}

fn targets<'py>(
    teleport: Option<PyReadonlyArray2<'py, f64>>,
    maps: &Maps<'_>,
) -> PyResult<Option<Rows<'py>>> {
    teleport.map(|rows| Rows::of("teleport", rows, maps)).transpose()
}

/// States after 1, 2, …, `steps` steps `[..., starts, steps, n]` from the distributions `starts` `[1 or matrices, starts, n]`.
#[pyfunction]
#[pyo3(signature = (a, starts, steps, *, alpha, direction, teleport, keep, threads))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn bounces<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    starts: PyReadonlyArray3<'py, f64>,
    steps: usize,
    alpha: f64,
    direction: &str,
    teleport: Option<PyReadonlyArray2<'py, f64>>,
    keep: bool,
    threads: Option<usize>,
) -> PyResult<Answer<'py, f64>> {
    let (held, direction) = (Held::of(a)?, parse(direction)?);
    let maps = held.maps()?;
    let starts = starts.as_array();
    check_rows("start", (starts.len_of(Axis(0)), starts.len_of(Axis(2))), &maps)?;
    let teleport = targets(teleport, &maps)?;
    let walk = Walk { alpha, direction, teleport: teleport.as_ref().map(Rows::view) };
    let results = detached(py, threads, || {
        maps.each(|which, map| {
            let starts = starts.index_axis(Axis(0), if starts.len_of(Axis(0)) == 1 { 0 } else { which });
            let states = bounce_batch(&walk.through(map, which)?, starts, steps)?;
            Ok(states.permuted_axes([1, 0, 2]).iter().copied().collect::<Vec<f64>>())
        })
    })?;
    let failed = sentences(&results, keep)?;
    let tail = [starts.len_of(Axis(1)), steps, maps.states()];
    Ok((gather(py, maps.outer(), &tail, &results, Vec::clone, f64::NAN)?, failed))
}

/// Second largest eigenvalue moduli `[...]`.
#[pyfunction]
#[pyo3(signature = (a, *, tol, keep, threads))]
pub(crate) fn lambda2<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    tol: f64,
    keep: bool,
    threads: Option<usize>,
) -> PyResult<CausalAnswer<'py, f64>> {
    let effort = effort(tol)?;
    let held = Held::of(a)?;
    let maps = held.maps()?;
    let results = detached(py, threads, || {
        maps.each(|_, map| {
            let (storage, triangle) = (map.storage(), map.triangle());
            Ok((lambda2_mixed(&map.forward(), effort, storage)?.modulus, triangle))
        })
    })?;
    let failed = sentences(&results, keep)?;
    let moduli = gather(py, maps.outer(), &[], &results, |(modulus, _)| vec![*modulus], f64::NAN)?;
    Ok((moduli, failed, triangles(&results)))
}

/// Leading eigenvalues `[..., min(k, n)]`, the residual of each, and its condition number.
#[pyfunction]
#[pyo3(signature = (a, k, *, tol, keep, threads))]
#[allow(clippy::type_complexity, reason = "a tuple of arrays for Python")]
pub(crate) fn spectrum<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    k: usize,
    tol: f64,
    keep: bool,
    threads: Option<usize>,
) -> PyResult<(
    Bound<'py, PyArrayDyn<Complex64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Vec<String>,
)> {
    let effort = effort(tol)?;
    let held = Held::of(a)?;
    let maps = held.maps()?;
    let results =
        detached(py, threads, || maps.each(|_, map| converged(leading(&map.forward(), k, effort)?, tol)))?;
    let failed = sentences(&results, keep)?;
    let (outer, tail) = (maps.outer(), [k.min(maps.states())]);
    let nan = Complex64::new(f64::NAN, f64::NAN);
    let complex = |found: &Spectrum| {
        found.values.iter().map(|value| Complex64::new(value.re, value.im)).collect::<Vec<_>>()
    };
    Ok((
        gather(py, outer, &tail, &results, complex, nan)?,
        gather(py, outer, &tail, &results, |found| found.residuals.clone(), f64::NAN)?,
        gather(py, outer, &tail, &results, |found| found.conditions.clone(), f64::NAN)?,
        failed,
    ))
}

/// Returns the eigenvalues, or an error if they do not have the accuracy that was asked for.
fn converged(found: Spectrum, wanted: f64) -> markov_core::Result<Spectrum> {
    if found.converged {
        return Ok(found);
    }
    Err(Error::NotConverged {
        what: "the Krylov iteration for the leading eigenvalues",
        residual: found.errors().into_iter().fold(0.0, f64::max),
        wanted,
        products: found.products,
    })
}

/// The uniform state after one step, `[..., n]`.
#[pyfunction]
#[pyo3(signature = (a, *, keep, threads))]
pub(crate) fn column_sum<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    keep: bool,
    threads: Option<usize>,
) -> PyResult<Answer<'py, f64>> {
    let held = Held::of(a)?;
    let maps = held.maps()?;
    let results = detached(py, threads, || {
        maps.each(|_, map| {
            let chain = map.forward();
            Ok(bounce(&chain, uniform(&chain).view(), 1)?.iter().copied().collect::<Vec<f64>>())
        })
    })?;
    let failed = sentences(&results, keep)?;
    Ok((gather(py, maps.outer(), &[maps.states()], &results, Vec::clone, f64::NAN)?, failed))
}

/// Walks that end on tokens: visits `[..., n]`, steps `[..., n]` and ends `[..., n, absorbing]`.
#[pyfunction]
#[pyo3(signature = (a, absorb, *, start, direction, keep, threads))]
#[allow(
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "keyword arguments and a tuple of Python"
)]
pub(crate) fn visits<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    absorb: Vec<usize>,
    start: Option<PyReadonlyArray2<'py, f64>>,
    direction: &str,
    keep: bool,
    threads: Option<usize>,
) -> PyResult<(
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Vec<String>,
)> {
    let (held, direction) = (Held::of(a)?, parse(direction)?);
    let maps = held.maps()?;
    let start = start.map(|rows| Rows::of("start", rows, &maps)).transpose()?;
    let start = start.as_ref().map(Rows::view);
    let walk = Walk { alpha: 1.0, direction, teleport: None };
    let results = detached(py, threads, || {
        maps.each(|which, map| {
            let chain = walk.through(map, which)?;
            let absorbed = absorption(&chain, &absorb)?;
            let visits = match &start {
                Some(rows) => absorbed.visits(row(rows, which))?,
                None => absorbed.visits(uniform(&chain).view())?,
            };
            let ends: Vec<f64> = absorbed.probabilities().iter().copied().collect();
            Ok((visits.to_vec(), absorbed.steps().to_vec(), ends))
        })
    })?;
    let failed = sentences(&results, keep)?;
    let (outer, n) = (maps.outer(), maps.states());
    let ends = distinct(&absorb);
    Ok((
        gather(py, outer, &[n], &results, |found| found.0.clone(), f64::NAN)?,
        gather(py, outer, &[n], &results, |found| found.1.clone(), f64::NAN)?,
        gather(py, outer, &[n, ends], &results, |found| found.2.clone(), f64::NAN)?,
        failed,
    ))
}

/// Metastable sets: number of sets `[...]`, assignment `[..., n]`, memberships `[..., n, sets]`, staying `[..., sets]`, weights
/// `[..., sets]`, crispness `[...]`. `sets` is the largest number found; matrices with fewer have NaN behind theirs.
#[pyfunction]
#[pyo3(signature = (a, *, sets, most, alpha, direction, teleport, keep, threads))]
#[allow(
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "keyword arguments and a tuple of Python"
)]
pub(crate) fn metastable_sets<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    sets: Option<usize>,
    most: usize,
    alpha: f64,
    direction: &str,
    teleport: Option<PyReadonlyArray2<'py, f64>>,
    keep: bool,
    threads: Option<usize>,
) -> PyResult<(
    Bound<'py, PyArrayDyn<i64>>,
    Bound<'py, PyArrayDyn<i64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Vec<String>,
)> {
    let (held, direction) = (Held::of(a)?, parse(direction)?);
    let maps = held.maps()?;
    let teleport = targets(teleport, &maps)?;
    let walk = Walk { alpha, direction, teleport: teleport.as_ref().map(Rows::view) };
    let asked = match sets {
        Some(count) => Sets::Count(count),
        None => Sets::Gap(most.min(maps.states())),
    };
    let results =
        detached(py, threads, || maps.each(|which, map| metastable(&walk.through(map, which)?, asked)))?;
    let failed = sentences(&results, keep)?;
    let widest = results.iter().flatten().map(|found| found.sets.len()).max().unwrap_or(0);
    let padded = |row: &[f64]| {
        let mut row = row.to_vec();
        row.resize(widest, f64::NAN);
        row
    };
    let (outer, n) = (maps.outer(), maps.states());
    Ok((
        gather(py, outer, &[], &results, |found| vec![found.sets.len() as i64], 0)?,
        gather(
            py,
            outer,
            &[n],
            &results,
            |found| found.assignment.iter().map(|set| *set as i64).collect::<Vec<_>>(),
            -1,
        )?,
        gather(
            py,
            outer,
            &[n, widest],
            &results,
            |found| found.memberships.rows().into_iter().flat_map(|row| padded(&row.to_vec())).collect(),
            f64::NAN,
        )?,
        gather(py, outer, &[widest], &results, |found| padded(&found.staying), f64::NAN)?,
        gather(py, outer, &[widest], &results, |found| padded(&found.weights), f64::NAN)?,
        gather(py, outer, &[], &results, |found| vec![found.crispness], f64::NAN)?,
        failed,
    ))
}

/// Weights of heads `[rows, heads]` from their λ₂ `[rows, heads]`.
#[pyfunction]
#[pyo3(signature = (lambda2, *, rule, top))]
pub(crate) fn head_weights<'py>(
    py: Python<'py>,
    lambda2: PyReadonlyArray2<'py, f64>,
    rule: &str,
    top: Option<usize>,
) -> PyResult<Bound<'py, numpy::PyArray2<f64>>> {
    let rule = match (rule, top) {
        ("proportional", None) => HeadWeights::Proportional,
        ("uniform", None) => HeadWeights::Uniform,
        ("top", Some(k)) => HeadWeights::Top(k),
        ("top", None) => {
            return Err(PyValueError::new_err("rule \"top\" needs top=, the number of heads kept"));
        }
        ("proportional" | "uniform", Some(_)) => {
            return Err(PyValueError::new_err(format!(
                "top= belongs to rule \"top\", found rule \"{rule}\""
            )));
        }
        (other, _) => {
            let message = format!("rule is \"proportional\", \"top\" or \"uniform\", found \"{other}\"");
            return Err(PyValueError::new_err(message));
        }
    };
    let lambda2 = lambda2.as_array();
    let mut weights = Array2::zeros(lambda2.dim());
    for (row, mut out) in lambda2.rows().into_iter().zip(weights.rows_mut()) {
        out.assign(&weigh_heads(&row.to_vec(), rule).map_err(|error| value_error(&error))?);
    }
    Ok(weights.to_pyarray(py))
}

/// Checked and renormalised matrices without the dropped tokens, `[..., m, m]` in float64.
#[pyfunction]
#[pyo3(signature = (a, *, drop, tolerance, threads))]
pub(crate) fn row_stochastic<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    drop: Vec<usize>,
    tolerance: Option<f64>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    let held = Held::of(a)?;
    let maps = held.maps()?;
    let tolerance = tolerance.unwrap_or_else(|| maps.row_tolerance());
    if !(tolerance.is_finite() && tolerance >= 0.0) {
        return Err(PyValueError::new_err(format!(
            "tolerance must be a finite number ≥ 0, found {tolerance}"
        )));
    }
    let results = detached(py, threads, || {
        maps.each_unchecked(|values| {
            let checked = if drop.is_empty() {
                Stochastic::with_tolerance(values.to_owned(), tolerance)?
            } else {
                Stochastic::restricted(values, &drop, tolerance)?
            };
            Ok(checked.into_values().into_raw_vec_and_offset().0)
        })
    })?;
    sentences(&results, false)?;
    let kept = maps.states() - distinct(&drop);
    gather(py, maps.outer(), &[kept, kept], &results, Vec::clone, f64::NAN)
}

/// The leading axes of a batch of matrices and the number of states of each, after checking type and shape.
#[pyfunction]
pub(crate) fn shape(a: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, usize)> {
    let held = Held::of(a)?;
    let maps = held.maps()?;
    Ok((maps.outer().to_vec(), maps.states()))
}

/// Returns how many different tokens a list names.
fn distinct(tokens: &[usize]) -> usize {
    tokens.iter().collect::<BTreeSet<_>>().len()
}
