//! Checks the content of a page before it is written, so that a page never shows numbers that are not those of a chain.

use markov_core::{StochasticView, Storage, Triangle};
use ndarray::Array2;

use crate::content::{Layer, MOST_BOUNCES, Page, Start};
use crate::error::{Error, Result};
use crate::fit::Fit;

/// Maximum distance of a row sum from 1. Maps may come from networks that compute in bfloat16; the page normalises rows.
const ROW_TOLERANCE: f64 = Storage::Bf16.row_tolerance();
/// Maximum distance from 1 of the sum of the probabilities of a start.
const START_TOLERANCE: f64 = 1e-3;

/// Checks everything on the page; of the maps, those that fit.
///
/// Returns the triangle that each of the layers on the page forms, as in causal attention.
pub(crate) fn check(page: &Page, fit: Fit) -> Result<Vec<Option<Triangle>>> {
    let states = page.layout.states();
    if states == 0 {
        return Err(Error::NoStates);
    }
    let grids = page.layout.grids().count();
    if grids > 1 {
        return Err(Error::Grids(grids));
    }
    let references = page.layout.references().count();
    if references > 1 {
        return Err(Error::References(references));
    }
    if (references > 0 && grids == 0) || (page.reference.is_some() && references == 0) {
        return Err(Error::NoReference);
    }
    // An empty grid next to other tokens has no patches to show.
    if page.layout.grids().chain(page.layout.references()).any(|(rows, columns)| rows * columns == 0) {
        return Err(setting("a grid's number of rows and columns", "above 0", "0"));
    }
    if let Some(image) = &page.image {
        png("the image", image)?;
        page.layout.grid().ok_or(Error::NoGrid)?;
    }
    if let Some(reference) = &page.reference {
        png("the reference image", reference)?;
    }
    for figure in &page.figures {
        png(&format!("the figure `{}`", escape::line(&figure.title)), &figure.png)?;
    }
    if !(page.alpha > 0.0 && page.alpha <= 1.0) {
        return Err(setting("alpha", "in (0, 1]", page.alpha));
    }
    if !(1..=MOST_BOUNCES).contains(&page.bounces) {
        return Err(setting("bounces", &format!("between 1 and {MOST_BOUNCES}"), page.bounces));
    }
    start(&page.start, states)?;
    if page.layers.is_empty() {
        return Err(Error::NoLayers);
    }
    for layer in &page.layers {
        let (lambda2, heads) = (layer.lambda2.len(), layer.heads.len());
        if lambda2 != heads && lambda2 > 0 && heads > 0 {
            return Err(Error::Heads { layer: named(layer), lambda2, heads });
        }
    }
    let mut triangles = Vec::new();
    for (number, layer) in page.layers.iter().enumerate().skip(fit.first) {
        triangles.push(map(&layer.mean, states, || format!("the mean map of layer {}", named(layer)))?);
        if number >= fit.first_with_heads {
            for (head, values) in layer.heads.iter().enumerate() {
                map(values, states, || format!("the map of head {head} of layer {}", named(layer)))?;
            }
        }
    }
    Ok(triangles)
}

fn named(layer: &Layer) -> String {
    format!("`{}`", escape::line(&layer.name))
}

fn setting(what: &'static str, range: &str, found: impl ToString) -> Error {
    Error::Setting { what, range: range.to_owned(), found: found.to_string() }
}

fn png(what: &str, content: &[u8]) -> Result<()> {
    if content.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok(());
    }
    let first: Vec<String> = content.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let found = if first.is_empty() { "none".to_owned() } else { first.join(" ") };
    Err(Error::NotPng { what: what.to_owned(), found })
}

fn start(start: &Start, states: usize) -> Result<()> {
    let refuse = |reason: String| Err(Error::Start { states, reason });
    let exists = |token: usize| match token < states {
        true => Ok(()),
        false => refuse(format!("there is no token {token}, counted from 0")),
    };
    match start {
        Start::Token(token) => exists(*token),
        Start::Even { tokens, .. } if tokens.is_empty() => refuse("it has no token".into()),
        Start::Even { tokens, .. } => tokens.iter().try_for_each(|token| exists(*token)),
        Start::Weighted { weights, .. } if weights.len() != states => {
            refuse(format!("it has {} probabilities", weights.len()))
        }
        Start::Weighted { weights, .. } => {
            let off = |weight: &f64| !(weight.is_finite() && *weight >= 0.0);
            if let Some(token) = weights.iter().position(off) {
                return refuse(format!("the probability of token {token} is {}", weights[token]));
            }
            let sum: f64 = weights.iter().sum();
            match (sum - 1.0).abs() <= START_TOLERANCE {
                true => Ok(()),
                false => refuse(format!("the probabilities sum to {sum}")),
            }
        }
    }
}

/// Checks a map. Returns the triangle that it forms.
fn map(values: &Array2<f32>, states: usize, name: impl Fn() -> String) -> Result<Option<Triangle>> {
    let (rows, columns) = values.dim();
    if (rows, columns) != (states, states) {
        return Err(Error::Shape { map: name(), rows, columns, states });
    }
    let values = values.as_standard_layout();
    let values = values.as_slice().unwrap_or(&[]);
    let matrix = StochasticView::new(values, states, ROW_TOLERANCE);
    let matrix = matrix.map_err(|source| Error::Matrix { map: name(), source })?;
    Ok(matrix.triangle())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::fit::MAP_BUDGET;
    use crate::{Figure, Layout, Part};

    fn page() -> Page {
        let map = array![[0.5f32, 0.25, 0.25], [0.1, 0.8, 0.1], [0.0, 0.5, 0.5]];
        let heads = vec![map.clone(), map.clone()];
        Page {
            title: "a page".into(),
            facts: Vec::new(),
            image: None,
            reference: None,
            layout: Layout::vision(1, (1, 2)),
            alpha: 0.99,
            start: Start::Token(1),
            bounces: 3,
            layers: vec![Layer { name: "block.0".into(), mean: map, heads, lambda2: vec![0.5, f64::NAN] }],
            layers_word: "layers".into(),
            figures: Vec::new(),
        }
    }

    fn checked(change: impl FnOnce(&mut Page)) -> Result<Vec<Option<Triangle>>> {
        let mut page = page();
        change(&mut page);
        check(&page, Fit::new(&page, MAP_BUDGET))
    }

    #[test]
    fn a_sound_page_is_accepted() {
        assert_eq!(checked(|_| ()).expect("sound"), [None]);
        let weights = vec![0.2, 0.3, 0.5];
        checked(|page| page.start = Start::Weighted { name: "all".into(), weights }).expect("a distribution");
        checked(|page| page.start = Start::Even { name: "two".into(), tokens: vec![0, 2] })
            .expect("two tokens");
        checked(|page| page.layers[0].lambda2.clear()).expect("no λ₂");
        // Rows as bfloat16 rounds them.
        checked(|page| page.layers[0].mean[(0, 0)] = 0.505).expect("within the tolerance");
        // A reference image with and without its pixels.
        let reference = |page: &mut Page| {
            page.layout.parts =
                vec![Part::Grid { rows: 1, columns: 1 }, Part::Reference { rows: 2, columns: 1 }];
        };
        checked(reference).expect("plain patches");
        checked(|page| {
            reference(page);
            page.reference = Some(b"\x89PNG\r\n\x1a\n".to_vec());
        })
        .expect("a reference image");
        // Columns next to each other in memory.
        let turned =
            |page: &mut Page| page.layers[0].mean = array![[0.5f32, 0.25], [0.5, 0.75]].reversed_axes();
        let two = |page: &mut Page| {
            page.layout = Layout::numbered(2);
            page.layers[0].heads.clear();
            turned(page);
        };
        checked(two).expect("rows sum to 1");
    }

    #[test]
    fn causal_layers_are_recognised() {
        let causal = array![[1.0f32, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]];
        let found = checked(|page| page.layers[0].mean = causal).expect("a chain");
        assert_eq!(found, [Some(Triangle::Lower)]);
    }

    #[test]
    fn contradictions_are_named() {
        type Change = Box<dyn FnOnce(&mut Page)>;
        let png = b"\x89PNG\r\n\x1a\n".to_vec();
        let figure =
            Figure { file: "f.png".into(), title: "Bounces".into(), caption: String::new(), png: vec![1] };
        let weighted = |weights: &[f64]| Start::Weighted { name: "all".into(), weights: weights.to_vec() };
        let (short, negative, doubled) =
            (weighted(&[0.5, 0.5]), weighted(&[1.5, -0.5, 0.0]), weighted(&[1.0, 1.0, 0.0]));
        let changes: Vec<(Change, &str)> = vec![
            (Box::new(|page| page.layout.parts.clear()), "needs at least one state"),
            (
                Box::new(|page| page.layout.parts[0] = Part::Grid { rows: 1, columns: 1 }),
                "2 grids of patches",
            ),
            (Box::new(|page| page.layout.parts[1] = Part::Grid { rows: 0, columns: 2 }), "above 0, found 0"),
            (
                Box::new(|page| page.layout.parts.push(Part::Reference { rows: 0, columns: 2 })),
                "above 0, found 0",
            ),
            (
                Box::new(|page| page.layout.parts = vec![Part::Reference { rows: 3, columns: 1 }]),
                "patches of an image and of the reference",
            ),
            (Box::new(|page| page.reference = Some(vec![1])), "patches of an image and of the reference"),
            (
                Box::new(|page| {
                    page.layout.parts = vec![Part::Grid { rows: 1, columns: 1 }];
                    page.layout.parts.extend(vec![Part::Reference { rows: 1, columns: 1 }; 2]);
                }),
                "2 reference images",
            ),
            (Box::new(|page| page.image = Some(b"GIF89a".to_vec())), "first bytes are 47 49 46 38"),
            (Box::new(|page| page.image = Some(Vec::new())), "first bytes are none"),
            (
                Box::new(move |page| {
                    page.layout = Layout::numbered(3);
                    page.image = Some(png);
                }),
                "no grid of patches",
            ),
            (Box::new(move |page| page.figures = vec![figure]), "the figure `Bounces` is not a PNG"),
            (Box::new(|page| page.alpha = 0.0), "alpha must lie in (0, 1], found 0"),
            (Box::new(|page| page.alpha = f64::NAN), "alpha must lie in (0, 1], found NaN"),
            (Box::new(|page| page.bounces = 31), "between 1 and 30, found 31"),
            (Box::new(|page| page.start = Start::Token(3)), "no token 3"),
            (
                Box::new(|page| page.start = Start::Even { name: "x".into(), tokens: vec![0, 7] }),
                "no token 7",
            ),
            (Box::new(|page| page.start = Start::Even { name: "x".into(), tokens: vec![] }), "has no token"),
            (Box::new(move |page| page.start = short), "it has 2 probabilities"),
            (Box::new(move |page| page.start = negative), "token 1 is -0.5"),
            (Box::new(move |page| page.start = doubled), "sum to 2"),
            (Box::new(|page| page.layers.clear()), "no layers"),
            (
                Box::new(|page| page.layers[0].lambda2 = vec![0.1; 5]),
                "layer `block.0` has λ₂ of 5 heads and maps of 2",
            ),
            (
                Box::new(|page| page.layout = Layout::vision(1, (1, 3))),
                "is 3 × 3, but the layout has 4 tokens",
            ),
            (
                Box::new(|page| page.layers[0].heads[1][(2, 1)] = f32::NAN),
                "head 1 of layer `block.0`: entry (2, 1)",
            ),
            (
                Box::new(|page| page.layers[0].mean[(1, 1)] = 0.9),
                "mean map of layer `block.0`: row 1 sums to 1.09",
            ),
        ];
        for (change, words) in changes {
            let message = checked(change).expect_err(words).to_string();
            assert!(message.contains(words), "{words:?} is not in {message:?}");
        }
    }
}
