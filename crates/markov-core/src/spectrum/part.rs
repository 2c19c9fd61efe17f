//! Carriers of a part of a chain: one strongly connected component.

use ndarray::{Array2, ArrayView2};

use crate::Result;
use crate::kernel::{self, Element};
use crate::propagate::{Block, HostStep, Propagate, dense_blocks, host_block};

/// A component that is stored as a matrix `[m, m]`.
pub(super) struct Written<C> {
    values: Array2<C>,
    closed: bool,
}

impl<C: Element> Written<C> {
    /// Creates the component with these entries. The rows of a `closed` component have equal sums.
    pub(super) fn new(block: ArrayView2<'_, f64>, closed: bool) -> Self {
        let values = block.as_standard_layout().mapv(C::of_f64);
        Written { values, closed }
    }

    /// `out = x · P` for `vectors` rows `x` `[vectors, m]`.
    fn walk<V: Element>(&self, x: &[V], vectors: usize, out: &mut [V]) {
        kernel::left(self.values.as_slice().unwrap_or(&[]), self.values.nrows(), x, vectors, out);
    }
}

impl<C: Element> HostStep for Written<C> {
    fn states(&self) -> usize {
        self.values.nrows()
    }

    fn single(&self, x: &[f32], vectors: usize, out: &mut [f32]) {
        self.walk(x, vectors, out);
    }

    fn double(&self, x: &[f64], vectors: usize, out: &mut [f64]) {
        self.walk(x, vectors, out);
    }
}

impl<C: Element> Propagate for Written<C> {
    type Block = Array2<C>;

    fn host(&self) -> Option<&dyn HostStep> {
        self.closed.then_some(self as &dyn HostStep)
    }

    fn states(&self) -> usize {
        self.values.nrows()
    }

    fn step(&self, x: &Array2<C>, out: &mut Array2<C>) -> Result<()> {
        let (x, vectors, out) = dense_blocks(x, out, self.values.nrows())?;
        self.walk(x, vectors, out);
        Ok(())
    }

    fn lift(&self, rows: ArrayView2<'_, f64>) -> Result<Array2<C>> {
        host_block(rows, self.values.nrows())
    }

    fn deflate(&self, x: &mut Array2<C>) -> Result<()> {
        if self.closed { x.centre() } else { Ok(()) }
    }

    fn free(&self) -> Vec<usize> {
        vec![self.values.nrows() - usize::from(self.closed)]
    }
}

/// One component of each chain of a carrier, computed within its chain: mass that leaves the component is dropped after
/// each step.
pub(super) struct Inside<'p, P: Propagate> {
    chain: &'p P,
    /// 1 for members, 0 for others, one row per chain.
    members: P::Block,
    sizes: Vec<usize>,
    closed: Vec<bool>,
}

impl<'p, P: Propagate> Inside<'p, P> {
    /// Creates the carrier from the members of each chain's component and whether it is closed. A chain without members
    /// is left out.
    pub(super) fn new(chain: &'p P, parts: &[(&[usize], bool)]) -> Result<Self> {
        let mut members = Array2::zeros((parts.len(), chain.states()));
        for (mut row, (part, _)) in members.rows_mut().into_iter().zip(parts) {
            part.iter().for_each(|i| row[*i] = 1.0);
        }
        Ok(Inside {
            chain,
            members: chain.lift(members.view())?,
            sizes: parts.iter().map(|(part, _)| part.len()).collect(),
            closed: parts.iter().map(|(_, closed)| *closed).collect(),
        })
    }
}

impl<P: Propagate> Propagate for Inside<'_, P> {
    type Block = P::Block;

    fn states(&self) -> usize {
        self.chain.states()
    }

    fn chains(&self) -> usize {
        self.chain.chains()
    }

    fn step(&self, x: &P::Block, out: &mut P::Block) -> Result<()> {
        self.chain.step(x, out)?;
        out.multiply(&self.members)
    }

    fn lift(&self, rows: ArrayView2<'_, f64>) -> Result<P::Block> {
        self.chain.lift(rows)
    }

    fn deflate(&self, x: &mut P::Block) -> Result<()> {
        x.multiply(&self.members)?;
        let parts = self.sizes.iter().zip(&self.closed);
        let means = x
            .sums()?
            .into_iter()
            .zip(parts)
            .map(|(sum, (size, closed))| if *closed && *size > 0 { -sum / *size as f64 } else { 0.0 });
        x.add(&means.collect::<Vec<_>>(), &self.members)
    }

    fn free(&self) -> Vec<usize> {
        let parts = self.sizes.iter().zip(&self.closed);
        parts.map(|(size, closed)| size.saturating_sub(usize::from(*closed))).collect()
    }
}
