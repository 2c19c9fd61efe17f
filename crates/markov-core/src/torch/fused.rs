//! The chains of all heads of a layer, given by queries and keys on a torch device, whose maps are not stored.
//!
//! `A X` is fused attention with `X` in place of the values, and `A` has the eigenvalues of its transpose, so λ₂ needs no
//! map: with `P = I - 1 1ᵀ/n`, the eigenvalues of `P A` on the vectors that sum to zero are those of `A` without the 1. (In
//! an orthonormal basis that begins with `1/√n`, the first column of `A` is that of the identity, since `A 1 = 1`, and
//! `P A` is the block that is left.)
//!
//! `Aᵀ Y` is fused attention with queries and keys exchanged: with `ℓ` the logarithms of the sums of the softmax and `c`
//! the column sums of `A`, `(Aᵀ y)_j = c_j Σ_i w_ij y_i`, where `w_j` is the softmax of `s_ij - ℓ_i` over the queries `i`. One
//! pass over the map, a few rows at a time, gives `ℓ` and `c`.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::dot_products::dot_products;
use super::space::{Products, Select, second};
use super::steady::{LEAST_CHANGE, steady};
use super::{LAST, indices, is_half, teleported};
use crate::chain::{Direction, check_alpha};
use crate::matrix_free::MASKED;
use crate::rank::{Rule, Stop};
use crate::spectrum::Effort;
use crate::tolerance::SINGLE;
use crate::{Error, Result};

/// Smallest tolerance of λ₂ for which queries and keys of 16 bits are used as they are.
pub const HALF: f64 = 1e-3;
/// Largest condition number of λ₂ from queries and keys of 16 bits; the error is about 6e-4 times as large.
const HALF_CONDITION: f64 = 4.0;
/// Number of start vectors of a Krylov space. Trained heads of 197 tokens need 8 products on average, instead of 10 with
/// one start and 6.5 with four; heads with a flat spectrum need spaces that are too large with four.
const STARTS: usize = 2;
/// Number of entries of maps in memory at a time.
const ENTRIES: i64 = 1 << 25;

/// All heads of a self-attention layer on a torch device, given by queries and keys.
///
/// The rows of a map are `softmax(q·k · scale + bias)`, computed from float32 logits. Values that are reported equal those of
/// the stored float32 maps within the tolerance asked for and the error of single precision, about 1e-5 for λ₂. Whatever
/// this cannot guarantee is computed from stored maps, a few heads at a time: λ₂ of heads whose Krylov space does not
/// settle or whose λ₂ is so ill-conditioned that rounding moves it (nearly reducible heads, also those that underflow makes
/// reducible), tolerances below 1e-5, and everything if the bias hides transitions, which makes a chain reducible.
#[derive(Debug)]
pub struct Fused {
    /// `[batch, heads, n, d]`.
    queries: Tensor,
    /// `[batch, heads, n, d]`.
    keys: Tensor,
    scale: f64,
    /// `[batch or 1, heads or 1, n or 1, n]`, float32.
    bias: Option<Tensor>,
    /// Whether the bias hides transitions, or is not finite.
    hidden: bool,
}

impl Fused {
    /// Creates the layer from `queries` `[batch, heads, n, d]`, `keys` `[batch, key heads, n, d]` on the same device, the
    /// factor of `q·k`, and an additive bias `[batch, heads, n, n]`, in which any axis but the last may have length 1. With
    /// fewer key heads, neighbouring query heads share one.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::Shape`] if the shapes do not fit; [`Error::Torch`].
    pub fn new(queries: &Tensor, keys: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Self> {
        tch::no_grad(|| {
            let shape = queries.size();
            let [batch, heads, states, dim] = shape[..] else {
                return Err(misfit("the tensor of queries", &shape, "[batch, heads, n, d]".into()));
            };
            if queries.numel() == 0 || keys.numel() == 0 {
                return Err(Error::Empty);
            }
            let found = keys.size();
            let groups = found.get(1).copied().unwrap_or(1);
            if found != [batch, groups, states, dim] || heads % groups != 0 {
                let expected = format!(
                    "[{batch}, key heads, {states}, {dim}] with a number of key heads that divides {heads}"
                );
                return Err(misfit("the tensor of keys", &found, expected));
            }
            let keys = if groups == heads {
                keys.f_detach()?
            } else {
                keys.f_detach()?.f_repeat_interleave_self_int(heads / groups, 1, None)?
            };
            let bias = bias.map(|bias| checked_bias(bias, [batch, heads, states, states])).transpose()?;
            let hidden = match &bias {
                // Comparisons with NaN are false.
                Some(bias) => bias.f_min()?.f_gt(MASKED)?.f_int64_value(&[])? == 0,
                None => false,
            };
            Ok(Fused { queries: queries.f_detach()?, keys, scale, bias, hidden })
        })
    }

    /// Number of states of each chain.
    fn states(&self) -> i64 {
        self.queries.size().get(2).copied().unwrap_or(0)
    }

    /// Whether queries and keys have 16 bits.
    pub fn is_half(&self) -> bool {
        is_half(&self.queries)
    }

    /// Number of heads.
    pub fn heads(&self) -> i64 {
        self.outer().1
    }

    fn device(&self) -> Device {
        self.queries.device()
    }

    /// Numbers of batch items and of heads.
    fn outer(&self) -> (i64, i64) {
        match self.queries.size()[..] {
            [batch, heads, ..] => (batch, heads),
            _ => (0, 0),
        }
    }

    /// Returns the logits of some of the heads, `[batch, heads, n, n]` float32, whose softmax is the map.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn logits(&self, heads: Range<i64>) -> Result<Tensor> {
        let count = heads.end - heads.start;
        let part = |tensor: &Tensor| tensor.f_narrow(1, heads.start, count);
        let mut logits =
            dot_products(&part(&self.queries)?, &part(&self.keys)?)?.f_mul_scalar_(self.scale)?;
        if let Some(bias) = &self.bias {
            let shared = bias.size()[1] == 1;
            logits = logits.f_add_(&if shared { bias.shallow_clone() } else { part(bias)? })?;
        }
        Ok(logits)
    }

    /// Number of heads whose maps fit into memory at once.
    pub fn heads_at_once(&self) -> i64 {
        let (batch, heads) = self.outer();
        (ENTRIES / (batch * self.states().pow(2)).max(1)).clamp(1, heads.max(1))
    }

    /// Computes λ₂ of every head, `[batch, heads]` in double precision on the device of the queries.
    ///
    /// Queries and keys of 16 bits are used as they are if the tolerance is at least [`HALF`], for heads whose λ₂ is
    /// well-conditioned; everything else is computed in float32.
    ///
    /// # Errors
    /// As [`lambda2`](super::lambda2) of the maps.
    pub fn lambda2(&self, effort: Effort) -> Result<Tensor> {
        tch::no_grad(|| {
            let (batch, heads) = self.outer();
            let mut found = vec![None; (batch * heads) as usize];
            let mut open: Vec<usize> = (0..found.len()).collect();
            let coarse = self.is_half() && effort.tolerance >= HALF;
            for (kind, most_condition, used) in [
                (self.queries.kind(), HALF_CONDITION, coarse),
                (Kind::Float, f64::INFINITY, effort.tolerance >= SINGLE),
            ] {
                if self.hidden || !used || open.is_empty() {
                    continue;
                }
                let products = Columns(self.attention(kind)?.of(&indices(&open, self.device())?)?);
                let moduli = second(products, open.len(), STARTS, most_condition, effort, &self.queries)?;
                open.iter().zip(moduli).for_each(|(head, modulus)| found[*head] = modulus);
                open.retain(|head| found[*head].is_none());
            }
            let mut rest = Vec::with_capacity(open.len());
            self.stored(&open, |maps| {
                rest.extend(super::to_vec::<f64>(&super::lambda2(maps, effort)?)?);
                Ok(())
            })?;
            open.iter().zip(rest).for_each(|(head, modulus)| found[*head] = Some(modulus));
            let found: Vec<f64> = found.into_iter().flatten().collect();
            super::shaped(&found, &[batch, heads], &[], self.device())
        })
    }

    /// Computes the TokenRank of every head in `direction` with uniform teleport, `[batch, heads, n]` in double precision
    /// on the device of the queries.
    ///
    /// With an accelerated rule and teleport, products are computed in float32, and the L1 change of a step falls below
    /// 5e-7 or the tolerance, whichever is larger. Other rules read stored maps.
    ///
    /// # Errors
    /// As [`token_rank`](super::token_rank) of the maps.
    pub fn token_rank(&self, alpha: f64, direction: Direction, stop: Stop) -> Result<Tensor> {
        check_alpha(alpha)?;
        tch::no_grad(|| {
            let (batch, heads) = self.outer();
            let (count, states) = ((batch * heads) as usize, self.states());
            let fused = !self.hidden && alpha < 1.0 && stop.rule == Rule::Accelerated;
            let found = fused.then(|| {
                let products = Walk::new(self.attention(Kind::Float)?, alpha, direction)?;
                steady(products, count, stop.tolerance.max(LEAST_CHANGE), &self.queries)
            });
            let (pi, converged) = match found.transpose()? {
                Some(found) => (found.pi, found.ends.iter().map(|end| end.converged).collect()),
                None => {
                    let options = (Kind::Double, self.device());
                    (Tensor::f_zeros([count as i64, states], options)?, vec![false; count])
                }
            };
            let open: Vec<usize> = (0..count).filter(|head| !converged[*head]).collect();
            let mut done = 0;
            self.stored(&open, |maps| {
                let rest = super::token_rank(maps, alpha, direction, stop)?.pi;
                let count = rest.size()[0] as usize;
                let rows = indices(&open[done..done + count], self.device())?;
                let _ = pi.shallow_clone().f_index_copy_(0, &rows, &rest)?;
                done += count;
                Ok(())
            })?;
            Ok(pi.f_reshape([batch, heads, states])?)
        })
    }

    /// Calls `take` with the maps `[count, n, n]` of some heads, which are numbered batch item by batch item, a few at a
    /// time. An error names the head.
    fn stored(&self, heads: &[usize], mut take: impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
        if heads.is_empty() {
            return Ok(());
        }
        let at_once = (ENTRIES / self.states().pow(2)).max(1) as usize;
        let all = self.attention(Kind::Float)?;
        for some in heads.chunks(at_once) {
            let maps = all.of(&indices(some, self.device())?)?.maps()?;
            take(&maps).map_err(|error| {
                let Error::Matrix { index, source } = error else { return error };
                source.in_matrix(some.get(index).copied().unwrap_or(index))
            })?;
        }
        Ok(())
    }

    /// Returns the attention of all heads as a batch.
    fn attention(&self, kind: Kind) -> Result<Attention> {
        let (batch, heads) = self.outer();
        let count = batch * heads;
        let flat = |tensor: &Tensor| {
            let [.., states, dim] = tensor.size()[..] else { return Ok(tensor.shallow_clone()) };
            tensor.f_to_kind(kind)?.f_reshape([count, states, dim])
        };
        let bias = self.bias.as_ref().map(|bias| {
            let [items, planes, rows, states] = bias.size()[..] else { return Ok(bias.shallow_clone()) };
            let bias = bias.f_to_kind(kind)?;
            if items == 1 && planes == 1 {
                return bias.f_reshape([1, rows, states]);
            }
            bias.f_expand([batch, heads, rows, states], false)?.f_reshape([count, rows, states])
        });
        let (queries, keys) = (flat(&self.queries)?, flat(&self.keys)?);
        let sum = |x: &Tensor| x.f_sum_dim_intlist([-2i64, -1].as_slice(), true, Kind::Float);
        let zero = sum(&queries)?.f_add_(&sum(&keys)?)?.f_mul_scalar_(0.0)?;
        Ok(Attention { queries, keys, scale: self.scale, bias: bias.transpose()?, zero })
    }
}

fn misfit(what: &'static str, found: &[i64], expected: String) -> Error {
    Error::Shape { what, found: found.iter().map(|axis| *axis as usize).collect(), expected }
}

fn checked_bias(bias: &Tensor, wanted: [i64; 4]) -> Result<Tensor> {
    let shape = bias.size();
    let fits = |(found, wanted): (&i64, i64)| *found == wanted || *found == 1;
    if shape.len() != 4 || shape[3] != wanted[3] || !shape.iter().zip(wanted).all(fits) {
        let expected = format!("{wanted:?}, or 1 instead of any of the first three");
        return Err(misfit("the bias", &shape, expected));
    }
    Ok(bias.f_detach()?.f_to_kind(Kind::Float)?)
}

/// The attention of a batch of heads.
struct Attention {
    /// `[b, n, d]`.
    queries: Tensor,
    /// `[b, n, d]`.
    keys: Tensor,
    scale: f64,
    /// `[b or 1, n or 1, n]`.
    bias: Option<Tensor>,
    /// 0, or NaN for heads whose queries or keys are not finite, `[b, 1, 1]`: fused kernels may take a row of NaN for one
    /// whose keys are all hidden, and return zeros.
    zero: Tensor,
}

impl Attention {
    fn states(&self) -> i64 {
        self.queries.size().get(1).copied().unwrap_or(0)
    }

    fn of(&self, rows: &Tensor) -> Result<Self> {
        let pick = |tensor: &Tensor| tensor.f_index_select(0, rows);
        let bias = self.bias.as_ref();
        let bias = bias.map(|bias| if bias.size()[0] == 1 { Ok(bias.shallow_clone()) } else { pick(bias) });
        let (queries, keys) = (pick(&self.queries)?, pick(&self.keys)?);
        let zero = pick(&self.zero)?;
        Ok(Attention { queries, keys, scale: self.scale, bias: bias.transpose()?, zero })
    }

    /// Returns the attention from the keys to the queries, with `by` `[b, 1, n]` added to the logits.
    fn exchanged(&self, by: &Tensor) -> Result<Self> {
        let bias = match &self.bias {
            // A softmax over the queries does not change with a term for each key.
            Some(bias) if bias.size()[1] != 1 => bias.f_transpose(1, 2)?.f_add(by)?,
            Some(_) | None => by.shallow_clone(),
        };
        let (queries, keys) = (self.keys.shallow_clone(), self.queries.shallow_clone());
        Ok(Attention { queries, keys, scale: self.scale, bias: Some(bias), zero: self.zero.shallow_clone() })
    }

    /// Returns the logits `[b, count, n]` of some rows.
    fn logits(&self, first: i64, count: i64) -> Result<Tensor> {
        let queries = self.queries.f_narrow(1, first, count)?;
        let logits = dot_products(&queries, &self.keys)?.f_mul_scalar_(self.scale)?;
        Ok(match &self.bias {
            Some(bias) if bias.size()[1] == 1 => logits.f_add(bias)?,
            Some(bias) => logits.f_add(&bias.f_narrow(1, first, count)?)?,
            None => logits,
        })
    }

    /// Returns the maps `[b, n, n]`.
    fn maps(&self) -> Result<Tensor> {
        Ok(self.logits(0, self.states())?.f_softmax(-1, Kind::Float)?)
    }

    /// Returns the logarithms of the sums of each row's softmax `[b, 1, n]`, and the sums of each column of the maps
    /// `[b, 1, n]` in double precision.
    fn sums(&self) -> Result<(Tensor, Tensor)> {
        let (batch, states) = (self.queries.size()[0], self.states());
        let at_once = (ENTRIES / (batch * states)).clamp(1, states);
        let mut rows = Vec::new();
        let mut columns = Tensor::f_zeros([batch, 1, states], (Kind::Double, self.queries.device()))?;
        for first in (0..states).step_by(at_once as usize) {
            let logits = self.logits(first, at_once.min(states - first))?;
            let sums = logits.f_logsumexp(LAST.as_slice(), true)?;
            let entries = logits.f_sub(&sums)?.f_exp_()?;
            columns = columns.f_add_(&entries.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Double)?)?;
            rows.push(sums);
        }
        Ok((Tensor::f_cat(&rows, 1)?.f_transpose(1, 2)?, columns))
    }

    /// Returns `A xᵀ` as rows `[b, k, n]`, float32, for `x` `[b, k, n]` (float32).
    fn average(&self, x: &Tensor) -> Result<Tensor> {
        let (_, vectors, _) = x.size3()?;
        let (kind, device) = (self.queries.kind(), self.queries.device());
        let dim = self.queries.size().last().copied().unwrap_or(1);
        // The kernels for float32 on an accelerator take narrow values; the others want as many columns as queries have.
        let narrow = kind == Kind::Float && device != Device::Cpu;
        let width = if narrow { 4 * ((vectors + 3) / 4) } else { dim.max(vectors) };
        let values = x.f_to_kind(kind)?.f_constant_pad_nd([0, 0, 0, width - vectors])?;
        let heads = |tensor: &Tensor| tensor.f_unsqueeze(0);
        let averages = Tensor::f_scaled_dot_product_attention(
            &heads(&self.queries)?,
            &heads(&self.keys)?,
            &heads(&values.f_transpose(1, 2)?.f_contiguous()?)?,
            self.bias.as_ref().map(heads).transpose()?,
            0.0,
            false,
            self.scale,
            false,
        )?;
        let averages = averages.f_squeeze_dim(0)?.f_narrow(2, 0, vectors)?.f_transpose(1, 2)?;
        Ok(averages.f_to_kind(Kind::Float)?.f_add(&self.zero)?)
    }
}

/// `x ↦ A x` for column vectors.
struct Columns(Attention);

impl Products for Columns {
    fn states(&self) -> i64 {
        self.0.states()
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.0.average(x)
    }
}

impl Select for Columns {
    fn of(&self, rows: &Tensor) -> Result<Self> {
        Ok(Columns(self.0.of(rows)?))
    }
}

/// `x ↦ x T` for row vectors, with `T` the teleported chain of each head in one direction.
struct Walk {
    /// The kernel's part: `A`, or, forwards, the attention from keys to queries.
    attention: Attention,
    /// Factor of the kernel's result (forwards) or of its argument (backwards), `[b, 1, n]`.
    columns: Tensor,
    alpha: f64,
    direction: Direction,
}

impl Walk {
    fn new(attention: Attention, alpha: f64, direction: Direction) -> Result<Self> {
        let (rows, columns) = attention.sums()?;
        let (attention, columns) = match direction {
            Direction::Forward => (attention.exchanged(&rows.f_neg()?)?, columns),
            Direction::Backward => {
                (attention, columns.f_mul_scalar(alpha)?.f_add_scalar(1.0 - alpha)?.f_reciprocal()?)
            }
        };
        Ok(Walk { attention, columns: columns.f_to_kind(Kind::Float)?, alpha, direction })
    }
}

impl Products for Walk {
    fn states(&self) -> i64 {
        self.attention.states()
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self.direction {
            Direction::Forward => teleported(self.attention.average(x)?.f_mul(&self.columns)?, x, self.alpha),
            Direction::Backward => {
                let x = x.f_mul(&self.columns)?;
                teleported(self.attention.average(&x)?, &x, self.alpha)
            }
        }
    }
}

impl Select for Walk {
    fn of(&self, rows: &Tensor) -> Result<Self> {
        let columns = self.columns.f_index_select(0, rows)?;
        let (alpha, direction) = (self.alpha, self.direction);
        Ok(Walk { attention: self.attention.of(rows)?, columns, alpha, direction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads that prefer tokens like themselves, as trained ones do, need no map.
    #[test]
    fn most_heads_settle_without_maps() {
        tch::manual_seed(3);
        for (states, kind) in [(150, Kind::Float), (400, Kind::Float), (400, Kind::BFloat16)] {
            let options = (Kind::Float, Device::Cpu);
            let common = Tensor::randn([1, 6, states, 16], options);
            let near = || ((&common + Tensor::randn([1, 6, states, 16], options) * 0.5) * 0.8).to_kind(kind);
            let layer = Fused::new(&near(), &near(), 0.4, None).unwrap();
            let products = Columns(layer.attention(kind).unwrap());
            let found = second(products, 6, STARTS, f64::INFINITY, Effort::tolerance(1e-3), &common).unwrap();
            assert!(found.iter().filter(|modulus| modulus.is_some()).count() >= 5, "{found:?}");
            let walk = Walk::new(layer.attention(Kind::Float).unwrap(), 0.99, Direction::Forward).unwrap();
            let steady = steady(walk, 6, LEAST_CHANGE, &common).unwrap();
            assert!(steady.ends.iter().all(|end| end.converged), "{:?}", steady.ends);
        }
    }
}
