//! The chains of one attention call, from its queries and keys: what `watch` computes for each layer.

use markov_core::{
    Direction, Effort, Error, HeadAt, HeadMap, Layer, Number, Result, RowStochastic, Stop, absorption,
    bounce_batch, lambda2, token_rank,
};
use ndarray::{Array1, Array2, Array3, Array4, Array5, ArrayView3, ArrayView4, ArrayViewD, Axis, Ix4, s};
use numpy::{PyReadonlyArray2, PyReadonlyArray4, PyReadonlyArrayDyn, ToPyArray};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{direction as parse, effort};
use crate::failure::value_error;
use crate::numbers::{Numbers, bfloats};
use crate::parallel::detached;

/// Heads whose maps are held at the same time while their mean is computed.
const MAPS_AT_ONCE: usize = 8;

/// What to compute for each head, with tokens numbered as in the whole sequence.
struct Questions<'a> {
    alpha: f64,
    direction: Direction,
    /// Distributions that teleports go to `[batch, heads, n]`; uniform if `None`.
    teleport: Option<ArrayView3<'a, f64>>,
    /// Tokens from which bounces start; walks that are absorbed start uniformly on one of them.
    start: Vec<usize>,
    steps: usize,
    /// Absorbing tokens, if visits are asked for.
    absorb: Option<Vec<usize>>,
    lambda2: Option<Effort>,
    token_rank: bool,
    map: bool,
}

/// The answers for one head over its kept tokens. A quantity that failed does not lose the others.
#[derive(Default)]
struct Answers {
    lambda2: Option<Result<f64>>,
    token_rank: Option<Result<Array1<f64>>>,
    /// `[starts, steps, kept]`.
    bounces: Option<Result<Array3<f64>>>,
    visits: Option<Result<Array1<f64>>>,
    map: Option<Array2<f32>>,
}

/// Takes queries or keys `[batch, heads, n, d]`.
fn vectors<'py>(name: &str, array: &Bound<'py, PyAny>) -> PyResult<Numbers<'py, Ix4>> {
    Numbers::of(array).ok_or_else(|| {
        PyTypeError::new_err(format!(
            "{name} must be an array [batch, heads, n, d] of float64, float32, float16, or of uint16 for the bits of bfloat16"
        ))
    })
}

/// A mask as numpy has it, broadcast to `[batch, heads, n, n]`.
enum Forbidden<'py> {
    Allowed(PyReadonlyArray4<'py, bool>),
    Added32(PyReadonlyArray4<'py, f32>),
    Added64(PyReadonlyArray4<'py, f64>),
}

impl<'py> Forbidden<'py> {
    fn of(mask: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(mask) = mask.extract() {
            return Ok(Forbidden::Allowed(mask));
        }
        if let Ok(mask) = mask.extract() {
            return Ok(Forbidden::Added32(mask));
        }
        if let Ok(mask) = mask.extract() {
            return Ok(Forbidden::Added64(mask));
        }
        Err(PyTypeError::new_err(
            "mask must be an array [batch, heads, n, n], any axis of which may have length 1, of bool (True: may attend), \
             float32 or float64 (added to the logits)",
        ))
    }
}

/// What shapes the logits of the call.
struct Shaping<'a, 'py> {
    scale: f64,
    causal: bool,
    window: Option<(i64, i64)>,
    mask: Option<&'a Forbidden<'py>>,
    softcap: Option<f64>,
    keep: Option<&'a PyReadonlyArray2<'py, bool>>,
}

impl Shaping<'_, '_> {
    fn layer<'v, T: Number>(
        &'v self,
        queries: ArrayView4<'v, T>,
        keys: ArrayView4<'v, T>,
    ) -> Result<Layer<'v, T>> {
        let mut layer = Layer::new(queries, keys, self.scale)?;
        if let Some(cap) = self.softcap {
            layer = layer.softcapped(cap)?;
        }
        if self.causal {
            layer = layer.causal();
        }
        if let Some((before, after)) = self.window {
            let side = |tokens: i64| usize::try_from(tokens).unwrap_or(usize::MAX);
            layer = layer.windowed(side(before), side(after));
        }
        layer = match self.mask {
            None => layer,
            Some(Forbidden::Allowed(mask)) => layer.allowed(mask.as_array())?,
            Some(Forbidden::Added32(bias)) => layer.biased(bias.as_array())?,
            Some(Forbidden::Added64(bias)) => layer.biased(bias.as_array())?,
        };
        match self.keep {
            Some(keep) => layer.keeping(keep.as_array()),
            None => Ok(layer),
        }
    }
}

/// Computes the chains of all heads of a call. See `crates/python/tests/reference.py` for the definition of every result.
#[pyfunction]
#[pyo3(signature = (
    q, k, *, scale, causal, window, mask, softcap, keep, alpha, direction, teleport, absorb, lambda2, tol, token_rank, start,
    steps, visits, mean_map, heads_map, threads
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn chains<'py>(
    py: Python<'py>,
    q: &Bound<'py, PyAny>,
    k: &Bound<'py, PyAny>,
    scale: f64,
    causal: bool,
    window: Option<(i64, i64)>,
    mask: Option<&Bound<'py, PyAny>>,
    softcap: Option<f64>,
    keep: Option<PyReadonlyArray2<'py, bool>>,
    alpha: f64,
    direction: &str,
    teleport: Option<PyReadonlyArrayDyn<'py, f64>>,
    absorb: Option<Vec<usize>>,
    lambda2: bool,
    tol: f64,
    token_rank: bool,
    start: Option<Vec<usize>>,
    steps: usize,
    visits: bool,
    mean_map: bool,
    heads_map: bool,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyDict>> {
    let (queries, keys) = (vectors("q", q)?, vectors("k", k)?);
    let mask = mask.map(Forbidden::of).transpose()?;
    let shaping = Shaping { scale, causal, window, mask: mask.as_ref(), softcap, keep: keep.as_ref() };
    if visits && absorb.as_ref().is_none_or(Vec::is_empty) {
        return Err(PyValueError::new_err("visits need absorbing tokens; name at least one in absorb"));
    }
    let effort = effort(tol)?;
    let teleport = teleport.as_ref().map(|rows| rows.as_array());
    let call = Call {
        alpha,
        direction: parse(direction)?,
        teleport,
        start: start.unwrap_or_default(),
        steps,
        absorb: absorb.filter(|_| visits),
        lambda2: lambda2.then_some(effort),
        token_rank,
        mean_map,
        heads_map,
        threads,
    };
    match (&queries, &keys) {
        (Numbers::F32(q), Numbers::F32(k)) => call.answer(py, &shaping, q.as_array(), k.as_array()),
        (Numbers::F64(q), Numbers::F64(k)) => call.answer(py, &shaping, q.as_array(), k.as_array()),
        (Numbers::F16(q), Numbers::F16(k)) => call.answer(py, &shaping, q.as_array(), k.as_array()),
        (Numbers::Bf16(q), Numbers::Bf16(k)) => {
            call.answer(py, &shaping, bfloats(q.as_array()), bfloats(k.as_array()))
        }
        _ => Err(PyTypeError::new_err("q and k must have the same type of numbers")),
    }
}

/// The settings of a call that do not shape its logits.
struct Call<'a> {
    alpha: f64,
    direction: Direction,
    teleport: Option<ArrayViewD<'a, f64>>,
    start: Vec<usize>,
    steps: usize,
    absorb: Option<Vec<usize>>,
    lambda2: Option<Effort>,
    token_rank: bool,
    mean_map: bool,
    heads_map: bool,
    threads: Option<usize>,
}

impl Call<'_> {
    fn answer<'py, 'v, T: Number>(
        &self,
        py: Python<'py>,
        shaping: &'v Shaping<'_, '_>,
        queries: ArrayView4<'v, T>,
        keys: ArrayView4<'v, T>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (batch, heads, n, _) = queries.dim();
        let layer = shaping.layer(queries, keys).map_err(|error| value_error(&error))?;
        for token in self.start.iter().chain(self.absorb.iter().flatten()) {
            if *token >= n {
                return Err(value_error(&Error::NoSuchToken { token: *token, states: n }));
            }
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(value_error(&Error::Alpha(self.alpha)));
        }
        let teleport = self.teleport.as_ref().map(|rows| spread(rows, [batch, heads, n])).transpose()?;
        let teleport = teleport.as_ref().map(|rows| rows.view());
        let questions = Questions {
            alpha: self.alpha,
            direction: self.direction,
            teleport,
            start: self.start.clone(),
            steps: self.steps,
            absorb: self.absorb.clone(),
            lambda2: self.lambda2,
            token_rank: self.token_rank,
            map: self.mean_map || self.heads_map,
        };
        let mut kept = Vec::with_capacity(batch);
        for item in 0..batch {
            kept.push(layer.kept(item).map_err(|error| value_error(&error))?);
        }
        let mut results = Results::new(self, [batch, heads, n]);
        detached(py, self.threads, || {
            let all = layer.heads();
            let at_once = if questions.map { MAPS_AT_ONCE } else { all.len().max(1) };
            for some in all.chunks(at_once) {
                let answers = layer.some(some, |at, map| Ok(questions.of(at, map, &kept[at.item])));
                for (at, answers) in some.iter().zip(answers) {
                    results.add(*at, answers, &kept[at.item]);
                }
            }
        })?;
        results.into_dict(py, &kept)
    }
}

/// Returns distributions over the tokens `[n]`, `[batch, n]` or `[batch, heads, n]` in the last of these shapes.
fn spread(rows: &ArrayViewD<'_, f64>, shape: [usize; 3]) -> PyResult<Array3<f64>> {
    let wide = if rows.ndim() == 2 { rows.view().insert_axis(Axis(1)) } else { rows.view() };
    wide.broadcast(shape).map(|wide| wide.to_owned()).ok_or_else(|| {
        let [batch, heads, n] = shape;
        PyValueError::new_err(format!(
            "teleport has shape {:?}, expected [{n}], [{batch}, {n}] or [{batch}, {heads}, {n}]: a probability for every token",
            rows.shape()
        ))
    })
}

impl Questions<'_> {
    /// Answers the questions for one head, whose states are the tokens `kept`.
    fn of(&self, at: HeadAt, map: &HeadMap<'_>, kept: &[usize]) -> Answers {
        let teleport = self.teleport(at, kept).transpose();
        let chain = || {
            let teleported = match &teleport {
                Ok(Some(target)) => map.teleport_to(self.alpha, target.view())?,
                Ok(None) => map.teleport(self.alpha)?,
                Err(reason) => return Err(left_out(reason.clone(), map.states())),
            };
            teleported.towards(self.direction)
        };
        Answers {
            lambda2: self.lambda2.map(|effort| Ok(lambda2(&map.forward(), effort)?.modulus)),
            token_rank: self.token_rank.then(|| Ok(token_rank(&chain()?, Stop::strict())?.pi)),
            bounces: (!self.start.is_empty() && self.steps > 0).then(|| {
                let starts = positions(&self.start, kept)?;
                let mut rows = Array2::zeros((starts.len(), kept.len()));
                starts.iter().enumerate().for_each(|(row, start)| rows[(row, *start)] = 1.0);
                Ok(bounce_batch(&chain()?, rows.view(), self.steps)?.permuted_axes([1, 0, 2]))
            }),
            visits: self.absorb.as_ref().map(|absorb| {
                let walk = map.teleport(1.0)?.towards(self.direction)?;
                let absorbed = absorption(&walk, &positions(absorb, kept)?)?;
                absorbed.visits(self.first(&teleport, kept)?.view())
            }),
            map: self.map.then(|| dense(map)),
        }
    }

    /// Returns the distribution over the kept tokens that teleports go to; an error if it has no mass there.
    fn teleport(&self, at: HeadAt, kept: &[usize]) -> Option<std::result::Result<Array1<f64>, String>> {
        let rows = self.teleport.as_ref()?;
        let all = rows.slice(s![at.item, at.head, ..]);
        if let Some((token, p)) = all.iter().enumerate().find(|(_, p)| !(p.is_finite() && **p >= 0.0)) {
            return Some(Err(format!("the probability of teleporting to token {token} is {p}")));
        }
        let target: Array1<f64> = kept.iter().map(|token| all[*token]).collect();
        let mass = target.sum();
        if mass < f64::MIN_POSITIVE {
            return Some(Err("all of its mass lies on dropped tokens".into()));
        }
        Some(Ok(target / mass))
    }

    /// Returns where walks that are absorbed start.
    fn first(
        &self,
        teleport: &std::result::Result<Option<Array1<f64>>, String>,
        kept: &[usize],
    ) -> Result<Array1<f64>> {
        if self.start.is_empty() {
            return match teleport {
                Ok(Some(target)) => Ok(target.clone()),
                Ok(None) => Ok(Array1::from_elem(kept.len(), 1.0 / kept.len() as f64)),
                Err(reason) => Err(left_out(reason.clone(), kept.len())),
            };
        }
        let mut first = Array1::zeros(kept.len());
        for position in positions(&self.start, kept)? {
            first[position] += 1.0 / self.start.len() as f64;
        }
        Ok(first)
    }
}

fn left_out(reason: String, states: usize) -> Error {
    Error::Distribution { what: "the teleport vector", states, reason }
}

/// Returns the positions of tokens among those that are kept.
fn positions(tokens: &[usize], kept: &[usize]) -> Result<Vec<usize>> {
    let position = |token: &usize| kept.binary_search(token).map_err(|_| Error::Dropped { token: *token });
    tokens.iter().map(position).collect()
}

/// Returns the matrix of a head in single precision.
fn dense(map: &HeadMap<'_>) -> Array2<f32> {
    match map {
        HeadMap::Dense(map) => map.values().mapv(|p| p as f32),
        HeadMap::MatrixFree(head) => head.to_stochastic::<f32>().into_values(),
    }
}

/// The results of a call over all tokens; entries of dropped tokens are 0, those of failed quantities NaN.
struct Results {
    lambda2: Option<Array2<f64>>,
    token_rank: Option<Array3<f64>>,
    bounces: Option<Array5<f64>>,
    visits: Option<Array3<f64>>,
    mean_map: Option<Array3<f64>>,
    maps: Option<Array4<f32>>,
    heads: usize,
    tokens: usize,
    /// Batch item, head, quantity and reason.
    failed: Vec<(usize, usize, &'static str, String)>,
}

impl Results {
    fn new(call: &Call<'_>, [batch, heads, n]: [usize; 3]) -> Self {
        let bounces = !call.start.is_empty() && call.steps > 0;
        let shape = [batch, heads, call.start.len(), call.steps, n];
        Results {
            lambda2: call.lambda2.map(|_| Array2::zeros((batch, heads))),
            token_rank: call.token_rank.then(|| Array3::zeros((batch, heads, n))),
            bounces: bounces.then(|| Array5::zeros(shape)),
            visits: call.absorb.as_ref().map(|_| Array3::zeros((batch, heads, n))),
            mean_map: call.mean_map.then(|| Array3::zeros((batch, n, n))),
            maps: call.heads_map.then(|| Array4::zeros((batch, heads, n, n))),
            heads,
            tokens: n,
            failed: Vec::new(),
        }
    }

    /// Adds the answers for a head, or notes why there are none.
    fn add(&mut self, at: HeadAt, answers: Result<Answers>, kept: &[usize]) {
        let HeadAt { item, head } = at;
        let answers = answers.unwrap_or_else(|error| {
            self.failed.push((item, head, "all", error.to_string()));
            Answers::default()
        });
        if let Some(all) = &mut self.lambda2 {
            all[(item, head)] = noted(&mut self.failed, at, "lambda2", answers.lambda2).unwrap_or(f64::NAN);
        }
        for (name, all, answer) in [
            ("token_rank", &mut self.token_rank, answers.token_rank),
            ("visits", &mut self.visits, answers.visits),
        ] {
            let Some(all) = all else { continue };
            let mut row = all.slice_mut(s![item, head, ..]);
            match noted(&mut self.failed, at, name, answer) {
                Some(found) => kept.iter().zip(found).for_each(|(token, p)| row[*token] = p),
                None => row.fill(f64::NAN),
            }
        }
        if let Some(all) = &mut self.bounces {
            let mut rows = all.slice_mut(s![item, head, .., .., ..]);
            match noted(&mut self.failed, at, "bounces", answers.bounces) {
                Some(found) => {
                    for (state, token) in kept.iter().enumerate() {
                        rows.index_axis_mut(Axis(2), *token).assign(&found.index_axis(Axis(2), state));
                    }
                }
                None => rows.fill(f64::NAN),
            }
        }
        if let Some(all) = &mut self.mean_map {
            let mut mean = all.index_axis_mut(Axis(0), item);
            match &answers.map {
                Some(map) => {
                    for ((i, j), p) in map.indexed_iter() {
                        mean[(kept[i], kept[j])] += f64::from(*p) / self.heads as f64;
                    }
                }
                None => mean.fill(f64::NAN),
            }
        }
        if let Some(all) = &mut self.maps {
            let mut rows = all.slice_mut(s![item, head, .., ..]);
            match &answers.map {
                Some(map) => map.indexed_iter().for_each(|((i, j), p)| rows[(kept[i], kept[j])] = *p),
                None => rows.fill(f32::NAN),
            }
        }
    }

    fn into_dict<'py>(self, py: Python<'py>, kept: &[Vec<usize>]) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let mut mask = Array2::from_elem((kept.len(), self.tokens), false);
        for (mut row, kept) in mask.rows_mut().into_iter().zip(kept) {
            kept.iter().for_each(|token| row[*token] = true);
        }
        dict.set_item("kept", mask.to_pyarray(py))?;
        dict.set_item("failed", self.failed)?;
        if let Some(all) = self.lambda2 {
            dict.set_item("lambda2", all.to_pyarray(py))?;
        }
        if let Some(all) = self.token_rank {
            dict.set_item("token_rank", all.to_pyarray(py))?;
        }
        if let Some(all) = self.bounces {
            dict.set_item("bounces", all.to_pyarray(py))?;
        }
        if let Some(all) = self.visits {
            dict.set_item("visits", all.to_pyarray(py))?;
        }
        if let Some(all) = self.mean_map {
            dict.set_item("mean_map", all.mapv(|p| p as f32).to_pyarray(py))?;
        }
        if let Some(all) = self.maps {
            dict.set_item("maps", all.to_pyarray(py))?;
        }
        Ok(dict)
    }
}

/// Returns the answer, or notes why there is none. An absent answer belongs to a head that failed as a whole.
fn noted<R>(
    failed: &mut Vec<(usize, usize, &'static str, String)>,
    at: HeadAt,
    quantity: &'static str,
    answer: Option<Result<R>>,
) -> Option<R> {
    match answer? {
        Ok(found) => Some(found),
        Err(error) => {
            failed.push((at.item, at.head, quantity, error.to_string()));
            None
        }
    }
}
