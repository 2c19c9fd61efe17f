//! The quantities computed for one matrix. If one fails, the others are still computed.

use std::collections::BTreeMap;

use markov_core::{
    Chain, Element, Error as ChainError, Metastable, Result, RowStochastic, Sets, StochasticView, absorption,
    bounce_token, metastable_sets, token_rank, uniform,
};
use ndarray::{Array, Array1, Dimension};

use super::AnalysisOptions;
use super::spectrum::{Lambda, lambda};

/// What to compute for a matrix; tokens are numbered as they are after dropping.
pub(super) struct Questions<'a> {
    pub options: &'a AnalysisOptions,
    /// The token from which bounces, and walks until absorption, start.
    pub start: Option<usize>,
    /// Absorbing tokens.
    pub absorb: &'a [usize],
    /// Distribution that teleports go to; uniform if `None`.
    pub teleport: Option<Array1<f64>>,
}

/// One array of the output, for one matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// The numbers of an array, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    F64(Vec<f64>),
    I64(Vec<i64>),
}

/// Why a quantity is missing, or less accurate than requested.
#[derive(Debug)]
pub(super) enum Reason {
    /// The quantity does not exist or could not be computed.
    Chain(ChainError),
    /// The quantity was computed, but the iteration gave up before it reached the requested accuracy.
    Short { error: f64, wanted: f64 },
}

/// The quantities computed for one matrix.
#[derive(Default)]
pub(super) struct Answer {
    /// Arrays by their names in the output.
    pub found: BTreeMap<&'static str, Values>,
    /// Quantities that are missing or less accurate than requested.
    pub failed: Vec<(&'static str, Reason)>,
}

impl Answer {
    /// Computes everything that the options request.
    pub(super) fn of<T: Element>(matrix: &StochasticView<'_, T>, questions: &Questions<'_>) -> Self {
        let mut answer = Self::default();
        let options = questions.options;
        match chain(matrix, questions) {
            Ok(chain) => answer.of_chain(&chain, questions),
            Err(error) => {
                // Every other quantity of this chain is missing for the same reason.
                answer.failed.push(("tokenrank", Reason::Chain(error)));
                let others = [("bounces", options.bounces.is_some()), ("sets", options.sets.is_some())];
                for (quantity, _) in others.into_iter().filter(|(_, asked)| *asked) {
                    let again = chain(matrix, questions).err().map(Reason::Chain);
                    answer.failed.extend(again.map(|reason| (quantity, reason)));
                }
            }
        }
        if let Some(k) = options.spectrum {
            answer.lambda(lambda(matrix, k, options.spectrum_tolerance), options.spectrum_tolerance);
        }
        if !questions.absorb.is_empty() {
            let found = visits(matrix, questions);
            answer.keep(
                "visits",
                found.map(|(visits, steps, ends)| {
                    vec![("visits", array(visits)), ("steps", array(steps)), ("absorption", array(ends))]
                }),
            );
        }
        answer
    }

    fn of_chain(&mut self, chain: &Chain<impl RowStochastic>, questions: &Questions<'_>) {
        let options = questions.options;
        self.keep(
            "tokenrank",
            token_rank(chain, options.stop).map(|rank| {
                vec![("tokenrank", array(rank.pi)), ("iterations", scalar(rank.iterations as f64))]
            }),
        );
        if let (Some(start), Some(steps)) = (questions.start, options.bounces) {
            self.keep(
                "bounces",
                bounce_token(chain, start, steps).map(|states| vec![("bounces", array(states))]),
            );
        }
        if let Some(count) = options.sets {
            self.keep("sets", metastable_sets(chain, Sets::Count(count)).map(set_values));
        }
    }

    fn lambda(&mut self, found: Result<Lambda>, wanted: f64) {
        if let Ok(Lambda { short: Some(error), .. }) = found {
            self.failed.push(("lambda", Reason::Short { error, wanted }));
        }
        self.keep(
            "lambda",
            found.map(|Lambda { moduli, residuals, conditions, .. }| {
                vec![
                    ("lambda", list(moduli)),
                    ("lambda.residual", list(residuals)),
                    ("lambda.condition", list(conditions)),
                ]
            }),
        );
    }

    fn keep(&mut self, quantity: &'static str, found: Result<Vec<(&'static str, Values)>>) {
        match found {
            Ok(values) => self.found.extend(values),
            Err(error) => self.failed.push((quantity, Reason::Chain(error))),
        }
    }
}

/// Returns the chain of TokenRank, bounces and metastable sets: teleport first, reversal second.
fn chain<'m, T: Element>(
    matrix: &'m StochasticView<'m, T>,
    questions: &Questions<'_>,
) -> Result<Chain<&'m StochasticView<'m, T>>> {
    let AnalysisOptions { alpha, direction, .. } = questions.options;
    let teleported = match &questions.teleport {
        Some(target) => matrix.teleport_to(*alpha, target.view())?,
        None => matrix.teleport(*alpha)?,
    };
    teleported.towards(*direction)
}

type Visits = (Array1<f64>, Array1<f64>, ndarray::Array2<f64>);

/// Returns expected visits, steps and the probability of ending in each absorbing token, without teleport.
fn visits<T: Element>(matrix: &StochasticView<'_, T>, questions: &Questions<'_>) -> Result<Visits> {
    let chain = matrix.teleport(1.0)?.towards(questions.options.direction)?;
    let absorbed = absorption(&chain, questions.absorb)?;
    let start = match (questions.start, &questions.teleport) {
        (Some(token), _) => {
            let mut start = Array1::zeros(matrix.states());
            start[token] = 1.0;
            start
        }
        (None, Some(target)) => target.clone(),
        (None, None) => uniform(&chain),
    };
    Ok((absorbed.visits(start.view())?, absorbed.steps(), absorbed.probabilities()))
}

fn set_values(found: Metastable) -> Vec<(&'static str, Values)> {
    let assignment: Vec<i64> = found.assignment.iter().map(|set| *set as i64).collect();
    vec![
        ("sets.assignment", Values { shape: vec![assignment.len()], data: Data::I64(assignment) }),
        ("sets.memberships", array(found.memberships)),
        ("sets.staying", list(found.staying)),
        ("sets.weights", list(found.weights)),
        ("sets.crispness", scalar(found.crispness)),
    ]
}

fn array<D: Dimension>(values: Array<f64, D>) -> Values {
    Values { shape: values.shape().to_vec(), data: Data::F64(values.into_iter().collect()) }
}

fn list(values: Vec<f64>) -> Values {
    Values { shape: vec![values.len()], data: Data::F64(values) }
}

fn scalar(value: f64) -> Values {
    Values { shape: Vec::new(), data: Data::F64(vec![value]) }
}
