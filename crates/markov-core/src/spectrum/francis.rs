//! Eigenvalues of a small real Hessenberg matrix by the implicit double-shift QR iteration (Francis 1961), in place. A
//! Krylov method needs them after every few products. faer solves full matrices; here the matrix already has Hessenberg
//! form, and most are so small that reducing them again would cost more than the iteration.

use faer::c64;

use super::matrix::Small;

/// Maximum number of double steps on one eigenvalue.
const STEPS: usize = 60;

/// Number of rows that are reflected at once.
const LANES: usize = 8;

/// Returns the eigenvalues of the leading `m × m` part of `h`, which is zero below the first subdiagonal, or `None` if
/// the iteration stalls.
pub(super) fn hessenberg_eigenvalues(h: &Small<f64>, m: usize) -> Option<Vec<c64>> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the only requirement of the function is the two CPU features just detected.
        return unsafe { fast(h, m) };
    }
    iterate(h, m)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fast(h: &Small<f64>, m: usize) -> Option<Vec<c64>> {
    iterate(h, m)
}

#[inline(always)]
fn iterate(h: &Small<f64>, m: usize) -> Option<Vec<c64>> {
    let mut a = Small::from_fn(m, m, |i, j| h[(i, j)]);
    let size = a.values.iter().fold(0.0, |size: f64, value| size.max(value.abs()));
    let mut values = Vec::with_capacity(m);
    let mut reflections = Vec::with_capacity(m);
    let mut lanes = vec![[0.0; LANES]; m];
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
                reflections.clear();
                double_step(&mut a, low, end, steps.is_multiple_of(10), &mut reflections);
                reflect_columns(&mut a, low, end, &reflections, &mut lanes);
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

/// The reflection `1 - twice v vᵀ` along `v = (1, y, z)`.
#[derive(Clone, Copy)]
struct Reflection {
    y: f64,
    z: f64,
    twice: f64,
}

impl Reflection {
    const NONE: Reflection = Reflection { y: 0.0, z: 0.0, twice: 0.0 };

    #[inline(always)]
    fn apply(&self, a: &mut f64, b: &mut f64, c: &mut f64) {
        let dot = self.twice * (*a + self.y * *b + self.z * *c);
        *a -= dot;
        *b -= dot * self.y;
        *c -= dot * self.z;
    }
}

/// Does one double-shift step on the rows and columns `low..end`. Row `i` is left without the reflections of columns from
/// `i + 1` on, which [`reflect_columns`] applies to several rows at once.
#[inline(always)]
fn double_step(
    a: &mut Small<f64>,
    low: usize,
    end: usize,
    exceptional: bool,
    reflections: &mut Vec<Reflection>,
) {
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
    let width = a.columns;
    for k in low..q {
        let count = 3.min(end - k);
        let norm = (x * x + y * y + z * z).sqrt();
        let mut reflection = Reflection::NONE;
        if norm > 0.0 {
            let head = (x + norm.copysign(x)).recip();
            let (y, z) = (y * head, z * head);
            reflection = Reflection { y, z, twice: 2.0 / (1.0 + y * y + z * z) };
            let from = k.max(low + 1) - 1;
            let (first, rest) = a.values[k * width..].split_at_mut(width);
            let (second, third) = rest.split_at_mut(width);
            let rows = first[from..end].iter_mut().zip(&mut second[from..end]);
            if count == 3 {
                let all = rows.zip(&mut third[from..end]);
                all.for_each(|((a, b), c)| reflection.apply(a, b, c));
            } else {
                rows.for_each(|(a, b)| reflection.apply(a, b, &mut 0.0));
            }
            for row in a.values.chunks_exact_mut(width).take(end.min(k + 4)).skip(k) {
                match &mut row[k..k + count] {
                    [a, b, c] => reflection.apply(a, b, c),
                    [a, b] => reflection.apply(a, b, &mut 0.0),
                    _ => {}
                }
            }
        }
        reflections.push(reflection);
        if k > low {
            (1..count).for_each(|i| a[(k + i, k - 1)] = 0.0);
        }
        x = a[(k + 1, k)];
        y = if k + 2 < end { a[(k + 2, k)] } else { 0.0 };
        z = if k + 3 < end { a[(k + 3, k)] } else { 0.0 };
    }
}

/// Applies to every row `i` of `low..end` the reflections of the columns from `i + 1` on; the first of `reflections` belongs
/// to the column `low`.
#[inline(always)]
fn reflect_columns(
    a: &mut Small<f64>,
    low: usize,
    end: usize,
    reflections: &[Reflection],
    lanes: &mut [[f64; LANES]],
) {
    let width = a.columns;
    for top in (low..end).step_by(LANES) {
        let rows = LANES.min(end - top);
        let count = end - top;
        if count < 3 {
            continue;
        }
        for lane in 0..rows {
            let values = &a.values[(top + lane) * width..][top..end];
            lanes.iter_mut().zip(values).for_each(|(lanes, value)| lanes[lane] = *value);
        }
        // The first row of the group takes part from the next column on.
        let mut window = (lanes[1], lanes[2]);
        for (k, reflection) in (1..).zip(&reflections[top + 1 - low..]) {
            // The last reflection has two entries; the third column of it is empty.
            let mut last = if k + 2 < count { lanes[k + 2] } else { [0.0; LANES] };
            let parts = PARTS[k.min(LANES)];
            let columns = window.0.iter_mut().zip(&mut window.1).zip(&mut last);
            for (((a, b), c), part) in columns.zip(parts) {
                Reflection { twice: part * reflection.twice, ..*reflection }.apply(a, b, c);
            }
            lanes[k] = window.0;
            window = (window.1, last);
        }
        lanes[count - 1] = window.0;
        for lane in 0..rows {
            let values = &mut a.values[(top + lane) * width..][top + 1..end];
            lanes[1..].iter().zip(values).for_each(|(lanes, value)| *value = lanes[lane]);
        }
    }
}

/// Whether each row of a group takes part in the reflection of the column so many places behind its first row, as a factor.
const PARTS: [[f64; LANES]; LANES + 1] = {
    let mut parts = [[0.0; LANES]; LANES + 1];
    let mut column = 0;
    while column <= LANES {
        let mut row = 0;
        while row < column && row < LANES {
            parts[column][row] = 1.0;
            row += 1;
        }
        column += 1;
    }
    parts
};

/// Returns the leading `m × m` part of `h` in Hessenberg form by Householder reflections (Householder 1958). Its entries more
/// than `band` below the diagonal are zero.
pub(super) fn reduced(h: &Small<f64>, m: usize, band: usize) -> Small<f64> {
    let mut a = Small::from_fn(m, m, |i, j| h[(i, j)]);
    let mut reach = band;
    for k in 0..m.saturating_sub(2) {
        // Each reflection fills the rows below by the length of the vector before it.
        let end = m.min(k + 1 + reach);
        reach = (reach + band).min(m);
        let mut v: Vec<f64> = (k + 1..end).map(|i| a[(i, k)]).collect();
        let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        if v.iter().skip(1).all(|v| *v == 0.0) {
            continue;
        }
        v[0] += norm.copysign(v[0]);
        let twice = 2.0 / v.iter().map(|v| v * v).sum::<f64>();
        let mut dots = vec![0.0; m - k];
        for (i, v) in v.iter().enumerate() {
            let row = &a.values[(k + 1 + i) * m + k..][..m - k];
            dots.iter_mut().zip(row).for_each(|(dot, value)| *dot += v * value);
        }
        for (i, v) in v.iter().enumerate() {
            let row = &mut a.values[(k + 1 + i) * m + k..][..m - k];
            row.iter_mut().zip(&dots).for_each(|(value, dot)| *value -= twice * v * dot);
        }
        (k + 2..end).for_each(|i| a[(i, k)] = 0.0);
        for row in a.values.chunks_exact_mut(m) {
            let row = &mut row[k + 1..end];
            let dot: f64 = twice * row.iter().zip(&v).map(|(value, v)| value * v).sum::<f64>();
            row.iter_mut().zip(&v).for_each(|(value, v)| *value -= dot * v);
        }
    }
    a
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
    fn reduction_keeps_the_eigenvalues() {
        let mut random = Random::new(4);
        for (m, band) in [(2, 1), (5, 2), (9, 8), (17, 4), (30, 29), (30, 3)] {
            let mut h = Small::zeros(m, m);
            for i in 0..m {
                (i.saturating_sub(band)..m).for_each(|j| h[(i, j)] = random.symmetric());
            }
            let a = reduced(&h, m, band);
            assert!((2..m).all(|i| (0..i - 1).all(|j| a[(i, j)] == 0.0)));
            let found = hessenberg_eigenvalues(&a, m).unwrap();
            for value in faer::Mat::from_fn(m, m, |i, j| h[(i, j)]).eigenvalues().unwrap() {
                let nearest = found.iter().map(|f| (f - value).norm()).fold(f64::INFINITY, f64::min);
                assert!(nearest < 1e-10, "{m} {band} {value} {found:?}");
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
