//! The table of λ₂.

use markov_core::Triangle;
use maud::{Markup, html};

use crate::colours::viridis;
use crate::data::Shown;

/// The table of λ₂, whose cells choose layer and head. Empty if no heads are known.
pub(crate) fn lambda_table(layers: &[Shown<'_>]) -> Markup {
    let heads = layers.iter().map(|shown| shown.layer.head_count()).max().unwrap_or(0);
    if heads == 0 {
        return html! {};
    }
    html! {
        section aria-labelledby="lambda-title" {
            h2 #lambda-title { "λ₂ of every head" }
            div.beside { div.scroll {
                table #lambda {
                    thead {
                        tr {
                            td {}
                            @for head in 0..heads { th scope="col" { span.wide { "head " } (head) } }
                            th scope="col" { "mean" }
                        }
                    }
                    tbody {
                        @for (i, shown) in layers.iter().enumerate() {
                            tr {
                                th scope="row" { (shown.layer.name) }
                                @for head in 0..heads { td { (lambda_cell(i, shown, head)) } }
                                td {
                                    button type="button" data-layer=(i) data-head="mean"
                                        aria-label={ (shown.layer.name) ", mean of heads" } { "map" }
                                }
                            }
                        }
                    }
                }
            }
            p.words { (meaning(layers)) " Pick a cell to see the head." }
            }
        }
    }
}

fn lambda_cell(number: usize, shown: &Shown<'_>, head: usize) -> Markup {
    let layer = shown.layer;
    let lambda = layer.lambda2.get(head).copied().filter(|lambda| lambda.is_finite());
    let missing = head >= shown.embedded;
    let label = lambda.map_or_else(|| "–".to_owned(), |lambda| format!("{lambda:.2}"));
    html! {
        button type="button" data-layer=(number) data-head=(head) style=[lambda.map(cell_style)] disabled[missing]
            title=[missing.then_some("The map of this head is not embedded")]
            aria-label={ (layer.name) ", head " (head) ", λ₂ " (label) } { (label) }
    }
}

/// Returns the CSS of a cell: viridis as background, black or white text for contrast.
fn cell_style(lambda: f64) -> String {
    let [red, green, blue] = viridis(lambda);
    let luma = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    let ink = if luma > 120.0 { "#111" } else { "#fff" };
    format!("background:rgb({red},{green},{blue});color:{ink}")
}

/// Says what λ₂ means in these layers.
fn meaning(layers: &[Shown<'_>]) -> &'static str {
    match layers.iter().all(|shown| shown.triangle == Some(Triangle::Lower)) {
        false => {
            "The second largest eigenvalue modulus of the matrix, without teleportation: near 1 the walk mixes slowly and the \
             head keeps sets of tokens apart; near 0 the walk forgets its start at once."
        }
        true => {
            "The second largest eigenvalue modulus of the matrix, without teleportation. These layers are causal, so the \
             eigenvalues are the diagonal: λ₂ is the largest probability, besides that of the first token, with which a token \
             attends to itself."
        }
    }
}
