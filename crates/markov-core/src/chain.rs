//! Chains: a row-stochastic matrix, optionally with teleportation, in forward or backward direction.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use crate::kernel::{self, Element};
use crate::propagate::{HostStep, Propagate, dense_blocks, host_block};
use crate::structure::{Classes, Components, Links};
use crate::substitution;
use crate::tolerance::ROW_TOLERANCE;
use crate::triangle::Triangle;
use crate::{Error, Result};

/// A row-stochastic matrix `A` that can be multiplied from both sides: stored ([`StochasticView`](crate::StochasticView))
/// or recomputed from queries and keys ([`QueryKey`](crate::QueryKey)).
pub trait RowStochastic: Sized {
    /// Number of states, `n`.
    fn states(&self) -> usize;

    /// `out = x · A` for `vectors` rows `x` `[vectors, n]`; `out` has the same shape.
    fn left<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]);

    /// `out = y · Aᵀ` for `vectors` rows `y` `[vectors, n]`; `out` has the same shape.
    fn right<C: Element>(&self, y: &[C], vectors: usize, out: &mut [C]);

    /// Returns the transitions with a positive probability, or `None` if all are positive.
    fn links(&self) -> Option<Links>;

    /// Returns the entries between the tokens `members` `[m]`: `[m, m]`, rows normalised over all states.
    fn block(&self, members: &[usize]) -> Array2<f64>;

    /// Returns the probabilities of staying, `A[i, i]` `[n]`.
    fn diagonal(&self) -> Vec<f64>;

    /// Returns the strongly connected components of the matrix, or of its reversal, or `None` if it is one component.
    fn components(&self, reversed: bool) -> Option<Components> {
        self.links().map(|links| Components::of(&links, reversed))
    }

    /// Whether every product computes the matrix again, so that products of several vectors cost little more than one.
    fn recomputed(&self) -> bool {
        false
    }

    /// Returns the triangle if the matrix is known to be triangular, as in causal attention.
    fn triangle(&self) -> Option<Triangle>;

    /// Calls `take` with every row of a triangular matrix: its number, the first of some neighbouring columns, and the
    /// entries in these columns; other entries are 0. Rows come in rising order, or in falling order if `falling`.
    fn rows_of(&self, triangle: Triangle, falling: bool, take: &mut dyn FnMut(usize, usize, &[f64]));

    /// Returns the forward chain `A`, which follows the attention.
    fn forward(self) -> Chain<Self> {
        Teleported { matrix: self, alpha: 1.0, jump: Jump::Uniform }.forward()
    }

    /// Returns the backward chain `B[j, i] = A[i, j] / Σ_k A[k, j]`, which goes from a token to those that attend to
    /// it.
    ///
    /// # Errors
    /// [`Error::NoBackwardRow`] for a column that sums to zero. It cannot happen after a uniform teleport.
    fn backward(self) -> Result<Chain<Self>> {
        Teleported { matrix: self, alpha: 1.0, jump: Jump::Uniform }.backward()
    }

    /// Returns `T = α A + (1-α) 1 1ᵀ/n`, which is never stored; choose a direction next.
    ///
    /// # Errors
    /// [`Error::Alpha`] outside `[0, 1]`.
    fn teleport(self, alpha: f64) -> Result<Teleported<Self>> {
        check_alpha(alpha)?;
        Ok(Teleported { matrix: self, alpha, jump: Jump::Uniform })
    }

    /// Returns `T = α A + (1-α) 1 tᵀ` for a given distribution `t` `[n]`, which is never stored; choose a direction
    /// next.
    ///
    /// # Errors
    /// [`Error::Alpha`] outside `[0, 1]`; [`Error::Distribution`] if `t` is not a distribution over the states.
    fn teleport_to(self, alpha: f64, target: ArrayView1<'_, f64>) -> Result<Teleported<Self>> {
        check_alpha(alpha)?;
        let target = distribution("the teleport vector", target, self.states())?;
        Ok(Teleported { matrix: self, alpha, jump: Jump::Given(target) })
    }
}

/// A borrowed matrix, which can be used for several chains.
impl<M: RowStochastic> RowStochastic for &M {
    fn states(&self) -> usize {
        (**self).states()
    }

    fn left<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        (**self).left(x, vectors, out);
    }

    fn right<C: Element>(&self, y: &[C], vectors: usize, out: &mut [C]) {
        (**self).right(y, vectors, out);
    }

    fn links(&self) -> Option<Links> {
        (**self).links()
    }

    fn block(&self, members: &[usize]) -> Array2<f64> {
        (**self).block(members)
    }

    fn diagonal(&self) -> Vec<f64> {
        (**self).diagonal()
    }

    fn components(&self, reversed: bool) -> Option<Components> {
        (**self).components(reversed)
    }

    fn recomputed(&self) -> bool {
        (**self).recomputed()
    }

    fn triangle(&self) -> Option<Triangle> {
        (**self).triangle()
    }

    fn rows_of(&self, triangle: Triangle, falling: bool, take: &mut dyn FnMut(usize, usize, &[f64])) {
        (**self).rows_of(triangle, falling, take);
    }
}

/// A teleported matrix without a direction yet. Teleport is applied first, reversal second.
#[derive(Debug, Clone)]
pub struct Teleported<M> {
    matrix: M,
    alpha: f64,
    jump: Jump,
}

impl<M: RowStochastic> Teleported<M> {
    /// Returns the chain `T` itself.
    pub fn forward(self) -> Chain<M> {
        Chain { matrix: self.matrix, alpha: self.alpha, jump: self.jump, way: Way::Forward }
    }

    /// Returns the reversal of `T`: `T[i, j] / Σ_k T[k, j]`, with the column sums `α Σ_k A[k, j] + (1-α) n t[j]`.
    ///
    /// # Errors
    /// [`Error::NoBackwardRow`] if both a column of `A` and its entry of `t` are zero.
    pub fn backward(self) -> Result<Chain<M>> {
        let n = self.matrix.states();
        let mut columns = vec![0.0; n];
        self.matrix.left(&vec![1.0f64; n], 1, &mut columns);
        for (j, column) in columns.iter_mut().enumerate() {
            let sum = self.alpha * *column + (1.0 - self.alpha) * n as f64 * self.jump.at(j, n);
            if sum <= 0.0 {
                return Err(Error::NoBackwardRow { column: j });
            }
            *column = sum.recip();
        }
        Ok(Chain { matrix: self.matrix, alpha: self.alpha, jump: self.jump, way: Way::Backward(columns) })
    }

    /// Returns the chain in `direction`.
    ///
    /// # Errors
    /// As [`Teleported::backward`].
    pub fn towards(self, direction: Direction) -> Result<Chain<M>> {
        match direction {
            Direction::Forward => Ok(self.forward()),
            Direction::Backward => self.backward(),
        }
    }
}

/// The direction of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Follows the attention.
    #[default]
    Forward,
    /// From a token to those that attend to it.
    Backward,
}

#[derive(Debug, Clone)]
enum Jump {
    Uniform,
    Given(Array1<f64>),
}

impl Jump {
    fn at(&self, j: usize, n: usize) -> f64 {
        match self {
            Jump::Uniform => 1.0 / n as f64,
            Jump::Given(target) => target[j],
        }
    }
}

#[derive(Debug, Clone)]
enum Way {
    Forward,
    /// Backward, with the reciprocals of the column sums of `T`.
    Backward(Vec<f64>),
}

/// A chain: one direction through a (teleported) row-stochastic matrix. Creating it computes no matrix.
#[derive(Debug, Clone)]
pub struct Chain<M> {
    matrix: M,
    alpha: f64,
    jump: Jump,
    way: Way,
}

impl<M: RowStochastic> Chain<M> {
    /// Number of states, `n`.
    pub fn states(&self) -> usize {
        self.matrix.states()
    }

    /// The probability of following the matrix rather than teleporting.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Computes the transition matrix `[n, n]`.
    pub fn dense(&self) -> Array2<f64> {
        self.among(&(0..self.states()).collect::<Vec<_>>(), 1.0 - self.alpha)
    }

    /// Returns transitions among `members` `[m, m]`, including jumps with probability `fraction`.
    fn among(&self, members: &[usize], fraction: f64) -> Array2<f64> {
        let n = self.states();
        let mut block = self.matrix.block(members) * self.alpha;
        if fraction > 0.0 {
            block += &Array1::from_iter(members.iter().map(|to| fraction * self.jump.at(*to, n)));
        }
        if let Way::Backward(columns) = &self.way {
            block = block.reversed_axes().as_standard_layout().into_owned();
            block.rows_mut().into_iter().zip(members).for_each(|(mut row, from)| row *= columns[*from]);
        }
        block
    }

    /// Returns the possible transitions of the teleported matrix in forward direction, or `None` if all are possible.
    fn links(&self) -> Option<Links> {
        if self.alpha == 1.0 {
            return self.matrix.links();
        }
        let Jump::Given(target) = &self.jump else { return None };
        let n = self.states();
        let mut links = if self.alpha > 0.0 { self.matrix.links()? } else { Links::none(n) };
        let target = target.to_vec();
        (0..n).for_each(|from| links.add_row(from, &target, |p| *p > 0.0));
        (!links.all()).then_some(links)
    }

    /// Returns the closed communicating classes, which the chain never leaves. O(n²).
    ///
    /// The steady state is unique if there is one class, and the chain converges to it if the period is 1.
    pub fn classes(&self) -> Classes {
        match self.links() {
            None => Classes::whole(self.states()),
            Some(links) => Classes::of(&links, self.is_backward()),
        }
    }

    /// Whether the spectrum equals that of the matrix without teleport except for a factor and the eigenvalue 1.
    fn only_scaled(&self) -> bool {
        matches!(self.way, Way::Forward) && self.alpha > 0.0 && self.alpha < 1.0
    }

    pub(crate) fn is_backward(&self) -> bool {
        matches!(self.way, Way::Backward(_))
    }

    fn walk<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        match &self.way {
            Way::Forward => self.step_forward(x, vectors, out),
            Way::Backward(columns) => self.step_backward(x, columns, vectors, out),
        }
    }

    fn step_forward<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        let (n, fraction) = (self.states(), 1.0 - self.alpha);
        self.matrix.left(x, vectors, out);
        if fraction == 0.0 {
            return;
        }
        let alpha = C::of_f64(self.alpha);
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            let mass = fraction * kernel::sum(x);
            match &self.jump {
                Jump::Uniform => {
                    let mass = C::of_f64(mass / n as f64);
                    out.iter_mut().for_each(|out| *out = alpha * *out + mass);
                }
                Jump::Given(target) => {
                    out.iter_mut().zip(target).for_each(|(out, t)| *out = alpha * *out + C::of_f64(mass * t));
                }
            }
        }
    }

    fn step_backward<C: Element>(&self, x: &[C], columns: &[f64], vectors: usize, out: &mut [C]) {
        let n = self.states();
        let y = weighed(x, columns);
        self.matrix.right(&y, vectors, out);
        let alpha = C::of_f64(self.alpha);
        for (y, out) in y.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            let mass: f64 = match &self.jump {
                Jump::Uniform => kernel::sum(y) / n as f64,
                Jump::Given(target) => y.iter().zip(target).map(|(y, t)| y.to_f64() * t).sum(),
            };
            let mass = C::of_f64((1.0 - self.alpha) * mass);
            out.iter_mut().for_each(|out| *out = alpha * *out + mass);
        }
    }
}

/// A chain computed in single precision: half the work for five or six digits.
pub(crate) struct Single<'c, M>(pub(crate) &'c Chain<M>);

impl<M: RowStochastic> HostStep for Chain<M> {
    fn states(&self) -> usize {
        self.matrix.states()
    }

    fn single(&self, x: &[f32], vectors: usize, out: &mut [f32]) {
        self.walk(x, vectors, out);
    }

    fn double(&self, x: &[f64], vectors: usize, out: &mut [f64]) {
        self.walk(x, vectors, out);
    }

    fn starts(&self) -> usize {
        if self.matrix.recomputed() { 4 } else { 1 }
    }
}

impl<M: RowStochastic> Propagate for Single<'_, M> {
    type Block = Array2<f32>;

    fn host(&self) -> Option<&dyn HostStep> {
        Some(self.0)
    }

    fn states(&self) -> usize {
        self.0.states()
    }

    fn step(&self, x: &Array2<f32>, out: &mut Array2<f32>) -> Result<()> {
        let (x, vectors, out) = dense_blocks(x, out, self.0.states())?;
        self.0.walk(x, vectors, out);
        Ok(())
    }

    fn lift(&self, rows: ArrayView2<'_, f64>) -> Result<Array2<f32>> {
        host_block(rows, self.0.states())
    }

    fn components(&self) -> Result<Vec<Components>> {
        self.0.components()
    }

    fn scale(&self) -> f64 {
        self.0.scale()
    }

    fn block(&self, which: usize, members: &[usize]) -> Result<Array2<f64>> {
        self.0.block(which, members)
    }

    fn diagonal(&self, which: usize) -> Result<Vec<f64>> {
        self.0.diagonal(which)
    }
}

impl<M: RowStochastic> Propagate for Chain<M> {
    type Block = Array2<f64>;

    fn host(&self) -> Option<&dyn HostStep> {
        Some(self)
    }

    fn states(&self) -> usize {
        self.matrix.states()
    }

    fn step(&self, x: &Array2<f64>, out: &mut Array2<f64>) -> Result<()> {
        let (x, vectors, out) = dense_blocks(x, out, self.matrix.states())?;
        self.walk(x, vectors, out);
        Ok(())
    }

    fn lift(&self, rows: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
        host_block(rows, self.matrix.states())
    }

    /// In a backward chain every row has at least `min_j (1-α) t[j] / Σ_k T[k, j]` for each state.
    fn jump_fraction(&self) -> f64 {
        let n = self.matrix.states();
        match &self.way {
            Way::Forward => 1.0 - self.alpha,
            Way::Backward(columns) => {
                let least = columns.iter().enumerate().map(|(j, column)| self.jump.at(j, n) * column);
                (1.0 - self.alpha) * n as f64 * least.fold(f64::INFINITY, f64::min)
            }
        }
    }

    fn closed_classes(&self) -> Result<Vec<Classes>> {
        Ok(vec![self.classes()])
    }

    fn components(&self) -> Result<Vec<Components>> {
        let components = if self.alpha == 1.0 || self.only_scaled() {
            self.matrix.components(self.is_backward())
        } else {
            self.links().map(|links| Components::of(&links, self.is_backward()))
        };
        Ok(components.into_iter().collect())
    }

    /// For triangular matrices with teleport, as in causal attention.
    fn substituted(&self) -> Result<Option<(Array1<f64>, f64)>> {
        if self.alpha == 1.0 {
            return Ok(None);
        }
        let Some(triangle) = self.matrix.triangle() else { return Ok(None) };
        let n = self.states();
        let target: Vec<f64> = (0..n).map(|j| self.jump.at(j, n)).collect();
        let rows = |falling: bool, take: &mut dyn FnMut(usize, usize, &[f64])| {
            self.matrix.rows_of(triangle, falling, take);
        };
        Ok(match &self.way {
            Way::Forward => Some(substitution::forward(triangle, &rows, self.alpha, &target)),
            Way::Backward(columns) => substitution::backward(triangle, &rows, self.alpha, &target, columns),
        })
    }

    fn scale(&self) -> f64 {
        if self.only_scaled() { self.alpha } else { 1.0 }
    }

    fn block(&self, _: usize, members: &[usize]) -> Result<Array2<f64>> {
        Ok(self.among(members, if self.only_scaled() { 0.0 } else { 1.0 - self.alpha }))
    }

    fn diagonal(&self, _: usize) -> Result<Vec<f64>> {
        let n = self.states();
        let fraction = if self.only_scaled() { 0.0 } else { 1.0 - self.alpha };
        let mut diagonal = self.matrix.diagonal();
        for (i, value) in diagonal.iter_mut().enumerate() {
            *value = self.alpha * *value + fraction * self.jump.at(i, n);
            if let Way::Backward(columns) = &self.way {
                *value *= columns[i];
            }
        }
        Ok(diagonal)
    }
}

/// Returns the vectors `x` `[k, n]` with every entry multiplied by its weight `[n]`.
pub(crate) fn weighed<C: Element>(x: &[C], weights: &[f64]) -> Vec<C> {
    let mut all = Vec::with_capacity(x.len());
    for x in x.chunks_exact(weights.len()) {
        all.extend(x.iter().zip(weights).map(|(x, weight)| *x * C::of_f64(*weight)));
    }
    all
}

/// Checks that `found` is a distribution over `states` states (within [`ROW_TOLERANCE`]) and normalises it.
pub(crate) fn distribution(
    what: &'static str,
    found: ArrayView1<'_, f64>,
    states: usize,
) -> Result<Array1<f64>> {
    let refuse = |reason: String| Err(Error::Distribution { what, states, reason });
    if found.len() != states {
        return refuse(format!("it has {} entries", found.len()));
    }
    if let Some((i, value)) = found.iter().enumerate().find(|(_, v)| !(v.is_finite() && **v >= 0.0)) {
        return refuse(format!("entry {i} is {value}"));
    }
    let sum = found.sum();
    if (sum - 1.0).abs() > ROW_TOLERANCE {
        return refuse(format!("it sums to {sum}"));
    }
    Ok(found.mapv(|v| v / sum))
}

pub(crate) fn check_alpha(alpha: f64) -> Result<()> {
    if (0.0..=1.0).contains(&alpha) { Ok(()) } else { Err(Error::Alpha(alpha)) }
}
