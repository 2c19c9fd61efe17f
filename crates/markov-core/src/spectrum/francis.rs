//! Eigenvalues of a small real Hessenberg matrix by the implicit double-shift QR iteration (Francis 1961), in place. A
//! Krylov method needs them after every few products. faer solves full matrices; here the matrix already has Hessenberg
//! form, and most are so small that reducing them again would cost more than the iteration.

use faer::c64;

use super::matrix::Small;

/// Maximum number of double steps on one eigenvalue.
const STEPS: usize = 60;

/// Returns the eigenvalues of the leading `m × m` part of `h`, which is zero below the first subdiagonal, or `None` if
/// the iteration stalls.
pub(super) fn hessenberg_eigenvalues(h: &Small<f64>, m: usize) -> Option<Vec<c64>> {
    let mut a = Small::from_fn(m, m, |i, j| h[(i, j)]);
    let size = (0..m).flat_map(|i| (0..m).map(move |j| (i, j))).map(|at| a[at].abs()).fold(0.0, f64::max);
    let mut values = Vec::with_capacity(m);
    let (mut end, mut steps) = (m, 0);
    while end > 0 {
        let mut low = end - 1;
        while low > 0 {
            let near = a[(low - 1, low - 1)].abs() + a[(low, low)].abs();
            if a[(low, low - 1)].abs() <= f64::EPSILON * if near > 0.0 { near } else { size } {
                a[(low, low - 1)] = 0.0;
                break;
            }
            low -= 1;
        }
        match end - low {
            1 => values.push(c64::new(a[(low, low)], 0.0)),
            2 => values.extend(pair(
                a[(low, low)],
                a[(low, low + 1)],
                a[(low + 1, low)],
                a[(low + 1, low + 1)],
            )),
            _ if steps == STEPS => return None,
            _ => {
                steps += 1;
                double_step(&mut a, low, end, steps.is_multiple_of(10));
                continue;
            }
        }
        (end, steps) = (low, 0);
    }
    Some(values)
}

/// Returns the eigenvalues of a 2 × 2 matrix. Computes the larger root first so that the smaller loses no digits.
fn pair(a: f64, b: f64, c: f64, d: f64) -> [c64; 2] {
    let half = (a - d) / 2.0;
    let square = half * half + b * c;
    let middle = (a + d) / 2.0;
    if square < 0.0 {
        let height = (-square).sqrt();
        return [c64::new(middle, height), c64::new(middle, -height)];
    }
    let far = half + square.sqrt().copysign(half);
    let near = if far == 0.0 { 0.0 } else { -b * c / far };
    [c64::new(d + far, 0.0), c64::new(d + near, 0.0)]
}

/// Does one double-shift step on the rows and columns `low..end`.
fn double_step(a: &mut Small<f64>, low: usize, end: usize, exceptional: bool) {
    let (p, q) = (end - 2, end - 1);
    let (trace, determinant) = if exceptional {
        let size = a[(q, p)].abs() + a[(p, p - 1)].abs();
        (1.5 * size, size * size)
    } else {
        (a[(p, p)] + a[(q, q)], a[(p, p)] * a[(q, q)] - a[(p, q)] * a[(q, p)])
    };
    // First column of (A - s₁)(A - s₂), which opens a bulge that the reflections chase out.
    let (a00, a10) = (a[(low, low)], a[(low + 1, low)]);
    let mut x = a00 * (a00 - trace) + determinant + a[(low, low + 1)] * a10;
    let mut y = a10 * (a00 + a[(low + 1, low + 1)] - trace);
    let mut z = a10 * a[(low + 2, low + 1)];
    for k in low..q {
        let count = 3.min(end - k);
        let norm = (x * x + y * y + z * z).sqrt();
        if norm > 0.0 {
            let head = x + norm.copysign(x);
            let v = [1.0, y / head, z / head];
            let twice = 2.0 / v.iter().map(|v| v * v).sum::<f64>();
            for j in k.max(low + 1) - 1..end {
                let dot: f64 = twice * (0..count).map(|i| v[i] * a[(k + i, j)]).sum::<f64>();
                (0..count).for_each(|i| a[(k + i, j)] -= dot * v[i]);
            }
            for i in low..end.min(k + 4) {
                let dot: f64 = twice * (0..count).map(|j| v[j] * a[(i, k + j)]).sum::<f64>();
                (0..count).for_each(|j| a[(i, k + j)] -= dot * v[j]);
            }
        }
        if k > low {
            (1..count).for_each(|i| a[(k + i, k - 1)] = 0.0);
        }
        x = a[(k + 1, k)];
        y = if k + 2 < end { a[(k + 2, k)] } else { 0.0 };
        z = if k + 3 < end { a[(k + 3, k)] } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::spectrum::small::by_falling_modulus;

    #[test]
    fn equal_the_dense_solver() {
        let mut random = Random::new(9);
        for m in 1..40 {
            for sparse in [false, true] {
                let mut h = Small::zeros(m, m);
                for i in 0..m {
                    for j in i.saturating_sub(1)..m {
                        h[(i, j)] = if sparse && random.symmetric() > 0.0 { 0.0 } else { random.symmetric() };
                    }
                }
                let mut found = hessenberg_eigenvalues(&h, m).unwrap();
                found.sort_by(by_falling_modulus);
                let dense = faer::Mat::from_fn(m, m, |i, j| h[(i, j)]);
                for value in dense.eigenvalues().unwrap() {
                    let nearest = found.iter().map(|f| (f - value).norm()).fold(f64::INFINITY, f64::min);
                    // Zeros in a triangle make repeated, ill-conditioned eigenvalues.
                    assert!(nearest < if sparse { 1e-4 } else { 1e-10 }, "{m} {value} {found:?}");
                }
                assert_eq!(found.len(), m);
            }
        }
    }

    #[test]
    fn a_cyclic_shift_needs_exceptional_shifts() {
        for m in [3, 4, 8, 30] {
            let mut h = Small::zeros(m, m);
            (1..m).for_each(|i| h[(i, i - 1)] = 1.0);
            h[(0, m - 1)] = 1.0;
            assert!(hessenberg_eigenvalues(&h, m).unwrap().iter().all(|v| (v.norm() - 1.0).abs() < 1e-12));
        }
    }
}
