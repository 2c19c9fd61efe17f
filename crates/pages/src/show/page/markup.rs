//! The page's HTML.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use plot::viridis;
use serde::Serialize;

use super::matrices::encode;
use super::{Figure, Page, PageLayer, Spread};
use crate::html::{self, png_uri};
use models::TokenLayout;

const STYLE: &str = include_str!("page.css");
/// Joined to one script: chains, maps and addresses, then the page that uses them.
const SCRIPTS: [&str; 4] =
    [include_str!("chain.js"), include_str!("maps.js"), include_str!("address.js"), include_str!("page.js")];

/// Data for the script.
#[derive(Serialize)]
struct Data<'a> {
    layout: &'a TokenLayout,
    states: i64,
    alpha: f64,
    token: usize,
    /// The start of several tokens from which walks start when the page opens.
    word: Option<Word<'a>>,
    /// Spelling of the text tokens.
    text: &'a [String],
    bounces: usize,
    layers: Vec<LayerData<'a>>,
    /// 256 colours, six hexadecimal digits each.
    viridis: String,
}

#[derive(Serialize)]
struct Word<'a> {
    name: &'a str,
    /// Tokens with equal probabilities.
    tokens: Vec<usize>,
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
}

pub(super) fn page(page: &Page<'_>) -> Markup {
    let walks = !page.layers.is_empty();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(html::POLICY);
                meta name="color-scheme" content="light dark";
                meta name="generator" content="tokenrank show";
                title { (page.title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(html::STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (page.title) }
                    p.lead {
                        "Attention read as a Markov chain: from each token the walk jumps to the tokens it attends to."
                        @if walks { " Click a patch to start a walk there." }
                    }
                }
                @if walks { (controls(&page.layers)) }
                main {
                    @if walks {
                        noscript { p.note { "The maps are computed in the browser, which needs JavaScript." } }
                        p #chain .chain aria-live="polite" {}
                        (panels(&page.facts))
                        (strip())
                        (lambda_table(&page.layers))
                    } @else {
                        p.note { "The attention maps are too large for a page; choose fewer layers or a smaller image." }
                        (facts(&page.facts))
                    }
                    @if !page.figures.is_empty() { (figures(&page.figures)) }
                }
                footer {
                    p { "Made by tokenrank " (env!("CARGO_PKG_VERSION")) ". The page is complete in itself; its address holds the view." }
                }
                @if walks {
                    div #tip .tip hidden aria-hidden="true" {}
                    (embedded(page))
                    script { @for script in SCRIPTS { (PreEscaped(script)) "\n" } }
                }
            }
        }
    }
}

fn controls(layers: &[PageLayer]) -> Markup {
    html! {
        form.controls aria-label="What to show" onsubmit="return false" {
            label { span { "Layer" }
                select #layer {
                    @if layers.len() > 1 { option value="mean" { "mean of layers" } }
                    @for (i, layer) in layers.iter().enumerate() { option value=(i) { (layer.name) } }
                }
            }
            label { span { "Head" }
                select #head aria-describedby="head-reason" { option value="mean" { "mean of heads" } }
            }
            (choice("direction", "Direction", &[
                ("forward", "forward", "Follow the attention"),
                ("backward", "backward", "From a token to those that attend to it"),
            ]))
            (choice("scale", "Top of colours", &[
                ("percentile", "95th percentile", "Keeps colours for the other tokens if there are a few attention sinks"),
                ("maximum", "maximum", "From the smallest to the largest probability"),
            ]))
            label { span { "Opacity of maps" } input #opacity type="range" min="0" max="100" step="5"; }
            label.check { input #smooth type="checkbox"; span { "smooth" } }
            p #head-reason .reason {}
        }
    }
}

/// Radio buttons; `options` are value, label and meaning.
fn choice(name: &str, legend: &str, options: &[(&str, &str, &str)]) -> Markup {
    html! {
        fieldset {
            legend { (legend) }
            div.segments {
                @for (value, label, meaning) in options {
                    label title=(meaning) { input type="radio" name=(name) value=(value); span { (label) } }
                }
            }
        }
    }
}

fn panels(facts: &[(String, String)]) -> Markup {
    html! {
        div.panels {
            section.panel aria-labelledby="picture-title" {
                h2 #picture-title { "Start" }
                div.map data-show="picture" tabindex="0" role="application" aria-roledescription="patch picker"
                    aria-labelledby="picture-title" aria-describedby="picture-help start-words" { canvas {} }
                p.words { "From " b #start-words {} "." }
                p #picture-help .words { "Click a patch of any map, or move with the arrow keys." }
                div #other-tokens .buttons role="group" aria-label="Start from a token that is not a patch" {}
            }
            section.panel aria-labelledby="map-title" {
                h2 #map-title {}
                div.map data-show="chosen" tabindex="0" role="application" aria-roledescription="map"
                    aria-labelledby="map-title" aria-describedby="map-words" { canvas {} }
                (colour_bar())
                p #map-words .words {}
                ol .top data-show="chosen" aria-label="Tokens with the largest probabilities" {}
            }
            section.panel aria-labelledby="rank-title" {
                h2 #rank-title { "TokenRank" }
                div.map data-show="inf" tabindex="0" role="application" aria-roledescription="map"
                    aria-labelledby="rank-title" aria-describedby="rank-words" { canvas {} }
                (colour_bar())
                p #rank-words .words {}
                ol .top data-show="inf" aria-label="Tokens with the largest TokenRank" {}
            }
            (self::facts(facts))
        }
    }
}

fn facts(facts: &[(String, String)]) -> Markup {
    html! {
        @if !facts.is_empty() {
            section aria-label="Settings and findings" {
                dl.facts { @for (term, description) in facts { div { dt { (term) } dd { (description) } } } }
            }
        }
    }
}

fn strip() -> Markup {
    html! {
        section aria-labelledby="strip-title" {
            h2 #strip-title { "Bounce by bounce" }
            p.words {
                "Each map has its own colour scale; the number below is the top of the scale. Pick a map to enlarge it."
            }
            ol #strip .strip {}
        }
    }
}

fn colour_bar() -> Markup {
    html! { div.bar aria-hidden="true" { i {} div { span {} span {} span {} } } }
}

fn lambda_table(layers: &[PageLayer]) -> Markup {
    let heads = layers.iter().map(|layer| layer.lambda2.len().max(layer.heads.len())).max().unwrap_or(0);
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
                        @for (i, layer) in layers.iter().enumerate() {
                            tr {
                                th scope="row" { (layer.name) }
                                @for head in 0..heads { td { (lambda_cell(i, layer, head)) } }
                                td {
                                    button type="button" data-layer=(i) data-head="mean"
                                        aria-label={ (layer.name) ", mean of heads" } { "map" }
                                }
                            }
                        }
                    }
                }
            }
            p.words {
                "The second largest eigenvalue modulus of the matrix, without teleportation: near 1 the walk mixes slowly "
                "and the head keeps sets of tokens apart; near 0 the walk forgets its start at once. Pick a cell to see the head."
            } }
        }
    }
}

fn lambda_cell(number: usize, layer: &PageLayer, head: usize) -> Markup {
    let lambda = layer.lambda2.get(head).copied().filter(|lambda| lambda.is_finite());
    let missing = head >= layer.heads.len();
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

fn figures(figures: &[Figure]) -> Markup {
    html! {
        section aria-labelledby="figures-title" {
            h2 #figures-title { "Figures" }
            @for figure in figures {
                figure {
                    figcaption { b { (figure.title) } " " (figure.caption) " " a href=(figure.file) { (figure.file) } }
                    img src=(png_uri(&figure.png)) alt={ (figure.title) ". " (figure.caption) } loading="lazy";
                }
            }
        }
    }
}

/// Embeds the image, the settings and the matrices, each with the id by which the script finds it.
fn embedded(page: &Page<'_>) -> Markup {
    let layers = page.layers.iter().map(|PageLayer { name, heads, lambda2, .. }| LayerData {
        name,
        embedded: heads.len(),
        lambda2,
    });
    let word = match &page.start {
        Spread::Even(states) if states.len() == 1 => None,
        Spread::Even(states) => {
            Some(Word { name: &page.start_name, tokens: states.clone().collect(), weights: None })
        }
        Spread::Weighted(weights) => {
            Some(Word { name: &page.start_name, tokens: Vec::new(), weights: Some(weights) })
        }
    };
    let data = Data {
        layout: &page.layout,
        states: page.layout.tokens(),
        alpha: page.alpha,
        token: page.start.peak(),
        word,
        text: &page.text,
        bounces: page.bounces,
        layers: layers.collect(),
        viridis: viridis_table(),
    };
    let data = html::json(&data);
    html! {
        img #picture src=(png_uri(page.image)) alt="" hidden;
        script #data type="application/json" { (PreEscaped(data)) }
        @for (i, layer) in page.layers.iter().enumerate() {
            script id={ "map-" (i) "-mean" } type="text/plain" { (encode(&layer.mean)) }
            @for (head, map) in layer.heads.iter().enumerate() {
                script id={ "map-" (i) "-" (head) } type="text/plain" { (encode(map)) }
            }
        }
    }
}

fn viridis_table() -> String {
    (0..256u16)
        .map(|i| {
            let [red, green, blue] = viridis(f64::from(i) / 255.0);
            format!("{red:02x}{green:02x}{blue:02x}")
        })
        .collect()
}
