//! Multi-bounce attention: takes some steps from a start and keeps every state on the way.

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis, s};

use crate::chain::distribution;
use crate::propagate::{Block, Propagate};
use crate::{Error, Result};

/// Returns the states after 1, 2, …, `steps` steps from a block of starts, on the carrier's device.
///
/// Element 0 is the state after one step. With the uniform start it is the column sum over `n`.
///
/// # Errors
/// The errors of [`Propagate::step`].
pub fn bounces<P: Propagate>(chain: &P, start: &P::Block, steps: usize) -> Result<Vec<P::Block>> {
    let mut states = Vec::with_capacity(steps);
    for step in 0..steps {
        let mut next = start.zeros_like()?;
        chain.step(if step == 0 { start } else { &states[step - 1] }, &mut next)?;
        states.push(next);
    }
    Ok(states)
}

/// [`bounces`] of one chain from a batch of distributions `[k, n]`: `[steps, k, n]`.
///
/// # Errors
/// [`Error::Distribution`] if a start is not a distribution over the states.
pub fn bounce_batch<P: Propagate>(
    chain: &P,
    starts: ArrayView2<'_, f64>,
    steps: usize,
) -> Result<Array3<f64>> {
    let (k, n) = (starts.nrows(), chain.states());
    let mut checked = Array2::zeros((k, n));
    for (start, mut row) in starts.rows().into_iter().zip(checked.rows_mut()) {
        row.assign(&distribution("the start", start, n)?);
    }
    let mut all = Array3::zeros((steps, k, n));
    for (step, state) in bounces(chain, &chain.lift(checked.view())?, steps)?.iter().enumerate() {
        all.slice_mut(s![step, .., ..]).assign(&state.lower()?);
    }
    Ok(all)
}

/// [`bounces`] of one chain from the distribution `start` `[n]`: `[steps, n]`.
///
/// # Errors
/// As [`bounce_batch`].
pub fn bounce<P: Propagate>(chain: &P, start: ArrayView1<'_, f64>, steps: usize) -> Result<Array2<f64>> {
    Ok(bounce_batch(chain, start.insert_axis(Axis(0)), steps)?.index_axis_move(Axis(1), 0))
}

/// [`bounces`] of one chain from `token` with certainty: `[steps, n]`. Row 0 is the token's row of the chain.
///
/// # Errors
/// [`Error::NoSuchToken`].
pub fn bounce_token<P: Propagate>(chain: &P, token: usize, steps: usize) -> Result<Array2<f64>> {
    let states = chain.states();
    if token >= states {
        return Err(Error::NoSuchToken { token, states });
    }
    let mut start = Array1::zeros(states);
    start[token] = 1.0;
    bounce(chain, start.view(), steps)
}

/// Returns the uniform distribution over the states of a chain, `[n]`. One step from it is the column sum over `n`.
pub fn uniform<P: Propagate>(chain: &P) -> Array1<f64> {
    Array1::from_elem(chain.states(), 1.0 / chain.states() as f64)
}
