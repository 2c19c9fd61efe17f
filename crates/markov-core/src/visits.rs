//! Visits of a walk before it is absorbed: the fundamental matrix of an absorbing chain.
//!
//! With `Q` the transitions among transient states and `R` those from transient to absorbing ones, `N = (I - Q)⁻¹`
//! counts expected visits: `N[i, j]` to `j` by a walk from `i`, including the start. `N 1` are expected steps, `N R`
//! the probabilities of ending in each absorbing state (Kemeny and Snell, Finite Markov Chains, 1960, chapter III).

use faer::linalg::solvers::{PartialPivLu, Solve};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, Par};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use crate::chain::{Chain, RowStochastic, distribution};
use crate::triangle::{self, Triangle};
use crate::{Error, Result};

/// A chain with absorbing states: a walk that reaches one of them ends there.
///
/// Created by [`absorption`]. Vectors and matrices are over all `n` states, in their order; entries of absorbing states
/// are zero if they have no meaning.
#[derive(Debug, Clone)]
pub struct Absorption {
    states: usize,
    transient: Vec<usize>,
    absorbing: Vec<usize>,
    /// Transitions from transient to absorbing states, `[transient, absorbing]`.
    leaving: Array2<f64>,
    system: System,
}

/// `I - Q`, prepared for solving.
#[derive(Debug, Clone)]
enum System {
    /// There are no transient states.
    Nothing,
    /// Triangular, as in causal attention: solved by substitution.
    Triangular(Triangle, Mat<f64>),
    /// Any other matrix, as LU factors.
    Factored(PartialPivLu<f64>),
}

/// Makes the states `absorbing` of a chain absorbing; their own transitions are ignored. `absorbing` may be in any
/// order and contain repetitions.
///
/// Takes O(n²) if the transitions among the other states are triangular, as in causal attention, and O(n³) otherwise.
///
/// ```
/// use markov_core::{Stochastic, absorption};
/// use ndarray::array;
///
/// // Causal attention: every walk ends on token 0.
/// let a = Stochastic::new(array![[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.5, 0.25]])?;
/// let absorbed = absorption(&a.forward(), &[0])?;
/// let visits = absorbed.visits(array![0.0, 0.0, 1.0].view())?;
/// assert!((visits[2] - 4.0 / 3.0).abs() < 1e-12 && (visits[1] - 4.0 / 3.0).abs() < 1e-12);
/// assert!((absorbed.steps()[2] - 8.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), markov_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoSuchToken`] for an absorbing state that does not exist; [`Error::NotAbsorbed`] if a walk from some state
/// never reaches an absorbing one within floating-point precision, so that it would continue for ever.
pub fn absorption<M: RowStochastic>(chain: &Chain<M>, absorbing: &[usize]) -> Result<Absorption> {
    let states = chain.states();
    let mut absorbs = vec![false; states];
    for &token in absorbing {
        *absorbs.get_mut(token).ok_or(Error::NoSuchToken { token, states })? = true;
    }
    let dense = chain.dense();
    let (absorbing, transient): (Vec<usize>, Vec<usize>) = (0..states).partition(|state| absorbs[*state]);
    let open = transient.len();
    let stuck = |stuck: &[usize]| match stuck {
        [] => Ok(()),
        [state, ..] => Err(Error::NotAbsorbed { state: *state, count: stuck.len(), transient: open }),
    };
    stuck(&never_absorbed(dense.view(), absorbs))?;

    let part = |columns: &[usize]| {
        Array2::from_shape_fn((transient.len(), columns.len()), |(i, j)| dense[(transient[i], columns[j])])
    };
    let (leaving, staying) = (part(&absorbing), part(&transient));
    let system = System::of(&staying, &leaving);
    let absorption = Absorption { states, transient, absorbing, leaving, system };
    // Transitions weaker than the smallest float are numerically zero.
    let steps = absorption.steps();
    stuck(&(0..states).filter(|state| !steps[*state].is_finite()).collect::<Vec<_>>())?;
    Ok(absorption)
}

/// Returns the states from which no absorbing state can be reached, in rising order.
fn never_absorbed(dense: ArrayView2<'_, f64>, absorbs: Vec<bool>) -> Vec<usize> {
    let mut reaches = absorbs;
    let mut open: Vec<usize> = (0..reaches.len()).filter(|state| reaches[*state]).collect();
    while let Some(to) = open.pop() {
        for (from, &p) in dense.column(to).iter().enumerate() {
            if p > 0.0 && !reaches[from] {
                reaches[from] = true;
                open.push(from);
            }
        }
    }
    (0..reaches.len()).filter(|state| !reaches[*state]).collect()
}

impl System {
    /// Creates the system from the transitions among transient states and the transitions that leave them.
    fn of(staying: &Array2<f64>, leaving: &Array2<f64>) -> Self {
        let n = staying.nrows();
        if n == 0 {
            return System::Nothing;
        }
        // 1 - Q[i, i] is the probability of leaving i. Summing it instead of subtracting keeps its digits if a walk
        // stays for long.
        let moves_on = |i: usize| {
            let others: f64 =
                staying.row(i).iter().enumerate().filter(|(j, _)| *j != i).map(|(_, p)| p).sum();
            others + leaving.row(i).sum()
        };
        let system = Mat::from_fn(n, n, |i, j| if i == j { moves_on(i) } else { -staying[(i, j)] });
        match triangle::recognise(staying.as_slice().unwrap_or_default(), n) {
            Some(triangle) => System::Triangular(triangle, system),
            None if n == 1 => System::Triangular(Triangle::Lower, system),
            None => System::Factored(system.partial_piv_lu()),
        }
    }

    /// Solves `(I - Q) x = b` for the columns of `b`, in place.
    fn solve(&self, b: &mut Mat<f64>) {
        match self {
            System::Nothing => {}
            System::Triangular(Triangle::Lower, a) => {
                solve_lower_triangular_in_place(a.as_ref(), b.as_mut(), Par::Seq);
            }
            System::Triangular(Triangle::Upper, a) => {
                solve_upper_triangular_in_place(a.as_ref(), b.as_mut(), Par::Seq);
            }
            System::Factored(lu) => lu.solve_in_place(b.as_mut()),
        }
    }

    /// Solves `x (I - Q) = b` for rows, which are stored as columns, in place.
    fn solve_transposed(&self, b: &mut Mat<f64>) {
        match self {
            System::Nothing => {}
            System::Triangular(Triangle::Lower, a) => {
                solve_upper_triangular_in_place(a.transpose(), b.as_mut(), Par::Seq);
            }
            System::Triangular(Triangle::Upper, a) => {
                solve_lower_triangular_in_place(a.transpose(), b.as_mut(), Par::Seq);
            }
            System::Factored(lu) => lu.solve_transpose_in_place(b.as_mut()),
        }
    }
}

impl Absorption {
    /// The absorbing states in rising order.
    pub fn absorbing(&self) -> &[usize] {
        &self.absorbing
    }

    /// The other states in rising order.
    pub fn transient(&self) -> &[usize] {
        &self.transient
    }

    /// Returns the expected number of visits `[n]` to every state before a walk that begins with `start` `[n]` is
    /// absorbed. The start counts as a visit; absorbing states have 0. The sum is the expected number of steps.
    ///
    /// # Errors
    /// [`Error::Distribution`] when `start` is not a distribution over the states.
    pub fn visits(&self, start: ArrayView1<'_, f64>) -> Result<Array1<f64>> {
        let start = distribution("the start", start, self.states)?;
        let mut found = Mat::from_fn(self.transient.len(), 1, |i, _| start[self.transient[i]]);
        self.system.solve_transposed(&mut found);
        Ok(self.over_all_states(|i| found[(i, 0)]))
    }

    /// Returns the fundamental matrix `N` over all starts, `[n, n]`: expected visits to state `j` of a walk from state
    /// `i`, including the start. Rows and columns of absorbing states are 0.
    pub fn visits_from_each(&self) -> Array2<f64> {
        let t = self.transient.len();
        let mut found = Mat::<f64>::identity(t, t);
        self.system.solve(&mut found);
        let mut visits = Array2::zeros((self.states, self.states));
        for (i, &from) in self.transient.iter().enumerate() {
            for (j, &to) in self.transient.iter().enumerate() {
                visits[(from, to)] = not_negative(found[(i, j)]);
            }
        }
        visits
    }

    /// Returns the expected number of steps `[n]` until a walk from each state is absorbed; 0 for absorbing states.
    pub fn steps(&self) -> Array1<f64> {
        let mut found = Mat::from_fn(self.transient.len(), 1, |_, _| 1.0);
        self.system.solve(&mut found);
        self.over_all_states(|i| found[(i, 0)])
    }

    /// Returns the probability `[n, absorbing]` that a walk from each state ends in each absorbing state. Rows sum to
    /// 1; a walk from an absorbing state ends there.
    pub fn probabilities(&self) -> Array2<f64> {
        let mut found = Mat::from_fn(self.transient.len(), self.absorbing.len(), |i, j| self.leaving[(i, j)]);
        self.system.solve(&mut found);
        let mut all = Array2::zeros((self.states, self.absorbing.len()));
        for (i, &state) in self.transient.iter().enumerate() {
            (0..self.absorbing.len()).for_each(|j| all[(state, j)] = not_negative(found[(i, j)]));
        }
        self.absorbing.iter().enumerate().for_each(|(j, state)| all[(*state, j)] = 1.0);
        all
    }

    fn over_all_states(&self, of_transient: impl Fn(usize) -> f64) -> Array1<f64> {
        let mut all = Array1::zeros(self.states);
        self.transient.iter().enumerate().for_each(|(i, state)| all[*state] = not_negative(of_transient(i)));
        all
    }
}

/// Replaces slightly negative numbers, which come from rounding, by 0; NaN stays.
fn not_negative(value: f64) -> f64 {
    if value < 0.0 { 0.0 } else { value }
}
