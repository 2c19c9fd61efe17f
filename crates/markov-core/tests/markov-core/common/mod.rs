//! Chains to test on, drawn from a seed.

use markov_core::Lambda2;
use ndarray::{Array1, Array2, Axis};

/// A small seeded generator (xorshift64*).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n - 1)
    }

    /// Standard normal, Box–Muller.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| order.swap(i, self.below(i + 1)));
        order
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Softmax of random logits, from flat to peaky.
    Softmax,
    /// A few non-zeros per row.
    Sparse,
    /// Blocks with weak links: λ₂ near 1, several eigenvalues close together.
    Blocks,
    /// A random walk on a weighted graph: real spectrum.
    Reversible,
    /// A mean of permutations: the uniform state is steady, complex pairs abound.
    Doubly,
    /// Nearly a cycle: a ring of eigenvalues of almost equal modulus.
    Ring,
    /// Never returns to an earlier state: triangular, non-normal.
    Downhill,
    /// A dense first third, then a triangle with a strong link to the token before; the tokens shuffled.
    Prefix,
}

pub const KINDS: [Kind; 8] = [
    Kind::Softmax,
    Kind::Sparse,
    Kind::Blocks,
    Kind::Reversible,
    Kind::Doubly,
    Kind::Ring,
    Kind::Downhill,
    Kind::Prefix,
];

/// A row-stochastic matrix `[n, n]`.
pub fn matrix(kind: Kind, n: usize, seed: u64) -> Array2<f64> {
    let mut draw = Draw::new(seed);
    let raw = match kind {
        Kind::Softmax => {
            let scale = 0.1 + 6.0 * draw.unit();
            Array2::from_shape_simple_fn((n, n), || (scale * draw.normal()).exp())
        }
        Kind::Sparse => {
            let mut a =
                Array2::from_shape_simple_fn((n, n), || if draw.unit() < 0.3 { draw.unit() } else { 0.0 });
            a.diag_mut().mapv_inplace(|v| v + 0.05);
            a
        }
        Kind::Blocks => {
            let (blocks, link) = (1 + draw.below(4), 10f64.powf(-5.0 * draw.unit()));
            Array2::from_shape_fn((n, n), |(i, j)| {
                draw.unit() * if i * blocks / n == j * blocks / n { 1.0 } else { link }
            })
        }
        Kind::Reversible => {
            let mut a = Array2::zeros((n, n));
            for i in 0..n {
                for j in 0..=i {
                    a[(i, j)] = draw.unit().powi(4);
                    a[(j, i)] = a[(i, j)];
                }
            }
            a.diag_mut().mapv_inplace(|v: f64| v + 0.01);
            a
        }
        Kind::Doubly => return doubly_stochastic(n, seed),
        Kind::Ring => {
            let noise = 0.2 * draw.unit();
            Array2::from_shape_fn(
                (n, n),
                |(i, j)| if j == (i + 1) % n { 1.0 } else { noise * draw.unit() / n as f64 },
            )
        }
        Kind::Downhill => {
            Array2::from_shape_fn(
                (n, n),
                |(i, j)| if j < i { 0.0 } else { 0.02 + draw.unit() / (1 + j - i) as f64 },
            )
        }
        Kind::Prefix => {
            let order = draw.permutation(n);
            let place = |i: usize| order[i];
            Array2::from_shape_fn((n, n), |(i, j)| {
                let (i, j) = (place(i), place(j));
                let seen = j <= i || (i < n / 3 && j < n / 3);
                let near = if j + 1 == i { 40.0 } else { 0.0 };
                if seen { 0.02 + draw.unit() + near } else { 0.0 }
            })
        }
    };
    normalise(raw)
}

pub fn doubly_stochastic(n: usize, seed: u64) -> Array2<f64> {
    let mut draw = Draw::new(seed);
    let mut a = Array2::zeros((n, n));
    let weights = Array1::from_shape_simple_fn(5, || 0.05 + draw.unit());
    let total = weights.sum();
    for weight in weights {
        let order = draw.permutation(n);
        (0..n).for_each(|i| a[(i, order[i])] += weight / total);
    }
    a
}

pub fn normalise(mut a: Array2<f64>) -> Array2<f64> {
    for mut row in a.axis_iter_mut(Axis(0)) {
        let sum = row.sum();
        row.mapv_inplace(|v| v / sum);
    }
    a
}

pub fn distribution(n: usize, seed: u64) -> Array1<f64> {
    let mut draw = Draw::new(seed ^ 0xd15);
    let t = Array1::from_shape_simple_fn(n, || 0.01 + draw.unit());
    let sum = t.sum();
    t / sum
}

/// L1 distance.
pub fn l1(a: &Array1<f64>, b: &Array1<f64>) -> f64 {
    (a - b).mapv(f64::abs).sum()
}

/// Returns whether λ₂ is `known` within 1e-8, or within ten times its reported error where the eigenvalue is sensitive to
/// the rounding of the matrix.
pub fn second_is(found: &Lambda2, known: f64) -> bool {
    (found.modulus - known).abs() < (10.0 * error(found)).max(1e-8)
}

/// Returns whether two λ₂ are equal within 1e-8, or within ten times their reported errors.
pub fn seconds_agree(a: &Lambda2, b: &Lambda2) -> bool {
    (a.modulus - b.modulus).abs() < (10.0 * (error(a) + error(b))).max(1e-8)
}

fn error(found: &Lambda2) -> f64 {
    found.residual * found.condition
}
