//! NumPy's legacy `RandomState`, with identical draws.

use rand_mt::Mt;

/// `numpy.random.RandomState(seed)`: MT19937, seeded by Knuth's recurrence, with the draws that torch-fidelity makes.
///
/// NumPy has frozen this stream (NEP 19), so it is the same in every version.
pub struct RandomState(Mt);

impl RandomState {
    /// Returns the generator for a seed.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self(Mt::new(seed))
    }

    /// Returns `permutation(n)`: the numbers `0..n` shuffled by Fisher and Yates from the end. `n` is below 2³².
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            numbers.swap(i, self.up_to(i as u32) as usize);
        }
        numbers
    }

    /// Returns `choice(n, size, replace=False)`: the beginning of a permutation; all of it if `size` is above `n`, which NumPy
    /// refuses.
    pub fn choice(&mut self, n: usize, size: usize) -> Vec<usize> {
        let mut numbers = self.permutation(n);
        numbers.truncate(size);
        numbers
    }

    /// Draws uniformly from `0..=max`, by rejection below the next power of two (`random_interval` in NumPy's
    /// `distributions.c`).
    fn up_to(&mut self, max: u32) -> u32 {
        let mask = u32::MAX >> max.leading_zeros().min(31);
        loop {
            let value = self.0.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `RandomState(2020)` and nearby seeds; more in `tools/golden_metrics.py`.
    #[test]
    fn permutations_are_numpys() {
        assert_eq!(RandomState::new(2020).permutation(10), PERMUTATION);
        assert_eq!(RandomState::new(0).permutation(0), [0; 0]);
        assert_eq!(RandomState::new(0).permutation(1), [0]);
    }

    #[test]
    fn a_choice_draws_as_much_as_a_permutation() {
        let (mut one, mut other) = (RandomState::new(7), RandomState::new(7));
        assert_eq!(one.choice(100, 5), other.permutation(100)[..5]);
        assert_eq!(one.permutation(50), other.permutation(50));
        assert_eq!(one.choice(3, 9).len(), 3);
    }

    const PERMUTATION: [usize; 10] = [2, 4, 9, 1, 5, 7, 6, 3, 8, 0];
}
