//! The questions to one matrix and their answers. One that fails does not lose the others.

use std::collections::BTreeMap;

use markov_core::{
    Chain, Error as ChainError, Metastable, Result, RowStochastic, Sets, Stochastic, StochasticView,
    absorption, bounce_token, metastable_sets, token_rank, uniform,
};
use ndarray::{Array, Array1, Dimension};

use super::AnalysisOptions;
use super::spectrum::{Lambda, lambda};

/// What is asked of a matrix, its tokens numbered as they are after dropping.
pub(super) struct Questions<'a> {
    pub options: &'a AnalysisOptions,
    /// The token that bounces, and walks until absorption, start from.
    pub start: Option<usize>,
    /// Absorbing tokens.
    pub absorb: &'a [usize],
    /// Where a teleporting walk begins anew; uniform where there is none.
    pub teleport: Option<Array1<f64>>,
}

/// One array of the output, over one matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// Its numbers, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    F64(Vec<f64>),
    I64(Vec<i64>),
}

/// Why a quantity is missing, or not as accurate as it was asked for.
#[derive(Debug)]
pub(super) enum Reason {
    /// It does not exist or could not be computed.
    Chain(ChainError),
    /// It was computed, but the iteration gave up before it was as sure as was asked for.
    Short { error: f64, wanted: f64 },
}

/// The answers for one matrix.
#[derive(Default)]
pub(super) struct Answer {
    /// Arrays by their names in the output.
    pub found: BTreeMap<&'static str, Values>,
    /// What is missing or short.
    pub failed: Vec<(&'static str, Reason)>,
}

impl Answer {
    /// Asks everything that the options ask.
    pub(super) fn of(matrix: &Stochastic<f64>, questions: &Questions<'_>) -> Self {
        let mut answer = Self::default();
        let options = questions.options;
        match chain(matrix, questions) {
            Ok(chain) => answer.of_chain(&chain, questions),
            Err(error) => {
                // Whatever walks this chain is missing for the same reason.
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

    fn of_chain(&mut self, chain: &Chain<StochasticView<'_, f64>>, questions: &Questions<'_>) {
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

/// The chain of TokenRank, bounces and metastable sets: teleport first, reversal second.
fn chain<'m>(
    matrix: &'m Stochastic<f64>,
    questions: &Questions<'_>,
) -> Result<Chain<StochasticView<'m, f64>>> {
    let AnalysisOptions { alpha, direction, .. } = questions.options;
    let teleported = match &questions.teleport {
        Some(target) => matrix.teleport_to(*alpha, target.view())?,
        None => matrix.teleport(*alpha)?,
    };
    teleported.towards(*direction)
}

type Visits = (Array1<f64>, Array1<f64>, ndarray::Array2<f64>);

/// Expected visits, steps and the probabilities of ending in each absorbing token, without teleport.
fn visits(matrix: &Stochastic<f64>, questions: &Questions<'_>) -> Result<Visits> {
    let chain = matrix.view().teleport(1.0)?.towards(questions.options.direction)?;
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
