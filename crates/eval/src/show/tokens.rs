//! The states of a chain by name, and which of them a walk starts from.

use models::{Segment, TokenLayout};

use crate::analysis::AnalysisError;
use crate::error::Result;

/// Where the bounces start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The patch under the middle of the image.
    #[default]
    Middle,
    /// A token of the sequence, counted from 0 with CLS as the first.
    Token(usize),
    /// A patch by row and column, counted from 0.
    Patch(usize, usize),
}

/// The states of the chains of one image.
pub(super) struct Tokens {
    /// What the states are.
    pub layout: TokenLayout,
    /// What the tokens of the whole sequence are, whether they are states or not.
    sequence: TokenLayout,
    /// States that are patches, in reading order.
    patches: Vec<usize>,
}

impl Tokens {
    pub fn new(layout: TokenLayout, sequence: TokenLayout) -> Self {
        let patches = layout.indices(|segment| segment == Segment::Image);
        Self { layout, sequence, patches: patches.into_iter().map(|state| state as usize).collect() }
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.layout.tokens() as usize
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> (usize, usize) {
        (self.layout.image.0 as usize, self.layout.image.1 as usize)
    }

    /// The state a walk starts from.
    ///
    /// # Errors
    /// A token or patch that the chain does not have.
    pub fn start(&self, start: Start) -> Result<usize> {
        let refuse = |option, reason| Err(AnalysisError::Option { option, reason }.into());
        let (rows, cols) = self.grid();
        match start {
            Start::Middle => Ok(self.patches[rows / 2 * cols + cols / 2]),
            Start::Patch(row, col) if row < rows && col < cols => Ok(self.patches[row * cols + col]),
            Start::Patch(row, col) => refuse(
                "--patch",
                format!(
                    "there is no patch {row},{col}; this image has {rows} rows of {cols} patches, counted from 0,0 \
                     at the top left"
                ),
            ),
            Start::Token(token) => {
                let dropped = self.sequence.tokens() as usize - self.states();
                match token.checked_sub(dropped) {
                    Some(state) if state < self.states() => Ok(state),
                    Some(_) => refuse(
                        "--token",
                        format!(
                            "there is no token {token}; the sequence has {} tokens, counted from 0: {} special, then \
                             {rows} × {cols} patches row by row",
                            self.sequence.tokens(),
                            self.sequence.special
                        ),
                    ),
                    None => refuse(
                        "--token",
                        format!(
                            "token {token} is a special one, which --without-special leaves out; patches are tokens \
                             {dropped} to {}",
                            self.sequence.tokens() - 1
                        ),
                    ),
                }
            }
        }
    }

    /// Number of a state in the whole sequence.
    pub fn in_sequence(&self, state: usize) -> usize {
        state + self.sequence.tokens() as usize - self.states()
    }

    /// `CLS`, `register 1`, `patch 3,7`.
    pub fn name(&self, state: usize) -> String {
        match self.place(state) {
            Some((row, col)) => format!("patch {row},{col}"),
            None if state == 0 => "CLS".into(),
            None => format!("register {state}"),
        }
    }

    /// Row and column of a state that is a patch.
    pub fn place(&self, state: usize) -> Option<(usize, usize)> {
        let index = self.patches.iter().position(|patch| *patch == state)?;
        let (_, cols) = self.grid();
        Some((index / cols, index % cols))
    }

    /// States that are no patches.
    pub fn special(&self) -> std::ops::Range<usize> {
        0..self.layout.special as usize
    }

    /// What the special states are called together; none where the chain has none.
    pub fn special_name(&self) -> Option<&'static str> {
        match self.layout.special {
            0 => None,
            1 => Some("CLS"),
            _ => Some("CLS and registers"),
        }
    }

    /// The patches' entries of a distribution over the states, in multiples of an even share.
    pub fn on_patches(&self, distribution: &[f64]) -> Vec<f64> {
        let n = distribution.len() as f64;
        self.patches.iter().map(|patch| distribution[*patch] * n).collect()
    }

    /// What the special states have of a distribution, in words; empty where there are none.
    pub fn special_share(&self, distribution: &[f64]) -> String {
        let share: f64 = self.special().map(|state| distribution[state]).sum();
        self.special_name().map_or_else(String::new, |name| format!("{name} {}", percent(share)))
    }

    /// Values of each patch's state.
    pub fn of_patches<T: Copy>(&self, values: &[T]) -> Vec<T> {
        self.patches.iter().map(|patch| values[*patch]).collect()
    }
}

/// A share in per cent, to two digits.
pub(super) fn percent(share: f64) -> String {
    let value = 100.0 * share;
    let decimals = [9.95, 0.995, 0.0995].iter().filter(|limit| value < **limit).count();
    format!("{value:.decimals$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(special: i64, dropped: bool) -> Tokens {
        let sequence = TokenLayout::vision(special, (3, 5));
        let layout = if dropped { TokenLayout { special: 0, ..sequence.clone() } } else { sequence.clone() };
        Tokens::new(layout, sequence)
    }

    #[test]
    fn states_have_names() {
        let all = tokens(3, false);
        assert_eq!(all.name(0), "CLS");
        assert_eq!(all.name(2), "register 2");
        assert_eq!(all.name(3), "patch 0,0");
        assert_eq!(all.name(17), "patch 2,4");
        assert_eq!(all.special_name(), Some("CLS and registers"));
        let patches = tokens(3, true);
        assert_eq!(patches.name(0), "patch 0,0");
        assert_eq!((patches.special_name(), patches.in_sequence(0)), (None, 3));
    }

    #[test]
    fn a_start_is_the_same_token_with_and_without_special_ones() {
        for (start, name) in [
            (Start::Middle, "patch 1,2"),
            (Start::Token(4), "patch 0,1"),
            (Start::Token(17), "patch 2,4"),
            (Start::Patch(2, 0), "patch 2,0"),
        ] {
            for dropped in [false, true] {
                let tokens = tokens(3, dropped);
                assert_eq!(tokens.name(tokens.start(start).unwrap()), name, "{start:?} {dropped}");
            }
        }
        assert_eq!(tokens(3, false).start(Start::Token(0)).unwrap(), 0);
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        for (start, dropped, words) in [
            (Start::Token(18), false, "there is no token 18; the sequence has 18 tokens"),
            (Start::Token(18), true, "there is no token 18"),
            (Start::Token(2), true, "patches are tokens 3 to 17"),
            (Start::Patch(3, 0), false, "3 rows of 5 patches"),
            (Start::Patch(0, 5), true, "no patch 0,5"),
        ] {
            let error = tokens(3, dropped).start(start).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn shares_have_two_digits() {
        let written = [1.0, 0.0996, 0.04251, 0.0031, 0.00042, 0.0].map(percent);
        assert_eq!(written, ["100 %", "10 %", "4.3 %", "0.31 %", "0.042 %", "0.000 %"]);
    }

    #[test]
    fn distributions_are_split_into_patches_and_the_rest() {
        let tokens = tokens(2, false);
        let mut shares = vec![0.05; 17];
        shares[0] = 0.2;
        assert_eq!(tokens.on_patches(&shares), vec![0.05 * 17.0; 15]);
        assert_eq!(tokens.special_share(&shares), "CLS and registers 25 %");
    }
}
