//! The parts of the page that the script fills: the large maps, and the maps after each bounce.

use maud::{Markup, html};

/// Start, chosen map and TokenRank over the patches of the image, and of a reference image below it.
pub(crate) fn patch_panels(facts: &[(&str, &str)], reference: bool) -> Markup {
    html! {
        div.panels {
            section.panel aria-labelledby="picture-title" {
                h2 #picture-title { "Start" }
                div.map data-show="picture" tabindex="0" role="application" aria-roledescription="patch picker"
                    aria-labelledby="picture-title" aria-describedby="picture-help start-words" { canvas {} }
                p.words { "From " b #start-words {} "." }
                p #picture-help .words {
                    "Click a patch of any map, or move with the arrow keys."
                    @if reference { " The lower image is the reference." }
                }
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
            (fact_list(facts))
        }
    }
}

/// Terms with their descriptions.
pub(crate) fn fact_list(facts: &[(&str, &str)]) -> Markup {
    html! {
        @if !facts.is_empty() {
            section aria-label="Settings and findings" {
                dl.facts { @for (term, description) in facts { div { dt { (term) } dd { (description) } } } }
            }
        }
    }
}

/// The maps after each bounce, filled by the script.
pub(crate) fn strip() -> Markup {
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

/// Chosen map and TokenRank as coloured words. Both mark the start.
pub(crate) fn word_panels() -> Markup {
    html! {
        div .panels .of-words {
            section.panel aria-labelledby="map-title" {
                h2 #map-title {}
                div .map .flow data-show="chosen" tabindex="0" role="application" aria-roledescription="word picker"
                    aria-labelledby="map-title" aria-describedby="start-line map-words" {}
                (colour_bar())
                p #map-words .words {}
                ol .top data-show="chosen" aria-label="Tokens with the largest probabilities" {}
            }
            section.panel aria-labelledby="rank-title" {
                h2 #rank-title { "TokenRank" }
                div .map .flow data-show="inf" tabindex="0" role="application" aria-roledescription="word picker"
                    aria-labelledby="rank-title" aria-describedby="rank-words" {}
                (colour_bar())
                p #rank-words .words {}
                ol .top data-show="inf" aria-label="Tokens with the largest TokenRank" {}
            }
        }
    }
}

/// The start of the walks in words, and the start of several tokens to come back to.
pub(crate) fn word_start() -> Markup {
    html! {
        p #start-line .words {
            "From " b #start-words {} "." span #picture-help { " Click a word anywhere, or move with the arrow keys." }
        }
        div #other-tokens .buttons role="group" aria-label="Start from several tokens" {}
    }
}

/// A row of cells for each bounce, a cell for each token, filled by the script.
pub(crate) fn rows() -> Markup {
    html! {
        section aria-labelledby="strip-title" {
            h2 #strip-title { "Bounce by bounce" }
            p.words {
                "A column for each token, a row for each bounce with its own colour scale; the number at the end is the top of \
                 the scale. Pick a row to see its words."
            }
            ol #strip .strip .of-rows {}
        }
    }
}
