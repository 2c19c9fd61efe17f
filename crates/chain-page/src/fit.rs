//! Chooses the maps that a page embeds, so that browsers can open it.

use crate::content::Page;

/// Maximum number of entries of all maps of a page. An entry takes 2.7 bytes, so all take 33 MB.
pub const MAP_BUDGET: usize = 12 << 20;

/// Maximum number of entries of all maps of a page in a notebook, whose file holds the page: 11 MB.
pub const NOTEBOOK_BUDGET: usize = 4 << 20;

/// The maps that fit into a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Number of the first layer on the page; all later ones follow.
    pub(crate) first: usize,
    /// Number of the first layer with the maps of its heads; all later ones have them too.
    pub(crate) first_with_heads: usize,
}

impl Fit {
    /// Chooses the maps of a page whose entries, together, do not exceed `budget`: the mean of every layer, then the heads of
    /// the last layers, all heads of a layer or none. If the means exceed the budget, those of the last layers alone.
    pub(crate) fn new(page: &Page, budget: usize) -> Self {
        let (count, entries) = (page.layers.len(), page.layout.states().pow(2).max(1));
        let maps = budget / entries;
        let Some(mut left) = maps.checked_sub(count) else {
            return Self { first: count - maps, first_with_heads: count };
        };
        let mut first_with_heads = count;
        for layer in page.layers.iter().rev() {
            match left.checked_sub(layer.heads.len()) {
                Some(rest) => left = rest,
                None => break,
            }
            first_with_heads -= 1;
        }
        Self { first: 0, first_with_heads }
    }

    /// Says which maps are missing for their size; `None` if none is.
    pub(crate) fn words(self, page: &Page) -> Option<String> {
        let (all, word) = (page.layers.len(), &page.layers_word);
        if self.first > 0 {
            return Some(format!("the last {} of {all} {word}, heads averaged", all - self.first));
        }
        // The heads of a layer whose λ₂ are known were there once.
        let headless = page.layers.iter().enumerate().filter(|(number, layer)| {
            layer.head_count() > 0 && (*number < self.first_with_heads || layer.heads.is_empty())
        });
        let heads = match headless.count() {
            0 => return None,
            some if some == all => "without their heads",
            _ => "heads of the last ones only",
        };
        Some(format!("all {word}, {heads}, to limit the page's size"))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::{Layer, Layout, Start};

    /// A page of chains of 10 states whose layers have these numbers of heads.
    fn page(heads: &[usize]) -> Page {
        let map = Array2::from_elem((10, 10), 0.1f32);
        let layer = |heads: &usize| Layer {
            name: "block".into(),
            mean: map.clone(),
            heads: vec![map.clone(); *heads],
            lambda2: vec![0.5; *heads],
        };
        Page {
            title: String::new(),
            facts: Vec::new(),
            image: None,
            reference: None,
            layout: Layout::numbered(10),
            alpha: 0.99,
            start: Start::Token(0),
            bounces: 1,
            layers: heads.iter().map(layer).collect(),
            layers_word: "layers".into(),
            figures: Vec::new(),
        }
    }

    #[test]
    fn means_come_first_and_then_the_heads_of_the_last_layers() {
        let heads = [3, 2, 4];
        for (maps, first, first_with_heads, words) in [
            (12, 0, 0, None),
            (11, 0, 1, Some("all layers, heads of the last ones only, to limit the page's size")),
            (9, 0, 1, Some("all layers, heads of the last ones only, to limit the page's size")),
            (8, 0, 2, Some("all layers, heads of the last ones only, to limit the page's size")),
            (6, 0, 3, Some("all layers, without their heads, to limit the page's size")),
            (3, 0, 3, Some("all layers, without their heads, to limit the page's size")),
            (2, 1, 3, Some("the last 2 of 3 layers, heads averaged")),
            (0, 3, 3, Some("the last 0 of 3 layers, heads averaged")),
        ] {
            let page = page(&heads);
            let fit = Fit::new(&page, maps * 100);
            assert_eq!(fit, Fit { first, first_with_heads }, "{maps} maps");
            assert_eq!(fit.words(&page).as_deref(), words, "{maps} maps");
            let short = Fit::new(&page, maps * 100 + 99);
            assert_eq!(short, fit, "part of a map does not fit");
        }
    }

    #[test]
    fn heads_that_were_never_given_are_not_missing() {
        let mut page = page(&[2, 2]);
        page.layers.iter_mut().for_each(|layer| layer.heads.clear());
        let fit = Fit::new(&page, MAP_BUDGET);
        assert!(fit.words(&page).is_some(), "λ₂ is known, so the maps were dropped for their size");
        page.layers.iter_mut().for_each(|layer| layer.lambda2.clear());
        assert_eq!(fit.words(&page), None);
    }
}
