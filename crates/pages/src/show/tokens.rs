//! The names of the states of a chain, and the states that a walk starts from.

use std::ops::Range;

use chain_page::{Layout, Part};
use models::t5::TokenLookup;
use models::{TokenKind, TokenLayout};

use eval::Result;
use eval::analysis::AnalysisError;

/// Start of the bounces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// The patch under the middle of the image.
    #[default]
    Middle,
    /// A token of the sequence, counted from 0; token 0 is CLS or the first text token.
    Token(usize),
    /// A patch by row and column, counted from 0.
    Patch(usize, usize),
    /// A word of the prompt. In a FLUX pipeline, the tokens that the lookup selects, with equal probabilities. In a
    /// Stable Diffusion pipeline, whose chains have no text, the image tokens in proportion to their cross-attention to
    /// these tokens.
    Word {
        /// The word, as in the prompt.
        word: String,
        /// Which of the word's tokens are used.
        lookup: TokenLookup,
    },
}

/// The distribution that a walk starts from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Spread {
    /// Equal probabilities on consecutive states.
    Even(Range<usize>),
    /// The probability of every state, `[n]`, summing to 1.
    Weighted(Vec<f64>),
}

impl Spread {
    /// Returns the probability of each of `n` states.
    pub(super) fn distribution(&self, n: usize) -> Vec<f64> {
        match self {
            Self::Even(states) => {
                let even = 1.0 / states.len() as f64;
                (0..n).map(|state| if states.contains(&state) { even } else { 0.0 }).collect()
            }
            Self::Weighted(weights) => weights.clone(),
        }
    }

    /// Returns the first state with the largest probability.
    pub(super) fn peak(&self) -> usize {
        match self {
            Self::Even(states) => states.start,
            Self::Weighted(weights) => {
                let larger = |best: usize, (state, weight): (usize, &f64)| {
                    if *weight > weights[best] { state } else { best }
                };
                weights.iter().enumerate().fold(0, larger)
            }
        }
    }

    /// Returns the states, if they have equal probabilities.
    pub(super) fn even(&self) -> Option<Range<usize>> {
        match self {
            Self::Even(states) => Some(states.clone()),
            Self::Weighted(_) => None,
        }
    }
}

/// The start of a walk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Origin {
    pub spread: Spread,
    /// Name of the start, such as `“star”`, `patch 3,7` or `cross-attention to “star”`.
    pub name: String,
}

impl Origin {
    /// Returns the start as the page has it.
    pub(super) fn on_page(&self) -> chain_page::Start {
        let name = self.name.clone();
        match &self.spread {
            Spread::Even(states) if states.len() == 1 => chain_page::Start::Token(states.start),
            Spread::Even(states) => chain_page::Start::Even { name, tokens: states.clone().collect() },
            Spread::Weighted(weights) => chain_page::Start::Weighted { name, weights: weights.clone() },
        }
    }
}

/// The states of the chains of one image.
pub(super) struct Tokens {
    /// Kinds of the states.
    pub layout: TokenLayout,
    /// Kinds of all tokens of the sequence, including those that are not states.
    sequence: TokenLayout,
    /// The states that are patches of the image, in reading order.
    patches: Vec<usize>,
    /// The states that are patches of the reference image, in reading order.
    reference: Range<usize>,
    /// Spelling of the text tokens; the text tokens after these are padding.
    pieces: Vec<String>,
}

impl Tokens {
    pub(super) fn new(layout: TokenLayout, sequence: TokenLayout) -> Self {
        let patches = layout.indices(|kind| kind == TokenKind::Image);
        let patches = patches.into_iter().map(|state| state as usize).collect();
        let reference = layout.indices(|kind| kind == TokenKind::Reference);
        let first = reference.first().map_or(0, |state| *state as usize);
        let reference = first..first + reference.len();
        Self { layout, sequence, patches, reference, pieces: Vec::new() }
    }

    /// Returns the spelling of the text tokens without the padding after them.
    pub(super) fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// Sets the spelling of the text tokens, as T5's tokenizer writes it, without padding.
    pub(super) fn spelling(self, pieces: &[String]) -> Self {
        // A `▁` alone is a space that does not belong to a piece.
        let spelt = |piece: &String| match piece.trim_start_matches('▁') {
            "" => " ".to_owned(),
            piece => piece.to_owned(),
        };
        Self { pieces: pieces.iter().map(spelt).collect(), ..self }
    }

    /// Returns the number of states.
    pub(super) fn states(&self) -> usize {
        self.layout.tokens() as usize
    }

    /// Returns the states as the page has them, with the spelling of the text.
    pub(super) fn on_page(&self) -> Layout {
        let part = |kind: &TokenKind| match kind {
            TokenKind::Special => Part::special(self.layout.special as usize),
            TokenKind::Text => Part::Text {
                pieces: self.pieces.clone(),
                padding: (self.layout.text as usize).saturating_sub(self.pieces.len()),
            },
            TokenKind::Image => {
                let (rows, columns) = self.grid();
                Part::Grid { rows, columns }
            }
            TokenKind::Reference => {
                let (rows, columns) = self.reference_grid();
                Part::Reference { rows, columns }
            }
        };
        Layout { parts: self.layout.order.iter().map(part).collect() }
    }

    /// Returns the number of rows and columns of patches.
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.layout.image.0 as usize, self.layout.image.1 as usize)
    }

    /// Returns the number of rows and columns of patches of the reference image; (0, 0) without one.
    pub(super) fn reference_grid(&self) -> (usize, usize) {
        (self.layout.reference.0 as usize, self.layout.reference.1 as usize)
    }

    /// Returns the state that a walk starts from. Words need a tokenizer and are refused.
    ///
    /// # Errors
    /// Fails if the chain does not have the token or patch, and for a word.
    pub(super) fn start(&self, start: &Start) -> Result<Origin> {
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
                let before = match (self.sequence.text, self.sequence.special) {
                    (0, 0) => String::new(),
                    (0, special) => format!("{special} special, then "),
                    (text, _) => format!("{text} of the text, then "),
                };
                let behind = match self.reference_grid() {
                    (0, _) | (_, 0) => String::new(),
                    (rows, cols) => format!(", then {rows} × {cols} of the reference image"),
                };
                match token.checked_sub(dropped) {
                    Some(state) if state < self.states() => state,
                    Some(_) => {
                        return refuse(
                            "token",
                            format!(
                                "there is no token {token}; the sequence has {} tokens, counted from 0: {before}\
                                 {rows} × {cols} patches row by row{behind}",
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
                return refuse("word", format!("`{word}`: this network has no prompt"));
            }
        };
        Ok(Origin { spread: Spread::Even(state..state + 1), name: self.name(state) })
    }

    /// Whether tokens of the sequence are not states.
    pub(super) fn leaves_out(&self) -> bool {
        self.sequence.tokens() as usize > self.states()
    }

    /// Returns the number of a state in the whole sequence.
    pub(super) fn in_sequence(&self, state: usize) -> usize {
        state + self.sequence.tokens() as usize - self.states()
    }

    /// Returns the name of a state, such as `CLS`, `register 1`, `text 2 “star”`, `patch 3,7` or `reference 3,7`.
    pub(super) fn name(&self, state: usize) -> String {
        match self.place(state) {
            Some((row, col)) => format!("patch {row},{col}"),
            None if self.reference.contains(&state) => {
                let (index, (_, cols)) = (state - self.reference.start, self.reference_grid());
                format!("reference {},{}", index / cols, index % cols)
            }
            None if self.layout.text > 0 => match self.pieces.get(state) {
                Some(piece) => format!("text {state} “{piece}”"),
                None => format!("text {state} padding"),
            },
            None if state == 0 => "CLS".into(),
            None => format!("register {state}"),
        }
    }

    /// Whether a state is a token of the text.
    pub(super) fn is_text(&self, state: usize) -> bool {
        self.layout.text > 0 && self.others().contains(&state)
    }

    /// Returns row and column of a state in the image; `None` if it is not a patch of the image.
    pub(super) fn place(&self, state: usize) -> Option<(usize, usize)> {
        let index = self.patches.iter().position(|patch| *patch == state)?;
        let (_, cols) = self.grid();
        Some((index / cols, index % cols))
    }

    /// Returns the states that are patches of the reference image.
    pub(super) fn reference(&self) -> Range<usize> {
        self.reference.clone()
    }

    /// Returns the states that are not patches of an image; they come first.
    pub(super) fn others(&self) -> Range<usize> {
        0..self.states() - self.patches.len() - self.reference.len()
    }

    /// Returns a common name for the states that are not patches of the image; `None` if there are none.
    pub(super) fn others_name(&self) -> Option<&'static str> {
        match (self.layout.text, self.layout.special) {
            _ if !self.reference.is_empty() => Some("text and reference"),
            (0, 0) => None,
            (0, 1) => Some("CLS"),
            (0, _) => Some("CLS and registers"),
            _ => Some("the text"),
        }
    }

    /// Returns the probabilities of the patches in a distribution over the states, in multiples of the uniform probability.
    pub(super) fn on_patches(&self, distribution: &[f64]) -> Vec<f64> {
        let n = distribution.len() as f64;
        self.patches.iter().map(|patch| distribution[*patch] * n).collect()
    }

    /// Writes the total probability of the states that are not patches of the image; empty if there are none.
    pub(super) fn probability_of_others(&self, distribution: &[f64]) -> String {
        let states = self.others().chain(self.reference());
        let probability: f64 = states.map(|state| distribution[state]).sum();
        self.others_name().map_or_else(String::new, |name| format!("{name} {}", percent(probability)))
    }

    /// Returns the values of the patches, from values of all states.
    pub(super) fn of_patches<T: Copy>(&self, values: &[T]) -> Vec<T> {
        self.patches.iter().map(|patch| values[*patch]).collect()
    }
}

/// Writes a fraction as a percentage with two digits.
pub(super) fn percent(fraction: f64) -> String {
    let value = 100.0 * fraction;
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
        assert_eq!((start.spread, start.name.as_str()), (Spread::Even(2..3), "text 2 “star”"));
        let error = tokens.start(&Start::Token(9)).unwrap_err().to_string();
        assert!(error.contains("9 tokens, counted from 0: 5 of the text, then 2 × 2 patches"), "{error}");
        let word = Start::Word { word: "star".into(), lookup: TokenLookup::Mean };
        assert!(tokens.start(&word).is_err(), "only a tokenizer can find a word");
    }

    #[test]
    fn patches_of_a_reference_image_are_states_of_their_own() {
        let layout = TokenLayout::joint(3, (2, 2)).with_reference((1, 3));
        let tokens = Tokens::new(layout.clone(), layout).spelling(&["▁a".to_owned()]);
        let names = [0, 2, 3, 6, 7, 9].map(|state| tokens.name(state));
        assert_eq!(
            names,
            ["text 0 “a”", "text 2 padding", "patch 0,0", "patch 1,1", "reference 0,0", "reference 0,2"]
        );
        assert_eq!((tokens.others(), tokens.reference()), (0..3, 7..10));
        assert_eq!([2, 3, 7].map(|state| tokens.is_text(state)), [true, false, false]);
        assert_eq!((tokens.place(6), tokens.place(7)), (Some((1, 1)), None));
        let state = [0.1, 0.1, 0.1, 0.0, 0.0, 0.2, 0.2, 0.1, 0.1, 0.1];
        assert_eq!(tokens.on_patches(&state), [0.0, 0.0, 2.0, 2.0]);
        assert_eq!(tokens.probability_of_others(&state), "text and reference 60 %");
        let mut page = Layout::joint(vec!["a".into()], 2, (2, 2));
        page.parts.push(Part::Reference { rows: 1, columns: 3 });
        assert_eq!(tokens.on_page(), page);
        assert_eq!(tokens.start(&Start::Token(8)).unwrap().name, "reference 0,1");
        let error = tokens.start(&Start::Token(10)).unwrap_err().to_string();
        assert!(error.contains("row by row, then 1 × 3 of the reference image"), "{error}");
    }

    #[test]
    fn the_page_has_the_same_states() {
        for (special, dropped) in [(0, false), (1, false), (3, false), (3, true)] {
            let tokens = tokens(special, dropped);
            assert_eq!((tokens.on_page().states(), tokens.on_page().grid()), (tokens.states(), Some((3, 5))));
        }
        let layout = TokenLayout::joint(5, (2, 2));
        let tokens = Tokens::new(layout.clone(), layout).spelling(&["▁a".to_owned(), "star".to_owned()]);
        assert_eq!(tokens.on_page(), Layout::joint(vec!["a".into(), "star".into()], 3, (2, 2)));
        let start = |spread| Origin { spread, name: "“a star”".into() }.on_page();
        let name = || "“a star”".to_owned();
        assert_eq!(start(Spread::Even(4..5)), chain_page::Start::Token(4));
        assert_eq!(start(Spread::Even(0..2)), chain_page::Start::Even { name: name(), tokens: vec![0, 1] });
        let weights = vec![0.5, 0.25, 0.25];
        assert_eq!(
            start(Spread::Weighted(weights.clone())),
            chain_page::Start::Weighted { name: name(), weights }
        );
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
        assert_eq!(tokens(3, false).start(&Start::Token(0)).unwrap().spread, Spread::Even(0..1));
    }

    #[test]
    fn missing_tokens_and_patches_are_refused() {
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
    fn starts_are_distributions() {
        let even = Spread::Even(1..3);
        assert_eq!(
            (even.distribution(4), even.peak(), even.even()),
            (vec![0.0, 0.5, 0.5, 0.0], 1, Some(1..3))
        );
        let weighted = Spread::Weighted(vec![0.1, 0.45, 0.45]);
        assert_eq!(
            (weighted.distribution(3), weighted.peak(), weighted.even()),
            (vec![0.1, 0.45, 0.45], 1, None)
        );
    }

    #[test]
    fn percentages_have_two_digits() {
        let written = [1.0, 0.0996, 0.04251, 0.0031, 0.00042, 0.0].map(percent);
        assert_eq!(written, ["100 %", "10 %", "4.3 %", "0.31 %", "0.042 %", "0.000 %"]);
    }

    #[test]
    fn distributions_are_split_into_patches_and_the_rest() {
        let tokens = tokens(2, false);
        let mut state = vec![0.05; 17];
        state[0] = 0.2;
        assert_eq!(tokens.on_patches(&state), vec![0.05 * 17.0; 15]);
        assert_eq!(tokens.probability_of_others(&state), "CLS and registers 25 %");
    }
}
