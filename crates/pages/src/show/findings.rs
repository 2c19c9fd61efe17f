//! The numbers behind the pictures.

use std::ops::Range;

use markov_core::{
    Chain, Effort, Metastable, ROW_TOLERANCE, RowStochastic, Sets, Stochastic, StochasticView, Stop,
    Triangle, bounce, lambda2, metastable_sets, token_rank, uniform,
};
use models::probe::LayerChain;
use ndarray::{Array1, Array2, s};
use rayon::prelude::*;
use serde::Serialize;

use super::blocks::Block;
use eval::Result;
use eval::analysis::AnalysisError;

/// Relative accuracy of λ₂: attention itself is known to about 1e-7.
pub(super) const LAMBDA_TOLERANCE: f64 = 1e-6;
/// The reference implementation's power method stops at this L1 change, or after [`MOST_STEPS`].
pub(super) const REFERENCE_CHANGE: f64 = 1e-5;
const MOST_STEPS: usize = 200;
/// Where the picture of convergence ends.
const LEAST_CHANGE: f64 = 1e-8;
/// Largest chain whose metastable sets are looked for, a matter of n³ operations.
pub(super) const METASTABLE_STATES: usize = 2000;
/// Metastable sets that the spectral gap may choose.
const MOST_SETS: usize = 6;

/// What is known of a chain in both directions.
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
    /// The step at which the reference implementation stops; none where it gives up first.
    pub fn steps(&self) -> Option<usize> {
        self.convergence.iter().position(|change| *change < REFERENCE_CHANGE).map(|before| before + 1)
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LayerFindings {
    /// Which it is.
    #[serde(skip)]
    pub block: Block,
    /// Whether the mean of the heads is triangular, as causal attention is.
    #[serde(skip)]
    pub triangle: Option<Triangle>,
    /// λ₂ modulus of each head.
    pub lambda2: Vec<f64>,
    /// The mean of the heads.
    pub mean: ChainFindings,
}

/// Everything that is drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Findings {
    /// The layers in order.
    pub layers: Vec<LayerFindings>,
    /// The mean over layers and heads.
    pub average: ChainFindings,
    /// States `[n]` of that chain after 1, 2, … steps along the attention.
    pub forward: Vec<Vec<f64>>,
    /// The same against it.
    pub backward: Vec<Vec<f64>>,
    /// Metastable sets of that chain; none where it is too large.
    pub metastable: Option<SetFindings>,
}

/// Metastable sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct SetFindings {
    /// The set of each state `[n]`.
    pub assignment: Vec<usize>,
    /// States in each set.
    pub sizes: Vec<usize>,
    /// Share of each set in the steady state.
    pub weights: Vec<f64>,
    /// Probability that a stationary walk in the set is there after a step.
    pub staying: Vec<f64>,
    /// The same, if each jump to another state went by the states' shares of the steady state.
    pub staying_by_chance: Vec<f64>,
    /// The state most typical of each set's patches, for a label.
    #[serde(skip)]
    pub centres: Vec<Option<usize>>,
    /// Between 0 and 1: 1 where every state belongs to one set alone.
    pub crispness: f64,
}

/// What to find out.
#[derive(Debug, Clone)]
pub(super) struct Questions {
    pub alpha: f64,
    /// The states bounces start from, each as likely as the others.
    pub start: Range<usize>,
    pub bounces: usize,
    pub sets: Option<usize>,
}

impl Findings {
    /// The blocks, in order.
    pub fn blocks(&self) -> Vec<Block> {
        self.layers.iter().map(|layer| layer.block).collect()
    }

    /// Asks the layers and their mean. `patches` are the states a label may stand on.
    ///
    /// # Errors
    /// A matrix that is no chain, or without the steady state that was asked for.
    pub fn of(layers: &[LayerChain], questions: Questions, is_patch: impl Fn(usize) -> bool) -> Result<Self> {
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
            let mut from = Array1::zeros(mean.states());
            from.slice_mut(s![start.clone()]).fill(1.0 / start.len() as f64);
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

/// The mean over layers, all of which have as many heads, in double precision.
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

/// L1 changes of the power method's steps from the uniform state, until one is small or the reference would give up.
fn convergence<M: RowStochastic>(chain: &Chain<M>) -> markov_core::Result<Vec<f64>> {
    let mut changes = Vec::new();
    let mut state: Array1<f64> = uniform(chain);
    while changes.len() < MOST_STEPS && changes.last().is_none_or(|change| *change >= LEAST_CHANGE) {
        // A few steps at a time: most chains are done after ten.
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
            let (put, share) = (stays_put[*state], pi[*state]);
            // The others of the set among all others; a chain of one state has none.
            let others = if share < 1.0 { (weight - share).max(0.0) / (1.0 - share) } else { 0.0 };
            share / weight * (put + (1.0 - put) * others)
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
