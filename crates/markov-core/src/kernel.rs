//! Inner loops: products of row-major matrices with vectors, for any pair of storage and working precision.
//!
//! Default x86-64 builds assume only SSE2, so each loop is compiled again with AVX2 + FMA, products also with AVX-512, and
//! selected at run time. All versions come from the same safe source; the compiler vectorises it.

use std::ops::Range;

use half::{bf16, f16};

/// A number that is only read, such as an entry of a query, a key or an additive mask: f64, f32, f16 or bf16.
pub trait Number: Copy + Send + Sync + std::fmt::Debug + 'static + sealed::Number {
    /// The value in double precision.
    fn to_f64(self) -> f64;
}

/// Storage of a matrix and working precision of a product: f32 or f64.
pub trait Element: Number + ndarray::LinalgScalar + PartialOrd + sealed::Sealed {
    /// Distance from 1 to the next number.
    const EPSILON: f64;
    /// The nearest value of this type.
    fn of_f64(value: f64) -> Self;
    /// The nearest value of this type.
    fn of<T: Element>(value: T) -> Self;
    /// `self · b + c` with one rounding. Slow on processors without such an instruction.
    fn fused(self, b: Self, c: Self) -> Self;
}

mod sealed {
    pub trait Number {}
    pub trait Sealed {
        fn single(self) -> f32;
    }
    impl Sealed for f32 {
        #[inline(always)]
        fn single(self) -> f32 {
            self
        }
    }
    impl Sealed for f64 {
        #[inline(always)]
        fn single(self) -> f32 {
            self as f32
        }
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl sealed::Number for $number {}
        impl Number for $number {
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
        }
    )*};
}

numbers!(f64, f32, f16, bf16);

impl Element for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    #[inline(always)]
    fn of_f64(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn of<T: Element>(value: T) -> Self {
        value.single()
    }
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
}

impl Element for f64 {
    const EPSILON: f64 = f64::EPSILON;
    #[inline(always)]
    fn of_f64(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn of<T: Element>(value: T) -> Self {
        value.to_f64()
    }
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
}

/// Number of rows combined per sweep over `out`: enough to amortise its load and store, few enough to stay in
/// registers.
const GROUP: usize = 8;
/// Number of rows whose weights for four vectors stay in registers.
const HALF: usize = GROUP / 2;
/// Number of independent partial sums of a dot product.
const LANES: usize = 16;

#[inline(always)]
fn madd<C: Element, const FMA: bool>(a: C, b: C, c: C) -> C {
    if FMA { a.fused(b, c) } else { a * b + c }
}

#[inline(always)]
fn sweep<T: Element, C: Element, const FMA: bool>(rows: [&[T]; GROUP], x: [C; GROUP], out: &mut [C]) {
    let n = out.len();
    let rows = rows.map(|row| &row[..n]);
    for (j, out) in out.iter_mut().enumerate() {
        // Two chains of fused multiply-adds halve the latency.
        let (mut left, mut right) = (*out, C::zero());
        for r in 0..GROUP / 2 {
            left = madd::<C, FMA>(x[r], C::of(rows[r][j]), left);
            right = madd::<C, FMA>(x[r + GROUP / 2], C::of(rows[r + GROUP / 2][j]), right);
        }
        *out = left + right;
    }
}

/// `HALF` rows times `V` vectors. Each entry is loaded once for all vectors; the weights stay in registers.
#[inline(always)]
fn half_tile<T: Element, C: Element, const FMA: bool, const V: usize, const FRESH: bool>(
    rows: [&[[T; LANES]]; HALF],
    x: [[C; HALF]; V],
    outs: &mut [&mut [[C; LANES]]; V],
) {
    let whole = rows[0].len();
    let rows = rows.map(|row| &row[..whole]);
    let outs = outs.each_mut().map(|out| &mut out[..whole]);
    for at in 0..whole {
        let mut sums = [[C::zero(); LANES]; V];
        if !FRESH {
            for v in 0..V {
                sums[v] = outs[v][at];
            }
        }
        for r in 0..HALF {
            let entries = rows[r][at];
            for v in 0..V {
                for l in 0..LANES {
                    sums[v][l] = madd::<C, FMA>(x[v][r], C::of(entries[l]), sums[v][l]);
                }
            }
        }
        for v in 0..V {
            for l in 0..LANES {
                outs[v][at][l] = if FRESH { outs[v][at][l] + sums[v][l] } else { sums[v][l] };
            }
        }
    }
}

/// [`sweep`] over `V` vectors at once. The arithmetic of a vector is the same whatever `V` is.
#[inline(always)]
fn tile<T: Element, C: Element, const FMA: bool, const V: usize>(
    rows: [&[T]; GROUP],
    x: [[C; GROUP]; V],
    out: &mut [C],
) {
    let n = out.len() / V;
    let mut rest = out;
    let mut outs: [&mut [C]; V] = std::array::from_fn(|_| {
        let (first, others) = std::mem::take(&mut rest).split_at_mut(n);
        rest = others;
        first
    });
    let chunks = rows.map(|row| row[..n].as_chunks::<LANES>().0);
    let half = |from: usize| -> [&[[T; LANES]]; HALF] { std::array::from_fn(|r| chunks[from + r]) };
    let weights = |from: usize| -> [[C; HALF]; V] { x.map(|x| std::array::from_fn(|r| x[from + r])) };
    {
        let mut parts = outs.each_mut().map(|out| out.as_chunks_mut::<LANES>().0);
        half_tile::<T, C, FMA, V, false>(half(0), weights(0), &mut parts);
        half_tile::<T, C, FMA, V, true>(half(HALF), weights(HALF), &mut parts);
    }
    let whole = n - n % LANES;
    if whole < n {
        for v in 0..V {
            sweep::<T, C, FMA>(rows.map(|row| &row[whole..n]), x[v], &mut outs[v][whole..]);
        }
    }
}

#[inline(always)]
fn left_body<T: Element, C: Element, const FMA: bool>(
    a: &[T],
    columns: usize,
    x: &[C],
    vectors: usize,
    out: &mut [C],
) {
    left_part_body::<T, C, FMA>(a, columns, 0..columns, x, vectors, out);
}

#[inline(always)]
fn left_part_body<T: Element, C: Element, const FMA: bool>(
    a: &[T],
    stride: usize,
    part: Range<usize>,
    x: &[C],
    vectors: usize,
    out: &mut [C],
) {
    out.fill(C::zero());
    add_part_body::<T, C, FMA>(a, stride, part, x, vectors, out);
}

#[inline(always)]
fn add_left_body<T: Element, C: Element, const FMA: bool>(
    a: &[T],
    columns: usize,
    x: &[C],
    vectors: usize,
    out: &mut [C],
) {
    add_part_body::<T, C, FMA>(a, columns, 0..columns, x, vectors, out);
}

/// Adds the products with the columns `part` of `a`, whose rows have `stride` entries. The arithmetic of a column is the same
/// in every part.
#[inline(always)]
fn add_part_body<T: Element, C: Element, const FMA: bool>(
    a: &[T],
    stride: usize,
    part: Range<usize>,
    x: &[C],
    vectors: usize,
    out: &mut [C],
) {
    let (rows, columns) = (a.len() / stride, part.len());
    let whole = rows - rows % GROUP;
    for first in (0..whole).step_by(GROUP) {
        let group: [&[T]; GROUP] =
            std::array::from_fn(|r| &a[(first + r) * stride + part.start..][..columns]);
        let weights = |v: usize| -> [C; GROUP] { std::array::from_fn(|r| x[v * rows + first + r]) };
        let mut v = 0;
        while v + 4 <= vectors {
            let x = std::array::from_fn(|k| weights(v + k));
            tile::<T, C, FMA, 4>(group, x, &mut out[v * columns..(v + 4) * columns]);
            v += 4;
        }
        if v + 2 <= vectors {
            let x = std::array::from_fn(|k| weights(v + k));
            tile::<T, C, FMA, 2>(group, x, &mut out[v * columns..(v + 2) * columns]);
            v += 2;
        }
        // The group of rows stays in the first cache while the other vectors pass over it.
        for v in v..vectors {
            sweep::<T, C, FMA>(group, weights(v), &mut out[v * columns..][..columns]);
        }
    }
    for row in whole..rows {
        let values = &a[row * stride + part.start..][..columns];
        for v in 0..vectors {
            axpy_body::<T, C, FMA>(x[v * rows + row], values, &mut out[v * columns..][..columns]);
        }
    }
}

#[inline(always)]
fn dot_body<T: Element, C: Element, const FMA: bool>(a: &[T], b: &[C]) -> C {
    let (heads, tail) = a.as_chunks::<LANES>();
    let (other, rest) = b[..a.len()].as_chunks::<LANES>();
    let mut sums = [C::zero(); LANES];
    for (a, b) in heads.iter().zip(other) {
        for l in 0..LANES {
            sums[l] = madd::<C, FMA>(C::of(a[l]), b[l], sums[l]);
        }
    }
    let mut total = C::zero();
    for (a, b) in tail.iter().zip(rest) {
        total = madd::<C, FMA>(C::of(*a), *b, total);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] = sums[l] + sums[l + width];
        }
        width /= 2;
    }
    total + sums[0]
}

#[inline(always)]
fn right_body<T: Element, C: Element, const FMA: bool>(
    a: &[T],
    columns: usize,
    y: &[C],
    vectors: usize,
    out: &mut [C],
) {
    let rows = a.len() / columns;
    for (i, row) in a.chunks_exact(columns).enumerate() {
        for v in 0..vectors {
            out[v * rows + i] = dot_body::<T, C, FMA>(row, &y[v * columns..][..columns]);
        }
    }
}

#[inline(always)]
fn axpy_body<T: Element, C: Element, const FMA: bool>(weight: C, x: &[T], out: &mut [C]) {
    for (out, value) in out.iter_mut().zip(x) {
        *out = madd::<C, FMA>(weight, C::of(*value), *out);
    }
}

/// Sum and minimum of a row. NaN and infinities show in the sum.
#[inline(always)]
fn row_body<T: Element>(row: &[T]) -> (f64, f64) {
    let (heads, tail) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    let mut lows = [f64::INFINITY; LANES];
    for chunk in heads {
        for l in 0..LANES {
            let value = chunk[l].to_f64();
            sums[l] += value;
            lows[l] = if value < lows[l] { value } else { lows[l] };
        }
    }
    let (mut sum, mut low) = (0.0, f64::INFINITY);
    for value in tail {
        sum += value.to_f64();
        low = if value.to_f64() < low { value.to_f64() } else { low };
    }
    for l in 0..LANES {
        sum += sums[l];
        low = if lows[l] < low { lows[l] } else { low };
    }
    (sum, low)
}

/// `e^x` for `x ≤ 0` to rounding: `x = k ln 2 + r`, Taylor's series for `e^r`, and `2^k` through the exponent bits.
#[inline(always)]
fn exp<const FMA: bool>(x: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: adding it rounds to an integer, kept in the low bits
    const HIGH: f64 = 0.693_147_180_369_123_8; // the first 33 bits of ln 2, so that k · HIGH is exact
    const LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = x.max(-708.0);
    let shifted = madd::<f64, FMA>(x, std::f64::consts::LOG2_E, MAGIC);
    let k = shifted - MAGIC;
    let r = madd::<f64, FMA>(-k, LOW, madd::<f64, FMA>(-k, HIGH, x));
    let mut series = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0,
    ] {
        series = madd::<f64, FMA>(series, r, 1.0 / factorial);
    }
    series * f64::from_bits((shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(1023)) << 52)
}

/// Half of the smallest positive number of single precision: probabilities up to it round to 0 there, and are 0.
const VANISHES: f64 = 7.006_492_321_624_085e-46;

#[inline(always)]
fn softmax_body<const FMA: bool>(row: &mut [f64]) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (chunks, tail) = row.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for l in 0..LANES {
            chunk[l] = exp::<FMA>(chunk[l] - top);
            sums[l] += chunk[l];
        }
    }
    let mut sum: f64 = sums.iter().sum();
    for value in tail {
        *value = exp::<FMA>(*value - top);
        sum += *value;
    }
    let scale = sum.recip();
    for value in row {
        let probability = *value * scale;
        *value = if probability <= VANISHES { 0.0 } else { probability };
    }
}

/// `cap · tanh(x / cap)` with an absolute error of a rounding of `cap`: `tanh |y| = (1 - e) / (1 + e)`, `e = exp(-2 |y|)`.
#[inline(always)]
fn softcap_body<const FMA: bool>(row: &mut [f64], cap: f64) {
    let factor = -2.0 / cap;
    for value in row {
        let e = exp::<FMA>(factor * value.abs());
        *value = (cap * ((1.0 - e) / (1.0 + e))).copysign(*value);
    }
}

/// Sum of a vector in double precision, in independent partial sums.
pub(crate) fn sum<C: Element>(x: &[C]) -> f64 {
    let (chunks, tail) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for l in 0..LANES {
            sums[l] += chunk[l].to_f64();
        }
    }
    sums.iter().sum::<f64>() + tail.iter().map(|v| v.to_f64()).sum::<f64>()
}

/// L1 distance of two vectors in double precision, in independent partial sums.
pub(crate) fn distance<C: Element>(x: &[C], y: &[C]) -> f64 {
    let ((a, rest), (b, other)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            sums[l] += (a[l] - b[l]).to_f64().abs();
        }
    }
    sums.iter().sum::<f64>() + rest.iter().zip(other).map(|(a, b)| (*a - *b).to_f64().abs()).sum::<f64>()
}

macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident<$($kind:ident),*>, $fast:ident, $wide:ident, $body:ident $(, $fma:tt)?; ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn $wide<$($kind: Element),*>($($arg: $ty),*) $(-> $ret)? {
            $body::<$($kind),* $(, { $fma })?>($($arg),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $fast<$($kind: Element),*>($($arg: $ty),*) $(-> $ret)? {
            $body::<$($kind),* $(, { $fma })?>($($arg),*)
        }

        $(#[$doc])*
        #[inline]
        pub(crate) fn $name<$($kind: Element),*>($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                {
                    // SAFETY: the only requirement of the function is the CPU features just detected.
                    return unsafe { $wide::<$($kind),*>($($arg),*) };
                }
                // SAFETY: the only requirement of the function is the two CPU features just detected.
                return unsafe { $fast::<$($kind),*>($($arg),*) };
            }
            // Other 64-bit targets have a fused multiply-add in their baseline, plain x86-64 does not.
            $body::<$($kind),* $(, { $fma && cfg!(target_arch = "aarch64") })?>($($arg),*)
        }
    };
}

dispatch!(
    /// `out = x · a` for `vectors` row vectors `x` `[vectors, rows]`, `a` `[rows, columns]`, `out` `[vectors, columns]`.
    left<T, C>, left_fast, left_wide, left_body, true; (a: &[T], columns: usize, x: &[C], vectors: usize, out: &mut [C])
);
dispatch!(
    /// Like [`left`] for the columns `part` of `a`, which has `stride` columns in all; `out` `[vectors, columns of the part]`.
    left_part<T, C>, left_part_fast, left_part_wide, left_part_body, true; (a: &[T], stride: usize, part: Range<usize>, x: &[C], vectors: usize, out: &mut [C])
);
dispatch!(
    /// `out += x · a`, shapes as for [`left`].
    add_left<T, C>, add_left_fast, add_left_wide, add_left_body, true; (a: &[T], columns: usize, x: &[C], vectors: usize, out: &mut [C])
);
dispatch!(
    /// `out = y · aᵀ` for `vectors` row vectors `y` `[vectors, columns]`, `out` `[vectors, rows]`.
    right<T, C>, right_fast, right_wide, right_body, true; (a: &[T], columns: usize, y: &[C], vectors: usize, out: &mut [C])
);
dispatch!(
    /// `Σ a b`.
    dot<T, C>, dot_fast, dot_wide, dot_body, true; (a: &[T], b: &[C]) -> C
);
dispatch!(
    /// `out += weight · x`.
    axpy<T, C>, axpy_fast, axpy_wide, axpy_body, true; (weight: C, x: &[T], out: &mut [C])
);
dispatch!(
    /// Sum and minimum of a row.
    row_summary<T>, row_summary_fast, row_summary_wide, row_body; (row: &[T]) -> (f64, f64)
);

macro_rules! dispatch_rows {
    ($(#[$doc:meta])* $name:ident, $fast:ident, $body:ident; ($($arg:ident: $ty:ty),*)) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $fast($($arg: $ty),*) {
            $body::<true>($($arg),*);
        }

        $(#[$doc])*
        pub(crate) fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                // SAFETY: the only requirement of the function is the two CPU features just detected.
                return unsafe { $fast($($arg),*) };
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*);
        }
    };
}

dispatch_rows!(
    /// Softmax of a row of logits, in place. Minus infinity, and whatever rounds to 0 in single precision, becomes 0. At
    /// least one logit must be finite.
    softmax, softmax_fast, softmax_body; (row: &mut [f64])
);
dispatch_rows!(
    /// `cap · tanh(logit / cap)` for a row of logits, in place.
    softcap, softcap_fast, softcap_body; (row: &mut [f64], cap: f64)
);

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut random = crate::random::Random::new(seed);
        (0..count).map(|_| random.symmetric()).collect()
    }

    #[test]
    fn products_equal_the_definition_at_every_remainder() {
        for rows in [1, 3, 7, 8, 9, 16, 21] {
            for columns in [1, 2, 7, 8, 9, 31] {
                for vectors in [1, 2, 3, 4, 7] {
                    let a = numbers(rows * columns, 1);
                    let x = numbers(vectors * rows, 2);
                    let y = numbers(vectors * columns, 3);
                    let (mut xa, mut ay) = (vec![9.0; vectors * columns], vec![9.0; vectors * rows]);
                    left(&a, columns, &x, vectors, &mut xa);
                    right(&a, columns, &y, vectors, &mut ay);
                    for v in 0..vectors {
                        for j in 0..columns {
                            let want: f64 = (0..rows).map(|i| x[v * rows + i] * a[i * columns + j]).sum();
                            assert!((xa[v * columns + j] - want).abs() < 1e-13);
                        }
                        for i in 0..rows {
                            let want: f64 =
                                (0..columns).map(|j| y[v * columns + j] * a[i * columns + j]).sum();
                            assert!((ay[v * rows + i] - want).abs() < 1e-13);
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri's own exp is off by some units in the last place, on purpose")]
    fn exponential_is_exact_to_rounding() {
        for i in 0..200_000 {
            let x = -f64::from(i) * 0.003_53;
            for found in [exp::<true>(x), exp::<false>(x)] {
                assert!((found - x.exp()).abs() <= 1e-15 * x.exp(), "{x} {found} {}", x.exp());
            }
        }
        assert_eq!(exp::<true>(0.0), 1.0);
        assert!(exp::<true>(f64::NEG_INFINITY) < 1e-300);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri's own exp is off by some units in the last place, on purpose")]
    fn softmax_leaves_out_what_single_precision_cannot_hold() {
        for tail in [0, 5, 40] {
            let mut row = vec![0.0, f64::NEG_INFINITY, -1e300, -745.0, -103.0, -104.1];
            row.extend(std::iter::repeat_n(-200.0, tail));
            softmax(&mut row);
            assert!(row[0] == 1.0 && row[4] > 0.0 && row[4] as f32 > 0.0, "{row:?}");
            assert!(row.iter().enumerate().all(|(i, p)| i == 0 || i == 4 || *p == 0.0), "{row:?}");
        }
        assert_eq!((VANISHES as f32, VANISHES * 2.0), (0.0, f64::from(f32::from_bits(1))));
        assert!((VANISHES * (1.0 + f64::EPSILON)) as f32 > 0.0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri's own exp is off by some units in the last place, on purpose")]
    fn softcap_is_the_hyperbolic_tangent() {
        for cap in [0.5, 30.0, 50.0] {
            let logits: Vec<f64> = (-2000..=2000).map(|i| f64::from(i) * 0.37).collect();
            let mut capped = logits.clone();
            softcap(&mut capped, cap);
            for (logit, found) in logits.iter().zip(&capped) {
                let want = cap * (logit / cap).tanh();
                assert!((found - want).abs() <= 4.0 * f64::EPSILON * cap, "{logit} {found} {want}");
            }
        }
    }

    #[test]
    fn plain_and_fused_loops_agree() {
        let a: Vec<f32> = numbers(37 * 53, 4).iter().map(|v| *v as f32).collect();
        let x = numbers(37, 5);
        let (mut plain, mut chosen) = (vec![0.0; 53], vec![0.0; 53]);
        left_body::<f32, f64, false>(&a, 53, &x, 1, &mut plain);
        left(&a, 53, &x, 1, &mut chosen);
        for (p, c) in plain.iter().zip(&chosen) {
            assert!((p - c).abs() < 1e-13);
        }
    }
}
