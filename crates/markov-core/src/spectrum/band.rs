//! λ₂ of a chain in host memory: the Arnoldi iteration of one or several start vectors at once (Ruhe 1979).
//!
//! Computing all Ritz values of a space costs as much as many products with a matrix of 200 states. So the leading one is only
//! followed from space to space, and the full judgement waits until its error is small enough. Several start vectors share each
//! pass over a matrix that is computed again every time, and their common space needs fewer passes than that of one.
//!
//! The general iteration ([`krylov`](super::krylov)) does the rest: several eigenvalues, restarts, parts of a chain, devices.

use faer::c64;

use super::krylov::{BREAKDOWN, FIRST_ORDER, Projected, Ritz, goal, judge};
use super::matrix::Small;
use super::small::ritz_error;
use super::{Effort, Eigenvalue};
use crate::Result;
use crate::kernel::{self, Element};
use crate::propagate::HostStep;
use crate::random::Random;

/// Largest dimension of the space. Heads that need more are rare.
const CAPACITY: usize = 128;
/// Number of states from which on several start vectors pay: the space is then small compared with the whole.
const MANY: usize = 128;
/// First dimension at which the Ritz values are computed.
const FIRST: usize = 6;
/// A vector that keeps less than this part of its length is made orthogonal a second time (Daniel et al. 1976). With a small part,
/// every step would multiply the errors of those before.
const KEPT: f64 = 0.7;

/// The part of the expected number of products after which the Ritz value is looked at again.
const CAREFUL: f64 = 0.7;

/// A number format of vectors.
pub(super) trait Precision: Element {
    fn step(chain: &dyn HostStep, x: &[Self], vectors: usize, out: &mut [Self]);
}

impl Precision for f32 {
    fn step(chain: &dyn HostStep, x: &[f32], vectors: usize, out: &mut [f32]) {
        chain.single(x, vectors, out);
    }
}

impl Precision for f64 {
    fn step(chain: &dyn HostStep, x: &[f64], vectors: usize, out: &mut [f64]) {
        chain.double(x, vectors, out);
    }
}

/// Computes the leading eigenvalue, other than the 1, of a chain of one component. Returns `None` if the space becomes
/// invariant or does not contain it to the tolerance: the general iteration has to find it.
pub(super) fn second<C: Precision>(chain: &dyn HostStep, effort: Effort) -> Result<Option<Ritz>> {
    let n = chain.states();
    let starts = if n < MANY { 1 } else { chain.starts() };
    let most = CAPACITY.min(effort.max_products).min(n - 1);
    if most < FIRST + starts {
        return Ok(None);
    }
    let Some(mut space) = Space::<C>::new(n, starts, most) else { return Ok(None) };
    let allowed = |modulus| goal(modulus, effort.tolerance, <C as Element>::EPSILON);
    let mut followed: Option<Followed> = None;
    // Dimensions at which the followed value is looked at, and at which all are.
    let (mut next_look, mut next_judgement) = (FIRST, FIRST);
    while space.dimension + starts < most {
        if !space.extend(chain) {
            return Ok(None);
        }
        let m = space.dimension;
        if m < next_look {
            continue;
        }
        if let Some(before) = followed.filter(|_| m < next_judgement) {
            let found = ritz_error(&space.h, m, starts, before.theta);
            let excess = FIRST_ORDER * found.residual * found.condition / allowed(found.value.norm());
            let now = Followed { theta: found.value, m, excess };
            followed = Some(now);
            if excess > 1.0 {
                next_look = m + now.products_left(&before).max(starts);
                continue;
            }
        }
        let projected = Projected { h: &space.h, m, starts, whole: false };
        let ritz = judge(&projected, 1, allowed, <C as Element>::EPSILON, m)?;
        if ritz.converged {
            return Ok(Some(ritz));
        }
        // The one that was followed may have been overtaken by another.
        let excess = |first: &Eigenvalue| FIRST_ORDER * first.error() / allowed(first.value.norm());
        followed = ritz.values.first().map(|first| Followed { theta: first.value, m, excess: excess(first) });
        (next_look, next_judgement) = (m + starts, 4 * m);
    }
    Ok(None)
}

/// The leading Ritz value, from space to space.
#[derive(Clone, Copy)]
struct Followed {
    theta: c64,
    /// Dimension of the space.
    m: usize,
    /// Its error, as a multiple of the allowed one.
    excess: f64,
}

impl Followed {
    /// Returns a number of products that will probably not suffice, but almost. The error falls geometrically.
    fn products_left(&self, before: &Followed) -> usize {
        let rate = (before.excess / self.excess).ln() / (self.m - before.m) as f64;
        let left = CAREFUL * self.excess.ln() / rate;
        if rate > 0.0 { (left as usize).min(self.m / 4) } else { 0 }
    }
}

/// A growing space of vectors that sum to zero.
struct Space<C> {
    states: usize,
    starts: usize,
    /// Orthonormal rows, `[dimension + starts, states]`.
    basis: Vec<C>,
    /// The projected map: `h[(i, j)]` is the part of `basis[j] P` along `basis[i]`.
    h: Small<f64>,
    /// Number of basis vectors with known image.
    dimension: usize,
    images: Vec<C>,
}

impl<C: Precision> Space<C> {
    /// Creates the space of random start vectors, which never has more than `most` basis vectors.
    fn new(states: usize, starts: usize, most: usize) -> Option<Self> {
        let mut space = Space {
            states,
            starts,
            basis: Vec::with_capacity(most * states),
            h: Small::zeros(most, most),
            dimension: 0,
            images: vec![C::zero(); starts * states],
        };
        let mut random = Random::new(0x1abe1);
        for _ in 0..starts {
            let mut vector: Vec<C> = (0..states).map(|_| C::of_f64(random.symmetric())).collect();
            let rows = space.basis.len() / states;
            let (norm, _) = orthogonal(&space.basis, &mut vector, rows);
            space.append(&vector, norm)?;
        }
        Some(space)
    }

    /// Extends the space by the images of its last vectors, in one pass over the matrix. Returns whether the space is not
    /// invariant.
    fn extend(&mut self, chain: &dyn HostStep) -> bool {
        let (n, from) = (self.states, self.dimension);
        let mut images = std::mem::take(&mut self.images);
        C::step(chain, &self.basis[from * n..], self.starts, &mut images);
        for (j, image) in images.chunks_exact_mut(n).enumerate() {
            let rows = self.basis.len() / n;
            let (norm, parts) = orthogonal(&self.basis, image, rows);
            parts.iter().enumerate().for_each(|(i, part)| self.h[(i, from + j)] = *part);
            self.h[(rows, from + j)] = norm;
            if self.append(image, norm).is_none() {
                return false;
            }
        }
        self.images = images;
        self.dimension += self.starts;
        true
    }

    /// Appends a vector of length `norm` as a basis vector, or returns `None` if it has vanished.
    fn append(&mut self, vector: &[C], norm: f64) -> Option<()> {
        if norm <= BREAKDOWN * <C as Element>::EPSILON {
            return None;
        }
        let scale = C::of_f64(norm.recip());
        self.basis.extend(vector.iter().map(|value| *value * scale));
        Some(())
    }
}

/// Subtracts the mean.
fn centre<C: Element>(vector: &mut [C]) {
    let mean = C::of_f64(kernel::sum(vector) / vector.len() as f64);
    vector.iter_mut().for_each(|value| *value = *value - mean);
}

/// Makes a vector orthogonal to the constant and to the rows of a basis. Returns the length that is left and the parts along the
/// rows.
fn orthogonal<C: Element>(basis: &[C], vector: &mut [C], rows: usize) -> (f64, Vec<f64>) {
    let n = vector.len();
    let length = |vector: &[C]| kernel::dot(vector, vector).to_f64().sqrt();
    centre(vector);
    let mut parts = vec![0.0; rows];
    let (mut norm, mut dots) = (length(vector), vec![C::zero(); rows]);
    if rows == 0 {
        return (norm, parts);
    }
    // Twice is enough (Kahan; Giraud et al. 2005).
    for again in [false, true] {
        if again {
            // What is left is so short that the rounding of its mean counts.
            centre(vector);
        }
        kernel::right(basis, n, vector, 1, &mut dots);
        for (part, dot) in parts.iter_mut().zip(&mut dots) {
            *part += dot.to_f64();
            *dot = C::zero() - *dot;
        }
        kernel::add_left(basis, n, &dots, 1, vector);
        let before = norm;
        norm = length(vector);
        if norm > KEPT * before {
            break;
        }
    }
    (norm, parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::RowStochastic;
    use crate::{Stochastic, spectrum};
    use ndarray::{Array2, Axis};

    /// A random map in which the first third of the tokens and the others prefer their own kind.
    fn random(n: usize, seed: u64, peak: f64) -> Stochastic<f64> {
        let mut random = Random::new(seed);
        let mut map = Array2::from_shape_simple_fn((n, n), || (peak * random.symmetric()).exp());
        map.indexed_iter_mut()
            .filter(|((i, j), _)| (*i < n / 3) == (*j < n / 3))
            .for_each(|(_, v)| *v *= 9.0);
        map.rows_mut().into_iter().for_each(|mut row| row /= row.sum());
        Stochastic::new(map).unwrap()
    }

    /// A space built from one, and one from several start vectors, is orthonormal and maps into itself up to the coupling.
    #[test]
    fn the_space_satisfies_its_recurrence() {
        for starts in [1, 2, 4] {
            let map = random(60, 3, 4.0);
            let chain = map.forward();
            let mut space = Space::<f64>::new(60, starts, 40).unwrap();
            (0..5).for_each(|_| assert!(space.extend(&chain)));
            let rows = space.dimension + starts;
            let basis = Array2::from_shape_vec((rows, 60), space.basis.clone()).unwrap();
            assert!((basis.dot(&basis.t()) - Array2::<f64>::eye(rows)).iter().all(|v| v.abs() < 1e-13));
            let mut image = basis.dot(&map.values());
            image -= &image.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
            for j in 0..space.dimension {
                let mut left = image.row(j).to_owned();
                (0..rows).for_each(|i| left.scaled_add(-space.h[(i, j)], &basis.row(i)));
                assert!(left.iter().all(|v| v.abs() < 1e-14), "{starts} {j}");
            }
        }
    }

    #[test]
    fn lambda2_equals_the_dense_solver() {
        for (n, peak) in [(60, 0.5), (150, 1.0), (300, 2.0)] {
            let map = random(n, 5, peak);
            let want = spectrum::eigenvalues(map.values()).unwrap()[1].norm();
            let chain = map.forward();
            for starts in [1, 4] {
                let several = Several { chain: &chain, starts };
                let found = second::<f64>(&several, Effort::default()).unwrap().unwrap();
                assert!((found.values[0].value.norm() - want).abs() < 1e-10 * want.max(1e-3));
                let rough = second::<f32>(&several, Effort::tolerance(1e-4)).unwrap().unwrap();
                assert!((rough.values[0].value.norm() - want).abs() < 1e-4 * want.max(1e-3) + 2e-6);
                assert!(rough.products < found.products);
            }
        }
    }

    struct Several<'c> {
        chain: &'c dyn HostStep,
        starts: usize,
    }

    impl HostStep for Several<'_> {
        fn states(&self) -> usize {
            self.chain.states()
        }
        fn single(&self, x: &[f32], vectors: usize, out: &mut [f32]) {
            self.chain.single(x, vectors, out);
        }
        fn double(&self, x: &[f64], vectors: usize, out: &mut [f64]) {
            self.chain.double(x, vectors, out);
        }
        fn starts(&self) -> usize {
            self.starts
        }
    }

    /// Each image of this lazy walk on a ring keeps a third of its length.
    #[test]
    fn the_basis_stays_orthonormal_and_sums_to_zero() {
        let n = 300;
        let next = |i: usize, j: usize| (i + 1) % n == j || (j + 1) % n == i;
        let walk = |(i, j)| if i == j { 0.6 } else { 0.2 * f64::from(u8::from(next(i, j))) };
        let map = Stochastic::new(Array2::from_shape_fn((n, n), walk)).unwrap();
        let chain = map.forward();
        let mut space = Space::<f32>::new(n, 1, 60).unwrap();
        while space.dimension < 50 {
            assert!(space.extend(&chain));
        }
        let basis = Array2::from_shape_vec((51, n), space.basis).unwrap().mapv(f64::from);
        let off = basis.dot(&basis.t()) - Array2::<f64>::eye(51);
        assert!(
            off.iter().all(|dot| dot.abs() < 1e-5),
            "{:e}",
            off.iter().fold(0.0, |a: f64, b| a.max(b.abs()))
        );
        assert!(basis.sum_axis(Axis(1)).iter().all(|sum| sum.abs() < 1e-4));
    }

    #[test]
    fn an_invariant_space_is_left_to_the_general_iteration() {
        let flat = Stochastic::new(Array2::from_elem((50, 50), 0.02)).unwrap();
        assert!(second::<f64>(&flat.view().forward(), Effort::default()).unwrap().is_none());
    }
}
