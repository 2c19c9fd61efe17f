//! The operation that every algorithm needs: moving a block of distributions one step through a chain.

use ndarray::{Array1, Array2, ArrayView2};

use crate::kernel::{self, Element};
use crate::structure::{Classes, Components};
use crate::{Error, Result};

/// A chain, or a batch of chains with the same states, that can move distributions one step.
///
/// Algorithms ([`bounce`](crate::bounce), [`token_rank`](crate::token_rank), [`lambda2`](crate::lambda2)) are written
/// against this trait and [`Block`], once for all its implementations (called carriers): a [`Chain`](crate::Chain)
/// through a stored or a recomputed matrix, and a batch of matrices on a torch device.
pub trait Propagate {
    /// A block of distributions on the device of this carrier.
    type Block: Block;

    /// Number of states, `n`.
    fn states(&self) -> usize;

    /// Number of chains. The number of rows of a block is a multiple of it, chain by chain.
    fn chains(&self) -> usize {
        1
    }

    /// `out = x · P`, each row of the block a distribution.
    ///
    /// # Errors
    /// [`Error::Shape`] if a block does not fit; errors of the carrier's device.
    fn step(&self, x: &Self::Block, out: &mut Self::Block) -> Result<()>;

    /// Moves rows `[k, n]` from the host to this carrier, `k` a multiple of [`chains`](Self::chains).
    ///
    /// # Errors
    /// [`Error::Shape`]; errors of the carrier's device.
    fn lift(&self, rows: ArrayView2<'_, f64>) -> Result<Self::Block>;

    /// The fraction of every step that goes to one fixed distribution from every state: `1 - α` for a teleported chain.
    /// Each step multiplies the distance to the steady state by at most one minus this fraction, so the change of a
    /// step bounds the distance.
    fn jump_fraction(&self) -> f64 {
        0.0
    }

    /// Returns the closed classes of each chain. An empty list means that every chain has one aperiodic class.
    ///
    /// # Errors
    /// Errors of the carrier's device.
    fn closed_classes(&self) -> Result<Vec<Classes>> {
        Ok(Vec::new())
    }

    /// Returns the strongly connected components of each chain, from exact zeros. An empty list means that every chain
    /// is one component. For a forward chain with teleport, these are the components of its matrix without teleport,
    /// since teleport only multiplies its eigenvalues by [`scale`](Self::scale).
    ///
    /// # Errors
    /// Errors of the carrier's device.
    fn components(&self) -> Result<Vec<Components>> {
        Ok(Vec::new())
    }

    /// Returns the steady state `[n]` of a single chain and the L1 change of one step from it, if the structure of its
    /// matrix gives them in one pass.
    ///
    /// # Errors
    /// Errors of the carrier's device.
    fn substituted(&self) -> Result<Option<(Array1<f64>, f64)>> {
        Ok(None)
    }

    /// The eigenvalue of the closed [`components`](Self::components): 1, or α for a forward chain with teleport, of
    /// which one becomes 1.
    fn scale(&self) -> f64 {
        1.0
    }

    /// Returns the entries among `members` `[m, m]` of chain `which`, in the matrix that
    /// [`components`](Self::components) describes.
    ///
    /// # Errors
    /// Errors of the carrier's device.
    fn block(&self, which: usize, members: &[usize]) -> Result<Array2<f64>> {
        written_out(self, which, members)
    }

    /// Returns the diagonal `[n]` of chain `which`, in the matrix that [`components`](Self::components) describes.
    ///
    /// # Errors
    /// Errors of the carrier's device.
    fn diagonal(&self, which: usize) -> Result<Vec<f64>> {
        let all: Vec<usize> = (0..self.states()).collect();
        Ok(self.block(which, &all)?.diag().to_vec())
    }

    /// Removes from each vector the part that belongs to the eigenvalue 1 of its chain, whose right eigenvector is
    /// constant. A carrier of one component of a chain also removes the entries outside of the component; for a
    /// transient component it removes only these.
    ///
    /// # Errors
    /// Errors of the carrier's device.
    fn deflate(&self, x: &mut Self::Block) -> Result<()> {
        x.centre()
    }

    /// Returns the products of a single chain that this carrier computes in host memory, if [`deflate`](Self::deflate) only
    /// subtracts the mean.
    fn host(&self) -> Option<&dyn HostStep> {
        None
    }

    /// Dimension of the space that [`deflate`](Self::deflate) leaves, for each chain.
    fn free(&self) -> Vec<usize> {
        vec![self.states() - 1; self.chains()]
    }
}

/// Products of a single chain in host memory, in either precision.
pub trait HostStep {
    /// Number of states, `n`.
    fn states(&self) -> usize;
    /// `out = x · P` for `vectors` rows `x` `[vectors, n]` in single precision; `out` has the same shape.
    fn single(&self, x: &[f32], vectors: usize, out: &mut [f32]);
    /// `out = x · P` for `vectors` rows `x` `[vectors, n]` in double precision; `out` has the same shape.
    fn double(&self, x: &[f64], vectors: usize, out: &mut [f64]);
    /// Number of vectors whose products together cost hardly more than the product of one.
    fn starts(&self) -> usize {
        1
    }
}

/// Number of rows of the identity that are moved through a carrier at a time.
const ROWS: usize = 64;

/// Computes the entries of chain `which` among `members` `[m, m]` by moving each member one step.
///
/// # Errors
/// The errors of [`Propagate::step`].
pub(crate) fn written_out<P: Propagate + ?Sized>(
    chain: &P,
    which: usize,
    members: &[usize],
) -> Result<Array2<f64>> {
    let (n, chains) = (chain.states(), chain.chains());
    let mut block = Array2::zeros((members.len(), members.len()));
    for (group, sources) in members.chunks(ROWS).enumerate() {
        let k = sources.len();
        let mut unit = Array2::zeros((chains * k, n));
        for c in 0..chains {
            for (i, source) in sources.iter().enumerate() {
                unit[(c * k + i, *source)] = 1.0;
            }
        }
        let x = chain.lift(unit.view())?;
        let mut out = x.zeros_like()?;
        chain.step(&x, &mut out)?;
        let out = out.lower()?;
        for i in 0..k {
            let row = out.row(which * k + i);
            block.row_mut(group * ROWS + i).assign(&row.select(ndarray::Axis(0), members));
        }
    }
    Ok(block)
}

/// Row-wise arithmetic on a block of vectors `[rows, n]`. There is one coefficient per row, so that independent
/// iterations run in parallel.
pub trait Block: Sized {
    /// Distance from 1 to the next number of the block's precision.
    const EPSILON: f64;
    /// Number of vectors.
    fn rows(&self) -> usize;
    /// A block of zeros of the same shape.
    ///
    /// # Errors
    /// Errors of the device, as for every method of this trait.
    fn zeros_like(&self) -> Result<Self>;
    /// Sum of each row.
    ///
    /// # Errors
    /// As above.
    fn sums(&self) -> Result<Vec<f64>>;
    /// L1 distance of each row to the same row of `other`.
    ///
    /// # Errors
    /// As above.
    fn l1(&self, other: &Self) -> Result<Vec<f64>>;
    /// Inner product of each row with the same row of each block of `others`: `[row][other]`.
    ///
    /// # Errors
    /// As above.
    fn dots(&self, others: &[Self]) -> Result<Vec<Vec<f64>>>;
    /// Multiplies each row by its coefficient.
    ///
    /// # Errors
    /// As above.
    fn scale(&mut self, by: &[f64]) -> Result<()>;
    /// Adds `by[row] · other` to each row.
    ///
    /// # Errors
    /// As above.
    fn add(&mut self, by: &[f64], other: &Self) -> Result<()>;
    /// Multiplies each entry by the same entry of `other`.
    ///
    /// # Errors
    /// As above.
    fn multiply(&mut self, other: &Self) -> Result<()>;
    /// Subtracts from each row its mean.
    ///
    /// # Errors
    /// As above.
    fn centre(&mut self) -> Result<()>;
    /// Brings the rows `[rows, n]` to the host.
    ///
    /// # Errors
    /// As above.
    fn lower(&self) -> Result<Array2<f64>>;

    /// Adds `Σ_o by[row][o] · others[o]` to each row.
    ///
    /// # Errors
    /// As above.
    fn combine(&mut self, by: &[Vec<f64>], others: &[Self]) -> Result<()> {
        for (o, other) in others.iter().enumerate() {
            let column: Vec<f64> = by.iter().map(|row| row[o]).collect();
            self.add(&column, other)?;
        }
        Ok(())
    }

    /// Euclidean norm of each row.
    ///
    /// # Errors
    /// As above.
    fn norms(&self) -> Result<Vec<f64>> {
        Ok(self.dots(std::slice::from_ref(self))?.iter().map(|row| row[0].max(0.0).sqrt()).collect())
    }
}

/// `[rows, n]`, in the standard layout.
impl<C: Element> Block for Array2<C> {
    const EPSILON: f64 = <C as Element>::EPSILON;

    fn rows(&self) -> usize {
        self.nrows()
    }

    fn zeros_like(&self) -> Result<Self> {
        Ok(Array2::zeros(self.dim()))
    }

    fn sums(&self) -> Result<Vec<f64>> {
        (0..self.nrows()).map(|r| Ok(kernel::sum(nth(self, r)?))).collect()
    }

    fn l1(&self, other: &Self) -> Result<Vec<f64>> {
        (0..self.nrows()).map(|r| Ok(kernel::distance(nth(self, r)?, nth(other, r)?))).collect()
    }

    fn dots(&self, others: &[Self]) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::with_capacity(self.nrows());
        for r in 0..self.nrows() {
            let row = nth(self, r)?;
            all.push(
                others
                    .iter()
                    .map(|other| Ok(kernel::dot(row, nth(other, r)?).to_f64()))
                    .collect::<Result<_>>()?,
            );
        }
        Ok(all)
    }

    fn scale(&mut self, by: &[f64]) -> Result<()> {
        for (mut row, by) in self.rows_mut().into_iter().zip(by) {
            let by = C::of_f64(*by);
            row.iter_mut().for_each(|v| *v = *v * by);
        }
        Ok(())
    }

    fn add(&mut self, by: &[f64], other: &Self) -> Result<()> {
        for (r, (mut row, by)) in self.rows_mut().into_iter().zip(by).enumerate() {
            let row = row.as_slice_mut().ok_or_else(layout)?;
            kernel::axpy(C::of_f64(*by), nth(other, r)?, row);
        }
        Ok(())
    }

    fn multiply(&mut self, other: &Self) -> Result<()> {
        self.zip_mut_with(other, |value, by| *value = *value * *by);
        Ok(())
    }

    fn centre(&mut self) -> Result<()> {
        let n = self.ncols() as f64;
        for mut row in self.rows_mut() {
            let row = row.as_slice_mut().ok_or_else(layout)?;
            let mean = C::of_f64(kernel::sum(row) / n);
            row.iter_mut().for_each(|v| *v = *v - mean);
        }
        Ok(())
    }

    fn lower(&self) -> Result<Array2<f64>> {
        Ok(self.mapv(C::to_f64))
    }
}

fn layout() -> Error {
    Error::Shape { what: "the block", found: vec![], expected: "row-major layout".into() }
}

fn nth<C>(block: &Array2<C>, row: usize) -> Result<&[C]> {
    let columns = block.ncols();
    Ok(&block.as_slice().ok_or_else(layout)?[row * columns..][..columns])
}

/// Checks that `x` and `out` are both `[k, states]` in row-major order.
pub(crate) fn dense_blocks<'b, C>(
    x: &'b Array2<C>,
    out: &'b mut Array2<C>,
    states: usize,
) -> Result<(&'b [C], usize, &'b mut [C])> {
    let vectors = x.nrows();
    let refuse = |found: &[usize]| Error::Shape {
        what: "the block of distributions",
        found: found.to_vec(),
        expected: format!("[{vectors}, {states}] in row-major order"),
    };
    let (shape, other) = (x.shape().to_vec(), out.shape().to_vec());
    if x.ncols() != states || shape != other {
        return Err(refuse(if x.ncols() != states { &shape } else { &other }));
    }
    let x = x.as_slice().ok_or_else(|| refuse(&shape))?;
    let out = out.as_slice_mut().ok_or_else(|| refuse(&other))?;
    Ok((x, vectors, out))
}

/// A block in host memory, checked against the number of states.
pub(crate) fn host_block<C: Element>(rows: ArrayView2<'_, f64>, states: usize) -> Result<Array2<C>> {
    if rows.ncols() != states {
        return Err(Error::Shape {
            what: "the block of distributions",
            found: rows.shape().to_vec(),
            expected: format!("[k, {states}]"),
        });
    }
    Ok(rows.as_standard_layout().mapv(C::of_f64))
}
