//! The tokens that are the states of the chains.

use serde::Serialize;

/// The tokens in sequence order, as parts of one kind each. At most one part is a grid of patches; without a grid, the page
/// shows the tokens as words. Next to a grid, one part may be a reference image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Layout {
    /// The parts, in sequence order.
    pub parts: Vec<Part>,
}

/// Consecutive tokens of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Tokens with names, such as `CLS` and `register 1`.
    Named(Vec<String>),
    /// Text.
    Text {
        /// The text of each token with its white space, such as ` the`. Without any white space in any token, each token
        /// counts as a word of its own.
        pieces: Vec<String>,
        /// Number of padding tokens after them.
        padding: usize,
    },
    /// Patches of an image, row by row.
    Grid {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
    /// Patches of a reference image, row by row: a second image, which the page shows below the first one.
    Reference {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
}

impl Layout {
    /// Layout of a vision transformer: `special` tokens (CLS, then registers), then `rows × columns` patches.
    pub fn vision(special: usize, (rows, columns): (usize, usize)) -> Self {
        Self { parts: vec![Part::special(special), Part::Grid { rows, columns }] }
    }

    /// Layout of a language model: the text of each token with its white space, as in [`Part::Text`].
    pub fn text(pieces: Vec<String>) -> Self {
        Self { parts: vec![Part::Text { pieces, padding: 0 }] }
    }

    /// Layout of joint attention to text and image, as in FLUX: the text and its padding, then `rows × columns` patches.
    pub fn joint(pieces: Vec<String>, padding: usize, (rows, columns): (usize, usize)) -> Self {
        Self { parts: vec![Part::Text { pieces, padding }, Part::Grid { rows, columns }] }
    }

    /// Layout of `states` tokens of which nothing is known; the page shows their numbers, from 0.
    pub fn numbered(states: usize) -> Self {
        Self { parts: vec![Part::Named((0..states).map(|state| state.to_string()).collect())] }
    }

    /// Returns the number of tokens, which is the side of every map.
    pub fn states(&self) -> usize {
        self.parts.iter().map(Part::tokens).sum()
    }

    /// Returns the number of rows and columns of patches; `None` if there is no grid.
    pub fn grid(&self) -> Option<(usize, usize)> {
        self.grids().next()
    }

    /// Returns the sizes of all grids.
    pub(crate) fn grids(&self) -> impl Iterator<Item = (usize, usize)> {
        self.parts.iter().filter_map(|part| match *part {
            Part::Grid { rows, columns } => Some((rows, columns)),
            Part::Named(_) | Part::Text { .. } | Part::Reference { .. } => None,
        })
    }

    /// Returns the sizes of the grids of all reference images.
    pub(crate) fn references(&self) -> impl Iterator<Item = (usize, usize)> {
        self.parts.iter().filter_map(|part| match *part {
            Part::Reference { rows, columns } => Some((rows, columns)),
            Part::Named(_) | Part::Text { .. } | Part::Grid { .. } => None,
        })
    }
}

impl Part {
    /// The special tokens of a vision transformer: `CLS`, then `register 1` and so on.
    pub fn special(count: usize) -> Self {
        let name = |index| if index == 0 { "CLS".to_owned() } else { format!("register {index}") };
        Self::Named((0..count).map(name).collect())
    }

    fn tokens(&self) -> usize {
        match self {
            Self::Named(names) => names.len(),
            Self::Text { pieces, padding } => pieces.len() + padding,
            Self::Grid { rows, columns } | Self::Reference { rows, columns } => rows * columns,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layouts_count_their_tokens_and_name_them_for_the_script() {
        let written =
            |layout: &Layout| (layout.states(), layout.grid(), serde_json::to_value(layout).expect("JSON"));
        let grid = json!({ "grid": { "rows": 2, "columns": 3 } });
        assert_eq!(written(&Layout::vision(0, (2, 3))), (6, Some((2, 3)), json!([{ "named": [] }, grid])));
        let names = json!({ "named": ["CLS", "register 1", "register 2"] });
        assert_eq!(written(&Layout::vision(3, (2, 3))), (9, Some((2, 3)), json!([names, grid])));
        let joint = Layout::joint(vec!["a".into(), "b".into()], 3, (2, 3));
        let text = json!({ "text": { "pieces": ["a", "b"], "padding": 3 } });
        assert_eq!(written(&joint), (11, Some((2, 3)), json!([text, grid])));
        let mut edited = joint.clone();
        edited.parts.push(Part::Reference { rows: 4, columns: 1 });
        let reference = json!({ "reference": { "rows": 4, "columns": 1 } });
        assert_eq!(written(&edited), (15, Some((2, 3)), json!([text, grid, reference])));
        let text = json!({ "text": { "pieces": ["A", " word"], "padding": 0 } });
        assert_eq!(written(&Layout::text(vec!["A".into(), " word".into()])), (2, None, json!([text])));
        assert_eq!(written(&Layout::numbered(2)), (2, None, json!([{ "named": ["0", "1"] }])));
    }
}
