//! The page's HTML.

use markov_core::Triangle;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::content::{Figure, Page};
use crate::data::{Shown, embedded};
use crate::fit::Fit;
use crate::html::{POLICY, STYLE, png_uri};
use crate::lambda::lambda_table;
use crate::panels::{fact_list, patch_panels, rows, strip, word_panels, word_start};

/// Styles of this page, after those of all pages.
const PAGE_STYLE: &str = include_str!("page.css");
/// Joined to one script: chains, tokens, the ways to show them and addresses, then the page that uses them.
const SCRIPTS: [&str; 6] = [
    include_str!("scripts/chain.js"),
    include_str!("scripts/tokens.js"),
    include_str!("scripts/maps.js"),
    include_str!("scripts/words.js"),
    include_str!("scripts/address.js"),
    include_str!("scripts/page.js"),
];

/// The place of the page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file of its own, with an address.
    File,
    /// A frame in another page.
    Frame,
}

/// The parts of the page that depend on the kind of tokens: patches over an image or alone, or words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Image,
    Patches,
    Words,
}

impl View {
    fn of(page: &Page) -> Self {
        match (page.layout.grid(), &page.image) {
            (None, _) => Self::Words,
            (Some(_), None) => Self::Patches,
            (Some(_), Some(_)) => Self::Image,
        }
    }

    /// Returns the word for one token.
    fn token(self) -> &'static str {
        match self {
            Self::Image | Self::Patches => "patch",
            Self::Words => "word",
        }
    }

    /// Returns the word for the input of the network.
    fn input(self) -> &'static str {
        match self {
            Self::Image | Self::Patches => "image",
            Self::Words => "text",
        }
    }
}

/// Returns the document. `triangles` are those of the layers on the page.
pub(crate) fn document(page: &Page, fit: Fit, triangles: &[Option<Triangle>], place: Place) -> Markup {
    let view = View::of(page);
    let layers = page.layers.iter().enumerate().skip(fit.first).zip(triangles);
    let layers: Vec<Shown<'_>> = layers
        .map(|((number, layer), triangle)| Shown {
            layer,
            embedded: if number < fit.first_with_heads { 0 } else { layer.heads.len() },
            triangle: *triangle,
        })
        .collect();
    let mut facts: Vec<(&str, &str)> =
        page.facts.iter().map(|(term, description)| (term.as_str(), description.as_str())).collect();
    let words = fit.words(page);
    facts.extend(words.as_deref().map(|words| ("maps on this page", words)));
    let walks = !layers.is_empty();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="color-scheme" content="light dark";
                meta name="generator" content="tokenrank show";
                title { (page.title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) (PreEscaped(PAGE_STYLE)) }
            }
            body {
                header {
                    h1 { (page.title) }
                    p.lead {
                        "Attention read as a Markov chain: from each token the walk jumps to the tokens it attends to."
                        @if walks { " Click a " (view.token()) " to start a walk there." }
                    }
                }
                @if walks { (controls(&layers, view)) }
                main {
                    @if walks {
                        noscript { p.note { "The maps are computed in the browser, which needs JavaScript." } }
                        p #chain .chain aria-live="polite" {}
                        @match view {
                            View::Image | View::Patches => {
                                (patch_panels(&facts, page.layout.references().next().is_some()))
                                (strip())
                                (lambda_table(&layers))
                            }
                            View::Words => {
                                (word_start())
                                (word_panels())
                                (rows())
                                (lambda_table(&layers))
                                (fact_list(&facts))
                            }
                        }
                    } @else {
                        p.note { "The attention maps are too large for a page; choose fewer layers or a smaller " (view.input()) "." }
                        (fact_list(&facts))
                    }
                    @if !page.figures.is_empty() { (figures(&page.figures)) }
                }
                footer {
                    p { "Made by tokenrank " (env!("CARGO_PKG_VERSION")) ". The page is complete in itself"
                        @match place { Place::File => "; its address holds the view.", Place::Frame => "." } }
                }
                @if walks {
                    div #tip .tip hidden aria-hidden="true" {}
                    (embedded(page, &layers))
                    script { @for script in SCRIPTS { (PreEscaped(script)) "\n" } }
                }
            }
        }
    }
}

fn controls(layers: &[Shown<'_>], view: View) -> Markup {
    html! {
        form.controls aria-label="What to show" onsubmit="return false" {
            label { span { "Layer" }
                select #layer {
                    @if layers.len() > 1 { option value="mean" { "mean of layers" } }
                    @for (i, layer) in layers.iter().enumerate() { option value=(i) { (layer.layer.name) } }
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
            @if view == View::Image {
                label { span { "Opacity of maps" } input #opacity type="range" min="0" max="100" step="5"; }
            }
            @if view != View::Words { label.check { input #smooth type="checkbox"; span { "smooth" } } }
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
