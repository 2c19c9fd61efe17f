//! Random numbers that are identical on every platform and in every version.
//!
//! A scene is a function of its coordinates (seed, split, index), so its numbers come from a counter-based stream keyed
//! by those coordinates: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
//! 2014). Only integer operations and the exactly rounded `+ - * / sqrt` are used, not `sin` or `powf`, whose last bit
//! depends on the platform's maths library.

/// The odd constant by which a SplitMix64 counter advances: 2⁶⁴ over the golden ratio.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function: a bijection of the 64-bit integers in which every input bit reaches every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The upper 53 bits as a number in `[0, 1)`, exact in `f64`.
fn to_unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// A stream of random numbers, fixed by its keys.
#[derive(Debug, Clone)]
pub struct Rng {
    counter: u64,
}

impl Rng {
    /// Returns the stream that belongs to `keys`. Lists of keys that differ in any key or in length give unrelated
    /// streams.
    pub fn keyed(keys: &[u64]) -> Self {
        let start = mix(keys.len() as u64 ^ GAMMA);
        Self {
            counter: keys.iter().fold(start, |state, &key| mix(state.wrapping_add(GAMMA) ^ mix(key ^ GAMMA))),
        }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(GAMMA);
        mix(self.counter)
    }

    /// A number uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        to_unit(self.bits())
    }

    /// A number uniform in `[low, high)`; `low` if the interval is empty.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low).max(0.0) * self.unit()
    }

    /// A number uniform among `0..n`; 0 if `n` is 0. It is the high half of a 128-bit product, with a bias below n /
    /// 2⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number uniform among `low..=high`.
    pub fn between(&mut self, (low, high): (usize, usize)) -> usize {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A direction uniform on the unit circle: a point of the disc, found by rejection, divided by its length.
    pub fn direction(&mut self) -> (f64, f64) {
        loop {
            let (x, y) = (self.range(-1.0, 1.0), self.range(-1.0, 1.0));
            let square = x * x + y * y;
            if (0.01..=1.0).contains(&square) {
                let length = square.sqrt();
                return (x / length, y / length);
            }
        }
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A field of random values over the plane: one value per lattice point, smooth in between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueNoise {
    key: u64,
}

impl ValueNoise {
    /// Draws a field from the stream.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self { key: rng.bits() }
    }

    /// The value at a lattice point, uniform in `[-1, 1)`.
    fn lattice(self, x: i64, y: i64) -> f64 {
        let row = mix(self.key ^ (y as u64).wrapping_mul(GAMMA));
        2.0 * to_unit(mix(row ^ (x as u64).wrapping_mul(0xD1B5_4A32_D192_ED03))) - 1.0
    }

    /// The field at `(x, y)` in lattice units, in `[-1, 1)`: smoothstep interpolation between the four lattice points
    /// around.
    pub(crate) fn at(self, x: f64, y: f64) -> f64 {
        let (x0, y0) = (x.floor(), y.floor());
        let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
        let (tx, ty) = (smooth(x - x0), smooth(y - y0));
        let (i, j) = (x0 as i64, y0 as i64);
        let row = |j: i64| {
            let (left, right) = (self.lattice(i, j), self.lattice(i + 1, j));
            left + (right - left) * tx
        };
        let (above, below) = (row(j), row(j + 1));
        above + (below - above) * ty
    }
}
