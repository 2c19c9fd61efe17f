//! All algorithms for a batch of matrices on a torch device.
//!
//! [`TorchChains`] implements [`Propagate`]: a step is a batched matrix product on the device, and only the small data
//! of the iterations (norms, Hessenberg matrices) are copied to the host. Matrices are stored in double precision
//! whatever their input type, so the results equal those of the ndarray carriers to rounding, also for float32 input.
//! Only [`lambda2`] of float32 maps to a coarse tolerance is computed in single precision, as on the host.
//! [`Fused`] has the heads of a layer as queries and keys; it stores no maps, and works in single precision.
//! Gradients are not recorded.

mod dot_products;
mod fused;
mod single;
mod space;
mod steady;
mod walk;

use ndarray::{Array2, ArrayView2};
use tch::kind::Element;
use tch::{Device, Kind, TchError, Tensor};

use crate::bounce::bounces;
use crate::chain::{Direction, check_alpha};
use crate::propagate::{Block, Propagate};
use crate::rank::{Stop, TokenRank, token_rank_each};
use crate::spectrum::{Effort, lambda2_each};
use crate::stochastic::StochasticView;
use crate::structure::{Classes, Components, Links};
use crate::tolerance::{ROW_TOLERANCE, SINGLE};
use crate::{Error, Result};

pub use dot_products::dot_products;
pub use fused::{Fused, HALF};

/// A batch of chains with the same number of states on a torch device, with uniform teleport.
#[derive(Debug)]
pub struct TorchChains {
    /// `[b, n, n]`, rows normalised, double precision.
    maps: Tensor,
    /// For backward chains, the reciprocals of the column sums of the teleported matrices, `[b, 1, n]`.
    columns: Option<Tensor>,
    alpha: f64,
    /// See [`Propagate::jump_fraction`].
    fraction: f64,
    batch: i64,
    states: i64,
}

impl TorchChains {
    /// Checks `maps` `[..., n, n]` and creates the chains `α A + (1-α)/n` in `direction`.
    ///
    /// # Errors
    /// As [`Stochastic::new`](crate::Stochastic::new), in [`Error::Matrix`] with the index of the matrix counted along
    /// the flattened leading axes; [`Error::Alpha`]; [`Error::NoBackwardRow`]; [`Error::Torch`].
    pub fn new(maps: &Tensor, alpha: f64, direction: Direction) -> Result<Self> {
        check_alpha(alpha)?;
        tch::no_grad(|| {
            let shape = maps.size();
            let [.., rows, states] = shape[..] else {
                let found = shape.iter().map(|axis| *axis as usize).collect();
                return Err(Error::Shape {
                    what: "the tensor of maps",
                    found,
                    expected: "[..., n, n]".into(),
                });
            };
            if maps.numel() == 0 {
                return Err(Error::Empty);
            }
            if rows != states {
                return Err(Error::NotSquare { rows: rows as usize, columns: states as usize });
            }
            let maps = maps.f_detach()?.f_reshape([-1, states, states])?.f_to_kind(Kind::Double)?;
            let sums = maps.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Double)?;
            let off = sums.f_sub_scalar(1.0)?.f_abs()?;
            // Comparisons with NaN are false, so each condition states what is valid.
            let sound = off.f_le(ROW_TOLERANCE)?.f_all()?.f_logical_and(&maps.f_ge(0.0)?.f_all()?)?;
            if sound.f_int64_value(&[])? == 0 {
                return Err(first_fault(&maps, states)?);
            }
            let maps = maps.f_div(&sums)?;
            let (columns, fraction) = match direction {
                Direction::Forward => (None, 1.0 - alpha),
                Direction::Backward => {
                    let sums = maps.f_sum_dim_intlist([-2i64].as_slice(), true, Kind::Double)?;
                    let sums = sums.f_mul_scalar(alpha)?.f_add_scalar(1.0 - alpha)?;
                    let host = to_host(&sums.f_reshape([-1, states])?)?;
                    if let Some(((index, column), _)) = host.indexed_iter().find(|(_, sum)| **sum <= 0.0) {
                        return Err(Error::NoBackwardRow { column }.in_matrix(index));
                    }
                    let largest = host.iter().copied().fold(0.0, f64::max);
                    (Some(sums.f_reciprocal()?), (1.0 - alpha) / largest)
                }
            };
            let batch = maps.size()[0];
            Ok(TorchChains { maps, columns, alpha, fraction, batch, states })
        })
    }

    fn device(&self) -> Device {
        self.maps.device()
    }

    /// Returns `x` `[b, k, n]` one step on, for the maps and columns of these chains in the type of `x`.
    fn moved(&self, x: &Tensor, maps: &Tensor, columns: Option<&Tensor>) -> Result<Tensor> {
        let (moved, x) = match columns {
            None => (x.f_bmm(maps)?, x.shallow_clone()),
            Some(columns) => {
                let y = x.f_mul(columns)?;
                (y.f_bmm(&maps.f_transpose(1, 2)?)?, y)
            }
        };
        teleported(moved, &x, self.alpha)
    }

    /// Returns the transitions with a positive probability of each matrix, without teleport, or `None` if all are
    /// positive in all matrices. The first check copies only one number from the device.
    fn links(&self) -> Result<Option<Vec<Links>>> {
        let positive = self.maps.f_gt(0.0)?;
        if positive.f_all()?.f_int64_value(&[])? != 0 {
            return Ok(None);
        }
        let n = self.states as usize;
        let host: Vec<u8> = to_vec(&positive)?;
        let of = |matrix: &[u8]| {
            let mut links = Links::none(n);
            matrix.chunks_exact(n).enumerate().for_each(|(i, row)| links.add_row(i, row, |one| *one != 0));
            links
        };
        Ok(Some(host.chunks_exact(n * n).map(of).collect()))
    }

    /// Returns entries of the chain, or of α A for a forward chain with teleport, from entries of `A` and of the column
    /// sums.
    fn entries(&self, of_maps: &Tensor, columns: Option<Tensor>) -> Result<Tensor> {
        let scaled = of_maps.f_mul_scalar(self.alpha)?;
        Ok(match columns {
            None => scaled,
            Some(columns) => scaled.f_add_scalar((1.0 - self.alpha) / self.states as f64)?.f_mul(&columns)?,
        })
    }
}

/// Returns the error of an invalid batch. Checks the matrices one by one on the host.
fn first_fault(maps: &Tensor, states: i64) -> Result<Error> {
    for index in 0..maps.size()[0] {
        let host = to_host(&maps.f_get(index)?)?;
        if let Err(error) =
            StochasticView::new(host.as_slice().unwrap_or(&[]), states as usize, ROW_TOLERANCE)
        {
            return Ok(error.in_matrix(index as usize));
        }
    }
    // The device's sum and the host's may differ in the last digit.
    Ok(Error::RowSum { row: 0, sum: f64::NAN, tolerance: ROW_TOLERANCE })
}

/// Copies the numbers of a tensor of any shape and kind to the host, in row-major order, as `T`.
///
/// # Errors
/// libtorch fails.
pub fn to_vec<T: Element + Copy>(tensor: &Tensor) -> std::result::Result<Vec<T>, TchError> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(T::KIND)?.f_contiguous()?;
    let mut host = vec![T::ZERO; tensor.numel()];
    let count = host.len();
    tensor.f_copy_data(&mut host, count)?;
    Ok(host)
}

/// Returns indices for `index_select` on a device.
fn indices(of: &[usize], device: Device) -> Result<Tensor> {
    let of: Vec<i64> = of.iter().map(|index| *index as i64).collect();
    Ok(Tensor::f_from_slice(&of)?.f_to_device(device)?)
}

/// Copies a tensor `[r, c]` to an array on the host.
fn to_host(tensor: &Tensor) -> Result<Array2<f64>> {
    let shape = tensor.size();
    let [rows, columns] = shape[..] else {
        let found = shape.iter().map(|axis| *axis as usize).collect();
        return Err(Error::Shape {
            what: "a tensor on its way to the host",
            found,
            expected: "two axes".into(),
        });
    };
    Array2::from_shape_vec((rows as usize, columns as usize), to_vec(tensor)?).map_err(|_| Error::Shape {
        what: "a tensor on its way to the host",
        found: vec![rows as usize, columns as usize],
        expected: "as many numbers as its shape says".into(),
    })
}

/// Adds the teleport of `x` `[b, k, n]` to `moved`, its image without teleport. Jumps are equal from every state in both directions:
/// uniform forwards, weighted by the columns backwards, where `x` includes the weights.
fn teleported(mut moved: Tensor, x: &Tensor, alpha: f64) -> Result<Tensor> {
    let states = x.size().last().copied().unwrap_or(1);
    let mass = x.f_sum_dim_intlist(LAST.as_slice(), true, x.kind())?;
    let mass = mass.f_mul_scalar((1.0 - alpha) / states as f64)?;
    Ok(moved.f_mul_scalar_(alpha)?.f_add_(&mass)?)
}

/// Whether numbers have 16 bits, as the matrix units of an accelerator multiply them many times as fast as float32.
pub fn is_half(tensor: &Tensor) -> bool {
    matches!(tensor.kind(), Kind::Half | Kind::BFloat16)
}

/// Vectors `[b, k, n]` in double precision on a torch device. Rows are ordered chain by chain.
#[derive(Debug)]
pub struct TorchBlock(Tensor);

impl TorchBlock {
    /// Returns one number per row, as `[b, k, 1]` on the block's device.
    fn column(&self, by: &[f64]) -> Result<Tensor> {
        let shape = self.0.size();
        Ok(Tensor::f_from_slice(by)?.f_reshape([shape[0], shape[1], 1])?.f_to_device(self.0.device())?)
    }

    fn per_row(numbers: &Tensor) -> Result<Vec<f64>> {
        Ok(to_host(&numbers.f_reshape([1, -1])?)?.into_raw_vec_and_offset().0)
    }
}

const LAST: [i64; 1] = [-1];

impl Block for TorchBlock {
    const EPSILON: f64 = f64::EPSILON;

    fn rows(&self) -> usize {
        let shape = self.0.size();
        (shape[0] * shape[1]) as usize
    }

    fn zeros_like(&self) -> Result<Self> {
        Ok(TorchBlock(self.0.f_zeros_like()?))
    }

    fn sums(&self) -> Result<Vec<f64>> {
        Self::per_row(&self.0.f_sum_dim_intlist(LAST.as_slice(), false, Kind::Double)?)
    }

    fn l1(&self, other: &Self) -> Result<Vec<f64>> {
        Self::per_row(&self.0.f_sub(&other.0)?.f_abs()?.f_sum_dim_intlist(
            LAST.as_slice(),
            false,
            Kind::Double,
        )?)
    }

    fn dots(&self, others: &[Self]) -> Result<Vec<Vec<f64>>> {
        let dot =
            |other: &Self| self.0.f_mul(&other.0)?.f_sum_dim_intlist(LAST.as_slice(), false, Kind::Double);
        let dots = others.iter().map(dot).collect::<Result<Vec<_>, _>>()?;
        // One transfer for all of them.
        let host = to_host(&Tensor::f_stack(&dots, -1)?.f_reshape([-1, others.len() as i64])?)?;
        Ok(host.rows().into_iter().map(|row| row.to_vec()).collect())
    }

    fn scale(&mut self, by: &[f64]) -> Result<()> {
        self.0 = self.0.f_mul(&self.column(by)?)?;
        Ok(())
    }

    fn add(&mut self, by: &[f64], other: &Self) -> Result<()> {
        self.0 = self.0.f_addcmul(&self.column(by)?, &other.0)?;
        Ok(())
    }

    fn combine(&mut self, by: &[Vec<f64>], others: &[Self]) -> Result<()> {
        let shape = self.0.size();
        let flat: Vec<f64> = by.iter().flatten().copied().collect();
        let by = Tensor::f_from_slice(&flat)?
            .f_reshape([shape[0], shape[1], others.len() as i64])?
            .f_to_device(self.0.device())?;
        for (o, other) in others.iter().enumerate() {
            self.0 = self.0.f_addcmul(&by.f_narrow(-1, o as i64, 1)?, &other.0)?;
        }
        Ok(())
    }

    fn multiply(&mut self, other: &Self) -> Result<()> {
        self.0 = self.0.f_mul(&other.0)?;
        Ok(())
    }

    fn centre(&mut self) -> Result<()> {
        self.0 = self.0.f_sub(&self.0.f_mean_dim(LAST.as_slice(), true, Kind::Double)?)?;
        Ok(())
    }

    fn lower(&self) -> Result<Array2<f64>> {
        let shape = self.0.size();
        to_host(&self.0.f_reshape([shape[0] * shape[1], shape[2]])?)
    }
}

impl Propagate for TorchChains {
    type Block = TorchBlock;

    fn states(&self) -> usize {
        self.states as usize
    }

    fn chains(&self) -> usize {
        self.batch as usize
    }

    fn step(&self, x: &TorchBlock, out: &mut TorchBlock) -> Result<()> {
        out.0 = self.moved(&x.0, &self.maps, self.columns.as_ref())?;
        Ok(())
    }

    fn lift(&self, rows: ArrayView2<'_, f64>) -> Result<TorchBlock> {
        let rows = crate::propagate::host_block::<f64>(rows, self.states as usize)?;
        if !rows.nrows().is_multiple_of(self.batch as usize) {
            let expected = format!("a multiple of {} rows", self.batch);
            return Err(Error::Shape {
                what: "the block of distributions",
                found: rows.shape().to_vec(),
                expected,
            });
        }
        let tensor = Tensor::f_from_slice(rows.as_slice().unwrap_or(&[]))?;
        Ok(TorchBlock(tensor.f_reshape([self.batch, -1, self.states])?.f_to_device(self.device())?))
    }

    fn jump_fraction(&self) -> f64 {
        self.fraction
    }

    fn closed_classes(&self) -> Result<Vec<Classes>> {
        if self.alpha < 1.0 {
            return Ok(Vec::new());
        }
        let reversed = self.columns.is_some();
        Ok(match self.links()? {
            None => Vec::new(),
            Some(all) => all.iter().map(|links| Classes::of(links, reversed)).collect(),
        })
    }

    fn components(&self) -> Result<Vec<Components>> {
        // The reversal of a chain with jumps between all states is one component.
        if self.alpha == 0.0 || (self.alpha < 1.0 && self.columns.is_some()) {
            return Ok(Vec::new());
        }
        let reversed = self.columns.is_some();
        Ok(match self.links()? {
            None => Vec::new(),
            Some(all) => all.iter().map(|links| Components::of(links, reversed)).collect(),
        })
    }

    fn scale(&self) -> f64 {
        if self.columns.is_none() && self.alpha > 0.0 { self.alpha } else { 1.0 }
    }

    fn block(&self, which: usize, members: &[usize]) -> Result<Array2<f64>> {
        let index = indices(members, self.device())?;
        let which = which as i64;
        let among = self.maps.f_get(which)?.f_index_select(0, &index)?.f_index_select(1, &index)?;
        match &self.columns {
            None => to_host(&self.entries(&among, None)?),
            Some(columns) => {
                let columns = columns.f_get(which)?.f_reshape([-1])?.f_index_select(0, &index)?;
                to_host(&self.entries(&among.f_transpose(0, 1)?, Some(columns.f_unsqueeze(1)?))?)
            }
        }
    }

    fn diagonal(&self, which: usize) -> Result<Vec<f64>> {
        let which = which as i64;
        let columns =
            self.columns.as_ref().map(|columns| columns.f_get(which)?.f_reshape([-1])).transpose()?;
        let diagonal = self.entries(&self.maps.f_get(which)?.f_diagonal(0, 0, 1)?, columns)?;
        TorchBlock::per_row(&diagonal)
    }
}

/// Steady states of a batch of matrices.
#[derive(Debug)]
pub struct TorchRank {
    /// `[..., n]`, double precision, on the device of the maps.
    pub pi: Tensor,
    /// Details for each matrix, in the order of the flattened leading axes.
    pub each: Vec<TokenRank>,
}

fn leading(maps: &Tensor) -> Vec<i64> {
    let shape = maps.size();
    shape[..shape.len().saturating_sub(2)].to_vec()
}

fn shaped(host: &[f64], leading: &[i64], tail: &[i64], device: Device) -> Result<Tensor> {
    let shape: Vec<i64> = leading.iter().chain(tail).copied().collect();
    Ok(Tensor::f_from_slice(host)?.f_reshape(shape)?.f_to_device(device)?)
}

/// Computes the TokenRank of every matrix of `maps` `[..., n, n]` in `direction` with uniform teleport.
///
/// # Errors
/// As [`TorchChains::new`] and [`token_rank`](crate::token_rank).
pub fn token_rank(maps: &Tensor, alpha: f64, direction: Direction, stop: Stop) -> Result<TorchRank> {
    tch::no_grad(|| {
        let chains = TorchChains::new(maps, alpha, direction)?;
        let each = match walk::token_rank(&chains, stop)? {
            Some(each) => each,
            None => token_rank_each(&chains, stop)?,
        };
        let host: Vec<f64> = each.iter().flat_map(|rank| rank.pi.iter().copied()).collect();
        Ok(TorchRank { pi: shaped(&host, &leading(maps), &[chains.states], maps.device())?, each })
    })
}

/// Computes λ₂ of every matrix of `maps` `[..., n, n]`: moduli `[...]` in double precision on the device of the maps.
///
/// For tolerances from 1e-5 up, float32 maps are computed in single precision, which adds an absolute error of about
/// 2e-6; the host then reads a few numbers of each map a few times, whatever the number of products.
///
/// # Errors
/// As [`TorchChains::new`] and [`lambda2`](crate::lambda2).
pub fn lambda2(maps: &Tensor, effort: Effort) -> Result<Tensor> {
    tch::no_grad(|| {
        let moduli = match maps.size()[..] {
            [.., rows, states]
                if rows == states
                    && maps.numel() > 0
                    && maps.kind() == Kind::Float
                    && effort.tolerance >= SINGLE =>
            {
                let maps = maps.f_detach()?.f_reshape([-1, states, states])?;
                completed(&maps, single::lambda2(&maps, effort)?, effort)?
            }
            _ => moduli(maps, effort)?,
        };
        shaped(&moduli, &leading(maps), &[], maps.device())
    })
}

/// λ₂ of maps in double precision.
fn moduli(maps: &Tensor, effort: Effort) -> Result<Vec<f64>> {
    let chains = TorchChains::new(maps, 1.0, Direction::Forward)?;
    Ok(lambda2_each(&chains, effort)?.iter().map(|found| found.modulus).collect())
}

/// Computes in double precision what single precision has not found.
fn completed(maps: &Tensor, found: Vec<Option<f64>>, effort: Effort) -> Result<Vec<f64>> {
    let open: Vec<usize> = (0..found.len()).filter(|map| found[*map].is_none()).collect();
    if open.is_empty() {
        return Ok(found.into_iter().flatten().collect());
    }
    if open.len() == found.len() {
        return moduli(maps, effort);
    }
    let rest = maps.f_index_select(0, &indices(&open, maps.device())?)?;
    let mut rest = moduli(&rest, effort)?.into_iter();
    Ok(found.into_iter().filter_map(|modulus| modulus.or_else(|| rest.next())).collect())
}

/// Returns the states after 1, 2, …, `steps` steps of every matrix of `maps` `[..., n, n]` from `start`, which is `[n]`
/// for all matrices or `[..., n]` with one per matrix: `[..., steps, n]` in double precision on the device of the maps.
///
/// # Errors
/// As [`TorchChains::new`]; [`Error::Shape`] or [`Error::Distribution`] for an invalid start.
pub fn bounce(
    maps: &Tensor,
    start: &Tensor,
    alpha: f64,
    direction: Direction,
    steps: usize,
) -> Result<Tensor> {
    tch::no_grad(|| {
        let chains = TorchChains::new(maps, alpha, direction)?;
        let shape = start.size();
        let mut each = leading(maps);
        each.push(chains.states);
        if shape != [chains.states] && shape != each {
            let expected = format!("[{}] or {each:?}", chains.states);
            let found = shape.iter().map(|axis| *axis as usize).collect();
            return Err(Error::Shape { what: "the start", found, expected });
        }
        let mut rows = to_host(&start.f_expand(&each, false)?.f_reshape([chains.batch, chains.states])?)?;
        for mut row in rows.rows_mut() {
            let checked = crate::chain::distribution("the start", row.view(), chains.states as usize)?;
            row.assign(&checked);
        }
        let states = bounces(&chains, &chains.lift(rows.view())?, steps)?;
        let tensors: Vec<&Tensor> = states.iter().map(|state| &state.0).collect();
        each.insert(each.len() - 1, steps as i64);
        if tensors.is_empty() {
            return Ok(Tensor::f_zeros(each, (Kind::Double, maps.device()))?);
        }
        Ok(Tensor::f_cat(&tensors, 1)?.f_reshape(each)?)
    })
}
