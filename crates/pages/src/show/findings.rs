//! The numbers behind the figures.

use markov_core::{
    Chain, Effort, Metastable, ROW_TOLERANCE, RowStochastic, Sets, Stochastic, StochasticView, Stop,
    Triangle, bounce, lambda2, metastable_sets, token_rank, uniform,
};
use models::probe::LayerChain;
use ndarray::{Array1, Array2};
use rayon::prelude::*;
use serde::Serialize;

use super::blocks::Block;
use super::tokens::Spread;
use eval::Result;
use eval::analysis::AnalysisError;

/// Relative accuracy of λ₂; attention itself is accurate to about 1e-7.
pub(super) const LAMBDA_TOLERANCE: f64 = 1e-6;
/// The reference implementation's power method stops at this L1 change, or after [`MOST_STEPS`].
pub(super) const REFERENCE_CHANGE: f64 = 1e-5;
const MOST_STEPS: usize = 200;
/// L1 change at which the figure of convergence ends.
const LEAST_CHANGE: f64 = 1e-8;
/// Largest number of states of a chain whose metastable sets are computed, which takes n³ operations.
pub(super) const METASTABLE_STATES: usize = 2000;
/// Maximum number of metastable sets that the spectral gap may choose.
const MOST_SETS: usize = 6;

/// Findings on a chain in both directions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ChainFindings {
    /// λ₂ modulus of the matrix, without teleport.
    pub lambda2: f64,
    /// TokenRank of the forward chain `[n]`.
    pub incoming: Vec<f64>,
    /// TokenRank of the backward chain `[n]`.
    pub outgoing: Vec<f64>,
    /// L1 change of each step of the power method on the forward chain, from the uniform state.
    pub convergence: Vec<f64>,
}

impl ChainFindings {
    /// Returns the step at which the reference implementation stops; `None` if it reaches its step limit first.
    pub(super) fn steps(&self) -> Option<usize> {
        self.convergence.iter().position(|change| *change < REFERENCE_CHANGE).map(|before| before + 1)
    }
}

/// Findings on one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LayerFindings {
    /// The block of the layer.
    #[serde(skip)]
    pub block: Block,
    /// The triangle of the mean of the heads, if it is triangular like causal attention.
    #[serde(skip)]
    pub triangle: Option<Triangle>,
    /// λ₂ modulus of each head.
    pub lambda2: Vec<f64>,
    /// Findings on the mean of the heads.
    pub mean: ChainFindings,
}

/// All findings on one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Findings {
    /// Findings on the layers, in order.
    pub layers: Vec<LayerFindings>,
    /// Findings on the mean over layers and heads.
    pub average: ChainFindings,
    /// States `[n]` of the mean chain after 1, 2, … steps forward, along the attention.
    pub forward: Vec<Vec<f64>>,
    /// States `[n]` of the mean chain after 1, 2, … steps backward, against the attention.
    pub backward: Vec<Vec<f64>>,
    /// Metastable sets of the mean chain; `None` if it is too large.
    pub metastable: Option<SetFindings>,
}

/// Metastable sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct SetFindings {
    /// The set of each state `[n]`.
    pub assignment: Vec<usize>,
    /// Number of states in each set.
    pub sizes: Vec<usize>,
    /// Probability of each set in the steady state.
    pub weights: Vec<f64>,
    /// Probability that a stationary walk in the set is still there after a step.
    pub staying: Vec<f64>,
    /// The probability in `staying`, if jumps to other states followed the steady state.
    pub staying_by_chance: Vec<f64>,
    /// The patch most typical of each set, for a label.
    #[serde(skip)]
    pub centres: Vec<Option<usize>>,
    /// Between 0 and 1; 1 if every state belongs to only one set.
    pub crispness: f64,
}

/// Settings of the findings.
#[derive(Debug, Clone)]
pub(super) struct Questions {
    pub alpha: f64,
    /// The distribution that bounces start from.
    pub start: Spread,
    pub bounces: usize,
    pub sets: Option<usize>,
}

impl Findings {
    /// Returns the blocks, in order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        self.layers.iter().map(|layer| layer.block).collect()
    }

    /// Computes the findings on the layers and their mean. Labels of sets may stand only on states for which `is_patch` is true.
    ///
    /// # Errors
    /// Fails if a matrix is not row-stochastic or does not have the requested steady state.
    pub(super) fn of(
        layers: &[LayerChain],
        questions: Questions,
        is_patch: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let Questions { alpha, start, bounces, sets } = questions;
        let of_layer = |layer: &LayerChain| -> Result<LayerFindings> {
            let found =
                view(&layer.mean).and_then(|view| Ok((view.triangle(), chain_findings(&view, alpha)?)));
            let block = Block { stream: layer.stream, number: layer.block };
            let (triangle, mean) =
                found.map_err(|source| failed(format!("the mean of the heads of {block}"), source))?;
            Ok(LayerFindings { block, triangle, lambda2: layer.lambda2.clone(), mean })
        };
        let found: Vec<LayerFindings> = layers.par_iter().map(of_layer).collect::<Result<_>>()?;

        let of_average = || -> markov_core::Result<Self> {
            let mean = average(layers)?;
            let (forward, backward) = (mean.teleport(alpha)?.forward(), mean.teleport(alpha)?.backward()?);
            let from = Array1::from(start.distribution(mean.states()));
            let rows = |states: Array2<f64>| states.rows().into_iter().map(|row| row.to_vec()).collect();
            Ok(Self {
                layers: Vec::new(),
                average: chain_findings(&mean.view(), alpha)?,
                forward: rows(bounce(&forward, from.view(), bounces)?),
                backward: rows(bounce(&backward, from.view(), bounces)?),
                metastable: set_findings(&forward, sets, &is_patch)?,
            })
        };
        let averaged =
            of_average().map_err(|source| failed("the mean of the chosen layers".into(), source))?;
        Ok(Self { layers: found, ..averaged })
    }
}

fn failed(place: String, source: markov_core::Error) -> eval::Error {
    AnalysisError::Chain { place, source }.into()
}

fn view(map: &Array2<f32>) -> markov_core::Result<StochasticView<'_, f32>> {
    StochasticView::new(map.as_slice().unwrap_or_default(), map.nrows(), ROW_TOLERANCE)
}

/// Returns the mean over layers, which all have the same number of heads, in double precision.
fn average(layers: &[LayerChain]) -> markov_core::Result<Stochastic<f64>> {
    let n = layers.first().map_or(0, |layer| layer.mean.nrows());
    let mut mean = Array2::<f64>::zeros((n, n));
    for layer in layers {
        mean.zip_mut_with(&layer.mean, |mean, value| *mean += f64::from(*value));
    }
    mean /= layers.len().max(1) as f64;
    Stochastic::new(mean)
}

fn chain_findings<M: RowStochastic + Clone>(matrix: &M, alpha: f64) -> markov_core::Result<ChainFindings> {
    let forward = matrix.clone().teleport(alpha)?.forward();
    let backward = matrix.clone().teleport(alpha)?.backward()?;
    Ok(ChainFindings {
        lambda2: lambda2(&matrix.clone().forward(), Effort::tolerance(LAMBDA_TOLERANCE))?.modulus,
        incoming: token_rank(&forward, Stop::strict())?.pi.to_vec(),
        outgoing: token_rank(&backward, Stop::strict())?.pi.to_vec(),
        convergence: convergence(&forward)?,
    })
}

/// Returns the L1 changes of the power method's steps from the uniform state, up to a small change or the reference's step limit.
fn convergence<M: RowStochastic>(chain: &Chain<M>) -> markov_core::Result<Vec<f64>> {
    let mut changes = Vec::new();
    let mut state: Array1<f64> = uniform(chain);
    while changes.len() < MOST_STEPS && changes.last().is_none_or(|change| *change >= LEAST_CHANGE) {
        // Ten steps at a time, since most chains have converged by then.
        let states = bounce(chain, state.view(), 10.min(MOST_STEPS - changes.len()))?;
        for next in states.rows() {
            changes.push((&next - &state).mapv(f64::abs).sum());
            state.assign(&next);
            if changes.last().is_some_and(|change| *change < LEAST_CHANGE) {
                break;
            }
        }
    }
    Ok(changes)
}

fn set_findings<M: RowStochastic>(
    chain: &Chain<M>,
    sets: Option<usize>,
    is_patch: impl Fn(usize) -> bool,
) -> markov_core::Result<Option<SetFindings>> {
    let n = chain.states();
    if n > METASTABLE_STATES {
        return Ok(None);
    }
    let found = metastable_sets(chain, sets.map_or(Sets::Gap(MOST_SETS.min(n)), Sets::Count))?;
    let Metastable { memberships, assignment, sets, staying, weights, pi, crispness, .. } = found;
    let stays_put = chain.dense().diag().to_owned();
    let by_chance = |(states, weight): (&Vec<usize>, &f64)| {
        let of_state = |state: &usize| {
            let (put, probability) = (stays_put[*state], pi[*state]);
            // Fraction of the set's other states among all other states; a chain of one state has no others.
            let others =
                if probability < 1.0 { (weight - probability).max(0.0) / (1.0 - probability) } else { 0.0 };
            probability / weight * (put + (1.0 - put) * others)
        };
        states.iter().map(of_state).sum()
    };
    let centre = |(set, states): (usize, &Vec<usize>)| {
        let patches = states.iter().copied().filter(|state| is_patch(*state));
        patches.max_by(|a, b| memberships[(*a, set)].total_cmp(&memberships[(*b, set)]))
    };
    Ok(Some(SetFindings {
        sizes: sets.iter().map(Vec::len).collect(),
        staying_by_chance: sets.iter().zip(&weights).map(by_chance).collect(),
        centres: sets.iter().enumerate().map(centre).collect(),
        assignment,
        weights,
        staying,
        crispness,
    }))
}
