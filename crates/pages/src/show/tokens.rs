//! The states of a chain by name, and which of them a walk starts from.

use std::ops::Range;

use models::t5::TokenLookup;
use models::{Segment, TokenLayout};

use eval::Result;
use eval::analysis::AnalysisError;

/// Where the bounces start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// The patch under the middle of the image.
    #[default]
    Middle,
    /// A token of the sequence, counted from 0: CLS or the first text token.
    Token(usize),
    /// A patch by row and column, counted from 0.
    Patch(usize, usize),
    /// A word of a FLUX pipeline's prompt: those of its tokens that the lookup says, each as likely as the others.
    Word {
        /// As in the prompt.
        word: String,
        /// Which tokens stand for it.
        lookup: TokenLookup,
    },
}

/// The states that a walk starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub states: Range<usize>,
    /// `“star”`, `patch 3,7`.
    pub name: String,
}

/// The states of the chains of one image.
pub(super) struct Tokens {
    /// What the states are.
    pub layout: TokenLayout,
    /// What the tokens of the whole sequence are, whether they are states or not.
    sequence: TokenLayout,
    /// States that are patches, in reading order.
    patches: Vec<usize>,
    /// What text tokens spell; those behind are padding.
    pieces: Vec<String>,
}

impl Tokens {
    pub fn new(layout: TokenLayout, sequence: TokenLayout) -> Self {
        let patches = layout.indices(|segment| segment == Segment::Image);
        let patches = patches.into_iter().map(|state| state as usize).collect();
        Self { layout, sequence, patches, pieces: Vec::new() }
    }

    /// With what the text tokens spell, as T5's tokenizer writes it, padding left out.
    pub fn spelling(self, pieces: &[String]) -> Self {
        // A lone `▁` is a space that belongs to no piece.
        let spelt = |piece: &String| match piece.trim_start_matches('▁') {
            "" => " ".to_owned(),
            piece => piece.to_owned(),
        };
        Self { pieces: pieces.iter().map(spelt).collect(), ..self }
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.layout.tokens() as usize
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> (usize, usize) {
        (self.layout.image.0 as usize, self.layout.image.1 as usize)
    }

    /// The state a walk starts from, unless it is a word, which the tokenizer knows.
    ///
    /// # Errors
    /// A token or patch that the chain does not have.
    pub fn start(&self, start: &Start) -> Result<Origin> {
        let refuse = |option, reason| Err(AnalysisError::Option { option, reason }.into());
        let (rows, cols) = self.grid();
        let state = match *start {
            Start::Middle => self.patches[rows / 2 * cols + cols / 2],
            Start::Patch(row, col) if row < rows && col < cols => self.patches[row * cols + col],
            Start::Patch(row, col) => {
                return refuse(
                    "patch",
                    format!(
                        "there is no patch {row},{col}; this image has {rows} rows of {cols} patches, counted from \
                         0,0 at the top left"
                    ),
                );
            }
            Start::Token(token) => {
                let dropped = self.sequence.tokens() as usize - self.states();
                let before = match self.sequence.text {
                    0 => format!("{} special", self.sequence.special),
                    text => format!("{text} of the text"),
                };
                match token.checked_sub(dropped) {
                    Some(state) if state < self.states() => state,
                    Some(_) => {
                        return refuse(
                            "token",
                            format!(
                                "there is no token {token}; the sequence has {} tokens, counted from 0: {before}, then \
                                 {rows} × {cols} patches row by row",
                                self.sequence.tokens(),
                            ),
                        );
                    }
                    None => {
                        return refuse(
                            "token",
                            format!(
                                "token {token} is a special one, which was left out; patches are tokens \
                                 {dropped} to {}",
                                self.sequence.tokens() - 1
                            ),
                        );
                    }
                }
            }
            Start::Word { ref word, .. } => {
                return refuse("word", format!("`{word}`: this network reads no prompt"));
            }
        };
        Ok(Origin { states: state..state + 1, name: self.name(state) })
    }

    /// Number of a state in the whole sequence.
    pub fn in_sequence(&self, state: usize) -> usize {
        state + self.sequence.tokens() as usize - self.states()
    }

    /// `CLS`, `register 1`, `text 2 “star”`, `patch 3,7`.
    pub fn name(&self, state: usize) -> String {
        match self.place(state) {
            Some((row, col)) => format!("patch {row},{col}"),
            None if self.layout.text > 0 => match self.pieces.get(state) {
                Some(piece) => format!("text {state} “{piece}”"),
                None => format!("text {state} padding"),
            },
            None if state == 0 => "CLS".into(),
            None => format!("register {state}"),
        }
    }

    /// What the text tokens spell, padding left out.
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// Row and column of a state that is a patch.
    pub fn place(&self, state: usize) -> Option<(usize, usize)> {
        let index = self.patches.iter().position(|patch| *patch == state)?;
        let (_, cols) = self.grid();
        Some((index / cols, index % cols))
    }

    /// States that are no patches: they stand in front.
    pub fn others(&self) -> Range<usize> {
        0..self.states() - self.patches.len()
    }

    /// What the states that are no patches are called together; none where the chain has none.
    pub fn others_name(&self) -> Option<&'static str> {
        match (self.layout.text, self.layout.special) {
            (0, 0) => None,
            (0, 1) => Some("CLS"),
            (0, _) => Some("CLS and registers"),
            _ => Some("the text"),
        }
    }

    /// The patches' entries of a distribution over the states, in multiples of an even share.
    pub fn on_patches(&self, distribution: &[f64]) -> Vec<f64> {
        let n = distribution.len() as f64;
        self.patches.iter().map(|patch| distribution[*patch] * n).collect()
    }

    /// What the states that are no patches have of a distribution, in words; empty where there are none.
    pub fn share_of_others(&self, distribution: &[f64]) -> String {
        let share: f64 = self.others().map(|state| distribution[state]).sum();
        self.others_name().map_or_else(String::new, |name| format!("{name} {}", percent(share)))
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
        assert_eq!(all.others_name(), Some("CLS and registers"));
        let patches = tokens(3, true);
        assert_eq!(patches.name(0), "patch 0,0");
        assert_eq!((patches.others_name(), patches.in_sequence(0)), (None, 3));
    }

    #[test]
    fn text_tokens_are_named_by_what_they_spell() {
        let layout = TokenLayout::joint(5, (2, 2));
        let pieces = ["▁a", "▁", "star", "</s>"].map(str::to_owned);
        let tokens = Tokens::new(layout.clone(), layout).spelling(&pieces);
        let names = [0, 1, 2, 3, 4, 5].map(|state| tokens.name(state));
        assert_eq!(
            names,
            ["text 0 “a”", "text 1 “ ”", "text 2 “star”", "text 3 “</s>”", "text 4 padding", "patch 0,0"]
        );
        assert_eq!((tokens.others(), tokens.others_name()), (0..5, Some("the text")));
        let start = tokens.start(&Start::Token(2)).unwrap();
        assert_eq!((start.states, start.name.as_str()), (2..3, "text 2 “star”"));
        let error = tokens.start(&Start::Token(9)).unwrap_err().to_string();
        assert!(error.contains("9 tokens, counted from 0: 5 of the text, then 2 × 2 patches"), "{error}");
        let word = Start::Word { word: "star".into(), lookup: TokenLookup::Mean };
        assert!(tokens.start(&word).is_err(), "a word is the tokenizer's to find");
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
                assert_eq!(tokens.start(&start).unwrap().name, name, "{start:?} {dropped}");
            }
        }
        assert_eq!(tokens(3, false).start(&Start::Token(0)).unwrap().states, 0..1);
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
            let error = tokens(3, dropped).start(&start).unwrap_err().to_string();
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
        assert_eq!(tokens.share_of_others(&shares), "CLS and registers 25 %");
    }
}
