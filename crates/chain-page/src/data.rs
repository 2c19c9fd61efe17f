//! What the script of the page reads: the image, the settings and the matrices.

use markov_core::Triangle;
use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use crate::colours::table;
use crate::content::{Layer, Page, Start};
use crate::html::{json, png_uri};
use crate::layout::Layout;
use crate::matrices::encode;

/// A layer on the page.
pub(crate) struct Shown<'a> {
    pub(crate) layer: &'a Layer,
    /// Number of heads whose maps are embedded.
    pub(crate) embedded: usize,
    pub(crate) triangle: Option<Triangle>,
}

#[derive(Serialize)]
struct Data<'a> {
    layout: &'a Layout,
    states: usize,
    alpha: f64,
    token: usize,
    /// The start of several tokens from which walks start when the page opens.
    word: Option<Word<'a>>,
    bounces: usize,
    layers: Vec<LayerData<'a>>,
    /// 256 colours, six hexadecimal digits each.
    viridis: String,
}

#[derive(Serialize)]
struct Word<'a> {
    name: &'a str,
    /// Tokens with equal probabilities.
    tokens: &'a [usize],
    /// The probability of every token, instead of `tokens`.
    weights: Option<&'a [f64]>,
}

#[derive(Serialize)]
struct LayerData<'a> {
    name: &'a str,
    /// Number of heads whose maps are embedded.
    embedded: usize,
    /// λ₂ of each head; `null` if not finite.
    lambda2: &'a [f64],
    /// The tokens that the attention goes to if the matrix is triangular: `earlier` as in causal attention, or `later`.
    #[serde(skip_serializing_if = "Option::is_none")]
    triangle: Option<&'static str>,
}

/// Embeds the image, the settings and the matrices, each with the id by which the script finds it.
pub(crate) fn embedded(page: &Page, layers: &[Shown<'_>]) -> Markup {
    let (token, word) = match &page.start {
        Start::Token(token) => (*token, None),
        Start::Even { name, tokens } => {
            (tokens.first().copied().unwrap_or_default(), Some(Word { name, tokens, weights: None }))
        }
        Start::Weighted { name, weights } => {
            (peak(weights), Some(Word { name, tokens: &[], weights: Some(weights) }))
        }
    };
    let data = Data {
        layout: &page.layout,
        states: page.layout.states(),
        alpha: page.alpha,
        token,
        word,
        bounces: page.bounces,
        layers: layers.iter().map(layer_data).collect(),
        viridis: table(),
    };
    let data = json(&data);
    html! {
        @if let Some(image) = &page.image { img #picture src=(png_uri(image)) alt="" hidden; }
        @if let Some(reference) = &page.reference { img #reference src=(png_uri(reference)) alt="" hidden; }
        script #data type="application/json" { (PreEscaped(data)) }
        @for (i, Shown { layer, embedded, .. }) in layers.iter().enumerate() {
            script id={ "map-" (i) "-mean" } type="text/plain" { (encode(&layer.mean)) }
            @for (head, map) in layer.heads.iter().take(*embedded).enumerate() {
                script id={ "map-" (i) "-" (head) } type="text/plain" { (encode(map)) }
            }
        }
    }
}

fn layer_data<'a>(shown: &'a Shown<'a>) -> LayerData<'a> {
    LayerData {
        name: &shown.layer.name,
        embedded: shown.embedded,
        lambda2: &shown.layer.lambda2,
        triangle: shown.triangle.map(|triangle| match triangle {
            Triangle::Lower => "earlier",
            Triangle::Upper => "later",
        }),
    }
}

/// Returns the first token with the largest weight.
fn peak(weights: &[f64]) -> usize {
    let larger =
        |best: usize, (token, weight): (usize, &f64)| if *weight > weights[best] { token } else { best };
    weights.iter().enumerate().fold(0, larger)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_is_the_first_of_the_largest() {
        assert_eq!([&[0.1, 0.45, 0.45][..], &[1.0], &[0.2, 0.2, 0.6]].map(super::peak), [1, 0, 2]);
    }
}
