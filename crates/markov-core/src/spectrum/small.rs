//! The small projected eigenproblem of a Krylov method: eigenvalues, single eigenvectors, and an ordered complex Schur
//! form for restarts. Everything here is at most a few hundred rows. It is our own code for functions that faer lacks:
//! eigenvalues of a full matrix come from faer, but restarts need a Schur form in falling order, and Ritz errors need
//! single eigenvectors.

use std::ops::{Add, Mul, Sub};

use faer::c64;

use super::francis::{hessenberg_eigenvalues, reduced};
use super::matrix::Small;
use crate::kernel;
use crate::{Error, Result};

/// Orders by falling modulus; equal moduli keep conjugate pairs side by side.
pub(crate) fn by_falling_modulus(a: &c64, b: &c64) -> std::cmp::Ordering {
    b.norm_sqr().total_cmp(&a.norm_sqr())
}

/// Fractions of the multiples of the golden ratio are spread evenly without a period.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Returns the largest distance of an entry other than zero below the diagonal, at least 1: 1 for a Hessenberg matrix.
fn band(h: &Small<f64>, m: usize) -> usize {
    let below = |i: usize| (0..i).find(|j| h[(i, *j)] != 0.0).map_or(0, |j| i - j);
    (1..m).map(below).fold(1, usize::max)
}

/// Returns the eigenvalues of the leading `m × m` part of `h`, in falling order of modulus.
pub(crate) fn eigenvalues(h: &Small<f64>, m: usize) -> Result<Vec<c64>> {
    let own = match band(h, m) {
        1 => hessenberg_eigenvalues(h, m),
        // After a restart, or for several start vectors.
        band => hessenberg_eigenvalues(&reduced(h, m, band), m),
    };
    let mut values = match own {
        Some(values) => values,
        None => faer::Mat::from_fn(m, m, |i, j| h[(i, j)])
            .eigenvalues()
            .map_err(|_| Error::Eigensolver { states: m })?,
    };
    values.sort_by(by_falling_modulus);
    Ok(values)
}

/// Real or complex numbers. Real ones need a quarter of the work.
trait Scalar: Copy + Default + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    fn of(value: c64) -> Self;
    fn complex(self) -> c64;
    /// Square of the modulus.
    fn square(self) -> f64;
    /// The larger of real and imaginary part, without signs.
    fn size(self) -> f64;
    fn times(self, by: f64) -> Self;
    fn inverse(self) -> Self;
}

impl Scalar for f64 {
    fn of(value: c64) -> Self {
        value.re
    }
    fn complex(self) -> c64 {
        c64::new(self, 0.0)
    }
    fn square(self) -> f64 {
        self * self
    }
    fn size(self) -> f64 {
        self.abs()
    }
    fn times(self, by: f64) -> Self {
        self * by
    }
    fn inverse(self) -> Self {
        self.recip()
    }
}

impl Scalar for c64 {
    fn of(value: c64) -> Self {
        value
    }
    fn complex(self) -> c64 {
        self
    }
    fn square(self) -> f64 {
        self.norm_sqr()
    }
    fn size(self) -> f64 {
        self.re.abs().max(self.im.abs())
    }
    fn times(self, by: f64) -> Self {
        self * by
    }
    fn inverse(self) -> Self {
        self.inv()
    }
}

/// LU factors with partial pivoting of the leading part of `h` minus `shift`.
struct Shifted<S> {
    m: usize,
    /// The upper triangle has the factor `U`; the `band` entries below the diagonal, the multipliers.
    lu: Vec<S>,
    band: usize,
    /// Row that was swapped with each row before its elimination.
    pivots: Vec<usize>,
    /// Reciprocals of the diagonal of `U`.
    inverses: Vec<S>,
}

impl<S: Scalar> Shifted<S> {
    fn new(h: &Small<f64>, m: usize, shift: c64) -> Self {
        let band = band(h, m);
        let mut lu = Vec::with_capacity(m * m);
        let mut size: f64 = 0.0;
        for i in 0..m {
            let row = &h.values[i * h.columns..][..m];
            lu.extend(row.iter().map(|value| S::of(c64::new(*value, 0.0))));
            lu[i * m + i] = S::of(c64::new(row[i], 0.0) - shift);
            size = row.iter().fold(size, |size, value| size.max(value.abs()));
        }
        let least = f64::EPSILON * size.max(shift.norm()).max(f64::MIN_POSITIVE.sqrt());
        let (mut pivots, mut inverses) = (Vec::with_capacity(m), Vec::with_capacity(m));
        for k in 0..m {
            let below = m.min(k + 1 + band);
            let pivot = (k + 1..below)
                .fold(k, |best, i| if lu[i * m + k].square() > lu[best * m + k].square() { i } else { best });
            pivots.push(pivot);
            if pivot != k {
                let (above, rest) = lu.split_at_mut(pivot * m);
                above[k * m + k..][..m - k].swap_with_slice(&mut rest[k..m]);
            }
            // An exactly singular pivot means that the shift is an eigenvalue. Replace it by a small number and
            // continue.
            if lu[k * m + k].square() < least * least {
                lu[k * m + k] = S::of(c64::new(least, 0.0));
            }
            let inverse = lu[k * m + k].inverse();
            inverses.push(inverse);
            let (upper, lower) = lu.split_at_mut((k + 1) * m);
            let from = &upper[k * m + k + 1..];
            for row in lower.chunks_exact_mut(m).take(below - k - 1) {
                let factor = row[k] * inverse;
                row[k] = factor;
                if factor.size() > 0.0 {
                    row[k + 1..].iter_mut().zip(from).for_each(|(to, from)| *to = *to - factor * *from);
                }
            }
        }
        Shifted { m, lu, band, pivots, inverses }
    }

    /// Solves `(H - shift) z = x`, and returns `z` of unit length and its length.
    fn solve(&self, x: &[S]) -> (Vec<S>, f64) {
        let m = self.m;
        let mut z = x.to_vec();
        for k in 0..m {
            z.swap(k, self.pivots[k]);
            for i in k + 1..m.min(k + 1 + self.band) {
                z[i] = z[i] - self.lu[i * m + k] * z[k];
            }
        }
        for i in (0..m).rev() {
            let row = &self.lu[i * m + i + 1..(i + 1) * m];
            let sum = row.iter().zip(&z[i + 1..]).fold(S::default(), |sum, (a, z)| sum + *a * *z);
            z[i] = (z[i] - sum) * self.inverses[i];
        }
        unit(z)
    }

    /// Solves `zᵀ (H - shift) = xᵀ`, and returns `z` of unit length and its length.
    fn solve_left(&self, x: &[S]) -> (Vec<S>, f64) {
        let m = self.m;
        let mut z = x.to_vec();
        for i in 0..m {
            z[i] = z[i] * self.inverses[i];
            let (done, rest) = z.split_at_mut(i + 1);
            let row = &self.lu[i * m + i + 1..(i + 1) * m];
            rest.iter_mut().zip(row).for_each(|(z, a)| *z = *z - done[i] * *a);
        }
        for k in (0..m).rev() {
            for i in k + 1..m.min(k + 1 + self.band) {
                z[k] = z[k] - self.lu[i * m + k] * z[i];
            }
            z.swap(k, self.pivots[k]);
        }
        unit(z)
    }
}

/// Returns `z / ‖z‖` and `‖z‖`.
fn unit<S: Scalar>(mut z: Vec<S>) -> (Vec<S>, f64) {
    // Scaled first, since inverse iteration produces huge numbers by design.
    let top = z.iter().fold(f64::MIN_POSITIVE, |top, z| top.max(z.size()));
    z.iter_mut().for_each(|z| *z = z.times(top.recip()));
    let norm = z.iter().map(|z| z.square()).sum::<f64>().sqrt();
    z.iter_mut().for_each(|z| *z = z.times(norm.recip()));
    (z, top * norm)
}

/// A Ritz value and its error as an eigenvalue of the full matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RitzError {
    /// The Ritz value, closer to an eigenvalue of the projected matrix than the shift was.
    pub(crate) value: c64,
    /// `‖M x - θ x‖` for the unit Ritz vector `x`.
    pub(crate) residual: f64,
    /// Condition number of the Ritz value, `1 / |cos(left, right)|`, at most `1 / f64::EPSILON`, at which no digit is
    /// left.
    pub(crate) condition: f64,
}

/// Returns residual and condition of the Ritz value `theta` of the leading `m × m` part of `h`, whose rows from `m` on, as
/// many as there were start vectors, couple the space to the next basis vectors.
pub(crate) fn ritz_error(h: &Small<f64>, m: usize, starts: usize, theta: c64) -> RitzError {
    if theta.im == 0.0 {
        ritz_error_in::<f64>(h, m, starts, theta)
    } else {
        ritz_error_in::<c64>(h, m, starts, theta)
    }
}

fn ritz_error_in<S: Scalar>(h: &Small<f64>, m: usize, starts: usize, theta: c64) -> RitzError {
    let factors = Shifted::<S>::new(h, m, theta);
    let start = asymmetric::<S>(m);
    let before = factors.solve(&start).0;
    let (right, length) = factors.solve(&before);
    let left = factors.solve_left(&factors.solve_left(&start).0).0;
    let dot = |a: &[S], b: &[S]| a.iter().zip(b).fold(S::default(), |sum, (a, b)| sum + *a * *b).complex();
    let cosine = dot(&left, &right);
    // (H - θ) right = before / length: the quotient of Rayleigh with both eigenvectors.
    let step = dot(&left, &before) / (cosine * length);
    let value = if step.norm().is_finite() { theta + step } else { theta };
    RitzError {
        value,
        residual: coupling(h, m, starts, &right),
        condition: cosine.norm().max(f64::EPSILON).recip(),
    }
}

/// Whether each of these Ritz values has a residual, as in [`ritz_error`], of at most its limit.
pub(crate) fn residuals_within(
    h: &Small<f64>,
    m: usize,
    starts: usize,
    mut limits: impl Iterator<Item = (c64, f64)>,
) -> bool {
    let hessenberg = starts == 1 && band(h, m) == 1;
    limits.all(|(theta, limit)| {
        hessenberg && recurrence_residual(h, m, theta) <= limit || ritz_residual(h, m, starts, theta) <= limit
    })
}

/// Returns the residual of the Ritz value `theta`, as in [`ritz_error`].
fn ritz_residual(h: &Small<f64>, m: usize, starts: usize, theta: c64) -> f64 {
    fn of<S: Scalar>(h: &Small<f64>, m: usize, starts: usize, theta: c64) -> f64 {
        let factors = Shifted::<S>::new(h, m, theta);
        coupling(h, m, starts, &factors.solve(&factors.solve(&asymmetric::<S>(m)).0).0)
    }
    if theta.im == 0.0 { of::<f64>(h, m, starts, theta) } else { of::<c64>(h, m, starts, theta) }
}

/// Numbers that grow beyond this one are made smaller.
const LARGE: f64 = 1e100;

/// Returns the residual of one vector at the Ritz value `theta` of a Hessenberg matrix, in a tenth of the time of an inverse
/// iteration: the last entry of the vector is 1, and each row of `(H - θ) x = 0` but the first gives the entry before. What
/// rounding has done to the vector shows in the first row, which is part of the residual.
fn recurrence_residual(h: &Small<f64>, m: usize, theta: c64) -> f64 {
    let row = |k: usize| &h.values[k * h.columns..][..m];
    let (mut real, mut imaginary) = (vec![0.0; m], vec![0.0; m]);
    real[m - 1] = 1.0;
    let mut above = c64::new(0.0, 0.0);
    for k in (0..m).rev() {
        let (re, im) = (&real[k..], &imaginary[k..]);
        let image = c64::new(kernel::dot(&row(k)[k..], re), kernel::dot(&row(k)[k..], im));
        above = theta * c64::new(re[0], im[0]) - image;
        if k > 0 {
            above /= row(k)[k - 1];
            (real[k - 1], imaginary[k - 1]) = (above.re, above.im);
            if above.norm() > LARGE {
                real.iter_mut().chain(&mut imaginary).for_each(|value| *value /= LARGE);
            }
        }
    }
    let last = h[(m, m - 1)] * real[m - 1];
    let square = kernel::dot(&real, &real) + kernel::dot(&imaginary, &imaginary);
    (above.norm_sqr() + last * last).sqrt() / square.sqrt()
}

/// A start without symmetries, so that no eigenvector is orthogonal to it.
fn asymmetric<S: Scalar>(m: usize) -> Vec<S> {
    (0..m).map(|i| S::of(c64::new(0.5 + (i as f64 * GOLDEN).fract(), 0.0))).collect()
}

/// Returns the length of the part of a vector's image that is outside of the space.
fn coupling<S: Scalar>(h: &Small<f64>, m: usize, starts: usize, vector: &[S]) -> f64 {
    let row = |i: usize| &h.values[i * h.columns..][..m];
    let part = |i| row(i).iter().zip(vector).fold(S::default(), |sum, (h, z)| sum + z.times(*h)).square();
    (m..m + starts).map(part).sum::<f64>().sqrt()
}

/// A complex Schur form `H = Q T Qᴴ` by shifted QR with plane rotations.
struct Schur {
    t: Small<c64>,
    q: Small<c64>,
}

impl Schur {
    fn new(h: &Small<f64>, m: usize) -> Result<Self> {
        let mut schur = Schur {
            t: Small::from_fn(m, m, |i, j| c64::new(h[(i, j)], 0.0)),
            q: Small::from_fn(m, m, |i, j| c64::new(f64::from(u8::from(i == j)), 0.0)),
        };
        for column in 0..m.saturating_sub(2) {
            for row in (column + 2..m).rev() {
                schur.annihilate(row, column);
            }
        }
        schur.iterate()?;
        Ok(schur)
    }

    /// Rotates rows `row - 1`, `row` so that entry `(row, column)` vanishes, and the columns with them.
    fn annihilate(&mut self, row: usize, column: usize) {
        let (a, b) = (self.t[(row - 1, column)], self.t[(row, column)]);
        if b.norm() > 0.0 {
            self.rotate(row - 1, a, b, self.t.rows);
            self.t[(row, column)] = c64::new(0.0, 0.0);
        }
    }

    /// Applies the similarity by the plane rotation of rows `i`, `i + 1` that maps `(a, b)` to `(r, 0)`.
    fn rotate(&mut self, i: usize, a: c64, b: c64, upto: usize) {
        let norm = a.norm().hypot(b.norm());
        if norm == 0.0 {
            return;
        }
        let (c, s) = (a / norm, b / norm);
        for j in 0..self.t.columns {
            let (x, y) = (self.t[(i, j)], self.t[(i + 1, j)]);
            self.t[(i, j)] = c.conj() * x + s.conj() * y;
            self.t[(i + 1, j)] = c * y - s * x;
        }
        for k in 0..upto.min(self.t.rows) {
            let (x, y) = (self.t[(k, i)], self.t[(k, i + 1)]);
            self.t[(k, i)] = x * c + y * s;
            self.t[(k, i + 1)] = y * c.conj() - x * s.conj();
        }
        for k in 0..self.q.rows {
            let (x, y) = (self.q[(k, i)], self.q[(k, i + 1)]);
            self.q[(k, i)] = x * c + y * s;
            self.q[(k, i + 1)] = y * c.conj() - x * s.conj();
        }
    }

    fn negligible(&self, i: usize) -> bool {
        let near = self.t[(i - 1, i - 1)].norm() + self.t[(i, i)].norm();
        self.t[(i, i - 1)].norm() <= f64::EPSILON * near.max(f64::MIN_POSITIVE / f64::EPSILON)
    }

    fn iterate(&mut self) -> Result<()> {
        let m = self.t.rows;
        let mut high = m.saturating_sub(1);
        let mut tries = 0;
        while high > 0 {
            if self.negligible(high) {
                self.t[(high, high - 1)] = c64::new(0.0, 0.0);
                (high, tries) = (high - 1, 0);
                continue;
            }
            let mut low = high - 1;
            while low > 0 && !self.negligible(low) {
                low -= 1;
            }
            if low > 0 {
                self.t[(low, low - 1)] = c64::new(0.0, 0.0);
            }
            tries += 1;
            if tries > 60 {
                return Err(Error::Eigensolver { states: m });
            }
            let shift = self.shift(high, tries);
            // The shifted QR step as a bulge chase: one rotation opens the bulge, the others push it out.
            self.rotate(low, self.t[(low, low)] - shift, self.t[(low + 1, low)], m);
            for i in low + 1..high {
                self.annihilate(i + 1, i - 1);
            }
        }
        Ok(())
    }

    /// Wilkinson's shift, or an exceptional one when the iteration stalls.
    fn shift(&self, high: usize, tries: usize) -> c64 {
        let (a, b) = (self.t[(high - 1, high - 1)], self.t[(high - 1, high)]);
        let (c, d) = (self.t[(high, high - 1)], self.t[(high, high)]);
        if tries.is_multiple_of(10) {
            return d + c64::new(c.norm(), b.norm() / 2.0);
        }
        let half = (a - d) / 2.0;
        let root = (half * half + b * c).sqrt();
        let far = if (half.conj() * root).re >= 0.0 { half + root } else { half - root };
        if far.norm() == 0.0 { d } else { d - b * c / far }
    }

    /// Swaps the neighbouring diagonal entries `i` and `i + 1`.
    fn swap(&mut self, i: usize) {
        let (first, second) = (self.t[(i, i)], self.t[(i + 1, i + 1)]);
        let upper = self.t[(i, i + 1)];
        self.rotate(i, upper, second - first, self.t.rows);
        self.t[(i + 1, i)] = c64::new(0.0, 0.0);
        // In exact arithmetic the rotation swaps them, so write the exact values.
        (self.t[(i, i)], self.t[(i + 1, i + 1)]) = (second, first);
    }

    fn sort(&mut self) {
        for end in (1..self.t.rows).rev() {
            for i in 0..end {
                if self.t[(i, i)].norm() < self.t[(i + 1, i + 1)].norm() {
                    self.swap(i);
                }
            }
        }
    }
}

/// Returns a real orthonormal basis `[m, p]` of the invariant subspace of the leading `m × m` part of `h` for its
/// eigenvalues of largest modulus. `p` is `keep`, or one less if that would separate a conjugate pair.
pub(crate) fn leading_subspace(h: &Small<f64>, m: usize, keep: usize) -> Result<Small<f64>> {
    let mut schur = Schur::new(h, m)?;
    schur.sort();
    let mut keep = keep.min(m);
    // A real matrix: the kept eigenvalues must come in conjugate pairs, so their imaginary parts cancel.
    let size = schur.t[(0, 0)].norm();
    let imbalance = |p: usize| (0..p).map(|i| schur.t[(i, i)].im).sum::<f64>().abs();
    if keep < m && imbalance(keep) > 1e-9 * size && keep > 0 && imbalance(keep - 1) < imbalance(keep) {
        keep -= 1;
    }
    // Re(U Uᴴ) is the orthogonal projector on the subspace: its pivoted columns give a real basis.
    let mut projector = Small::from_fn(m, m, |i, j| {
        (0..keep).map(|k| (schur.q[(i, k)] * schur.q[(j, k)].conj()).re).sum::<f64>()
    });
    let mut basis = Small::zeros(m, keep);
    for k in 0..keep {
        let norm = |j: usize| (0..m).map(|i| projector[(i, j)].powi(2)).sum::<f64>();
        let pivot = (0..m).max_by(|a, b| norm(*a).total_cmp(&norm(*b))).unwrap_or(0);
        let mut column: Vec<f64> = (0..m).map(|i| projector[(i, pivot)]).collect();
        for _ in 0..2 {
            for earlier in 0..k {
                let dot: f64 = (0..m).map(|i| basis[(i, earlier)] * column[i]).sum();
                (0..m).for_each(|i| column[i] -= dot * basis[(i, earlier)]);
            }
        }
        let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
        for i in 0..m {
            basis[(i, k)] = column[i] / length;
        }
        for j in 0..m {
            let dot: f64 = (0..m).map(|i| basis[(i, k)] * projector[(i, j)]).sum();
            (0..m).for_each(|i| projector[(i, j)] -= dot * basis[(i, k)]);
        }
    }
    Ok(basis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn random(m: usize, seed: u64) -> Small<f64> {
        let mut random = Random::new(seed);
        let values: Vec<f64> = (0..m * m).map(|_| random.symmetric()).collect();
        Small { rows: m, columns: m, values }
    }

    #[test]
    fn schur_form_is_a_similarity_in_falling_order() {
        for (m, seed) in [(1, 1), (2, 2), (3, 3), (9, 4), (24, 5)] {
            let h = random(m, seed);
            let mut schur = Schur::new(&h, m).unwrap();
            schur.sort();
            for i in 0..m {
                for j in 0..m {
                    let mut back = c64::new(0.0, 0.0);
                    for k in 0..m {
                        for l in 0..m {
                            back += schur.q[(i, k)] * schur.t[(k, l)] * schur.q[(j, l)].conj();
                        }
                    }
                    assert!((back.re - h[(i, j)]).abs() < 1e-11 && back.im.abs() < 1e-11);
                    assert!(j >= i || schur.t[(i, j)].norm() < 1e-11);
                }
            }
            let moduli: Vec<f64> = (0..m).map(|i| schur.t[(i, i)].norm()).collect();
            assert!(moduli.windows(2).all(|w| w[0] >= w[1] - 1e-10));
            for (value, modulus) in eigenvalues(&h, m).unwrap().iter().zip(&moduli) {
                assert!((value.norm() - modulus).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn leading_subspace_is_invariant_and_orthonormal() {
        for (m, keep, seed) in [(8, 3, 1), (12, 5, 2), (20, 6, 3), (20, 7, 4)] {
            let h = random(m, seed);
            let q = leading_subspace(&h, m, keep).unwrap();
            assert!(q.columns == keep || q.columns + 1 == keep);
            let product =
                Small::from_fn(m, q.columns, |i, j| (0..m).map(|k| h[(i, k)] * q[(k, j)]).sum::<f64>());
            let inner = Small::from_fn(q.columns, q.columns, |i, j| {
                (0..m).map(|k| q[(k, i)] * product[(k, j)]).sum::<f64>()
            });
            for i in 0..m {
                for j in 0..q.columns {
                    let back: f64 = (0..q.columns).map(|k| q[(i, k)] * inner[(k, j)]).sum();
                    assert!((back - product[(i, j)]).abs() < 1e-9);
                }
            }
        }
    }

    /// The recurrence gives the residual of a vector, so never less than the least one, and the same if the vector is good.
    #[test]
    fn recurrence_equals_inverse_iteration() {
        for (m, seed) in [(2, 1), (7, 2), (20, 3), (60, 4), (120, 5)] {
            let mut h = random(m + 1, seed);
            (0..=m).for_each(|i| (0..i.saturating_sub(1)).for_each(|j| h[(i, j)] = 0.0));
            for theta in eigenvalues(&h, m).unwrap() {
                let (short, long) = (recurrence_residual(&h, m, theta), ritz_residual(&h, m, 1, theta));
                assert!(short >= long * (1.0 - 1e-6), "{m} {theta} {short:e} {long:e}");
                // Rounding grows with every row of a random matrix.
                assert!(m > 20 || (short - long).abs() <= 1e-6 * long, "{m} {theta} {short:e} {long:e}");
            }
        }
    }

    #[test]
    fn recurrence_survives_huge_and_vanishing_couplings() {
        for coupling in [1e-300, 1e-30, 0.0] {
            let m = 60;
            let h = Small::from_fn(m + 1, m, |i, j| {
                if i == j + 1 { coupling } else { f64::from(u8::from(i <= j)) / (1 + i + j) as f64 }
            });
            let residual = recurrence_residual(&h, m, c64::new(0.3, 0.1));
            // Far from every eigenvalue, so far from every eigenvector.
            assert!(residual.is_nan() || residual > 1e-3, "{coupling:e} {residual:e}");
            assert!(!residuals_within(&h, m, 1, std::iter::once((c64::new(0.3, 0.1), -1.0))));
        }
    }

    #[test]
    fn ritz_error_vanishes_without_coupling_and_sees_conditioning() {
        let mut h = Small::zeros(3, 2);
        (h[(0, 0)], h[(0, 1)], h[(1, 1)]) = (0.5, 100.0, 0.4);
        let error = ritz_error(&h, 2, 1, c64::new(0.5, 0.0));
        assert!(error.residual < 1e-12);
        // Left and right eigenvectors of 0.5 are (1, 1000)/‖·‖ and (1, 0): the cosine is one in a thousand.
        assert!((error.condition - 1000.0).abs() < 1.0);
        h[(2, 0)] = 0.1;
        assert!((ritz_error(&h, 2, 1, c64::new(0.5, 0.0)).residual - 0.1).abs() < 1e-9);
    }
}
